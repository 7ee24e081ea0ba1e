//! Dispatches: which agents a room wants, by its settings or by an administrator's request.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::JobType;
use rand::Rng;
use sfu_api::RoomId;
use signaling_api::{AgentConfig, ErrorCode, RoomConfig};

use super::{Agents, Desk, WorkerId};
use crate::{AdminError, AdminResponse, AdminResult, Signaling, ids, join, limits};

/// An agent that a room wants.
#[derive(Debug)]
pub(super) struct Dispatch {
    id: String,
    pub(super) wanted: AgentConfig,
    restart_policy: i32,
    created_at_nanos: i64,
}

impl Signaling {
    /// The room is opened if a join would open it.
    pub(crate) fn create_dispatch(
        &mut self,
        request: proto::CreateAgentDispatchRequest,
        now: Instant,
        unix_now: Duration,
        rng: &mut impl Rng,
    ) -> AdminResult {
        let wanted = AgentConfig {
            agent_name: request.agent_name,
            metadata: request.metadata,
            deployment: request.deployment,
            attributes: request.attributes.into_iter().collect(),
        };
        if request.room.is_empty() || request.room.len() > limits::ROOM_NAME_BYTES || !join::is_agent_within_limits(&wanted) {
            return Err(AdminError::new(ErrorCode::BadRequest, "no room, or metadata, attributes or names exceed limits"));
        }
        let room = match self.rooms.by_name(&request.room) {
            Some(room) => room.id,
            None if !self.config.auto_create_rooms => return Err(AdminError::no_room()),
            None => {
                self.may_open_room().map_err(AdminError::plain)?;
                let room = self.open_room(&request.room, &RoomConfig::default(), now, unix_now, rng);
                self.tell_agents(now, unix_now, rng);
                room
            }
        };
        let view = self.view(room).ok_or_else(AdminError::no_room)?;
        let (agents, mut desk) = self.desk(now, unix_now, rng);
        if agents.dispatches.get(&room).is_some_and(|all| all.len() >= limits::DISPATCHES_PER_ROOM) {
            return Err(AdminError::new(ErrorCode::RateLimited, "the room has as many dispatches as it may have"));
        }
        let id = agents.add_dispatch(room, wanted, &mut desk);
        if let Some(dispatch) = agents.dispatches.get_mut(&room).and_then(|all| all.last_mut()) {
            dispatch.restart_policy = request.restart_policy;
        }
        for kind in [JobType::JtRoom, JobType::JtPublisher, JobType::JtParticipant] {
            agents.launch_for_all(&view, &id, kind, &mut desk);
        }
        let dispatch = agents.describe(room, &id, &request.room).ok_or_else(no_dispatch)?;
        Ok(AdminResponse::Dispatch(Box::new(dispatch)))
    }

    pub(crate) fn delete_dispatch(
        &mut self,
        request: &proto::DeleteAgentDispatchRequest,
        now: Instant,
        unix_now: Duration,
        rng: &mut impl Rng,
    ) -> AdminResult {
        let room = self.rooms.by_name(&request.room).ok_or_else(AdminError::no_room)?.id;
        let (agents, mut desk) = self.desk(now, unix_now, rng);
        let mut dispatch = agents.describe(room, &request.dispatch_id, &request.room).ok_or_else(no_dispatch)?;
        if let Some(state) = &mut dispatch.state {
            state.deleted_at = desk.unix_nanos();
        }
        if let Some(all) = agents.dispatches.get_mut(&room) {
            all.retain(|dispatch| dispatch.id != request.dispatch_id);
        }
        agents.call_off(&request.dispatch_id, &mut desk);
        Ok(AdminResponse::Dispatch(Box::new(dispatch)))
    }

    /// All of the room, or the one of that id.
    pub(crate) fn list_dispatches(&self, request: &proto::ListAgentDispatchRequest) -> AdminResult {
        let room = self.rooms.by_name(&request.room).ok_or_else(AdminError::no_room)?.id;
        let ids = self.agents.dispatch_ids(room);
        let asked = ids.iter().filter(|id| request.dispatch_id.is_empty() || **id == request.dispatch_id);
        Ok(AdminResponse::Dispatches(asked.filter_map(|id| self.agents.describe(room, id, &request.room)).collect()))
    }
}

impl Agents {
    pub(super) fn add_dispatch(&mut self, room: RoomId, wanted: AgentConfig, desk: &mut Desk<'_>) -> String {
        let id = ids::dispatch_sid(ids::random_id(desk.rng));
        let dispatch = Dispatch { id: id.clone(), wanted, restart_policy: 0, created_at_nanos: desk.unix_nanos() };
        self.dispatches.entry(room).or_default().push(dispatch);
        id
    }

    pub(super) fn dispatch(&self, room: RoomId, id: &str) -> Option<&Dispatch> {
        self.dispatches.get(&room)?.iter().find(|dispatch| dispatch.id == id)
    }

    pub(super) fn dispatch_ids(&self, room: RoomId) -> Vec<String> {
        self.dispatches.get(&room).into_iter().flatten().map(|dispatch| dispatch.id.clone()).collect()
    }

    /// Dispatches that name the worker's agent and have no job of its kind. Those without a name are for workers that were
    /// there when the room was opened.
    pub(super) fn waiting_for(&self, worker: WorkerId) -> Vec<(RoomId, String)> {
        let Some(key) = self.registration(worker).map(|registration| &registration.key) else { return Vec::new() };
        if key.agent_name.is_empty() {
            return Vec::new();
        }
        let is_waiting = |dispatch: &&Dispatch| {
            dispatch.wanted.agent_name == key.agent_name
                && dispatch.wanted.deployment == key.deployment
                && !self.jobs.of(&dispatch.id).any(|(_, job)| job.info.r#type == key.kind)
        };
        let in_room = |(room, all): (&RoomId, &Vec<Dispatch>)| {
            let room = *room;
            all.iter().filter(is_waiting).map(move |dispatch| (room, dispatch.id.clone())).collect::<Vec<_>>()
        };
        self.dispatches.iter().flat_map(in_room).collect()
    }

    fn describe(&self, room: RoomId, id: &str, room_name: &str) -> Option<proto::AgentDispatch> {
        let dispatch = self.dispatch(room, id)?;
        Some(proto::AgentDispatch {
            id: dispatch.id.clone(),
            agent_name: dispatch.wanted.agent_name.clone(),
            room: room_name.to_owned(),
            metadata: dispatch.wanted.metadata.clone(),
            state: Some(proto::AgentDispatchState {
                jobs: self.jobs.of(id).map(|(_, job)| job.info.clone()).collect(),
                created_at: dispatch.created_at_nanos,
                deleted_at: 0,
            }),
            restart_policy: dispatch.restart_policy,
            deployment: dispatch.wanted.deployment.clone(),
            attributes: dispatch.wanted.attributes.clone().into_iter().collect(),
        })
    }
}

fn no_dispatch() -> AdminError {
    AdminError::new(ErrorCode::DispatchNotFound, "dispatch ID not found")
}
