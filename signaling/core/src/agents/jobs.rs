//! Jobs: asked of workers one after the other, given to the first that takes it, ended by it, by its leaving or with the room.

use std::{collections::BTreeSet, time::Duration};

use livekit_protocol as proto;
use livekit_protocol::{DisconnectReason, JobStatus, JobType, server_message};
use sfu_api::RoomId;
use signaling_api::{Grants, ParticipantKind};

use super::{
    Agents, Desk, JobId, Person, RoomView, WorkerId,
    workers::{Key, say, say_terminated},
};
use crate::{Output, ids, limits, participant::attributes_bytes, timers::Timer};

/// See the module.
#[derive(Debug)]
pub(super) struct Job {
    /// None for one that a worker asked for to try itself.
    pub(super) room: Option<RoomId>,
    pub(super) info: proto::Job,
    key: Key,
    pub(super) phase: Phase,
    tried: BTreeSet<WorkerId>,
}

/// How far a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// A worker was asked.
    Asked(WorkerId),
    /// A worker has it; none while that worker is away.
    Running(Option<WorkerId>),
    /// The worker was told to end it; the agent gets a moment to leave by itself.
    Ending,
    /// Kept for lists of jobs.
    Ended,
}

impl Agents {
    /// Starts the jobs of a dispatch for the room, or for a participant of it.
    pub(super) fn launch(&mut self, room: &RoomView, dispatch: &str, kind: JobType, person: Option<&Person>, desk: &mut Desk<'_>) {
        let Some(wanted) = self.dispatch(room.id, dispatch).map(|dispatch| dispatch.wanted.clone()) else { return };
        let sid = person.map(|person| person.info.sid.as_str()).unwrap_or_default();
        for namespace in self.namespaces(&wanted.agent_name, &wanted.deployment, kind) {
            let key = Key { agent_name: wanted.agent_name.clone(), namespace, deployment: wanted.deployment.clone(), kind: kind.into() };
            let is_there = self
                .jobs
                .of(dispatch)
                .any(|(_, job)| job.key == key && job.info.participant.as_ref().map(|info| info.sid.as_str()).unwrap_or_default() == sid);
            if is_there || !self.make_room_for_job(dispatch) {
                continue;
            }
            #[expect(deprecated, reason = "older workers read the namespace")]
            let info = proto::Job {
                dispatch_id: dispatch.to_owned(),
                r#type: kind.into(),
                room: Some(room.info.clone()),
                participant: person.map(|person| person.info.clone()),
                namespace: key.namespace.clone(),
                metadata: wanted.metadata.clone(),
                agent_name: wanted.agent_name.clone(),
                deployment: wanted.deployment.clone(),
                attributes: wanted.attributes.clone().into_iter().collect(),
                ..Default::default()
            };
            let id = self.insert(Some(room.id), info, key, desk);
            self.search(id, desk);
        }
    }

    /// The same for everybody whom jobs of this kind are about.
    pub(super) fn launch_for_all(&mut self, room: &RoomView, dispatch: &str, kind: JobType, desk: &mut Desk<'_>) {
        match kind {
            JobType::JtRoom => self.launch(room, dispatch, kind, None, desk),
            JobType::JtParticipant => {
                room.people.iter().for_each(|person| self.launch(room, dispatch, kind, Some(person), desk));
            }
            JobType::JtPublisher => {
                let publishers = room.people.iter().filter(|person| person.has_published);
                publishers.for_each(|person| self.launch(room, dispatch, kind, Some(person), desk));
            }
        }
    }

    /// Asks this worker and no other.
    pub(super) fn ask_one(&mut self, worker: WorkerId, info: proto::Job, key: Key, desk: &mut Desk<'_>) {
        if self.jobs.iter().filter(|(_, job)| job.room.is_none()).count() < limits::SIMULATED_JOBS {
            let id = self.insert(None, info, key, desk);
            self.ask(id, worker, desk);
        }
    }

    fn insert(&mut self, room: Option<RoomId>, info: proto::Job, key: Key, desk: &mut Desk<'_>) -> JobId {
        let id = loop {
            let id = JobId(ids::random_id(desk.rng));
            if !self.jobs.contains(id) {
                break id;
            }
        };
        let info = proto::Job { id: ids::job_sid(id.0), ..info };
        self.jobs.insert(id, Job { room, info, key, phase: Phase::Running(None), tried: BTreeSet::new() });
        id
    }

    fn search(&mut self, id: JobId, desk: &mut Desk<'_>) {
        let Some(job) = self.jobs.get(id) else { return };
        let chosen = if job.room.is_some() { self.choose_worker(&job.key, &job.tried, desk) } else { None };
        match chosen {
            Some(worker) => self.ask(id, worker, desk),
            None => {
                // As if it had never been: a worker that registers later may still get the dispatch.
                tracing::info!(job = ids::job_sid(id.0), agent = job.info.agent_name, "no worker takes the job");
                self.jobs.remove(id);
                desk.timers.clear(Timer::Job(id));
            }
        }
    }

    fn ask(&mut self, id: JobId, worker: WorkerId, desk: &mut Desk<'_>) {
        let worker_id = self.worker_sid(worker);
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.tried.insert(worker);
        job.phase = Phase::Asked(worker);
        let now = desk.unix_nanos();
        let (status, started_at, updated_at) = (JobStatus::JsRunning.into(), now, now);
        job.info.state = Some(proto::JobState { status, started_at, updated_at, worker_id, ..Default::default() });
        let request = proto::AvailabilityRequest { job: Some(job.info.clone()), resuming: false };
        desk.set_job_timer(id, limits::AVAILABILITY_TIME);
        say(worker, server_message::Message::Availability(request), desk);
    }

    pub(super) fn availability(&mut self, worker: WorkerId, answer: proto::AvailabilityResponse, desk: &mut Desk<'_>) {
        let Some(id) = ids::parse_job_sid(&answer.job_id).map(JobId) else { return };
        if self.jobs.get(id).is_none_or(|job| job.phase != Phase::Asked(worker)) {
            return;
        }
        if answer.terminate {
            self.end(id, JobStatus::JsSuccess, "", desk);
        } else if answer.available && is_within_limits(&answer) {
            self.assign(id, worker, answer, desk);
        } else {
            self.search(id, desk);
        }
    }

    fn assign(&mut self, id: JobId, worker: WorkerId, answer: proto::AvailabilityResponse, desk: &mut Desk<'_>) {
        let Some(permissions) = self.registration(worker).map(|registration| registration.permissions.clone()) else { return };
        let Some(job) = self.jobs.get_mut(id) else { return };
        let identity = if answer.participant_identity.is_empty() { format!("agent-{}", job.info.id) } else { answer.participant_identity };
        if let Some(state) = &mut job.info.state {
            state.participant_identity.clone_from(&identity);
        }
        job.phase = Phase::Running(Some(worker));
        desk.timers.clear(Timer::Job(id));
        let mut attributes: std::collections::BTreeMap<_, _> = answer.participant_attributes.into_iter().collect();
        attributes.insert(AGENT_NAME_ATTRIBUTE.to_owned(), job.info.agent_name.clone());
        let grants = Grants {
            identity,
            name: answer.participant_name,
            metadata: answer.participant_metadata,
            attributes,
            kind: ParticipantKind::Agent,
            room: job.info.room.as_ref().map(|room| room.name.clone()).unwrap_or_default(),
            room_join: true,
            agent: true,
            can_publish: permissions.can_publish,
            can_subscribe: permissions.can_subscribe,
            can_publish_data: permissions.can_publish_data,
            can_update_own_metadata: permissions.can_update_metadata,
            can_subscribe_metrics: permissions.can_subscribe_metrics,
            hidden: permissions.hidden,
            expires_at: Some(desk.unix_now + AGENT_TOKEN_TTL),
            ..Grants::default()
        };
        let assignment = proto::JobAssignment { job: Some(job.info.clone()), url: None, token: String::new() };
        desk.out.push(Output::AssignJob { worker, assignment: Box::new(assignment), grants: Box::new(grants) });
    }

    /// The worker says how it goes; one that has lost its connection takes its jobs up again.
    pub(super) fn job_updated(&mut self, worker: WorkerId, update: &proto::UpdateJobStatus, desk: &mut Desk<'_>) {
        let Some(id) = ids::parse_job_sid(&update.job_id).map(JobId) else { return };
        let now = desk.unix_nanos();
        let Some(job) = self.jobs.get_mut(id) else { return };
        match (JobStatus::try_from(update.status), job.phase) {
            (Ok(JobStatus::JsRunning | JobStatus::JsPending), Phase::Running(_)) => {
                job.phase = Phase::Running(Some(worker));
                if let Some(state) = &mut job.info.state {
                    state.updated_at = now;
                }
            }
            (Ok(status @ (JobStatus::JsSuccess | JobStatus::JsFailed)), Phase::Running(Some(of))) if of == worker => {
                let error: String = update.error.chars().take(limits::NAME_BYTES).collect();
                self.end(id, status, &error, desk);
            }
            _ => {}
        }
    }

    /// The worker's connection is gone: what it was asked is asked of others, what it has it may come back to.
    pub(super) fn worker_lost(&mut self, worker: WorkerId, desk: &mut Desk<'_>) {
        for id in self.jobs.ids_where(|job| job.phase == Phase::Running(Some(worker))) {
            match self.jobs.get_mut(id) {
                Some(job) if job.room.is_some() => job.phase = Phase::Running(None),
                // What it tried for itself is nobody else's.
                _ => drop(self.jobs.remove(id)),
            }
        }
        let asked = self.jobs.ids_where(|job| job.phase == Phase::Asked(worker));
        for id in asked {
            self.search(id, desk);
        }
    }

    /// An agent has left: its job is over. Not if it was asked to join anew, which it does within the same job.
    pub(super) fn participant_left(&mut self, room: RoomId, identity: &str, reason: DisconnectReason, desk: &mut Desk<'_>) {
        if reason == DisconnectReason::StateMismatch {
            return;
        }
        // It goes on in another room, where a worker that is told of the end would stop it.
        let is_moved = reason == DisconnectReason::Migration;
        let is_its =
            |job: &Job| job.room == Some(room) && job.info.state.as_ref().is_some_and(|state| state.participant_identity == identity);
        for id in self.jobs.ids_where(is_its) {
            let Some(phase) = self.jobs.get(id).map(|job| job.phase) else { continue };
            match phase {
                Phase::Running(worker) => {
                    if let Some(worker) = worker.filter(|_| !is_moved) {
                        say_terminated(worker, id, desk);
                    }
                    let is_wanted = is_moved || reason == DisconnectReason::ClientInitiated;
                    let (status, error) =
                        if is_wanted { (JobStatus::JsSuccess, "") } else { (JobStatus::JsFailed, "agent worker left the room") };
                    self.end(id, status, error, desk);
                }
                Phase::Ending => {
                    self.jobs.remove(id);
                    desk.timers.clear(Timer::Job(id));
                }
                Phase::Asked(_) | Phase::Ended => {}
            }
        }
    }

    /// The dispatch is taken back: the worker is told, and the agent that has not left in a moment is sent away.
    pub(super) fn call_off(&mut self, dispatch: &str, desk: &mut Desk<'_>) {
        let ids: Vec<_> = self.jobs.of(dispatch).map(|(id, job)| (id, job.phase)).collect();
        for (id, phase) in ids {
            if let Phase::Running(worker) = phase {
                if let Some(worker) = worker {
                    say_terminated(worker, id, desk);
                }
                if let Some(job) = self.jobs.get_mut(id) {
                    job.phase = Phase::Ending;
                }
                desk.set_job_timer(id, limits::AGENT_LEAVE_TIME);
            } else {
                self.jobs.remove(id);
                desk.timers.clear(Timer::Job(id));
            }
        }
    }

    /// Nothing of a room that is closed is left.
    pub(super) fn room_closed(&mut self, room: RoomId, desk: &mut Desk<'_>) {
        self.dispatches.remove(&room);
        let ids: Vec<_> = self.jobs.iter().filter(|(_, job)| job.room == Some(room)).map(|(id, job)| (id, job.phase)).collect();
        for (id, phase) in ids {
            if let Phase::Running(Some(worker)) = phase {
                say_terminated(worker, id, desk);
            }
            self.jobs.remove(id);
            desk.timers.clear(Timer::Job(id));
        }
    }

    /// Returns the agent that must leave its room.
    pub(super) fn job_timed_out(&mut self, id: JobId, desk: &mut Desk<'_>) -> Option<(RoomId, String)> {
        let job = self.jobs.get(id)?;
        match job.phase {
            Phase::Asked(_) => {
                self.search(id, desk);
                None
            }
            Phase::Ending => {
                let job = self.jobs.remove(id)?;
                Some((job.room?, job.info.state?.participant_identity))
            }
            Phase::Running(_) | Phase::Ended => None,
        }
    }

    fn end(&mut self, id: JobId, status: JobStatus, error: &str, desk: &mut Desk<'_>) {
        desk.timers.clear(Timer::Job(id));
        let now = desk.unix_nanos();
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.phase = Phase::Ended;
        if let Some(state) = &mut job.info.state {
            (state.status, state.updated_at, state.ended_at) = (status.into(), now, now);
            error.clone_into(&mut state.error);
        }
        // What the agent was told is not needed any more.
        job.info.participant =
            job.info.participant.take().map(|info| proto::ParticipantInfo { sid: info.sid, identity: info.identity, ..Default::default() });
        if job.room.is_none() {
            self.jobs.remove(id);
        }
    }

    /// The oldest that is over makes room. False if there is none.
    fn make_room_for_job(&mut self, dispatch: &str) -> bool {
        if self.jobs.of(dispatch).count() < limits::JOBS_PER_DISPATCH {
            return true;
        }
        let started = |job: &Job| job.info.state.as_ref().map_or(0, |state| state.started_at);
        let over = self.jobs.of(dispatch).filter(|(_, job)| job.phase == Phase::Ended);
        let Some(oldest) = over.min_by_key(|(_, job)| started(job)).map(|(id, _)| id) else { return false };
        self.jobs.remove(oldest).is_some()
    }
}

fn is_within_limits(answer: &proto::AvailabilityResponse) -> bool {
    answer.participant_identity.len() <= limits::IDENTITY_BYTES
        && answer.participant_name.len() <= limits::NAME_BYTES
        && answer.participant_metadata.len() <= limits::METADATA_BYTES
        && attributes_bytes(&answer.participant_attributes) <= limits::ATTRIBUTES_BYTES - limits::NAME_BYTES - AGENT_NAME_ATTRIBUTE.len()
}

/// Clients read the agent's name here (LiveKit: `AgentNameAttributeKey`).
const AGENT_NAME_ATTRIBUTE: &str = "lk.agent_name";
/// As LiveKit's server gives it (`BuildAgentToken`).
const AGENT_TOKEN_TTL: Duration = Duration::from_secs(3600);
