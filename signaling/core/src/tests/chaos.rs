//! Thirty participants that join, leave, publish, mute, lose connections and messages, and come back, at random.
//! In the end each client's picture of the room is the server's, nobody is there who is gone, and the media node was asked
//! for exactly the subscriptions that are wanted. A failure prints its seed; `SIM_SEED=…` replays it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use livekit_protocol::participant_info::State;
use rand::{Rng, RngExt};

use super::*;

const CLIENTS: usize = 30;
const STEPS: usize = 800;

#[test]
fn after_any_disorder_every_client_knows_what_the_server_knows() {
    for seed in seed_to_replay().map_or(0..12, |seed| seed..seed + 1) {
        let _report = ReportSeed(seed);
        let mut chaos = Chaos::new(seed);
        for _ in 0..STEPS {
            chaos.step();
        }
        chaos.settle();
        chaos.check();
    }
}

#[expect(clippy::disallowed_methods, reason = "a failed run is replayed by its seed")]
fn seed_to_replay() -> Option<u64> {
    std::env::var("SIM_SEED").ok()?.parse().ok()
}

struct ReportSeed(u64);

impl Drop for ReportSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with SIM_SEED={}", self.0);
        }
    }
}

struct Chaos {
    world: World,
    dice: StdRng,
    players: Vec<Player>,
    node: Node,
    /// Connections whose end the server will notice later.
    unnoticed: Vec<ConnId>,
}

/// A person with an app.
struct Player {
    grants: Grants,
    protocol: i32,
    session: Option<Session>,
}

/// What a client knows, as livekit-client would.
struct Session {
    client: Client,
    link: Link,
    roster: BTreeMap<String, proto::ParticipantInfo>,
    own_tracks: BTreeMap<TrackId, bool>,
    declined: BTreeSet<TrackId>,
    cids: u32,
    /// Data tracks by the handle under which their packets come.
    handles: BTreeMap<u16, TrackId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Up,
    /// Nothing arrives; the client notices soon.
    Dead,
}

/// The media node: checks that every command makes sense.
#[derive(Default)]
struct Node {
    participants: BTreeSet<ParticipantId>,
    tracks: BTreeMap<TrackId, ParticipantId>,
    subscriptions: BTreeSet<(ParticipantId, TrackId)>,
    data_tracks: BTreeMap<TrackId, ParticipantId>,
    data_subscriptions: BTreeMap<(ParticipantId, TrackId), u16>,
    events: VecDeque<Event>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let players = (0..CLIENTS)
            .map(|number| Player {
                grants: Grants {
                    hidden: number % 10 == 9,
                    can_update_own_metadata: true,
                    // no removal revokes it
                    not_before: Duration::MAX,
                    ..grants(&format!("p{number}"))
                },
                protocol: if number % 7 == 6 { 9 } else { 17 },
                session: None,
            })
            .collect();
        // Half of the runs are in a room that counts as large.
        let small_room = if seed.is_multiple_of(2) { CLIENTS } else { 3 };
        let mut world = World::with(SignalingConfig { small_room, ..SignalingConfig::default() });
        world.rng = StdRng::seed_from_u64(seed);
        Self { world, dice: StdRng::seed_from_u64(seed ^ 0xdead_beef), players, node: Node::default(), unnoticed: Vec::new() }
    }

    fn step(&mut self) {
        let player = self.dice.random_range(0..CLIENTS);
        match self.dice.random_range(0..100_u32) {
            0..20 => self.join(player),
            20..24 => self.leave(player),
            24..34 => self.lose_link(player),
            34..44 => self.resume(player),
            44..46 => self.abandon(player),
            46..58 => self.publish(player),
            58..63 => self.unpublish(player),
            63..70 => self.mute(player),
            70..73 => self.rename(player),
            73..75 => self.publish_data(player),
            75..78 => self.change_subscription(player),
            78..80 => self.change_data_subscription(player),
            80..85 => self.notice(),
            85..91 => self.node_event(),
            91..94 => self.administer(player),
            _ => self.pass_time(),
        }
        self.deliver();
    }

    fn join(&mut self, index: usize) {
        let player = &mut self.players[index];
        // A full client does not join twice, but a reloaded page does.
        if player.session.is_some() && self.dice.random_bool(0.8) {
            return;
        }
        let client = self.world.join_as(player.grants.clone(), protocol(player.protocol));
        player.session = Some(Session {
            client,
            link: Link::Up,
            roster: BTreeMap::new(),
            own_tracks: BTreeMap::new(),
            declined: BTreeSet::new(),
            cids: 0,
            handles: BTreeMap::new(),
        });
        self.apply_commands();
    }

    fn leave(&mut self, index: usize) {
        if let Some(session) = self.players[index].session.take_if(|session| session.link == Link::Up) {
            self.world.send(session.client.conn, Request::Leave(proto::LeaveRequest::default()));
            self.apply_commands();
        }
    }

    /// The client receives nothing any more; the server notices at once, later, or never.
    fn lose_link(&mut self, index: usize) {
        let Some(session) = self.live(index) else { return };
        session.link = Link::Dead;
        let conn = session.client.conn;
        if self.dice.random_bool(0.5) {
            self.world.input(Input::Closed { conn });
        } else {
            self.unnoticed.push(conn);
        }
    }

    fn notice(&mut self) {
        if let Some(conn) = self.unnoticed.pop() {
            self.world.input(Input::Closed { conn });
        }
    }

    fn resume(&mut self, index: usize) {
        let player = &mut self.players[index];
        let Some(session) = player.session.as_mut().filter(|session| session.link == Link::Dead) else { return };
        let request = JoinParams { reconnect: true, participant_sid: Some(session.client.sid.clone()), ..protocol(player.protocol) };
        session.client.conn = self.world.connect(player.grants.clone(), request);
        session.link = Link::Up;
        self.apply_commands();
    }

    /// The app is killed: its session is never resumed.
    fn abandon(&mut self, index: usize) {
        if let Some(session) = self.players[index].session.take() {
            self.unnoticed.push(session.client.conn);
        }
    }

    fn publish(&mut self, index: usize) {
        let Some(session) = self.live(index) else { return };
        if session.own_tracks.len() >= 4 {
            return;
        }
        session.cids += 1;
        let (conn, cid) = (session.client.conn, format!("track{}", session.cids));
        self.world.send(conn, Request::AddTrack(camera(&cid)));
        self.apply_commands();
    }

    fn unpublish(&mut self, index: usize) {
        let Some(session) = self.live(index) else { return };
        let Some((track, _)) = session.own_tracks.pop_first() else { return };
        let participant = session.client.id;
        self.node.events.retain(|event| !matches!(event, Event::TrackReady { track: ready, .. } if *ready == track));
        self.world.media(Event::TrackEnded { participant, track });
        self.apply_commands();
    }

    fn mute(&mut self, index: usize) {
        let Some(session) = self.live(index) else { return };
        let Some((track, muted)) = session.own_tracks.iter_mut().next() else { return };
        *muted = !*muted;
        let mute = proto::MuteTrackRequest { sid: crate::track_sid(*track, "VC"), muted: *muted };
        let conn = session.client.conn;
        self.world.send(conn, Request::Mute(mute));
        self.apply_commands();
    }

    fn rename(&mut self, index: usize) {
        let name = format!("name{}", self.dice.next_u32());
        let Some(session) = self.live(index) else { return };
        let conn = session.client.conn;
        self.world.send(conn, Request::UpdateMetadata(proto::UpdateParticipantMetadata { name, ..Default::default() }));
    }

    fn change_subscription(&mut self, index: usize) {
        let pick = self.dice.next_u32() as usize;
        let Some(session) = self.live(index) else { return };
        let seen: Vec<_> =
            session.roster.values().flat_map(|other| &other.tracks).filter_map(|track| parse_track_sid(&track.sid)).collect();
        let Some(track) = seen.get(pick % seen.len().max(1)).copied() else { return };
        let subscribe = session.declined.remove(&track);
        if !subscribe {
            session.declined.insert(track);
        }
        let update = proto::UpdateSubscription { track_sids: vec![crate::track_sid(track, "VC")], subscribe, ..Default::default() };
        let conn = session.client.conn;
        self.world.send(conn, Request::Subscription(update));
        self.apply_commands();
    }

    /// An administrator does something to a participant that may be there.
    fn administer(&mut self, index: usize) {
        let grants = self.players[index].grants.clone();
        let named =
            |room: &str| proto::RoomParticipantIdentity { room: room.to_owned(), identity: grants.identity.clone(), revoke_token_ts: 0 };
        let allow = |grants: &Grants| {
            AdminRequest::UpdateParticipant(proto::UpdateParticipantRequest {
                room: ROOM.to_owned(),
                identity: grants.identity.clone(),
                permission: Some(crate::permissions::to_proto(grants)),
                ..Default::default()
            })
        };
        let go = |from: &str, to: &str| {
            AdminRequest::MoveParticipant(proto::MoveParticipantRequest {
                room: from.to_owned(),
                identity: grants.identity.clone(),
                destination_room: to.to_owned(),
            })
        };
        let requests = match self.dice.random_range(0..4_u32) {
            0 => vec![AdminRequest::RemoveParticipant(named(ROOM))],
            1 => vec![allow(&Grants { can_subscribe: false, ..grants.clone() }), allow(&grants)],
            2 => vec![allow(&Grants { hidden: !grants.hidden, ..grants.clone() }), allow(&grants)],
            _ => vec![go(ROOM, "elsewhere"), go("elsewhere", ROOM)],
        };
        for request in requests {
            // Who is not there, or is reconnecting, is left alone.
            let _ = self.world.administer(request);
            self.apply_commands();
        }
    }

    /// Publishes a data track, or ends it.
    fn publish_data(&mut self, index: usize) {
        let pub_handle = self.dice.random_range(1..4);
        let is_end = self.dice.random_bool(0.3);
        let Some(session) = self.live(index) else { return };
        let conn = session.client.conn;
        let request = if is_end {
            Request::UnpublishDataTrackRequest(proto::UnpublishDataTrackRequest { pub_handle })
        } else {
            let name = format!("data{pub_handle}");
            Request::PublishDataTrackRequest(proto::PublishDataTrackRequest { pub_handle, name, ..Default::default() })
        };
        self.world.send(conn, request);
        self.apply_commands();
    }

    fn change_data_subscription(&mut self, index: usize) {
        let (pick, subscribe) = (self.dice.next_u32() as usize, self.dice.random_bool(0.7));
        let Some(session) = self.live(index) else { return };
        let seen: Vec<_> = session.roster.values().flat_map(|other| &other.data_tracks).map(|track| track.sid.clone()).collect();
        let Some(track_sid) = seen.get(pick % seen.len().max(1)).cloned() else { return };
        let update = proto::update_data_subscription::Update { track_sid, subscribe, options: None };
        let conn = session.client.conn;
        self.world.send(conn, Request::UpdateDataSubscription(proto::UpdateDataSubscription { updates: vec![update] }));
        self.apply_commands();
    }

    fn node_event(&mut self) {
        if let Some(event) = self.node.events.pop_front() {
            self.world.media(event);
            self.apply_commands();
        }
    }

    fn pass_time(&mut self) {
        for index in 0..CLIENTS {
            if let Some(session) = self.live(index) {
                let conn = session.client.conn;
                self.world.send(conn, Request::PingReq(proto::Ping::default()));
            }
        }
        let millis = self.dice.random_range(0..3000);
        self.world.advance(Duration::from_millis(millis));
        self.apply_commands();
    }

    /// A session whose client believes to be connected, and is.
    fn live(&mut self, index: usize) -> Option<&mut Session> {
        let session = self.players[index].session.as_mut()?;
        (session.link == Link::Up && !self.world.closed.contains_key(&session.client.conn)).then_some(session)
    }

    fn deliver(&mut self) {
        for index in 0..CLIENTS {
            let Some(session) = self.players[index].session.as_mut() else { continue };
            let messages = self.world.take(session.client.conn);
            if session.link == Link::Dead {
                continue;
            }
            let must_start_anew = messages.iter().any(|message| session.receive(message));
            if must_start_anew {
                self.players[index].session = None;
            } else if self.world.closed.contains_key(&session.client.conn) {
                session.link = Link::Dead;
            }
        }
    }

    fn apply_commands(&mut self) {
        for command in self.world.take_commands() {
            self.node.apply(command);
        }
    }

    /// Everybody who lost its connection comes back, and time is given to everything.
    fn settle(&mut self) {
        for _ in 0..3 {
            for index in 0..CLIENTS {
                self.resume(index);
            }
            while !self.unnoticed.is_empty() {
                self.notice();
            }
            self.deliver();
            while !self.node.events.is_empty() {
                self.node_event();
            }
            for _ in 0..20 {
                self.pass_time();
                self.deliver();
            }
        }
        self.world.advance(Duration::ZERO);
    }

    fn check(&self) {
        let truth: BTreeMap<_, _> = self
            .world
            .signaling
            .participants(ROOM)
            .unwrap_or_default()
            .into_iter()
            .map(|participant| (participant.identity.clone(), participant))
            .collect();
        let sessions: Vec<_> = self.players.iter().filter_map(|player| player.session.as_ref()).collect();
        assert!(sessions.len() > 3, "enough is left to compare");
        let expected: BTreeSet<_> = sessions.iter().map(|session| session.client.id).collect();
        let present: BTreeSet<_> = truth.values().filter_map(|participant| parse_participant_sid(&participant.sid)).collect();
        assert_eq!(present, expected, "who is here is who is connected: no ghosts, nobody lost");
        assert_eq!(self.node.participants, expected, "and so it is at the media node");

        for session in &sessions {
            let others: BTreeMap<_, _> = truth
                .iter()
                .filter(|(identity, other)| **identity != session.client.grants.identity && !other.permission.as_ref().unwrap().hidden)
                .map(|(identity, other)| (identity.clone(), other.clone()))
                .collect();
            assert_eq!(session.roster, others, "the picture of {}", session.client.grants.identity);
        }
        self.check_subscriptions(&truth, &sessions);
        let handles =
            sessions.iter().flat_map(|session| session.handles.iter().map(|(handle, track)| ((session.client.id, *track), *handle)));
        assert_eq!(handles.collect::<BTreeMap<_, _>>(), self.node.data_subscriptions, "whose packets come under which handle");
        assert_eq!(self.world.signaling.census().connections, sessions.len());
    }

    fn check_subscriptions(&self, truth: &BTreeMap<String, proto::ParticipantInfo>, sessions: &[&Session]) {
        let shown = truth.values().filter(|owner| !owner.permission.as_ref().unwrap().hidden);
        let tracks: Vec<_> = shown
            .flat_map(|owner| {
                owner.tracks.iter().map(|track| (parse_participant_sid(&owner.sid).unwrap(), parse_track_sid(&track.sid).unwrap()))
            })
            .collect();
        let wanted = sessions.iter().flat_map(|session| {
            tracks
                .iter()
                .filter(|(owner, track)| *owner != session.client.id && !session.declined.contains(track))
                .map(|(_, track)| (session.client.id, *track))
        });
        let wanted: BTreeSet<_> = wanted.collect();
        let wrong: Vec<_> = self.node.subscriptions.symmetric_difference(&wanted).collect();
        assert_eq!(wrong, Vec::<&_>::new(), "subscriptions at the media node that are not wanted, or not there");
    }
}

impl Session {
    /// True if the client has to start anew.
    fn receive(&mut self, message: &Response) -> bool {
        match message {
            Response::Join(join) => {
                self.roster = join.other_participants.iter().map(|info| (info.identity.clone(), info.clone())).collect();
            }
            Response::RoomMoved(moved) => {
                self.roster = moved.other_participants.iter().map(|info| (info.identity.clone(), info.clone())).collect();
                self.declined.clear();
            }
            Response::Update(update) => update.participants.iter().for_each(|info| self.update(info)),
            Response::TrackPublished(published) => {
                let track = published.track.as_ref().unwrap();
                self.own_tracks.entry(parse_track_sid(&track.sid).unwrap()).or_insert(track.muted);
            }
            Response::DataTrackSubscriberHandles(told) => {
                let handle = |(handle, track): (&u32, &proto::data_track_subscriber_handles::PublishedDataTrack)| {
                    (u16::try_from(*handle).unwrap(), crate::parse_data_track_sid(&track.track_sid).unwrap())
                };
                self.handles = told.sub_handles.iter().map(handle).collect();
            }
            Response::Leave(leave) => return leave.action() != proto::leave_request::Action::Resume,
            _ => {}
        }
        false
    }

    /// livekit-client, `Room.handleParticipantUpdates` and `Participant.updateInfo`.
    fn update(&mut self, info: &proto::ParticipantInfo) {
        if info.identity == self.client.grants.identity {
            assert_eq!((info.sid.as_str(), info.state()), (self.client.sid.as_str(), info.state()), "only news of this session");
            assert_ne!(info.state(), State::Disconnected, "nobody is told that it is gone itself");
            return;
        }
        if info.state() == State::Disconnected {
            self.roster.remove(&info.identity);
            return;
        }
        let is_outdated = self.roster.get(&info.identity).is_some_and(|known| known.sid == info.sid && known.version > info.version);
        if !is_outdated {
            self.roster.insert(info.identity.clone(), info.clone());
        }
    }
}

impl Node {
    fn apply(&mut self, command: Command) {
        match command {
            Command::Join { participant, .. } => {
                assert!(self.participants.insert(participant), "joins once");
                let (role, state) = (TransportRole::Subscriber, TransportState::Connected);
                self.events.push_back(Event::Transport { participant, role, state });
            }
            Command::Leave { participant } => {
                assert!(self.participants.remove(&participant), "leaves once");
                self.tracks.retain(|_, owner| *owner != participant);
                let tracks = &self.tracks;
                self.subscriptions.retain(|(subscriber, track)| *subscriber != participant && tracks.contains_key(track));
                self.data_tracks.retain(|_, owner| *owner != participant);
                let tracks = &self.data_tracks;
                self.data_subscriptions.retain(|(subscriber, track), _| *subscriber != participant && tracks.contains_key(track));
            }
            Command::Publish { participant, track, .. } => {
                assert!(self.participants.contains(&participant));
                assert_eq!(self.tracks.insert(track, participant), None, "a track is published once");
                let (mid, mime) = ("0".to_owned(), "video/VP8".to_owned());
                self.events.push_back(Event::TrackReady { participant, track, mid, mime, simulcast: true });
            }
            Command::Unpublish { track } => {
                assert!(self.tracks.remove(&track).is_some(), "a track ends once");
                self.subscriptions.retain(|(_, of)| *of != track);
            }
            Command::SetMuted { track, .. } => assert!(self.tracks.contains_key(&track)),
            Command::Subscribe { participant, track, .. } => {
                assert!(self.participants.contains(&participant) && self.tracks.contains_key(&track));
                assert_ne!(self.tracks[&track], participant, "nobody subscribes to itself");
                assert!(self.subscriptions.insert((participant, track)), "subscribed once");
                self.events.push_back(Event::Subscription { participant, track, error: None });
            }
            Command::Unsubscribe { participant, track } => assert!(self.subscriptions.remove(&(participant, track))),
            Command::PublishCodec { participant, track, .. } => assert_eq!(self.tracks.get(&track), Some(&participant)),
            Command::SetWish { participant, track, .. } => assert!(self.subscriptions.contains(&(participant, track))),
            Command::SendData { to, .. } => assert!(to.iter().all(|participant| self.participants.contains(participant))),
            Command::PublishData { participant, track, .. } => {
                assert!(self.participants.contains(&participant));
                assert_eq!(self.data_tracks.insert(track, participant), None, "a data track is published once");
            }
            Command::UnpublishData { track, .. } => {
                assert!(self.data_tracks.remove(&track).is_some(), "a data track ends once");
                self.data_subscriptions.retain(|(_, of), _| *of != track);
            }
            Command::SubscribeData { participant, track, handle } => {
                assert!(self.participants.contains(&participant));
                assert_ne!(self.data_tracks[&track], participant, "nobody subscribes to itself");
                let is_free = |((subscriber, _), used): (&(ParticipantId, TrackId), &u16)| *subscriber != participant || *used != handle;
                assert!(self.data_subscriptions.iter().all(is_free), "a handle names one subscription");
                assert_eq!(self.data_subscriptions.insert((participant, track), handle), None, "subscribed once");
            }
            Command::UnsubscribeData { participant, track } => {
                assert!(self.data_subscriptions.remove(&(participant, track)).is_some());
            }
            Command::Move { participant, .. } => {
                assert!(self.participants.contains(&participant));
                let tracks = &self.tracks;
                self.subscriptions.retain(|(subscriber, track)| *subscriber != participant && tracks[track] != participant);
            }
            Command::SetPlayoutDelay { .. } => unreachable!("nobody asks for a delay"),
            Command::RestartIce { participant }
            | Command::PreferTcp { participant, .. }
            | Command::LimitDownlink { participant, .. }
            | Command::Offer { participant, .. }
            | Command::Answer { participant, .. } => {
                assert!(self.participants.contains(&participant));
            }
        }
    }
}
