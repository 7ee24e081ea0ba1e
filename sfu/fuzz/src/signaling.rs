//! What comes by the signal connection, and data packets, which signaling reads too.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use livekit_protocol::{SignalRequest, WorkerMessage, WrappedJoinRequest, signal_request, signal_response};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sfu_api::{Command, Delivery, Event, ParticipantId, TransportRole, TransportState};
use signaling_api::Grants;
use signaling_core::{
    AdminId, AdminRequest, ConnId, Input, JoinParams, Output, Signaling, SignalingConfig, WorkerId, WorkerInput, parse_participant_sid,
};
use signaling_server::IpPrefix;
use signaling_server::fuzzing::{client_ip, decode, decode_request, join_query as parse_query, join_request as parse_request};

use crate::messages;

/// Binary frames.
pub(crate) fn signal_request(data: &[u8]) {
    let mut world = World::new();
    for frame in messages(data).take(64) {
        if let Some(request) = decode(false, frame) {
            world.send(request);
        }
    }
    world.check_bystander();
}

/// A text frame, and the same as a binary one.
pub(crate) fn signal_json(data: &[u8]) {
    let Some(request) = decode(true, data) else { return };
    // What has a JSON form reads back the same. Numbers of enumerations that have no name have none.
    if let Ok(text) = serde_json::to_string(&request) {
        let again = decode(true, text.as_bytes());
        assert_eq!(again.map(|again| format!("{again:?}")), Some(format!("{request:?}")));
    }
    let binary = prost::Message::encode_to_vec(&request);
    assert_eq!(decode(false, &binary).map(|again| format!("{again:?}")), Some(format!("{request:?}")));
    let mut world = World::new();
    world.send(request);
    world.check_bystander();
}

/// Messages on the data channels.
pub(crate) fn data_packet(data: &[u8]) {
    let mut world = World::new();
    for message in messages(data).take(64) {
        for delivery in [Delivery::Reliable, Delivery::Lossy] {
            let (participant, payload) = (world.stranger, message.to_vec());
            world.input(Input::Media(Event::Data { participant, delivery, payload }));
        }
    }
    world.check_bystander();
}

/// What an agent worker says, from its registration on.
pub(crate) fn agent_worker(data: &[u8]) {
    let mut world = World::new();
    let worker = WorkerId(1);
    world.input(Input::Worker { worker, input: WorkerInput::Connect });
    for frame in messages(data).take(64) {
        if let Ok(message) = <WorkerMessage as prost::Message>::decode(frame) {
            world.input(Input::Worker { worker, input: WorkerInput::Message(Box::new(message)) });
        }
    }
    world.input(Input::Worker { worker, input: WorkerInput::Closed });
    world.check_bystander();
}

/// Bodies of Twirp calls with a token that allows them all. The first byte of each says which call, and whether it is JSON.
pub(crate) fn room_service(data: &[u8]) {
    let mut world = World::new();
    for (id, message) in (1..).zip(messages(data).take(32)) {
        let Some(request) = message.split_first().and_then(|(&kind, body)| admin_request(kind, body)) else { continue };
        let id = AdminId(id);
        world.input(Input::Admin { id, grants: Box::default(), request: Box::new(request) });
        let is_answer = |output: &&Output| matches!(output, Output::Admin { id: answered, .. } if *answered == id);
        assert!(world.outputs.iter().filter(is_answer).count() <= 1, "a request is answered once");
    }
}

fn admin_request(kind: u8, body: &[u8]) -> Option<AdminRequest> {
    let is_json = kind & 0x80 != 0;
    Some(match kind & 0x7f {
        0 => AdminRequest::CreateRoom(Box::new(decode_request(is_json, body)?)),
        1 => AdminRequest::ListRooms(decode_request(is_json, body)?),
        2 => AdminRequest::DeleteRoom(decode_request(is_json, body)?),
        3 => AdminRequest::ListParticipants(decode_request(is_json, body)?),
        4 => AdminRequest::GetParticipant(decode_request(is_json, body)?),
        5 => AdminRequest::RemoveParticipant(decode_request(is_json, body)?),
        6 => AdminRequest::MutePublishedTrack(decode_request(is_json, body)?),
        7 => AdminRequest::UpdateParticipant(decode_request(is_json, body)?),
        8 => AdminRequest::UpdateSubscriptions(decode_request(is_json, body)?),
        9 => AdminRequest::SendData(decode_request(is_json, body)?),
        10 => AdminRequest::UpdateRoomMetadata(decode_request(is_json, body)?),
        11 => AdminRequest::PerformRpc(decode_request(is_json, body)?),
        12 => AdminRequest::MoveParticipant(decode_request(is_json, body)?),
        13 => AdminRequest::CreateDispatch(decode_request(is_json, body)?),
        14 => AdminRequest::DeleteDispatch(decode_request(is_json, body)?),
        15 => AdminRequest::ListDispatch(decode_request(is_json, body)?),
        _ => return None,
    })
}

/// The query of a join.
pub(crate) fn join_query(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (token, params) = parse_query(&text);
    assert!(token.is_none_or(|token| token.len() <= 3 * text.len()));
    let client = &params.client;
    for shown in [&client.version, &client.os, &client.os_version, &client.browser, &client.browser_version, &client.device_model] {
        assert!(shown.len() <= 128, "what others are shown is short");
    }
    assert!(client.capabilities.len() <= 32);
    let mut world = World::new();
    world.join("newcomer", params);
    world.check_bystander();
}

/// The parameter of `/rtc/v1`. The first byte says what the others are: the parameter's text, or the bytes in it, which may
/// be those of a whole wrapping or of the request in it.
pub(crate) fn join_request(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let parameter = match kind {
        0 => String::from_utf8_lossy(bytes).into_owned(),
        1 => BASE64_URL_SAFE.encode(bytes),
        kind => {
            let wrapped = WrappedJoinRequest { compression: i32::from(kind & 1), join_request: bytes.to_vec() };
            BASE64_URL_SAFE.encode(prost::Message::encode_to_vec(&wrapped))
        }
    };
    let Some((params, grants)) = parse_request(&parameter, grants("newcomer")) else { return };
    assert!(params.messages.len() <= 64, "what comes with a join is bounded");
    let mut world = World::new();
    world.connect(NEWCOMER, grants, params);
    world.check_bystander();
}

/// `X-Forwarded-For`.
pub(crate) fn forwarded_for(data: &[u8]) {
    let header = String::from_utf8_lossy(data);
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(client_ip(peer, &header, &[]), peer, "nobody's word is believed");
    let Ok(trusted) = "10.0.0.0/8".parse::<IpPrefix>() else { panic!("a prefix") };
    let client = client_ip(peer, &header, &[trusted]);
    let is_listed = || header.split(',').filter_map(|hop| hop.trim().parse::<IpAddr>().ok()).any(|hop| hop.to_canonical() == client);
    assert!(client == peer || is_listed());
    if let Ok(prefix) = header.parse::<IpPrefix>() {
        let own = header.split('/').next().and_then(|address| address.parse::<IpAddr>().ok());
        assert!(own.is_none_or(|own| own.to_canonical() != own || prefix.contains(own)));
    }
}

/// A room with two: a stranger who sends what the fuzzer likes, and a bystander who must not notice.
pub(crate) struct World {
    signaling: Signaling,
    rng: StdRng,
    now: Instant,
    stranger: ParticipantId,
    outputs: Vec<Output>,
}

const BYSTANDER: ConnId = ConnId(1);
const STRANGER: ConnId = ConnId(2);
const NEWCOMER: ConnId = ConnId(3);

impl World {
    fn new() -> Self {
        let mut world = Self {
            signaling: Signaling::new(SignalingConfig::default()),
            rng: StdRng::seed_from_u64(1),
            now: Instant::now(),
            stranger: ParticipantId(0),
            outputs: Vec::new(),
        };
        let params = JoinParams::default();
        world.connect(BYSTANDER, grants("bystander"), params.clone());
        world.connect(STRANGER, grants("stranger"), params);
        world.stranger = world.sid_of(STRANGER);
        for participant in [world.stranger, world.sid_of(BYSTANDER)] {
            for role in [TransportRole::Publisher, TransportRole::Subscriber] {
                world.input(Input::Media(Event::Transport { participant, role, state: TransportState::Connected }));
            }
        }
        world
    }

    /// Somebody else comes, with these rights.
    pub(crate) fn check_join(grants: Grants) {
        let mut world = Self::new();
        world.connect(NEWCOMER, grants, JoinParams::default());
        world.check_bystander();
    }

    fn join(&mut self, identity: &str, params: JoinParams) {
        self.connect(NEWCOMER, grants(identity), params);
    }

    fn connect(&mut self, conn: ConnId, grants: Grants, request: JoinParams) {
        self.input(Input::Connect {
            conn,
            grants: Box::new(grants),
            request: Box::new(request),
            remote_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
    }

    /// A request, and the answers of the media node to what it led to.
    fn send(&mut self, request: SignalRequest) {
        let before = self.outputs.len();
        self.input(Input::Message { conn: STRANGER, request: Box::new(request) });
        let ready: Vec<_> = self.outputs[before..].iter().filter_map(published).collect();
        for track in ready {
            let (participant, mid, mime) = (self.stranger, "0".to_owned(), "video/VP8".to_owned());
            self.input(Input::Media(Event::TrackReady { participant, track, mid, mime, simulcast: true }));
        }
    }

    fn input(&mut self, input: Input) {
        self.signaling.handle(input, self.now, Duration::from_secs(1_700_000_000), &mut self.rng);
        self.now += Duration::from_millis(100);
        self.signaling.handle_timeout(self.now, Duration::from_secs(1_700_000_000), &mut self.rng);
        while let Some(output) = self.signaling.poll() {
            self.outputs.push(output);
        }
        assert!(self.outputs.len() < 100_000, "a message has bounded consequences");
    }

    fn sid_of(&self, conn: ConnId) -> ParticipantId {
        let found = self.responses(conn).find_map(|response| match response {
            signal_response::Message::Join(join) => parse_participant_sid(&join.participant.as_ref()?.sid),
            _ => None,
        });
        found.expect("a join is answered")
    }

    fn responses(&self, to: ConnId) -> impl Iterator<Item = &signal_response::Message> {
        self.outputs.iter().filter_map(move |output| match output {
            Output::Send { conn, response } if *conn == to => response.message.as_ref(),
            Output::Welcome { conn, welcome } if *conn == to => welcome.response().message.as_ref(),
            Output::Broadcast { conns, response } if conns.contains(&to) => response.message.as_ref(),
            _ => None,
        })
    }

    /// The bystander is still there and is answered.
    fn check_bystander(&mut self) {
        self.outputs.clear();
        let message = Some(signal_request::Message::Ping(7));
        self.input(Input::Message { conn: BYSTANDER, request: Box::new(SignalRequest { message }) });
        assert!(self.responses(BYSTANDER).any(|response| matches!(response, signal_response::Message::Pong(_))));
    }
}

fn published(output: &Output) -> Option<sfu_api::TrackId> {
    match output {
        Output::Media(Command::Publish { track, .. }) => Some(*track),
        _ => None,
    }
}

fn grants(identity: &str) -> Grants {
    Grants {
        identity: identity.to_owned(),
        room: "lobby".to_owned(),
        room_join: true,
        can_publish: true,
        can_subscribe: true,
        can_publish_data: true,
        can_update_own_metadata: true,
        ..Grants::default()
    }
}
