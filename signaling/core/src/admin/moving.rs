//! A participant goes to another room without a new connection: its tracks, rights and transports go with it.
//!
//! Order: the old room forgets it, the media node takes it over, it is told (`RoomMovedResponse`, with a token for the new
//! room), then the others are. The media node may refuse, because the two rooms live on different shards; a client may not
//! know the message. Either way the client gets the new token and is asked to join anew, which leads it to the new room.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::{DisconnectReason, leave_request::Action};
use rand::Rng;
use sfu_api::{Command, ParticipantId};
use signaling_api::{EndReason, ErrorCode, RoomConfig};

use super::{AdminError, AdminResponse, AdminResult};
use crate::{
    Happening, Output, Signaling,
    agents::News,
    limits,
    participant::Participant,
    profiles::{self, Profiles},
    room::{Farewell, Room},
    subscriptions::Subscriptions,
    tracks::{Stage, Track},
    turn::Turn,
};

/// A participant on its way.
pub(super) struct Traveller {
    participant: Participant,
    tracks: Vec<Track>,
}

impl Signaling {
    pub(super) fn move_participant(
        &mut self,
        request: &proto::MoveParticipantRequest,
        now: Instant,
        unix_now: Duration,
        rng: &mut impl Rng,
    ) -> AdminResult {
        if request.room == request.destination_room {
            return Err(AdminError::invalid("destination room cannot be the same as source room"));
        }
        if request.destination_room.is_empty() || request.destination_room.len() > limits::ROOM_NAME_BYTES {
            return Err(AdminError::invalid("no destination room, or its name is too long"));
        }
        let from = self.rooms.by_name(&request.room).ok_or_else(AdminError::no_room)?;
        let id = from.members.id_of(&request.identity).ok_or_else(AdminError::no_participant)?;
        // Before anything is done there: what fails opens no room and removes no namesake.
        if from.members.conn(id).is_none() {
            let message = "the participant is reconnecting: try again in a moment";
            return Err(AdminError::new(ErrorCode::Unavailable, message));
        }
        let bytes = from.members.get(id).map_or(0, |participant| profiles::profile_bytes(&participant.grants)) + from.tracks_bytes(id);
        let earlier = self.rooms.by_name(&request.destination_room).and_then(|room| room.members.id_of(&request.identity));
        let there = self.rooms.by_name(&request.destination_room).map(|room| &room.profiles);
        if !there.unwrap_or(&Profiles::default()).fits(earlier, bytes, self.config.max_profile_bytes) {
            return Err(AdminError::plain(ErrorCode::ProfileLimit));
        }
        let from = from.id;
        let to = self.destination(&request.destination_room, &request.identity, now, unix_now, rng)?;
        if let Some(earlier) = earlier {
            let farewell = Farewell::Leave(Action::Disconnect);
            self.with_room(to, now, unix_now, rng, |room, turn| room.remove(earlier, EndReason::DuplicateIdentity, farewell, turn));
        }
        let traveller = self.with_room(from, now, unix_now, rng, |room, turn| room.let_go(id, &request.destination_room, turn));
        let traveller = traveller.ok_or_else(AdminError::no_room)??;
        if let Some(traveller) = traveller {
            self.with_room(to, now, unix_now, rng, |room, turn| room.take_in(traveller, turn));
        }
        Ok(AdminResponse::Done)
    }

    /// The room to go to; it is opened if it does not exist.
    fn destination(
        &mut self,
        name: &str,
        identity: &str,
        now: Instant,
        unix_now: Duration,
        rng: &mut impl Rng,
    ) -> Result<sfu_api::RoomId, AdminError> {
        match self.rooms.by_name(name) {
            Some(room) if room.is_full() && room.members.id_of(identity).is_none() => Err(AdminError::plain(ErrorCode::RoomFull)),
            Some(room) => Ok(room.id),
            None => {
                self.may_open_room().map_err(AdminError::plain)?;
                Ok(self.open_room(name, &RoomConfig::default(), now, unix_now, rng))
            }
        }
    }
}

impl Room {
    /// The participant is connected. None: the client can't be moved on its connection, and was asked to join the other room by itself.
    fn let_go(&mut self, id: ParticipantId, destination: &str, turn: &mut Turn<'_>) -> Result<Option<Traveller>, AdminError> {
        let participant = self.members.get_mut(id).ok_or_else(AdminError::no_participant)?;
        participant.grants.room = destination.to_owned();
        // These were given for the room that it leaves.
        participant.grants.room_admin = false;
        participant.grants.destination_room.clear();
        if participant.session.protocol() <= PROTOCOL_BEFORE_MOVES {
            self.refresh_token(id, turn);
            self.start_anew(id, EndReason::Moved, turn);
            return Ok(None);
        }
        // Data tracks don't travel: the client is told that they ended and may publish and subscribe again.
        self.end_data_tracks_of(id, turn);
        self.end_data_subscriptions_of(id, turn);
        let gone = self.members.remove(id).ok_or_else(AdminError::no_participant)?;
        let tracks = self.tracks.remove_owner(id);
        for track in &tracks {
            for (_, subscriptions, _) in self.members.wishes_mut() {
                subscriptions.forget(track.id);
            }
        }
        if gone.is_dependent() {
            turn.news.push(News::Left(self.id, gone.grants.identity.clone(), DisconnectReason::Migration));
        }
        self.forget_participant(id, turn);
        self.changed(turn);
        if !gone.is_hidden() {
            self.tell_departure(id, gone.farewell(DisconnectReason::Migration, &turn.config.region), turn);
        }
        Ok(Some(Traveller { participant: gone, tracks }))
    }

    fn take_in(&mut self, traveller: Traveller, turn: &mut Turn<'_>) {
        let Traveller { mut participant, tracks } = traveller;
        let id = participant.id;
        participant.subscriptions = Subscriptions::default();
        participant.entered_at = turn.now;
        participant.version += 1;
        let conn = participant.session.conn();
        let grants = participant.grants.clone();
        if !participant.is_dependent() {
            turn.news.push(News::Joined(self.id, id));
            if participant.has_published {
                turn.news.push(News::Published(self.id, id));
            }
        }
        self.tell_farewell_of(participant.identity(), turn);
        self.members.insert(participant);
        for mut track in tracks {
            track.subscriber_told = false;
            self.tracks.insert(track);
        }
        self.weigh(id);
        turn.directory.enter(id, self.id);
        turn.out.note(id, Happening::Moved { room: self.name.clone() });
        self.note_arrival(turn);
        turn.out.media(Command::Move { participant: id, room: self.id });
        self.delay_playout(turn);
        // The native SDKs read a token from no other message (rust-sdks, `signal_client`).
        self.refresh_token(id, turn);
        if let Some(conn) = conn {
            let moved = proto::RoomMovedResponse {
                room: Some(self.info(turn)),
                token: String::new(),
                participant: self.participant_info(id, turn.config),
                other_participants: self.others(id, turn.config),
            };
            turn.out.push(Output::RoomMoved { conn, grants: Box::new(grants), moved: Box::new(moved) });
        }
        self.announce_arrival(id, turn);
        self.subscribe_to_all(id, turn);
        let ready: Vec<_> = self.tracks.of(id).filter(|track| track.stage == Stage::Ready).map(|track| track.id).collect();
        for track in ready {
            self.subscribe_all_to(track, turn);
        }
    }

    /// The media node could not take a participant over: it comes by itself, with the token that it was given.
    pub(crate) fn move_refused(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        self.start_anew(id, EndReason::Moved, turn);
    }
}

/// `RoomMovedResponse` is read by clients of protocol 16 and above (LiveKit: `SupportsMoving`).
const PROTOCOL_BEFORE_MOVES: i32 = 15;
