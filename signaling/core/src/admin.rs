//! What an administrator may do to rooms and participants, for the REST and Twirp faces of the service.

use livekit_protocol as proto;
use livekit_protocol::{DisconnectReason, leave_request::Action, signal_response::Message};
use sfu_api::ParticipantId;
use signaling_api::ErrorCode;

use crate::{
    Output, limits, permissions,
    room::{Farewell, Room},
    turn::Turn,
};

/// A change that is not the participant's own wish. Rooms and participants are named as people name them.
#[derive(Clone, PartialEq, Debug)]
pub enum AdminRequest {
    /// Changes rights; tracks and subscriptions that are not allowed any more end.
    SetPermission {
        /// Name of the room.
        room: String,
        /// Who.
        identity: String,
        /// All rights anew.
        permission: proto::ParticipantPermission,
    },
    /// Changes name, metadata, attributes; empty ones stay as they are, empty attributes are removed.
    UpdateProfile {
        /// Name of the room.
        room: String,
        /// Who.
        identity: String,
        /// What.
        update: proto::UpdateParticipantMetadata,
    },
    /// Mutes or unmutes a published track.
    MuteTrack {
        /// Name of the room.
        room: String,
        /// Whose.
        identity: String,
        /// Which.
        track_sid: String,
        /// New state.
        muted: bool,
    },
    /// Sends a participant away.
    RemoveParticipant {
        /// Name of the room.
        room: String,
        /// Who.
        identity: String,
    },
    /// Subscribes or unsubscribes a participant.
    UpdateSubscriptions {
        /// Name of the room.
        room: String,
        /// Who.
        identity: String,
        /// To what.
        update: proto::UpdateSubscription,
    },
    /// Changes the metadata of a room.
    SetRoomMetadata {
        /// Name of the room.
        room: String,
        /// New text.
        metadata: String,
    },
    /// Sends everybody away and closes the room.
    DeleteRoom {
        /// Name of the room.
        room: String,
    },
}

impl AdminRequest {
    pub(crate) fn room(&self) -> &str {
        match self {
            Self::SetPermission { room, .. }
            | Self::UpdateProfile { room, .. }
            | Self::MuteTrack { room, .. }
            | Self::RemoveParticipant { room, .. }
            | Self::UpdateSubscriptions { room, .. }
            | Self::SetRoomMetadata { room, .. }
            | Self::DeleteRoom { room } => room,
        }
    }
}

impl Room {
    pub(crate) fn administer(&mut self, request: AdminRequest, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        match request {
            AdminRequest::SetPermission { identity, permission, .. } => {
                let id = self.find(&identity)?;
                self.set_permission(id, &permission, turn);
            }
            AdminRequest::UpdateProfile { identity, update, .. } => {
                let id = self.find(&identity)?;
                let participant = self.members.get_mut(id).ok_or(ErrorCode::ParticipantNotFound)?;
                if participant.update_profile(&update).map_err(|_| ErrorCode::BadRequest)? {
                    self.announce(id, true, turn);
                    self.refresh_token(id, turn);
                }
            }
            AdminRequest::MuteTrack { identity, track_sid, muted, .. } => {
                let id = self.find(&identity)?;
                self.mute_by_server(id, &track_sid, muted, turn)?;
            }
            AdminRequest::RemoveParticipant { identity, .. } => {
                let id = self.find(&identity)?;
                self.remove(id, DisconnectReason::ParticipantRemoved, Farewell::Leave(Action::Disconnect), turn);
            }
            AdminRequest::UpdateSubscriptions { identity, update, .. } => {
                let id = self.find(&identity)?;
                self.update_subscription(id, &update, false, turn);
            }
            AdminRequest::SetRoomMetadata { metadata, .. } => {
                if metadata.len() > limits::METADATA_BYTES {
                    return Err(ErrorCode::BadRequest);
                }
                self.settings.metadata = metadata;
                self.changed(turn);
                self.tell_room(turn);
            }
            AdminRequest::DeleteRoom { .. } => self.dismiss(DisconnectReason::RoomDeleted, Action::Disconnect, turn),
        }
        Ok(())
    }

    fn find(&self, identity: &str) -> Result<ParticipantId, ErrorCode> {
        self.members.id_of(identity).ok_or(ErrorCode::ParticipantNotFound)
    }

    pub(crate) fn set_permission(&mut self, id: ParticipantId, permission: &proto::ParticipantPermission, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        let was_hidden = participant.is_hidden();
        permissions::apply(&mut participant.grants, permission);
        participant.is_publisher &= participant.grants.can_publish;
        let grants = participant.grants.clone();

        let forbidden: Vec<_> = self
            .tracks
            .of(id)
            .filter(|track| !grants.allows_source(permissions::source_from_proto(track.info.source())))
            .map(|track| track.id)
            .collect();
        for track in forbidden {
            self.end_track(track, true, turn);
        }
        if !grants.can_publish_data {
            self.end_data_tracks_of(id, turn);
        }
        self.reconsider_subscriber(id, turn);
        self.reconsider_data_subscriber(id, turn);
        if !was_hidden && grants.hidden {
            self.hide(id, turn);
        }
        self.announce(id, true, turn);
        if was_hidden && !grants.hidden {
            let tracks: Vec<_> = self.tracks.of(id).map(|track| track.id).collect();
            for track in tracks {
                self.subscribe_all_to(track, turn);
            }
        }
        if was_hidden != grants.hidden {
            self.reconsider_publisher(id, turn);
            self.reconsider_data_publisher(id, turn);
        }
        self.refresh_token(id, turn);
    }

    /// To others, who hides is who left.
    fn hide(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        participant.version += 1;
        let farewell = participant.farewell(DisconnectReason::ParticipantRemoved, &turn.config.region);
        self.speakers.remove(id);
        self.tell_departure(id, farewell, turn);
    }

    fn mute_by_server(&mut self, id: ParticipantId, track_sid: &str, muted: bool, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        let track = self.tracks.own_mut(id, track_sid).ok_or(ErrorCode::TrackNotFound)?;
        let track_id = track.id;
        let mute = proto::MuteTrackRequest { sid: track.info.sid.clone(), muted };
        match self.members.conn(id) {
            Some(conn) => turn.out.send(conn, Message::Mute(mute)),
            None => track.mute_untold = true,
        }
        self.set_muted(track_id, muted, turn);
        Ok(())
    }

    /// What the client's token says is outdated, or will be soon.
    pub(crate) fn refresh_token(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        if let Some(conn) = participant.session.conn() {
            turn.out.push(Output::RefreshToken { conn, grants: Box::new(participant.grants.clone()) });
        }
    }
}
