//! Owns every room and every signaling connection, and reads the clock for them: the one loop of this server.
//!
//! In: arrivals, messages and departures from the socket tasks; events from the media nodes. Out: messages to the socket
//! tasks, commands to the nodes.
//! Invariants: nothing here waits for a client: a connection whose queue is full is dropped and the rooms learn that it
//! closed; each connection's [`Input::Connect`] is followed by exactly one end, either from the rooms or from the socket.
//! Not here: frames and their encodings (`ws/socket.rs`), what may wait on the way in and out (`ws/intake.rs`, `ws/outbox.rs`), who may
//! connect (`http/rtc.rs`).

mod heartbeat;
pub(crate) mod intake;
pub(crate) mod outbox;
pub(crate) mod socket;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use livekit_protocol::{
    JobAssignment, LeaveRequest, RoomMovedResponse, ServerMessage, SignalRequest, SignalResponse, server_message, signal_request,
    signal_response,
};
use rand::rngs::StdRng;
use sfu_api::telemetry::TrackSample;
use sfu_api::{Command, Event};
use signaling_api::{EndReason, ErrorCode, Grants};
use signaling_core::{
    AdminId, AdminRequest, AdminResult, CloseReason, ConnId, Counters, Happening, Input, JoinParams, Note, Output, Signaling, WorkerId,
    WorkerInput,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tracing::{debug, error, info};

pub(crate) use self::heartbeat::Heartbeat;
use self::intake::Weight;
use self::outbox::{Outbox, SocketEnd};
use crate::agents::ToWorker;
use crate::auth;
use crate::codec::Response;
use crate::config::ApiKeys;
use crate::drain::{Drain, DrainRequest, DrainStatus, DrainStep};
use crate::give_way::give_way;
use crate::holdings::{Holding, LARGE_BYTES};
use crate::media::MediaLink;
use crate::metrics::Metrics;
use crate::net::stopping;
use crate::timelines::Timelines;
use crate::traces::Traces;
use crate::unix_now;

/// What request handlers and socket tasks say.
pub(crate) enum ToLoop {
    /// Would a join work as things are, and about how many bytes would the newcomer be told first?
    Check { grants: Grants, request: JoinParams, reply: oneshot::Sender<Result<usize, ErrorCode>> },
    /// An administrator asks something that its token allows.
    Admin { grants: Box<Grants>, request: Box<AdminRequest>, reply: oneshot::Sender<Box<AdminResult>> },
    /// Is a genuine token still good?
    Verify { grants: Box<Grants>, reply: oneshot::Sender<Result<(), ErrorCode>> },
    /// An agent worker is there; its token is verified.
    WorkerConnect { worker: WorkerId, api_key: String, outbox: mpsc::Sender<ToWorker> },
    /// It sent a message, or is gone.
    Worker { worker: WorkerId, input: WorkerInput, weight: Option<Weight> },
    /// A client is there; its token is verified.
    Connect(Box<Newcomer>),
    /// It sent a message.
    Message { conn: ConnId, request: SignalRequest, weight: Weight },
    /// It is gone. Nothing follows.
    Closed { conn: ConnId },
    /// An operator empties this server, or changed its mind.
    Drain(DrainRequest),
    /// Answered when everything that was said before is done.
    Barrier(oneshot::Sender<()>),
}

/// A client that just connected.
pub(crate) struct Newcomer {
    pub(crate) conn: ConnId,
    pub(crate) grants: Grants,
    pub(crate) request: JoinParams,
    pub(crate) remote_ip: IpAddr,
    pub(crate) outbox: Outbox,
    /// When its request came.
    pub(crate) asked_at: Instant,
}

/// The loop's state.
pub(crate) struct SignalingLoop {
    signaling: Signaling,
    connections: HashMap<ConnId, Connection>,
    media: MediaLink,
    /// For the node, until everything else is handed out.
    commands: Vec<Command>,
    keys: ApiKeys,
    rng: StdRng,
    metrics: Metrics,
    reported: Counters,
    heartbeat: Heartbeat,
    timelines: Arc<Mutex<Timelines>>,
    traces: Option<Traces>,
    drain: Drain,
    /// Who waits for which answer. The rooms answer each within a bounded time.
    questions: HashMap<AdminId, oneshot::Sender<Box<AdminResult>>>,
    asked: u64,
    workers: HashMap<WorkerId, Workplace>,
    failed: Arc<Notify>,
    large_messages: Holding,
}

/// What the loop shares with request handlers.
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) timelines: Arc<Mutex<Timelines>>,
    pub(crate) drain: watch::Sender<DrainStatus>,
    pub(crate) traces: Option<Traces>,
    /// Told when the server can't go on and is to stop.
    pub(crate) failed: Arc<Notify>,
    /// What is large and not written yet.
    pub(crate) large_messages: Holding,
}

/// An agent worker's connection.
struct Workplace {
    api_key: String,
    outbox: mpsc::Sender<ToWorker>,
}

struct Connection {
    outbox: Outbox,
    /// What its first message will answer; None once it has been answered.
    awaits: Option<Attempt>,
    asked_at: Instant,
}

#[derive(Clone, Copy)]
enum Attempt {
    Join,
    Resume,
}

impl SignalingLoop {
    pub(crate) fn new(signaling: Signaling, media: MediaLink, keys: ApiKeys, rng: StdRng, shared: Shared) -> Self {
        let Shared { metrics, heartbeat, timelines, drain, traces, failed, large_messages } = shared;
        Self {
            signaling,
            connections: HashMap::new(),
            media,
            commands: Vec::new(),
            keys,
            rng,
            metrics,
            reported: Counters::default(),
            heartbeat,
            timelines,
            traces,
            drain: Drain::new(drain),
            questions: HashMap::new(),
            asked: 0,
            workers: HashMap::new(),
            failed,
            large_messages,
        }
    }

    /// Runs until `is_stopping` turns true, and then for the grace period.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<ToLoop>, mut is_stopping: watch::Receiver<bool>) {
        let mut stop_at = None;
        let mut has_media = true;
        let mut report_at = Instant::now();
        loop {
            let now = Instant::now();
            self.heartbeat.beat(now);
            if now >= report_at {
                report_at = now + HEARTBEAT;
                self.report();
            }
            if stop_at.is_some_and(|at| now >= at) {
                return;
            }
            let wake_at = self.signaling.next_timeout().map_or(now + HEARTBEAT, |at| at.min(now + HEARTBEAT));
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.receive(message),
                    None => return,
                },
                event = self.media.events.recv(), if has_media => match event {
                    Some(Event::Samples(samples)) => self.record(&samples),
                    Some(event) => self.input(Input::Media(event)),
                    None => {
                        error!("the media node is gone: everybody is asked to come again");
                        has_media = false;
                        self.failed.notify_one();
                    }
                },
                () = sleep_until(wake_at.into()) => self.signaling.handle_timeout(Instant::now(), unix_now(), &mut self.rng),
                () = stopping(&mut is_stopping), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + SHUTDOWN_GRACE);
                    self.say_goodbye();
                }
            }
            self.deliver();
            give_way();
        }
    }

    fn receive(&mut self, message: ToLoop) {
        match message {
            ToLoop::Check { grants, request, reply } => {
                let checked = self.signaling.check_join(&grants, &request).map(|()| self.signaling.welcome_bytes(&grants));
                // who asked may be gone by now
                let _ = reply.send(checked);
            }
            ToLoop::Verify { grants, reply } => drop(reply.send(self.signaling.check_token(&grants))),
            ToLoop::Admin { grants, request, reply } => {
                self.asked += 1;
                let id = AdminId(self.asked);
                self.questions.insert(id, reply);
                self.input(Input::Admin { id, grants, request });
            }
            ToLoop::WorkerConnect { worker, api_key, outbox } => {
                self.workers.insert(worker, Workplace { api_key, outbox });
                self.input(Input::Worker { worker, input: WorkerInput::Connect });
            }
            ToLoop::Worker { worker, input, weight } => {
                if input == WorkerInput::Closed {
                    self.workers.remove(&worker);
                }
                self.input(Input::Worker { worker, input });
                drop(weight);
            }
            ToLoop::Drain(request) => self.go_on_draining(Some(request)),
            ToLoop::Barrier(reply) => drop(reply.send(())),
            ToLoop::Connect(newcomer) => {
                let Newcomer { conn, grants, request, remote_ip, outbox, asked_at } = *newcomer;
                let awaits = Some(if request.reconnect { Attempt::Resume } else { Attempt::Join });
                self.connections.insert(conn, Connection { outbox, awaits, asked_at });
                self.input(Input::Connect { conn, grants: Box::new(grants), request: Box::new(request), remote_ip });
            }
            // what a dropped connection still had in its pipe is not heard
            ToLoop::Message { conn, request, weight } if self.connections.contains_key(&conn) => {
                self.metrics.received(&request);
                self.input(Input::Message { conn, request: Box::new(request) });
                drop(weight);
            }
            ToLoop::Message { .. } => {}
            ToLoop::Closed { conn } => {
                if let Some(connection) = self.connections.remove(&conn) {
                    self.refused(connection.awaits, EndReason::ClientLeft.as_str());
                    self.input(Input::Closed { conn });
                }
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.signaling.handle(input, Instant::now(), unix_now(), &mut self.rng);
    }

    /// Hands out everything that the rooms have decided.
    fn deliver(&mut self) {
        self.hand_out();
        // Together: what a join needs of the node is several commands, and the first alone would make it negotiate twice.
        self.media.command(&mut self.commands);
    }

    fn hand_out(&mut self) {
        let mut resumed = Vec::new();
        while let Some(output) = self.signaling.poll() {
            match output {
                Output::Send { conn, response } => {
                    if is_welcome(&response) {
                        resumed.push(conn);
                    }
                    self.send(conn, Response::new(response));
                }
                Output::Welcome { conn, welcome } => {
                    self.send(conn, Response::welcome(*welcome));
                    self.welcomed(conn);
                }
                Output::Broadcast { conns, response } => self.broadcast(&conns, Response::new(response)),
                Output::Close { conn, reason } => {
                    if let Some(connection) = self.connections.remove(&conn) {
                        self.refused(connection.awaits, reason.as_str());
                        match reason {
                            CloseReason::Resumed | CloseReason::Ended(EndReason::DuplicateIdentity) => {
                                connection.outbox.close_soon(SocketEnd::Session(reason));
                            }
                            _ => connection.outbox.close(SocketEnd::Session(reason)),
                        }
                    }
                }
                Output::RefreshToken { conn, grants } => self.refresh_token(conn, &grants),
                Output::RoomMoved { conn, grants, moved } => self.tell_move(conn, &grants, *moved),
                Output::Media(command) => self.commands.push(command),
                Output::Note(note) => {
                    self.metrics.happened(&note.what);
                    self.timelines().note(&note, unix_now());
                    self.trace(&note);
                }
                Output::ToWorker { worker, message } => self.tell_worker(worker, message),
                Output::AssignJob { worker, assignment, grants } => self.assign(worker, *assignment, &grants),
                Output::CloseWorker { worker, reason } => {
                    if let Some(workplace) = self.workers.remove(&worker) {
                        // a full queue is dropped with its sender, and the connection ends by that
                        let _ = workplace.outbox.try_send(ToWorker::Close(reason));
                    }
                }
                Output::Admin { id, result } => {
                    if let Some(reply) = self.questions.remove(&id) {
                        // who asked may be gone by now
                        let _ = reply.send(result);
                    }
                }
            }
        }
        // The room follows the first message, and may have found no room.
        for conn in resumed {
            self.welcomed(conn);
        }
    }

    /// A connection has what it is told first.
    fn welcomed(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.outbox.let_go();
        match connection.awaits.take() {
            Some(Attempt::Join) => self.metrics.welcomed(connection.asked_at.elapsed()),
            Some(Attempt::Resume) => self.metrics.resumed(None),
            None => {}
        }
    }

    /// A message to one client. One that comes may find that all have as much as may be; a member has room as far as its queue goes.
    fn send(&mut self, conn: ConnId, mut response: Response) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.awaits.is_none() {
            return self.broadcast(&[conn], response);
        }
        match connection.outbox.count(&mut response) {
            Ok(()) => self.queue_for_all(&[conn], response),
            Err(end) => self.cut_off(conn, end),
        }
    }

    /// The same message to all of these members; it is encoded and held once.
    fn broadcast(&mut self, conns: &[ConnId], mut response: Response) {
        if response.size() > LARGE_BYTES {
            response.count(self.large_messages.keep(response.size()));
        }
        self.queue_for_all(conns, response);
    }

    fn queue_for_all(&mut self, conns: &[ConnId], response: Response) {
        let response = Arc::new(response);
        let sent = conns.iter().filter(|conn| self.queue(**conn, &response)).count();
        self.metrics.sent(response.message(), sent);
    }

    /// False: there is no such connection, or no more.
    fn queue(&mut self, conn: ConnId, response: &Arc<Response>) -> bool {
        let Some(connection) = self.connections.get(&conn) else { return false };
        let Err(end) = connection.outbox.push(response) else { return true };
        self.cut_off(conn, end);
        false
    }

    /// There is no room for what a client is sent.
    fn cut_off(&mut self, conn: ConnId, end: SocketEnd) {
        let Some(connection) = self.connections.remove(&conn) else { return };
        debug!(?conn, end = end.as_str(), "there is no room for what a client is sent");
        match end {
            SocketEnd::Overloaded => connection.outbox.close(end),
            _ => connection.outbox.drop_slow(),
        }
        match connection.awaits {
            // It was told nothing, and comes anew if at all: it is not to stand in the room meanwhile. By that the join is counted.
            Some(Attempt::Join) => {
                let leave = signal_request::Message::Leave(LeaveRequest::default());
                self.input(Input::Message { conn, request: Box::new(SignalRequest { message: Some(leave) }) });
            }
            resume_or_member => {
                self.refused(resume_or_member, end.as_str());
                self.input(Input::Closed { conn });
            }
        }
    }

    fn refresh_token(&mut self, conn: ConnId, grants: &Grants) {
        match auth::refresh(&self.keys, grants, unix_now()) {
            Ok(token) => {
                let message = Some(signal_response::Message::RefreshToken(token));
                self.send(conn, Response::new(Box::new(SignalResponse { message })));
            }
            Err(error) => error!(%error, "a token was not refreshed"),
        }
    }

    fn tell_move(&mut self, conn: ConnId, grants: &Grants, moved: RoomMovedResponse) {
        match auth::refresh(&self.keys, grants, unix_now()) {
            Ok(token) => {
                let message = Some(signal_response::Message::RoomMoved(RoomMovedResponse { token, ..moved }));
                self.send(conn, Response::new(Box::new(SignalResponse { message })));
            }
            Err(error) => error!(%error, "a token was not minted"),
        }
    }

    /// A worker that does not read is closed: its jobs are asked of others.
    fn tell_worker(&mut self, worker: WorkerId, message: Box<ServerMessage>) {
        let Some(workplace) = self.workers.get(&worker) else { return };
        if workplace.outbox.try_send(ToWorker::Message(message)).is_err() && self.workers.remove(&worker).is_some() {
            self.input(Input::Worker { worker, input: WorkerInput::Closed });
        }
    }

    fn assign(&mut self, worker: WorkerId, assignment: JobAssignment, grants: &Grants) {
        let Some(workplace) = self.workers.get(&worker) else { return };
        let Some(secret) = self.keys.secret(&workplace.api_key) else { return };
        match auth::mint_grants(&workplace.api_key, secret, grants, unix_now()) {
            Ok(token) => {
                let message = Some(server_message::Message::Assignment(JobAssignment { token, ..assignment }));
                self.tell_worker(worker, Box::new(ServerMessage { message }));
            }
            Err(error) => error!(%error, "a token was not minted"),
        }
    }

    fn refused(&self, attempt: Option<Attempt>, reason: &str) {
        match attempt {
            Some(Attempt::Join) => self.metrics.refused(reason),
            Some(Attempt::Resume) => self.metrics.resumed(Some(reason)),
            None => {}
        }
    }

    fn trace(&mut self, note: &Note) {
        let Some(traces) = &mut self.traces else { return };
        let now = unix_now();
        let asked = match &note.what {
            Happening::Joined { conn, .. } => {
                self.connections.get(conn).map(|connection| now.saturating_sub(connection.asked_at.elapsed()))
            }
            _ => None,
        };
        traces.note(note, asked, now, &mut self.rng);
    }

    fn timelines(&self) -> MutexGuard<'_, Timelines> {
        self.timelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&mut self, samples: &[TrackSample]) {
        let signaling = &self.signaling;
        self.timelines().record(samples, unix_now(), |participant, track| signaling.track_label(participant, track));
    }

    /// What an operator has asked for, and what time has brought of it.
    fn go_on_draining(&mut self, request: Option<DrainRequest>) {
        let now = Instant::now();
        if let Some(request) = request {
            self.drain.ask(request, now, unix_now());
        }
        match self.drain.step(now, &self.signaling.census()) {
            DrainStep::Nothing => {}
            DrainStep::Close => self.signaling.close_to_new_rooms(true),
            DrainStep::Open => self.signaling.close_to_new_rooms(false),
            DrainStep::Dismiss => self.signaling.drain(now, unix_now(), &mut self.rng),
        }
        self.metrics.draining(self.drain.is_draining());
    }

    /// Everyone is told to join anew, which works once this server is back or another one takes over.
    fn say_goodbye(&mut self) {
        info!(connections = self.connections.len(), "shutting down");
        self.signaling.drain(Instant::now(), unix_now(), &mut self.rng);
        self.deliver();
        // those who resumed nothing and joined nothing
        for (_, connection) in std::mem::take(&mut self.connections) {
            self.refused(connection.awaits, ErrorCode::Unavailable.as_str());
            connection.outbox.close(SocketEnd::Shutdown);
        }
    }

    fn report(&mut self) {
        self.metrics.census(&self.signaling.census());
        self.metrics.tracks(&self.signaling.track_census());
        self.metrics.qualities(&self.signaling.quality_census());
        let (bytes, frozen) = {
            let timelines = self.timelines();
            (timelines.bytes(), timelines.frozen())
        };
        self.metrics.timelines(bytes, frozen);
        self.go_on_draining(None);
        let counters = self.signaling.counters();
        self.metrics.count_since(&std::mem::replace(&mut self.reported, counters), &counters);
    }
}

fn is_welcome(response: &SignalResponse) -> bool {
    matches!(response.message, Some(signal_response::Message::Reconnect(_)))
}

/// The loop turns at least so often; `/livez` counts on it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time for the last messages to be written.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
