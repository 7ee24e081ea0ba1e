//! Workers: who is registered for what, how busy each is, and which one is asked next.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol as proto;
use livekit_protocol::{JobType, WorkerStatus, server_message, worker_message};
use rand::{RngExt as _, seq::IteratorRandom as _};

use super::{Agents, Desk, JobId, WorkerId};
use crate::{CloseReason, Output, ids, limits, timers::Timer};

/// A worker's connection.
#[derive(Debug)]
pub(super) struct Worker {
    sid: String,
    /// None until it has registered.
    registration: Option<Registration>,
    is_available: bool,
    /// 0 is idle, 1 is full.
    load: f32,
}

/// What a worker offers.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub(super) key: Key,
    pub(super) permissions: proto::ParticipantPermission,
}

/// What makes a worker fit for a job.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) agent_name: String,
    pub(super) namespace: String,
    pub(super) deployment: String,
    pub(super) kind: i32,
}

impl Agents {
    pub(super) fn worker_connected(&mut self, id: WorkerId, desk: &mut Desk<'_>) {
        if self.workers.len() >= limits::WORKERS {
            desk.out.push(Output::CloseWorker { worker: id, reason: CloseReason::Flood });
            return;
        }
        let worker = Worker { sid: ids::worker_sid(ids::random_id(desk.rng)), registration: None, is_available: true, load: 0.0 };
        self.workers.insert(id, worker);
        desk.timers.set(Timer::Worker(id), desk.now + limits::REGISTER_TIME);
    }

    /// True if it has just registered.
    pub(super) fn worker_says(&mut self, id: WorkerId, message: proto::WorkerMessage, desk: &mut Desk<'_>) -> bool {
        use worker_message::Message as Said;
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        let is_registered = worker.registration.is_some();
        match message.message {
            Some(Said::Register(request)) if !is_registered => return self.register(id, request, desk),
            Some(Said::Ping(ping)) => {
                let timestamp = i64::try_from(desk.unix_now.as_millis()).unwrap_or(i64::MAX);
                let pong = proto::WorkerPong { last_timestamp: ping.timestamp, timestamp };
                say(id, server_message::Message::Pong(pong), desk);
            }
            // Nothing else is heard from who has not registered.
            _ if !is_registered => {}
            Some(Said::UpdateWorker(update)) => {
                if let Some(status) = update.status {
                    worker.is_available = status == i32::from(WorkerStatus::WsAvailable);
                }
                worker.is_available &= !update.draining;
                worker.load = if update.load.is_finite() { update.load.clamp(0.0, 1.0) } else { 1.0 };
            }
            Some(Said::Availability(answer)) => self.availability(id, answer, desk),
            Some(Said::UpdateJob(update)) => self.job_updated(id, &update, desk),
            Some(Said::SimulateJob(simulate)) => self.simulate_job(id, simulate, desk),
            // LiveKit's own server does nothing on it either: the job stays where it is.
            Some(Said::MigrateJob(_) | Said::Register(_)) | None => {}
        }
        false
    }

    fn register(&mut self, id: WorkerId, request: proto::RegisterWorkerRequest, desk: &mut Desk<'_>) -> bool {
        let namespace = request.namespace.unwrap_or_default();
        let is_short = [&request.agent_name, &namespace, &request.deployment].into_iter().all(|text| text.len() <= limits::NAME_BYTES);
        let Some(worker) = self.workers.get_mut(&id).filter(|_| is_short && JobType::try_from(request.r#type).is_ok()) else {
            desk.out.push(Output::CloseWorker { worker: id, reason: CloseReason::Refused(signaling_api::ErrorCode::BadRequest) });
            self.worker_closed(id, desk);
            return false;
        };
        let permissions = request.allowed_permissions.unwrap_or(proto::ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_data: true,
            can_update_metadata: true,
            ..Default::default()
        });
        let key = Key { agent_name: request.agent_name, namespace, deployment: request.deployment, kind: request.r#type };
        let version: String = request.version.chars().take(VERSION_CHARS).collect();
        tracing::info!(worker = worker.sid, agent = key.agent_name, version, "agent worker registered");
        worker.registration = Some(Registration { key, permissions });
        let response = proto::RegisterWorkerResponse {
            worker_id: worker.sid.clone(),
            server_info: Some(proto::ServerInfo { agent_protocol: AGENT_PROTOCOL, ..desk.config.server_info() }),
            ..Default::default()
        };
        desk.timers.clear(Timer::Worker(id));
        say(id, server_message::Message::Register(response), desk);
        true
    }

    pub(super) fn registration_timed_out(&mut self, id: WorkerId, desk: &mut Desk<'_>) {
        desk.out.push(Output::CloseWorker { worker: id, reason: CloseReason::Silent });
        self.worker_closed(id, desk);
    }

    pub(super) fn worker_closed(&mut self, id: WorkerId, desk: &mut Desk<'_>) {
        if let Some(worker) = self.workers.remove(&id) {
            tracing::info!(worker = worker.sid, "agent worker is gone");
            desk.timers.clear(Timer::Worker(id));
            self.worker_lost(id, desk);
        }
    }

    pub(super) fn kind_of(&self, id: WorkerId) -> Option<JobType> {
        JobType::try_from(self.workers.get(&id)?.registration.as_ref()?.key.kind).ok()
    }

    pub(super) fn registration(&self, id: WorkerId) -> Option<&Registration> {
        self.workers.get(&id)?.registration.as_ref()
    }

    pub(super) fn worker_sid(&self, id: WorkerId) -> String {
        self.workers.get(&id).map(|worker| worker.sid.clone()).unwrap_or_default()
    }

    pub(super) fn has_workers_for(&self, kind: JobType) -> bool {
        self.registrations().any(|(_, registration)| registration.key.kind == i32::from(kind))
    }

    /// In which namespaces an agent has workers.
    pub(super) fn namespaces(&self, agent_name: &str, deployment: &str, kind: JobType) -> BTreeSet<String> {
        self.registrations()
            .map(|(_, registration)| &registration.key)
            .filter(|key| key.agent_name == agent_name && key.deployment == deployment && key.kind == i32::from(kind))
            .map(|key| key.namespace.clone())
            .collect()
    }

    /// One that has the time, by chance; who has more time is more likely (LiveKit: `selectWorkerWeightedByLoad`).
    /// Who is available and fully loaded is the last resort: the load may be that of the machine, and it may still decline.
    pub(super) fn choose_worker(&self, key: &Key, tried: &BTreeSet<WorkerId>, desk: &mut Desk<'_>) -> Option<WorkerId> {
        let (free, full): (BTreeMap<WorkerId, f32>, BTreeMap<_, _>) = self
            .workers
            .iter()
            .filter(|(id, worker)| worker.is_available && !tried.contains(id))
            .filter(|(_, worker)| worker.registration.as_ref().is_some_and(|registration| registration.key == *key))
            .map(|(id, worker)| (*id, 1.0 - worker.load))
            .partition(|(_, free)| *free > 0.0);
        if free.is_empty() {
            return full.into_keys().choose(desk.rng);
        }
        let mut rest = desk.rng.random_range(0.0..1.0) * free.values().sum::<f32>();
        let chosen = free.iter().find(|(_, free)| {
            rest -= **free;
            rest < 0.0
        });
        chosen.or_else(|| free.last_key_value()).map(|(id, _)| *id)
    }

    pub(super) fn registered(&self) -> usize {
        self.registrations().count()
    }

    fn registrations(&self) -> impl Iterator<Item = (WorkerId, &Registration)> {
        self.workers.iter().filter_map(|(id, worker)| Some((*id, worker.registration.as_ref()?)))
    }

    fn simulate_job(&mut self, id: WorkerId, simulate: proto::SimulateJobRequest, desk: &mut Desk<'_>) {
        let Some(key) = self.registration(id).map(|registration| registration.key.clone()) else { return };
        let Some(room) = simulate.room else { return };
        let kind = if simulate.participant.is_some() { JobType::JtPublisher } else { JobType::JtRoom };
        let job = proto::Job {
            r#type: kind.into(),
            room: Some(room),
            participant: simulate.participant,
            agent_name: key.agent_name.clone(),
            ..Default::default()
        };
        self.ask_one(id, job, key, desk);
    }
}

pub(super) fn say(worker: WorkerId, message: server_message::Message, desk: &mut Desk<'_>) {
    desk.out.push(Output::ToWorker { worker, message: Box::new(proto::ServerMessage { message: Some(message) }) });
}

/// For a job that is over the worker has nothing to do any more.
pub(super) fn say_terminated(worker: WorkerId, id: JobId, desk: &mut Desk<'_>) {
    say(worker, server_message::Message::Termination(proto::JobTermination { job_id: ids::job_sid(id.0) }), desk);
}

/// Of a worker's version in the log.
const VERSION_CHARS: usize = 32;
/// Version of the worker protocol (LiveKit: `agent.CurrentProtocol`).
const AGENT_PROTOCOL: i32 = 1;
