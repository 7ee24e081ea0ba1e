//! Joining: who may come in, and what a newcomer and the others are told.
//!
//! Order: the newcomer's `JoinResponse` first, then the media node, then the others. So no message about the room reaches
//! a client before it knows the room, and no offer before it knows whose tracks are in it.

use livekit_protocol as proto;
use livekit_protocol::participant_info::State;
use sfu_api::{Command, ParticipantId, PeerMode, TransportRole};
use signaling_api::{AgentConfig, ErrorCode, Grants, RoomConfig};

use crate::{
    ConnId, Happening, JoinParams, Output,
    agents::News,
    ids, limits,
    participant::{Participant, attributes_bytes},
    room::Room,
    session::Session,
    timers::Timer,
    turn::Turn,
};

/// What can be said without looking at any room.
pub(crate) fn check_grants(grants: &Grants) -> Result<(), ErrorCode> {
    if !grants.room_join || grants.room.is_empty() || grants.identity.is_empty() {
        return Err(ErrorCode::TokenGrant);
    }
    let is_within_limits = grants.identity.len() <= limits::IDENTITY_BYTES
        && grants.room.len() <= limits::ROOM_NAME_BYTES
        && grants.name.len() <= limits::NAME_BYTES
        && grants.metadata.len() <= limits::METADATA_BYTES
        && is_within_limits(&grants.room_config)
        && attributes_bytes(&grants.attributes) <= limits::ATTRIBUTES_BYTES;
    if is_within_limits { Ok(()) } else { Err(ErrorCode::BadRequest) }
}

/// Settings of a room that somebody asks for.
pub(crate) fn is_within_limits(config: &RoomConfig) -> bool {
    config.metadata.len() <= limits::METADATA_BYTES
        && config.agents.len() <= limits::DISPATCHES_PER_ROOM
        && config.agents.iter().all(is_agent_within_limits)
        && config.tags.len() <= limits::TAGS_PER_ROOM
        && attributes_bytes(&config.tags) <= limits::ATTRIBUTES_BYTES
}

pub(crate) fn is_agent_within_limits(agent: &AgentConfig) -> bool {
    agent.agent_name.len() <= limits::NAME_BYTES
        && agent.deployment.len() <= limits::NAME_BYTES
        && agent.metadata.len() <= limits::METADATA_BYTES
        && attributes_bytes(&agent.attributes) <= limits::ATTRIBUTES_BYTES
}

/// What a client that is not let in is told; it has no room yet.
pub(crate) fn refusal(code: ErrorCode) -> proto::DisconnectReason {
    match code {
        ErrorCode::RoomNotFound => proto::DisconnectReason::RoomDeleted,
        ErrorCode::Unavailable => proto::DisconnectReason::ServerShutdown,
        ErrorCode::TokenRevoked => proto::DisconnectReason::ParticipantRemoved,
        _ => proto::DisconnectReason::JoinFailure,
    }
}

impl Room {
    /// A participant that may come in does. An earlier one of the same identity must have been removed.
    pub(crate) fn enter(&mut self, id: ParticipantId, conn: ConnId, grants: Grants, request: &JoinParams, turn: &mut Turn<'_>) {
        let can_subscribe = grants.can_subscribe;
        let session = Session::new(conn, request.client.clone(), turn.now);
        let participant = Participant::new(id, grants, request, session, turn.unix_now, turn.now);
        let mode = participant.mode;
        self.tell_farewell_of(participant.identity(), turn);
        tracing::info!(participant = participant.sid, conn = conn.0, room = ids::room_sid(self.id), "participant joined");
        self.members.insert(participant);
        self.weigh(id);
        turn.directory.enter(id, self.id);
        turn.directory.seat(conn, id);
        self.note_arrival(turn);
        turn.timers.set(Timer::Silence(id), turn.now + turn.config.silence_timeout());
        turn.timers.set(Timer::Join(id), turn.now + turn.config.join_timeout);
        turn.timers.set(Timer::Token(id), turn.now + turn.config.token_refresh_interval);
        let identity = self.members.get(id).map(|participant| participant.identity().to_owned()).unwrap_or_default();
        turn.out.note(id, Happening::Joined { conn, room: self.name.clone(), identity });
        if !self.members.get(id).is_some_and(Participant::is_dependent) {
            turn.news.push(News::Joined(self.id, id));
        }

        let join = self.join_response(id, turn);
        turn.out.push(Output::Welcome { conn, welcome: Box::new(self.welcome(id, join, turn.config)) });
        turn.out.media(Command::Join { room: self.id, participant: id, can_subscribe, mode });
        self.delay_playout(turn);
        self.recall_protocol(id, turn);
        if let Some(participant) = self.members.get_mut(id) {
            participant.state = State::Joined;
        }
        self.announce_arrival(id, turn);
        self.subscribe_to_all(id, turn);
        // Behind the subscriptions: the answer to an offer among these carries them.
        self.receive_all(id, &request.messages, turn);
    }

    /// What a client sent together with its request for this connection.
    pub(crate) fn receive_all(&mut self, id: ParticipantId, messages: &[proto::signal_request::Message], turn: &mut Turn<'_>) {
        for message in messages {
            self.receive(id, proto::SignalRequest { message: Some(message.clone()) }, turn);
        }
    }

    /// Without the others.
    fn join_response(&self, id: ParticipantId, turn: &Turn<'_>) -> proto::JoinResponse {
        let participant = self.members.get(id);
        let seconds = |duration: std::time::Duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        proto::JoinResponse {
            room: Some(self.info(turn)),
            participant: self.participant_info(id, turn.config),
            // Older clients read version and region here, newer ones in `server_info`.
            server_version: crate::config::LIVEKIT_VERSION.to_owned(),
            ice_servers: turn.config.ice_servers_for(&crate::ids::participant_sid(id), turn.unix_now),
            subscriber_primary: participant.is_some_and(|participant| participant.primary == TransportRole::Subscriber),
            server_region: turn.config.region.clone(),
            ping_timeout: seconds(turn.config.ping_timeout),
            ping_interval: seconds(turn.config.ping_interval),
            server_info: Some(turn.config.server_info()),
            sif_trailer: self.sif_trailer(),
            enabled_publish_codecs: turn.config.codecs(),
            // Of two transports that of the publisher is not there before it is needed. The only one is up from the start.
            fast_publish: participant.is_some_and(|participant| participant.mode == PeerMode::Single && participant.grants.can_publish),
            ..Default::default()
        }
    }
}
