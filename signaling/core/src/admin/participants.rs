//! What an administrator may do to participants: look, remove, mute, change profile, rights and subscriptions.

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::{DisconnectReason, leave_request::Action, signal_response::Message};
use sfu_api::ParticipantId;
use signaling_api::{EndReason, ErrorCode};

use super::{AdminError, AdminResponse, AdminResult};
use crate::{
    Output, SignalingConfig,
    participant::ProfileError,
    permissions,
    room::{Farewell, Room},
    turn::Turn,
};

impl Room {
    /// Hidden participants included.
    pub(crate) fn everybody(&self, config: &SignalingConfig) -> Vec<proto::ParticipantInfo> {
        self.members.iter().filter_map(|participant| self.participant_info(participant.id, config)).collect()
    }

    pub(super) fn get_participant(&self, identity: &str, turn: &Turn<'_>) -> AdminResult {
        let id = self.find(identity)?;
        let info = self.participant_info(id, turn.config).ok_or_else(AdminError::no_participant)?;
        Ok(AdminResponse::Participant(Box::new(info)))
    }

    pub(super) fn remove_participant(&mut self, request: &proto::RoomParticipantIdentity, turn: &mut Turn<'_>) -> AdminResult {
        let id = self.find(&request.identity)?;
        // An empty time stands for now and a leeway in which tokens may be on their way.
        let before = match u64::try_from(request.revoke_token_ts) {
            Ok(0) | Err(_) => turn.unix_now + turn.config.revocation_leeway,
            Ok(seconds) => Duration::from_secs(seconds),
        };
        turn.revocations.add(&self.name, &request.identity, before);
        self.remove(id, EndReason::Removed, Farewell::Leave(Action::Disconnect), turn);
        Ok(AdminResponse::Done)
    }

    pub(super) fn mute_published_track(&mut self, request: &proto::MuteRoomTrackRequest, turn: &mut Turn<'_>) -> AdminResult {
        let id = self.find(&request.identity)?;
        if !request.muted && !turn.config.remote_unmute {
            // People must not find their microphone open without having opened it.
            return Err(AdminError::new(ErrorCode::PreconditionFailed, "remote unmute not enabled"));
        }
        let no_track = || AdminError::new(ErrorCode::TrackNotFound, "track is not found");
        let track = self.mute_by_server(id, &request.track_sid, request.muted, turn).ok_or_else(no_track)?;
        Ok(AdminResponse::Track(Box::new(track)))
    }

    pub(super) fn update_participant(&mut self, request: proto::UpdateParticipantRequest, turn: &mut Turn<'_>) -> AdminResult {
        let id = self.find(&request.identity)?;
        let update = proto::UpdateParticipantMetadata {
            name: request.name,
            metadata: request.metadata,
            attributes: request.attributes,
            ..Default::default()
        };
        let is_changed = self.update_profile(id, &update, turn).map_err(|error| match error {
            ProfileError::Room => AdminError::plain(ErrorCode::ProfileLimit),
            _ => AdminError::invalid(error.message()),
        })?;
        match request.permission {
            // Tells of the profile too.
            Some(permission) => self.set_permission(id, &permission, turn),
            None if is_changed => {
                self.announce(id, true, turn);
                self.refresh_token(id, turn);
            }
            None => {}
        }
        self.get_participant(&request.identity, turn)
    }

    pub(super) fn update_subscriptions(&mut self, request: proto::UpdateSubscriptionsRequest, turn: &mut Turn<'_>) -> AdminResult {
        let id = self.find(&request.identity)?;
        let update = proto::UpdateSubscription {
            track_sids: request.track_sids,
            subscribe: request.subscribe,
            participant_tracks: request.participant_tracks,
        };
        self.update_subscription(id, &update, false, turn);
        Ok(AdminResponse::Done)
    }

    fn find(&self, identity: &str) -> Result<ParticipantId, AdminError> {
        self.members.id_of(identity).ok_or_else(AdminError::no_participant)
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

    fn mute_by_server(&mut self, id: ParticipantId, track_sid: &str, muted: bool, turn: &mut Turn<'_>) -> Option<proto::TrackInfo> {
        let track = self.tracks.own_mut(id, track_sid)?;
        let track_id = track.id;
        let mute = proto::MuteTrackRequest { sid: track.info.sid.clone(), muted };
        match self.members.conn(id) {
            Some(conn) => turn.out.send(conn, Message::Mute(mute)),
            None => track.mute_untold = true,
        }
        self.set_muted(track_id, muted, turn);
        self.tracks.get(track_id).map(|track| track.info.clone())
    }

    /// What the client's token says is outdated, or will be soon.
    pub(crate) fn refresh_token(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        if let Some(conn) = participant.session.conn() {
            turn.out.push(Output::RefreshToken { conn, grants: Box::new(participant.grants.clone()) });
        }
    }
}
