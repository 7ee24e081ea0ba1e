//! Rooms are opened, listed, changed and closed by an administrator.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::leave_request::Action;
use rand::Rng;
use signaling_api::{AgentConfig, EndReason, ErrorCode, RoomConfig};

use super::{AdminError, AdminResponse, AdminResult};
use crate::{Signaling, SignalingConfig, join, limits, room::Room, turn::Turn};

impl Signaling {
    /// A room that is open keeps what the request does not name (LiveKit: `StandardRoomAllocator.CreateRoom`).
    pub(super) fn create_room(
        &mut self,
        request: proto::CreateRoomRequest,
        now: Instant,
        unix_now: Duration,
        rng: &mut impl Rng,
    ) -> AdminResult {
        let (name, asked) = check(request, &self.config)?;
        if let Some(room) = self.rooms.by_name(&name).map(|room| room.id) {
            let answer = self.with_room(room, now, unix_now, rng, |room, turn| {
                room.reconfigure(&asked, turn);
                room.info(turn)
            });
            return answer.map(|room| AdminResponse::Room(Box::new(room))).ok_or_else(AdminError::no_room);
        }
        self.may_open_room().map_err(AdminError::plain)?;
        let id = self.open_room(&name, &asked, now, unix_now, rng);
        let info = self.with_room(id, now, unix_now, rng, |room, turn| room.info(turn));
        info.map(|room| AdminResponse::Room(Box::new(room))).ok_or_else(AdminError::no_room)
    }

    /// No names: all rooms.
    pub(super) fn list_rooms(&self, names: &[String]) -> Vec<proto::Room> {
        if names.is_empty() {
            return self.rooms();
        }
        names
            .iter()
            .take(limits::NAMES_PER_LIST)
            .filter_map(|name| self.rooms.by_name(name))
            .map(|room| room.describe(&self.config))
            .collect()
    }

    pub(super) fn delete_room(&mut self, name: &str, now: Instant, unix_now: Duration, rng: &mut impl Rng) -> AdminResult {
        let id = self.rooms.by_name(name).ok_or_else(AdminError::no_room)?.id;
        self.with_room(id, now, unix_now, rng, |room, turn| room.dismiss(EndReason::RoomDeleted, Action::Disconnect, turn));
        self.close_room(id);
        Ok(AdminResponse::Done)
    }
}

impl Room {
    pub(super) fn update_metadata(&mut self, metadata: String, turn: &mut Turn<'_>) -> AdminResult {
        if metadata.len() > limits::METADATA_BYTES {
            return Err(AdminError::invalid("metadata size exceeds limits"));
        }
        self.settings.metadata = metadata;
        self.changed(turn);
        self.tell_room(turn);
        Ok(AdminResponse::Room(Box::new(self.info(turn))))
    }
}

/// Name and settings that are within the limits, with those of the preset that it names.
fn check(request: proto::CreateRoomRequest, config: &SignalingConfig) -> Result<(String, RoomConfig), AdminError> {
    if request.name.is_empty() {
        return Err(AdminError::invalid("no room name"));
    }
    if request.name.len() > limits::ROOM_NAME_BYTES {
        return Err(AdminError::invalid(format!("room name length exceeds limits: max length {}", limits::ROOM_NAME_BYTES)));
    }
    if request.egress.is_some() {
        return Err(AdminError::new(ErrorCode::Unimplemented, "this server can't record rooms: leave egress out"));
    }
    let asked = RoomConfig {
        empty_timeout: request.empty_timeout,
        departure_timeout: request.departure_timeout,
        max_participants: request.max_participants,
        metadata: request.metadata,
        min_playout_delay: request.min_playout_delay,
        max_playout_delay: request.max_playout_delay,
        sync_streams: request.sync_streams,
        agents: request.agents.into_iter().map(agent_config).collect(),
        tags: request.tags.into_iter().collect(),
    };
    let asked = config
        .with_preset(asked, &request.room_preset)
        .ok_or_else(|| AdminError::invalid("unknown room configuration in create room request"))?;
    if join::is_within_limits(&asked) {
        Ok((request.name, asked))
    } else {
        Err(AdminError::invalid("metadata size exceeds limits, or too many agents or tags"))
    }
}

fn agent_config(agent: proto::RoomAgentDispatch) -> AgentConfig {
    AgentConfig {
        agent_name: agent.agent_name,
        metadata: agent.metadata,
        deployment: agent.deployment,
        attributes: agent.attributes.into_iter().collect(),
    }
}
