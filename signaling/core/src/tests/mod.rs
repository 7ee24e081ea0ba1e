//! Behaviour of the state machine, as sentences. The world has one server, clients that are lists of received messages,
//! and a media node that is a list of commands.
#![allow(clippy::unwrap_used)]

mod administering;
mod administering_data;
mod administering_rooms;
mod agents;
mod chaos;
mod codecs;
mod data_tracks;
mod ends;
mod joining;
mod malformed;
mod messaging;
mod moving;
mod profiles;
mod publishing;
mod qualities;
mod requesting;
mod resuming;
mod single;
mod subscribing;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use livekit_protocol as proto;
use livekit_protocol::{TrackSource, TrackType, signal_request::Message as Request, signal_response::Message as Response};
use rand::{SeedableRng, rngs::StdRng};
use sfu_api::{Command, Event, ParticipantId, TrackId, TransportRole, TransportState};
use signaling_api::Grants;

use crate::{
    AdminId, AdminRequest, AdminResult, CloseReason, ConnId, Input, JoinParams, Output, Signaling, SignalingConfig, WorkerId,
    parse_participant_sid, parse_track_sid,
};

pub(crate) const ROOM: &str = "lobby";

pub(crate) struct World {
    pub(crate) signaling: Signaling,
    pub(crate) now: Instant,
    pub(crate) unix_now: Duration,
    pub(crate) rng: StdRng,
    conns: u64,
    inboxes: HashMap<ConnId, Vec<Response>>,
    pub(crate) closed: HashMap<ConnId, CloseReason>,
    pub(crate) commands: Vec<Command>,
    pub(crate) tokens: Vec<(ConnId, Grants)>,
    pub(crate) answers: HashMap<AdminId, AdminResult>,
    questions: u64,
    /// What workers were told.
    pub(crate) errands: HashMap<WorkerId, Vec<proto::server_message::Message>>,
    /// Everything that was noted.
    pub(crate) notes: Vec<crate::Note>,
    /// Grants of the agents that were given jobs.
    pub(crate) agents: Vec<Grants>,
    pub(crate) closed_workers: HashMap<WorkerId, CloseReason>,
}

/// A client that joined.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) conn: ConnId,
    pub(crate) id: ParticipantId,
    pub(crate) sid: String,
    pub(crate) grants: Grants,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(SignalingConfig::default())
    }

    pub(crate) fn with(config: SignalingConfig) -> Self {
        Self {
            signaling: Signaling::new(config),
            now: start(),
            unix_now: Duration::from_millis(1_700_000_000_123),
            rng: StdRng::seed_from_u64(1),
            conns: 0,
            inboxes: HashMap::new(),
            closed: HashMap::new(),
            commands: Vec::new(),
            tokens: Vec::new(),
            answers: HashMap::new(),
            questions: 0,
            errands: HashMap::new(),
            agents: Vec::new(),
            notes: Vec::new(),
            closed_workers: HashMap::new(),
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.signaling.handle(input, self.now, self.unix_now, &mut self.rng);
        self.drain_outputs();
    }

    pub(crate) fn drain_outputs(&mut self) {
        while let Some(output) = self.signaling.poll() {
            match output {
                Output::Send { conn, response } => self.deliver(conn, response.message.unwrap()),
                Output::Welcome { conn, welcome } => self.deliver(conn, welcome.whole().message.unwrap()),
                Output::Broadcast { conns, response } => {
                    assert!(conns.len() > 1, "a broadcast has several addressees");
                    for conn in conns {
                        self.deliver(conn, response.message.clone().unwrap());
                    }
                }
                Output::Close { conn, reason } => {
                    assert_eq!(self.closed.insert(conn, reason), None, "a connection is closed once");
                }
                Output::RefreshToken { conn, grants } => self.tokens.push((conn, *grants)),
                Output::Media(command) => self.commands.push(command),
                Output::Note(note) => self.notes.push(note),
                Output::RoomMoved { conn, grants, moved } => {
                    self.tokens.push((conn, *grants));
                    self.deliver(conn, Response::RoomMoved(*moved));
                }
                Output::ToWorker { worker, message } => {
                    self.errands.entry(worker).or_default().push(message.message.unwrap());
                }
                Output::AssignJob { worker, assignment, grants } => {
                    self.errands.entry(worker).or_default().push(proto::server_message::Message::Assignment(*assignment));
                    self.agents.push(*grants);
                }
                Output::CloseWorker { worker, reason } => {
                    assert_eq!(self.closed_workers.insert(worker, reason), None, "a worker is closed once");
                }
                Output::Admin { id, result } => {
                    assert_eq!(self.answers.insert(id, *result), None, "a question is answered once");
                }
            }
        }
    }

    fn deliver(&mut self, conn: ConnId, message: Response) {
        assert!(!self.closed.contains_key(&conn), "nothing is sent after a close");
        self.inboxes.entry(conn).or_default().push(message);
    }

    /// Asks as an administrator; the answer may come later.
    pub(crate) fn ask(&mut self, request: AdminRequest) -> AdminId {
        self.ask_as(Grants::default(), request)
    }

    /// The same with this token.
    pub(crate) fn ask_as(&mut self, grants: Grants, request: AdminRequest) -> AdminId {
        self.questions += 1;
        let id = AdminId(self.questions);
        self.input(Input::Admin { id, grants: Box::new(grants), request: Box::new(request) });
        id
    }

    /// Asks something that is answered at once.
    pub(crate) fn administer(&mut self, request: AdminRequest) -> AdminResult {
        let id = self.ask(request);
        self.answers.remove(&id).expect("answered at once")
    }

    /// Lets time pass, with every timer at its time.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.signaling.next_timeout().filter(|at| *at <= end) {
            self.unix_now += at.saturating_duration_since(self.now);
            self.now = self.now.max(at);
            self.signaling.handle_timeout(self.now, self.unix_now, &mut self.rng);
            self.drain_outputs();
        }
        self.unix_now += end.saturating_duration_since(self.now);
        self.now = end;
    }

    /// Lets time pass in which these clients ping.
    pub(crate) fn advance_alive(&mut self, by: Duration, alive: &[&Client]) {
        let end = self.now + by;
        while self.now < end {
            for client in alive {
                self.send(client.conn, Request::PingReq(proto::Ping::default()));
            }
            self.advance(Duration::from_secs(5).min(end - self.now));
        }
    }

    pub(crate) fn connect(&mut self, grants: Grants, request: JoinParams) -> ConnId {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.input(Input::Connect {
            conn,
            grants: Box::new(grants),
            request: Box::new(request),
            remote_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
        conn
    }

    pub(crate) fn join(&mut self, identity: &str) -> Client {
        self.join_as(grants(identity), JoinParams::default())
    }

    pub(crate) fn join_as(&mut self, grants: Grants, request: JoinParams) -> Client {
        let conn = self.connect(grants.clone(), request);
        let sid = self
            .inbox(conn)
            .iter()
            .find_map(|message| match message {
                Response::Join(join) => Some(join.participant.clone().unwrap().sid),
                _ => None,
            })
            .expect("the join is accepted");
        Client { conn, id: parse_participant_sid(&sid).unwrap(), sid, grants }
    }

    /// Joins and connects its primary transport; nothing of that stays in the inbox.
    pub(crate) fn active(&mut self, identity: &str) -> Client {
        let client = self.join(identity);
        self.transport(&client, TransportRole::Subscriber, TransportState::Connected);
        self.take(client.conn);
        client
    }

    pub(crate) fn resume(&mut self, client: &Client) -> Client {
        let request = JoinParams { reconnect: true, participant_sid: Some(client.sid.clone()), ..JoinParams::default() };
        Client { conn: self.connect(client.grants.clone(), request), ..client.clone() }
    }

    pub(crate) fn close(&mut self, client: &Client) {
        self.input(Input::Closed { conn: client.conn });
    }

    pub(crate) fn send(&mut self, conn: ConnId, message: Request) {
        self.input(Input::Message { conn, request: Box::new(proto::SignalRequest { message: Some(message) }) });
    }

    pub(crate) fn media(&mut self, event: Event) {
        self.input(Input::Media(event));
    }

    pub(crate) fn transport(&mut self, client: &Client, role: TransportRole, state: TransportState) {
        self.media(Event::Transport { participant: client.id, role, state });
    }

    pub(crate) fn inbox(&self, conn: ConnId) -> &[Response] {
        self.inboxes.get(&conn).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn take(&mut self, conn: ConnId) -> Vec<Response> {
        self.inboxes.remove(&conn).unwrap_or_default()
    }

    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Announces a track; returns its sid.
    pub(crate) fn add_track(&mut self, client: &Client, request: proto::AddTrackRequest) -> (TrackId, String) {
        self.send(client.conn, Request::AddTrack(request));
        let sid = self
            .inbox(client.conn)
            .iter()
            .rev()
            .find_map(|message| match message {
                Response::TrackPublished(published) => published.track.as_ref().map(|track| track.sid.clone()),
                _ => None,
            })
            .expect("the track is accepted");
        (parse_track_sid(&sid).unwrap(), sid)
    }

    /// Announces a camera track and has its media negotiated; nothing of that stays in the inbox of its owner.
    pub(crate) fn publish(&mut self, client: &Client) -> (TrackId, String) {
        let (id, sid) = self.add_track(client, camera("cam"));
        self.ready(client, id);
        self.take(client.conn);
        (id, sid)
    }

    pub(crate) fn ready(&mut self, client: &Client, track: TrackId) {
        self.media(Event::TrackReady { participant: client.id, track, mid: "0".to_owned(), mime: "video/VP8".to_owned(), simulcast: true });
    }

    pub(crate) fn confirm(&mut self, subscriber: &Client, track: TrackId) {
        self.media(Event::Subscription { participant: subscriber.id, track, error: None });
    }

    /// Sorted identities of everybody in the room, as an administrator sees them.
    pub(crate) fn present(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.signaling.participants(ROOM).unwrap_or_default().into_iter().map(|participant| participant.identity).collect();
        names.sort();
        names
    }
}

/// Any point in time: what matters is how much later the others are.
#[expect(clippy::disallowed_methods, reason = "an Instant comes from nowhere else")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn grants(identity: &str) -> Grants {
    Grants {
        identity: identity.to_owned(),
        name: identity.to_uppercase(),
        room: ROOM.to_owned(),
        room_join: true,
        can_publish: true,
        can_subscribe: true,
        can_publish_data: true,
        ..Default::default()
    }
}

pub(crate) fn protocol(version: i32) -> JoinParams {
    JoinParams { client: proto::ClientInfo { protocol: version, ..Default::default() }, ..JoinParams::default() }
}

pub(crate) fn camera(cid: &str) -> proto::AddTrackRequest {
    proto::AddTrackRequest {
        cid: cid.to_owned(),
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        width: 1280,
        height: 720,
        ..Default::default()
    }
}

pub(crate) fn microphone(cid: &str) -> proto::AddTrackRequest {
    proto::AddTrackRequest {
        cid: cid.to_owned(),
        r#type: TrackType::Audio.into(),
        source: TrackSource::Microphone.into(),
        ..Default::default()
    }
}

/// The participants in all updates among these messages, in order.
pub(crate) fn updates(messages: &[Response]) -> Vec<proto::ParticipantInfo> {
    let update = |message: &Response| match message {
        Response::Update(update) => Some(update.participants.clone()),
        _ => None,
    };
    messages.iter().filter_map(update).flatten().collect()
}

pub(crate) fn leave(messages: &[Response]) -> Option<proto::LeaveRequest> {
    messages.iter().find_map(|message| match message {
        Response::Leave(leave) => Some(leave.clone()),
        _ => None,
    })
}

pub(crate) fn reply(messages: &[Response]) -> Option<proto::RequestResponse> {
    messages.iter().find_map(|message| match message {
        Response::RequestResponse(response) => Some(response.clone()),
        _ => None,
    })
}
