//! Agents: programs that are called into rooms. Workers register, dispatches say which agent a room wants, jobs bring both
//! together.
//!
//! In: messages of workers, news of rooms, requests of administrators. Out: messages to workers, and jobs with the grants of the
//! token that the agent joins with. LiveKit's worker protocol (`livekit_agent.proto`, `pkg/agent`, `agentservice.go`).
//! Invariants: a job is asked of one worker at a time and of none twice; a dispatch has one job for each namespace in which its
//! agent is registered (and participant, for agents of that kind). Bounded by `limits`.
//! Not here: the agent's stay in the room, which is that of any participant.

mod dispatches;
mod jobs;
mod table;
mod workers;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use livekit_protocol as proto;
use livekit_protocol::{DisconnectReason, JobType, leave_request::Action};
use rand::Rng;
use sfu_api::{ParticipantId, RoomId};
use signaling_api::EndReason;

use self::{dispatches::Dispatch, table::Jobs, workers::Worker};
use crate::{
    Signaling, SignalingConfig,
    room::{Farewell, Room},
    timers::{Timer, Timers},
    turn::Outbox,
};

/// A worker's connection; handed out by whoever owns the sockets, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WorkerId(pub u64);

/// A job's id; its written form is `AJ_…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct JobId(pub(crate) u64);

/// What happened to a worker's connection.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkerInput {
    /// It is there, with a token that lets it register.
    Connect,
    /// It says something.
    Message(Box<proto::WorkerMessage>),
    /// It is gone.
    Closed,
}

/// What happened in a room that agents are told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum News {
    Opened(RoomId),
    Joined(RoomId, ParticipantId),
    /// Its first track is ready.
    Published(RoomId, ParticipantId),
    Left(RoomId, String, DisconnectReason),
    Closed(RoomId),
}

/// All workers, dispatches and jobs.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    workers: BTreeMap<WorkerId, Worker>,
    dispatches: BTreeMap<RoomId, Vec<Dispatch>>,
    jobs: Jobs,
}

/// What one turn may use.
pub(crate) struct Desk<'a> {
    now: Instant,
    unix_now: Duration,
    rng: &'a mut dyn Rng,
    out: &'a mut Outbox,
    timers: &'a mut Timers,
    config: &'a SignalingConfig,
}

/// A room as a job describes it.
struct RoomView {
    id: RoomId,
    info: proto::Room,
    people: Vec<Person>,
}

/// A participant that is no agent itself.
struct Person {
    id: ParticipantId,
    info: proto::ParticipantInfo,
    has_published: bool,
}

impl RoomView {
    fn of(room: &Room, config: &SignalingConfig) -> Self {
        let person = |participant: &crate::participant::Participant| {
            let info = room.participant_info(participant.id, config)?;
            Some(Person { id: participant.id, has_published: participant.has_published, info })
        };
        Self {
            id: room.id,
            info: room.describe(config),
            people: room.members.iter().filter(|participant| !participant.is_dependent()).filter_map(person).collect(),
        }
    }
}

impl Agents {
    /// Workers that have registered, and jobs that are not over.
    pub(crate) fn census(&self) -> (usize, usize) {
        (self.registered(), self.jobs.iter().filter(|(_, job)| job.phase != jobs::Phase::Ended).count())
    }
}

impl Desk<'_> {
    fn unix_nanos(&self) -> i64 {
        i64::try_from(self.unix_now.as_nanos()).unwrap_or(i64::MAX)
    }
}

impl Signaling {
    pub(crate) fn worker(&mut self, id: WorkerId, input: WorkerInput, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        let (agents, mut desk) = self.desk(now, unix_now, rng);
        match input {
            WorkerInput::Connect => agents.worker_connected(id, &mut desk),
            WorkerInput::Closed => agents.worker_closed(id, &mut desk),
            WorkerInput::Message(message) => {
                if agents.worker_says(id, *message, &mut desk) {
                    self.serve_waiting_dispatches(id, now, unix_now, rng);
                }
            }
        }
    }

    /// Tells the agents what happened in rooms in this turn.
    pub(crate) fn tell_agents(&mut self, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        for news in std::mem::take(&mut self.news) {
            let (room, participant, kind) = match news {
                News::Opened(room) => {
                    self.open_dispatches(room, now, unix_now, rng);
                    continue;
                }
                News::Closed(room) => {
                    let (agents, mut desk) = self.desk(now, unix_now, rng);
                    agents.room_closed(room, &mut desk);
                    continue;
                }
                News::Left(room, identity, reason) => {
                    let (agents, mut desk) = self.desk(now, unix_now, rng);
                    agents.participant_left(room, &identity, reason, &mut desk);
                    continue;
                }
                News::Joined(room, participant) => (room, participant, JobType::JtParticipant),
                News::Published(room, participant) => (room, participant, JobType::JtPublisher),
            };
            if !self.agents.has_workers_for(kind) {
                continue;
            }
            let Some(view) = self.view(room) else { continue };
            let (agents, mut desk) = self.desk(now, unix_now, rng);
            let Some(person) = view.people.iter().find(|person| person.id == participant) else { continue };
            for dispatch in agents.dispatch_ids(room) {
                agents.launch(&view, &dispatch, kind, Some(person), &mut desk);
            }
        }
    }

    /// Settings of the room say which agents it wants. A room that names none gets those that have no name
    /// (LiveKit: `createAgentDispatchesFromRoomAgent`).
    fn open_dispatches(&mut self, room: RoomId, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        let Some(view) = self.view(room) else { return };
        let wanted = self.rooms.get_mut(room).map(|room| std::mem::take(&mut room.settings.agents)).unwrap_or_default();
        let wanted = if wanted.is_empty() { vec![signaling_api::AgentConfig::default()] } else { wanted };
        let (agents, mut desk) = self.desk(now, unix_now, rng);
        for agent in wanted {
            let id = agents.add_dispatch(room, agent, &mut desk);
            agents.launch(&view, &id, JobType::JtRoom, None, &mut desk);
        }
    }

    /// A worker has registered: dispatches that named its agent before it was there get it now.
    fn serve_waiting_dispatches(&mut self, worker: WorkerId, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        let Some(kind) = self.agents.kind_of(worker) else { return };
        for (room, dispatch) in self.agents.waiting_for(worker) {
            let Some(view) = self.view(room) else { continue };
            let (agents, mut desk) = self.desk(now, unix_now, rng);
            agents.launch_for_all(&view, &dispatch, kind, &mut desk);
        }
    }

    pub(crate) fn job_timer(&mut self, id: JobId, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        let (agents, mut desk) = self.desk(now, unix_now, rng);
        let Some((room, identity)) = agents.job_timed_out(id, &mut desk) else { return };
        let farewell = Farewell::Leave(Action::Disconnect);
        self.with_room(room, now, unix_now, rng, |room, turn| {
            if let Some(id) = room.members.id_of(&identity) {
                room.remove(id, EndReason::Removed, farewell, turn);
            }
        });
    }

    pub(crate) fn worker_timer(&mut self, id: WorkerId, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        let (agents, mut desk) = self.desk(now, unix_now, rng);
        agents.registration_timed_out(id, &mut desk);
    }

    fn view(&self, room: RoomId) -> Option<RoomView> {
        self.rooms.get(room).map(|room| RoomView::of(room, &self.config))
    }

    fn desk<'a>(&'a mut self, now: Instant, unix_now: Duration, rng: &'a mut impl Rng) -> (&'a mut Agents, Desk<'a>) {
        let desk = Desk { now, unix_now, rng, out: &mut self.out, timers: &mut self.timers, config: &self.config };
        (&mut self.agents, desk)
    }
}

impl Desk<'_> {
    fn set_job_timer(&mut self, id: JobId, after: Duration) {
        self.timers.set(Timer::Job(id), self.now + after);
    }
}
