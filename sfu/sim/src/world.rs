//! One shard or several, their participants and the network between them, in virtual time; plays signaling and the node too.
//!
//! A scenario calls [`World::join`], [`World::publish`] and so on, lets time pass with [`World::run_for`] or
//! [`World::run_until`] and asserts what participants report. Everything random follows from one seed. Time moves from event to
//! event, rounded up to a millisecond, so that what happens at about the same time is one batch, as on a real server.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use sfu_api::{
    BackupPolicy, Command, Delivery, Event, MediaKind, MediaLabel, MediaSource, ParticipantId, PeerMode, PublishRequest, RoomId, TrackId,
    TransportRole, VideoWish,
};
use sfu_core::egress::Progress;
use sfu_core::error::Discard;
use sfu_core::media::Codec;
use sfu_core::net::{Flow, Protocol};
use sfu_core::relay::LinkId;
use sfu_core::rtp::ntp::{NtpTime, WallClock};
use sfu_core::shard::{Shard, ShardConfig};
use sfu_core::snapshot::Snapshot;
use sfu_core::transport::Certificate;
use sfu_core::transport::params::Candidate;

use crate::audio::AudioReport;
use crate::clock::Clock;
use crate::freeze::Report;
use crate::link::{Link, LinkConfig};
use crate::participant::{Datagram, Participant, SendingTrack, TrackSpec, cid, reversed, split};
use crate::road::{FlowMeter, Road, RoadConfig};
use crate::scalability::Mode;
use crate::seed::Seed;
use crate::video::VideoConfig;

/// A participant of a world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Who(usize);

/// Sending ends of further codecs have numbers from here on.
const CODEC_SENDERS: u64 = 1_000_000;
/// The room in which most scenarios take place.
pub const ROOM: RoomId = RoomId(1);
/// One way, between a client and signaling.
const SIGNALING_DELAY: Duration = Duration::from_millis(5);
/// M-lines per kind that livekit-client has from the start, with one peer connection.
const LINES_TO_RECEIVE: usize = 3;
/// Port of the first shard.
const FIRST_PORT: u16 = 7882;
/// Time for handshakes in one turn.
const HANDSHAKE_SLICE: Duration = Duration::from_millis(1);
/// Grid of time.
const STEP: Duration = Duration::from_millis(1);

/// See the module.
pub struct World {
    /// The engine; the first shard, if there are several.
    pub shard: Shard,
    /// Further shards.
    pub others: Vec<Shard>,
    /// Bytes that fit on the way from one shard to another.
    pub ring_bytes: usize,
    /// Time that a datagram of a handshake costs. A turn spends about [`HANDSHAKE_SLICE`] on handshakes.
    pub handshake_takes: Duration,
    /// Everything that the engine told signaling.
    pub log: Vec<Event>,
    /// Datagrams that the engine sent to addresses of nobody here.
    pub to_strangers: u64,
    /// Publishers send only the layers that they are told somebody wants.
    pub has_dynacast: bool,
    /// Time that the engine's owner takes from handling what has come to the flush, as a busy machine does.
    pub turn_takes: Duration,
    /// Counts what calls of the engine cost, with a clock of the caller's: a world itself reads none.
    pub meter: Meter,
    clock: Clock,
    place: Place,
    seed: Seed,
    rng: StdRng,
    participants: Vec<Participant>,
    /// Bottlenecks in front of downlinks, and who is behind which.
    roads: Vec<Road<(usize, Datagram)>>,
    by_road: HashMap<usize, (usize, usize)>,
    /// When each participant has something to do.
    wakes: Vec<Instant>,
    by_address: HashMap<SocketAddr, usize>,
    nat: Nat,
    placing: Placing,
    rings: Rings,
    by_id: HashMap<ParticipantId, usize>,
    owners: HashMap<TrackId, usize>,
    /// Subscriptions to tracks that are not ready yet.
    wanted: Vec<(usize, TrackId)>,
    ready: Vec<TrackId>,
    signaling: VecDeque<(Instant, Signal)>,
    tapped: Vec<Datagram>,
    tap_left: usize,
    next_track: u64,
}

/// When a world begins and at which addresses it is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its clock, at zero.
    pub clock: Clock,
    /// The engine's address.
    pub server: SocketAddr,
    /// How the addresses of clients begin.
    pub clients: [u8; 2],
}

impl Place {
    /// Nowhere and at no time that matters.
    #[must_use]
    pub fn anywhere() -> Self {
        Self { clock: Clock::new(), server: server_address(), clients: [10, 0] }
    }

    /// Where a shard is: a port for each.
    fn address_of(&self, shard: usize) -> SocketAddr {
        SocketAddr::new(self.server.ip(), self.server.port() + link(shard).0)
    }

    fn shard_at(&self, address: SocketAddr) -> usize {
        usize::from(address.port().saturating_sub(self.server.port()))
    }
}

/// What calls of the engine cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    /// Processor time of the thread, for example; without it nothing is counted.
    pub clock: Option<fn() -> Duration>,
    /// All calls of all shards together.
    pub spent: Duration,
    /// Datagrams that the engine sent and received.
    pub datagrams: u64,
}

impl Meter {
    fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let Some(clock) = self.clock else { return call() };
        let before = clock();
        let result = call();
        self.spent += clock().saturating_sub(before);
        result
    }
}

/// What is on its way between shards: from, to, bytes.
type Rings = BTreeMap<(usize, usize), Vec<u8>>;

/// Who is on which shard.
#[derive(Default)]
struct Placing {
    shards: HashMap<ParticipantId, usize>,
    /// Shards of each room with the number of participants there, the home first.
    rooms: HashMap<RoomId, Vec<(usize, usize)>>,
}

impl Placing {
    fn shard_of(&self, participant: ParticipantId) -> usize {
        self.shards.get(&participant).copied().unwrap_or(0)
    }

    /// Somebody is in a room from here on; what its shard has to know if it had nobody there.
    fn enter(&mut self, room: RoomId, shard: usize) -> Vec<LinkId> {
        let places = self.rooms.entry(room).or_default();
        if let Some((_, count)) = places.iter_mut().find(|(other, _)| *other == shard) {
            *count += 1;
            return Vec::new();
        }
        places.push((shard, 1));
        places.iter().filter(|(other, _)| *other != shard).map(|&(other, _)| link(other)).collect()
    }

    fn quit(&mut self, room: RoomId, shard: usize) {
        let Some(places) = self.rooms.get_mut(&room) else { return };
        for (_, count) in places.iter_mut().filter(|(other, _)| *other == shard) {
            *count -= 1;
        }
        places.retain(|(_, count)| *count > 0);
    }
}

fn link(shard: usize) -> LinkId {
    LinkId(u16::try_from(shard).unwrap_or(u16::MAX))
}

/// What clients call their address and the engine sees as another.
#[derive(Default)]
struct Nat {
    outside: HashMap<SocketAddr, SocketAddr>,
    inside: HashMap<SocketAddr, SocketAddr>,
}

impl Nat {
    /// From now on the client with this address is seen at another; what is sent to where it was seen before is lost.
    fn rebind(&mut self, inside: SocketAddr) {
        let old = self.outside_of(inside);
        let new = SocketAddr::new(old.ip(), old.port() + 10_000);
        self.inside.remove(&old);
        self.outside.insert(inside, new);
        self.inside.insert(new, inside);
    }

    fn outside_of(&self, inside: SocketAddr) -> SocketAddr {
        self.outside.get(&inside).copied().unwrap_or(inside)
    }

    /// `None`: nobody is there any more.
    fn inside_of(&self, outside: SocketAddr) -> Option<SocketAddr> {
        let is_moved = self.outside.get(&outside).is_some_and(|&now_at| now_at != outside);
        self.inside.get(&outside).copied().or(Some(outside).filter(|_| !is_moved))
    }
}

/// A message on its way between a client and the engine.
enum Signal {
    ToEngine(Command),
    ToClient(usize, ToClient),
}

enum ToClient {
    Answer(String),
    Offer(u32, String),
    MediaSections(usize, usize),
    /// Up to which layer of its first codec a track is wanted.
    Wanted(TrackId, Option<u8>),
}

impl World {
    /// An empty world. `SIM_SEED` in the environment replaces the seed.
    ///
    /// # Panics
    /// If there is no certificate to be had.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_shards(seed, 1)
    }

    /// An empty world at a place, for an engine that is to go on with real sockets.
    ///
    /// # Panics
    /// If there is no certificate to be had.
    #[must_use]
    pub fn at(seed: u64, place: Place) -> Self {
        Self::made(seed, place, 1)
    }

    /// An empty world with several shards; rooms are shared by those on which somebody was put ([`Self::join_on`]).
    ///
    /// # Panics
    /// If there is no certificate to be had.
    #[must_use]
    pub fn with_shards(seed: u64, count: usize) -> Self {
        Self::made(seed, Place::anywhere(), count)
    }

    fn made(seed: u64, place: Place, count: usize) -> Self {
        let (seed, clock) = (Seed::new(seed), place.clock);
        let certificate = Certificate::generate().expect("the cryptography library makes certificates");
        let mut shards = (0..count).map(|index| {
            let mut shard = Shard::new(ShardConfig {
                candidates: vec![Candidate { protocol: Protocol::Udp, address: place.address_of(index) }],
                certificate: certificate.clone(),
                ufrag_prefix: format!("s{index}"),
                seed: seed.rng(&if index == 0 { "shard".to_owned() } else { format!("shard{index}") }).random(),
            });
            shard.set_link_id(link(index));
            shard
        });
        let shard = shards.next().expect("there is a shard");
        let others = shards.collect();
        Self {
            shard,
            others,
            ring_bytes: 1 << 20,
            handshake_takes: Duration::ZERO,
            placing: Placing::default(),
            rings: Rings::new(),
            log: Vec::new(),
            to_strangers: 0,
            has_dynacast: false,
            turn_takes: Duration::ZERO,
            meter: Meter::default(),
            rng: seed.rng("world"),
            clock,
            place,
            seed,
            participants: Vec::new(),
            roads: Vec::new(),
            by_road: HashMap::new(),
            wakes: Vec::new(),
            by_address: HashMap::new(),
            nat: Nat::default(),
            by_id: HashMap::new(),
            owners: HashMap::new(),
            wanted: Vec::new(),
            ready: Vec::new(),
            signaling: VecDeque::new(),
            tapped: Vec::new(),
            tap_left: 0,
            next_track: 1,
        }
    }

    /// One publisher of one track and so many subscribers over perfect links, all connected, with media flowing to each.
    ///
    /// # Panics
    /// If that does not happen.
    #[must_use]
    pub fn fan_out(seed: u64, spec: impl FnOnce(&mut Self) -> TrackSpec, subscribers: usize) -> (Self, TrackId, Vec<Who>) {
        let mut world = Self::new(seed);
        let (track, subscribers) = world.fan_out_to(spec, subscribers);
        (world, track, subscribers)
    }

    /// Like [`Self::fan_out`], in a world that is there.
    ///
    /// # Panics
    /// If media does not flow to each.
    pub fn fan_out_to(&mut self, spec: impl FnOnce(&mut Self) -> TrackSpec, subscribers: usize) -> (TrackId, Vec<Who>) {
        let world = self;
        let publisher = world.join(ROOM);
        let spec = spec(world);
        let track = world.publish(publisher, spec);
        let subscribers: Vec<Who> = (0..subscribers).map(|_| world.join(ROOM)).collect();
        for &who in &subscribers {
            world.subscribe(who, track);
        }
        let all = subscribers.clone();
        world.expect("media flows to every subscriber", Duration::from_secs(5), |world| {
            all.iter().all(|&who| world.participant(who).receiving(track).is_some_and(|track| track.packets > 0))
        });
        (track, subscribers)
    }

    /// Current virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Randomness for one purpose.
    #[must_use]
    pub fn rng(&self, purpose: &str) -> StdRng {
        self.seed.rng(purpose)
    }

    /// A 720p camera with three encodings.
    pub fn simulcast(&mut self, codec: Codec) -> TrackSpec {
        TrackSpec::Video(VideoConfig::simulcast(codec, &mut self.rng))
    }

    /// A 360p camera with one encoding.
    pub fn single(&mut self, codec: Codec) -> TrackSpec {
        TrackSpec::Video(VideoConfig::single(codec, &mut self.rng))
    }

    /// A 720p camera with one encoding of several layers.
    pub fn layered(&mut self, codec: Codec, mode: Mode, is_described: bool) -> TrackSpec {
        TrackSpec::Video(VideoConfig::layered(codec, mode, is_described, &mut self.rng))
    }

    /// Somebody joins over links with 10 ms of delay.
    pub fn join(&mut self, room: RoomId) -> Who {
        self.join_on(room, 0)
    }

    /// Somebody joins on one of several shards, over links with 10 ms of delay.
    pub fn join_on(&mut self, room: RoomId, shard: usize) -> Who {
        let link = LinkConfig::delayed(Duration::from_millis(10));
        self.enter(room, link, link, PeerMode::Dual, shard)
    }

    /// Somebody joins with one peer connection and offers it at once, with three m-lines per kind to receive on.
    pub fn join_single(&mut self, room: RoomId) -> Who {
        let who = self.enter_single(room);
        self.open_publisher(who);
        who
    }

    /// Like [`Self::join_single`], but offers only after [`Self::open_publisher`].
    pub fn enter_single(&mut self, room: RoomId) -> Who {
        let link = LinkConfig::delayed(Duration::from_millis(10));
        self.enter(room, link, link, PeerMode::Single, 0)
    }

    /// Somebody joins.
    pub fn join_over(&mut self, room: RoomId, up: LinkConfig, down: LinkConfig) -> Who {
        self.enter(room, up, down, PeerMode::Dual, 0)
    }

    fn enter(&mut self, room: RoomId, up: LinkConfig, down: LinkConfig, mode: PeerMode, shard: usize) -> Who {
        let index = self.participants.len();
        let id = ParticipantId(index as u64 + 1);
        let addresses = [0, 1].map(|side| self.address(index, side));
        let links = (Link::new(up, split(&mut self.rng)), Link::new(down, split(&mut self.rng)));
        let offset = Duration::from_millis(self.rng.random_range(0..1_000_000));
        let participant = Participant::new(self.now(), (id, room), addresses, links, wall_clock(&self.clock, offset), &mut self.rng);
        let participant = match mode {
            PeerMode::Dual => participant,
            PeerMode::Single => participant.with_one_connection(LINES_TO_RECEIVE),
        };
        self.wakes.push(participant.next_timeout());
        self.participants.push(participant);
        self.by_address.extend(addresses.map(|address| (address, index)));
        self.by_id.insert(id, index);
        self.placing.shards.insert(id, shard);
        self.command(Command::Join { room, participant: id, can_subscribe: true, mode });
        Who(index)
    }

    fn address(&self, index: usize, side: u16) -> SocketAddr {
        let [.., high, low] = index.to_be_bytes();
        let [a, b] = self.place.clients;
        ([a, b, high, low], 5000 + side).into()
    }

    /// Somebody leaves; the client is gone at once, the engine learns it from signaling.
    pub fn leave(&mut self, who: Who) {
        let participant = &mut self.participants[who.0];
        participant.is_gone = true;
        let id = participant.id;
        for side in [&participant.publisher, &participant.subscriber] {
            self.by_address.remove(&side.address());
        }
        self.command(Command::Leave { participant: id });
    }

    /// Announces a track and offers it.
    pub fn publish(&mut self, who: Who, spec: TrackSpec) -> TrackId {
        let track = TrackId(self.next_track);
        self.next_track += 1;
        let request = publish_request(track, &spec);
        self.publish_as(who, track, spec, |participant| Command::Publish { participant, track, request })
    }

    /// Announces a shared screen and offers it.
    pub fn publish_screen(&mut self, who: Who, spec: TrackSpec) -> TrackId {
        let track = TrackId(self.next_track);
        self.next_track += 1;
        let request = PublishRequest { source: MediaSource::Screen, ..publish_request(track, &spec) };
        self.publish_as(who, track, spec, |participant| Command::Publish { participant, track, request })
    }

    /// A camera that is ready to send other codecs too.
    pub fn publish_with_backups(&mut self, who: Who, spec: TrackSpec, backups: &[Codec], policy: BackupPolicy) -> TrackId {
        let track = TrackId(self.next_track);
        self.next_track += 1;
        let mut request = publish_request(track, &spec);
        request.backup_codecs = backups.iter().map(|codec| codec.mime().to_owned()).collect();
        request.backup_policy = policy;
        self.publish_as(who, track, spec, |participant| Command::Publish { participant, track, request })
    }

    /// A further codec of a track, on an m-line of its own; returns the id under which its sending end is known here.
    pub fn publish_codec(&mut self, track: TrackId, spec: TrackSpec) -> TrackId {
        let sender = TrackId(CODEC_SENDERS + self.next_track);
        self.next_track += 1;
        let request = publish_request(sender, &spec);
        self.publish_as(self.sender_of(track), sender, spec, |participant| Command::PublishCodec { participant, track, request })
    }

    fn publish_as(&mut self, who: Who, sender: TrackId, spec: TrackSpec, command: impl FnOnce(ParticipantId) -> Command) -> TrackId {
        let rng = split(&mut self.rng);
        let participant = &mut self.participants[who.0];
        participant.publish(sender, spec, rng);
        let id = participant.id;
        self.owners.insert(sender, who.0);
        self.command(command(id));
        self.send_offer(who.0);
        sender
    }

    /// The client takes a track out of its offer.
    pub fn unpublish(&mut self, track: TrackId) {
        let owner = self.owners[&track];
        self.participants[owner].stop(track);
        self.ready.retain(|&other| other != track);
        self.send_offer(owner);
    }

    /// The client sends a track again that it took out, on the same m-line with the same streams; returns its new id.
    pub fn republish(&mut self, old: TrackId) -> TrackId {
        let owner = self.owners[&old];
        let track = TrackId(self.next_track);
        self.next_track += 1;
        let request = publish_request(track, self.sender(old).spec());
        self.participants[owner].resume(old, track);
        self.owners.insert(track, owner);
        let participant = self.participants[owner].id;
        self.command(Command::Publish { participant, track, request });
        self.send_offer(owner);
        track
    }

    /// Keeps copies of the next so many datagrams that reach the engine.
    pub fn tap(&mut self, count: usize) {
        self.tapped = Vec::with_capacity(count);
        self.tap_left = count;
    }

    /// The copies, with flows as the engine sees them.
    #[must_use]
    pub fn tapped(&self) -> &[Datagram] {
        &self.tapped
    }

    /// Opens the publisher side for data alone.
    pub fn open_publisher(&mut self, who: Who) {
        self.participants[who.0].want_offer();
        self.send_offer(who.0);
    }

    /// Subscribes, as soon as the track is ready.
    pub fn subscribe(&mut self, who: Who, track: TrackId) {
        if !self.ready.contains(&track) {
            self.wanted.push((who.0, track));
            return;
        }
        let participant = self.participants[who.0].id;
        let owner = self.owners[&track];
        let label = MediaLabel { stream_id: format!("PA_{owner}"), track_id: format!("TR_{}", track.0) };
        self.command(Command::Subscribe { participant, track, label });
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, who: Who, track: TrackId) {
        let participant = self.participants[who.0].id;
        self.command(Command::Unsubscribe { participant, track });
    }

    /// Says what a subscriber wants.
    pub fn set_wish(&mut self, who: Who, track: TrackId, wish: VideoWish) {
        let participant = self.participants[who.0].id;
        self.command(Command::SetWish { participant, track, wish });
    }

    /// Says which encoding a subscriber wants, smallest is 0.
    pub fn want_layer(&mut self, who: Who, track: TrackId, max_spatial: u8) {
        self.set_wish(who, track, VideoWish { max_spatial, ..VideoWish::default() });
    }

    /// Mutes or unmutes at the source and in signaling.
    pub fn set_muted(&mut self, track: TrackId, muted: bool) {
        self.participants[self.owners[&track]].pause(track, muted);
        self.command(Command::SetMuted { track, muted });
    }

    /// New ICE credentials on one side, begun as that side does.
    pub fn restart_ice(&mut self, who: Who, role: TransportRole) {
        match role {
            TransportRole::Publisher => {
                self.participants[who.0].restart_publisher();
                self.send_offer(who.0);
            }
            TransportRole::Subscriber => {
                let participant = self.participants[who.0].id;
                self.command(Command::RestartIce { participant });
            }
        }
    }

    /// Puts a bottleneck in front of the downlinks of these participants, which they share from now on.
    pub fn share_road(&mut self, config: RoadConfig, participants: &[Who]) {
        let road = Road::new(config, participants.len(), self.now(), split(&mut self.rng));
        let index = self.roads.len();
        self.by_road.extend(participants.iter().enumerate().map(|(flow, who)| (who.0, (index, flow))));
        self.roads.push(road);
    }

    /// What happened to somebody's downlink packets at the bottleneck.
    ///
    /// # Panics
    /// If there is none in front of that participant.
    #[must_use]
    pub fn road_meter(&self, who: Who) -> &FlowMeter {
        let (road, flow) = self.by_road[&who.0];
        self.roads[road].meter(flow)
    }

    /// Bytes that TCP got through the bottleneck in front of somebody.
    ///
    /// # Panics
    /// If there is none in front of that participant.
    #[must_use]
    pub fn competing_bytes(&self, who: Who) -> u64 {
        self.roads[self.by_road[&who.0].0].tcp_bytes()
    }

    /// The client's network changes: both sides go on from other addresses.
    pub fn change_network(&mut self, who: Who) {
        let now = self.now();
        let participant = &mut self.participants[who.0];
        for role in [TransportRole::Publisher, TransportRole::Subscriber] {
            let side = participant.side(role);
            let old = side.address();
            let moved = SocketAddr::new(old.ip(), old.port() + 1000);
            side.move_to(now, moved);
            self.by_address.remove(&old);
            self.by_address.insert(moved, who.0);
        }
        self.wakes[who.0] = now;
    }

    /// A NAT between the client and the engine gives both sides other addresses; the client does not notice.
    pub fn rebind_nat(&mut self, who: Who) {
        for role in [TransportRole::Publisher, TransportRole::Subscriber] {
            let inside = self.participants[who.0].side(role).address();
            self.nat.rebind(inside);
        }
    }

    /// The address at which the engine sees one side of a client.
    #[must_use]
    pub fn seen_at(&self, who: Who, role: TransportRole) -> SocketAddr {
        let participant = &self.participants[who.0];
        let side = if role == TransportRole::Publisher { &participant.publisher } else { &participant.subscriber };
        self.nat.outside_of(side.address())
    }

    /// Sends a message to everybody else in the room. False if the sender's channel is not open.
    pub fn send_data(&mut self, who: Who, delivery: Delivery, payload: &[u8]) -> bool {
        let now = self.now();
        self.wakes[who.0] = now;
        self.participants[who.0].send_data(now, delivery, payload)
    }

    /// Gives the engine a command, as signaling would.
    pub fn command(&mut self, command: Command) {
        self.signaling.push_back((self.clock.now() + SIGNALING_DELAY, Signal::ToEngine(command)));
    }

    /// A datagram from anywhere reaches the engine now. Flows are the server's view.
    pub fn inject(&mut self, flow: Flow, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let (now, shard) = (self.clock.now(), self.place.shard_at(flow.local));
        self.engine(shard).handle_datagram(now, flow, &mut bytes);
    }

    /// Seals an RTP packet as a participant's publisher side would, for [`Self::inject`].
    pub fn forge(&mut self, who: Who, header_and_payload: &[u8]) -> Option<Datagram> {
        let index = header_and_payload.get(2..4)?.try_into().ok().map(u16::from_be_bytes)?;
        self.forge_at(who, index.into(), header_and_payload)
    }

    /// Like [`Self::forge`], with the packet index of SRTP; its low half has to be the sequence number of the header.
    pub fn forge_at(&mut self, who: Who, index: u64, header_and_payload: &[u8]) -> Option<Datagram> {
        self.participants[who.0].forge(index, header_and_payload)
    }

    /// Seals an RTCP compound packet as a participant would, for [`Self::inject`].
    pub fn forge_rtcp(&mut self, who: Who, role: TransportRole, compound: Vec<u8>) -> Option<Datagram> {
        self.participants[who.0].forge_rtcp(role, compound)
    }

    /// What a track sends from now on for a while: sealed packets as the engine gets them, with their times, in order. They are not
    /// sent; give them to [`Shard::handle_datagram`] by hand.
    pub fn prebuild(&mut self, track: TrackId, time: Duration) -> Vec<(Instant, Datagram)> {
        let end = self.now() + time;
        self.participants[self.owners[&track]].prebuild(track, end)
    }

    /// A participant.
    #[must_use]
    pub fn participant(&self, who: Who) -> &Participant {
        &self.participants[who.0]
    }

    /// A participant.
    pub fn participant_mut(&mut self, who: Who) -> &mut Participant {
        &mut self.participants[who.0]
    }

    /// Its id in signaling.
    #[must_use]
    pub fn id(&self, who: Who) -> ParticipantId {
        self.participants[who.0].id
    }

    /// The sending end of a track.
    ///
    /// # Panics
    /// If there is no such track.
    #[must_use]
    pub fn sender(&self, track: TrackId) -> &SendingTrack {
        self.participants[self.owners[&track]].sending(track).expect("the track is published")
    }

    /// The sending end of a track.
    ///
    /// # Panics
    /// If there is no such track.
    pub fn sender_mut(&mut self, track: TrackId) -> &mut SendingTrack {
        self.participants[self.owners[&track]].sending_mut(track).expect("the track is published")
    }

    /// What somebody saw of a video track since its subscription.
    ///
    /// # Panics
    /// If it was never offered to that participant.
    #[must_use]
    pub fn report(&self, who: Who, track: TrackId) -> Report {
        self.participants[who.0].receiving(track).expect("the track was offered").video.report(self.now())
    }

    /// What somebody heard of an audio track since its subscription.
    ///
    /// # Panics
    /// If it was never offered to that participant.
    #[must_use]
    pub fn heard(&self, who: Who, track: TrackId) -> AudioReport {
        self.participants[who.0].receiving(track).expect("the track was offered").audio.report().clone()
    }

    /// Frames that somebody has seen of a track.
    #[must_use]
    pub fn frames(&self, who: Who, track: TrackId) -> u64 {
        self.participants[who.0].receiving(track).map_or(0, |track| track.video.report(self.now()).frames_shown)
    }

    /// The encoding or spatial layer that is on somebody's screen.
    #[must_use]
    pub fn layer(&self, who: Who, track: TrackId) -> Option<u8> {
        let receiving = self.participants[who.0].receiving(track)?;
        receiving.video.report(self.now()).current.map(|frame| frame.rung())
    }

    /// Whose track it is.
    #[must_use]
    pub fn sender_of(&self, track: TrackId) -> Who {
        Who(self.owners[&track])
    }

    /// One of the shards.
    ///
    /// # Panics
    /// If there is none with this number.
    pub fn engine(&mut self, shard: usize) -> &mut Shard {
        if shard == 0 { &mut self.shard } else { &mut self.others[shard - 1] }
    }

    fn engines(&self) -> impl Iterator<Item = &Shard> {
        std::iter::once(&self.shard).chain(&self.others)
    }

    /// Shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        1 + self.others.len()
    }

    /// The engine's counters.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shard.snapshot()
    }

    /// Datagrams that the engine dropped for a reason.
    #[must_use]
    pub fn discarded(&self, reason: Discard) -> u64 {
        self.engines().map(|shard| shard.snapshot().discards.get(reason)).sum()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until something is true, at most for `limit`; false if it did not become true.
    ///
    /// # Panics
    /// If something is always due, so that time stands still.
    pub fn run_until(&mut self, limit: Duration, mut is_done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now() + limit;
        let mut rounds = 0;
        let mut before = self.now();
        loop {
            self.settle();
            if is_done(self) {
                return true;
            }
            let next = self.next_event();
            if next > end {
                self.clock.advance_to(end);
                return false;
            }
            self.clock.advance_to(self.rounded(next).min(end));
            rounds = if self.now() > before { 0 } else { rounds + 1 };
            assert!(rounds < 10_000, "time stands still");
            before = self.now();
        }
    }

    /// Like [`Self::run_until`].
    ///
    /// # Panics
    /// If it did not become true.
    pub fn expect(&mut self, what: &str, limit: Duration, is_done: impl FnMut(&Self) -> bool) {
        let is_true = self.run_until(limit, is_done);
        assert!(is_true, "after {limit:?} it is not true that {what}");
    }

    fn rounded(&self, at: Instant) -> Instant {
        let origin = self.clock.at(Duration::ZERO);
        let since = at.saturating_duration_since(origin).as_nanos();
        let steps = since.div_ceil(STEP.as_nanos());
        origin + STEP * u32::try_from(steps).unwrap_or(u32::MAX)
    }

    fn next_event(&self) -> Instant {
        let mut next = self.clock.now() + Duration::from_secs(3600);
        next = self.signaling.front().map_or(next, |&(at, _)| at.min(next));
        next = self.roads.iter().filter_map(Road::next_event).fold(next, Instant::min);
        for shard in self.engines() {
            next = shard.next_timeout().map_or(next, |at| at.min(next));
        }
        if self.rings.values().any(|ring| !ring.is_empty()) {
            next = next.min(self.clock.now());
        }
        for (participant, &wake) in self.participants.iter().zip(&self.wakes).filter(|(participant, _)| !participant.is_gone) {
            next = next.min(wake);
            for arrival in [participant.up.next_arrival(), participant.down.next_arrival()].into_iter().flatten() {
                next = next.min(arrival);
            }
        }
        next
    }

    /// Everything that is due now.
    fn settle(&mut self) {
        let now = self.clock.now();
        for road in &mut self.roads {
            for (_, bytes, (index, datagram)) in road.poll(now) {
                self.participants[index].down.send(now, bytes, datagram);
            }
        }
        self.cross(now);
        let Self { participants, shard, others, place, nat, tapped, tap_left, wakes, meter, .. } = self;
        for (index, participant) in participants.iter_mut().enumerate() {
            if participant.is_gone {
                continue;
            }
            let has_arrival = participant.down.next_arrival().is_some_and(|at| at <= now);
            if has_arrival {
                participant.receive(now);
            }
            if has_arrival || wakes[index] <= now {
                participant.poll(now);
                wakes[index] = participant.next_timeout();
            }
            while let Some(Datagram { mut flow, mut bytes }) = participant.up.receive(now) {
                flow.local = nat.outside_of(flow.local);
                if *tap_left > 0 {
                    *tap_left -= 1;
                    tapped.push(Datagram { flow: reversed(flow), bytes: bytes.clone() });
                }
                let engine = match place.shard_at(flow.remote) {
                    0 => &mut *shard,
                    number => &mut others[number - 1],
                };
                meter.datagrams += 1;
                meter.time(|| engine.handle_datagram(now, reversed(flow), &mut bytes));
            }
        }
        while self.signaling.front().is_some_and(|&(at, _)| at <= now) {
            let Some((_, signal)) = self.signaling.pop_front() else { break };
            self.carry(now, signal);
        }
        for shard in std::iter::once(&mut self.shard).chain(&mut self.others) {
            if shard.next_timeout().is_some_and(|at| at <= now) {
                self.meter.time(|| shard.handle_timeout(now));
            }
        }
        self.load_rings(now);
        self.clock.advance_to(now + self.turn_takes);
        let now = self.clock.now();
        for shard in 0..self.shards() {
            self.flush(shard, now);
            self.shake_hands(shard);
        }
        self.load_rings(self.clock.now());
        for shard in 0..self.shards() {
            while let Some(event) = self.engine(shard).poll_event() {
                self.signal(event);
            }
        }
    }

    fn flush(&mut self, shard: usize, now: Instant) {
        loop {
            let engine = if shard == 0 { &mut self.shard } else { &mut self.others[shard - 1] };
            let progress = self.meter.time(|| engine.flush(now));
            self.send(shard, now);
            if progress == Progress::Done {
                break;
            }
        }
    }

    /// Goes on with handshakes for a slice of time, behind everything else.
    fn shake_hands(&mut self, shard: usize) {
        let until = self.clock.now() + HANDSHAKE_SLICE;
        let mut has_stepped = false;
        while self.engine(shard).has_handshakes() {
            self.clock.advance_to(self.clock.now() + self.handshake_takes);
            let now = self.clock.now();
            let engine = if shard == 0 { &mut self.shard } else { &mut self.others[shard - 1] };
            has_stepped |= self.meter.time(|| engine.step_handshake(now));
            if now >= until {
                break;
            }
        }
        if has_stepped {
            self.flush(shard, self.clock.now());
        }
    }

    /// Brings the shards what is on its way to them.
    fn cross(&mut self, now: Instant) {
        for ((from, to), bytes) in std::mem::take(&mut self.rings) {
            let engine = if to == 0 { &mut self.shard } else { &mut self.others[to - 1] };
            self.meter.time(|| engine.handle_relay(now, link(from), &bytes));
        }
    }

    /// Takes from the shards what is for others, as far as there is room.
    fn load_rings(&mut self, now: Instant) {
        for from in 0..self.shards() {
            let links: Vec<LinkId> = self.engine(from).relay_links().collect();
            for link in links {
                let room = self.ring_bytes - self.rings.get(&(from, link.0.into())).map_or(0, Vec::len);
                let outbox = self.engine(from).relay_outbox(link);
                let bytes = outbox.prepare(room).to_vec();
                outbox.sent(bytes.len());
                self.rings.entry((from, link.0.into())).or_default().extend(bytes);
            }
            self.engine(from).mend_torn(now);
        }
    }

    /// Does what a node does: gives a command to the shards that it is for.
    fn place(&mut self, now: Instant, command: Command) {
        match command {
            Command::SendData { to, delivery, payload } => {
                for shard in 0..self.shards() {
                    let to: Vec<ParticipantId> = to.iter().copied().filter(|&who| self.placing.shard_of(who) == shard).collect();
                    if !to.is_empty() {
                        self.engine(shard).handle_command(now, Command::SendData { to, delivery, payload: payload.clone() });
                    }
                }
            }
            Command::SetPlayoutDelay { .. } => {
                for shard in 0..self.shards() {
                    self.engine(shard).handle_command(now, command.clone());
                }
            }
            command => {
                let shard = self.shard_of(&command);
                if let Command::Join { room, .. } | Command::Move { room, .. } = command {
                    let others = self.placing.enter(room, shard);
                    if !others.is_empty() {
                        self.engine(shard).share_room(room, &others);
                    }
                }
                if let Command::Leave { participant } | Command::Move { participant, .. } = command
                    && let Some(&index) = self.by_id.get(&participant)
                {
                    self.placing.quit(self.participants[index].room, shard);
                }
                if let Command::Move { participant, room } = command
                    && let Some(&index) = self.by_id.get(&participant)
                {
                    self.participants[index].room = room;
                }
                let engine = if shard == 0 { &mut self.shard } else { &mut self.others[shard - 1] };
                self.meter.time(|| engine.handle_command(now, command));
            }
        }
    }

    fn shard_of(&self, command: &Command) -> usize {
        match command {
            Command::Unpublish { track } | Command::SetMuted { track, .. } => {
                self.owners.get(track).map_or(0, |&owner| self.placing.shard_of(self.participants[owner].id))
            }
            Command::Join { participant, .. }
            | Command::Leave { participant }
            | Command::Publish { participant, .. }
            | Command::Offer { participant, .. }
            | Command::Answer { participant, .. }
            | Command::RestartIce { participant }
            | Command::Subscribe { participant, .. }
            | Command::Unsubscribe { participant, .. }
            | Command::SetWish { participant, .. }
            | Command::PreferTcp { participant, .. }
            | Command::PublishData { participant, .. }
            | Command::UnpublishData { participant, .. }
            | Command::SubscribeData { participant, .. }
            | Command::UnsubscribeData { participant, .. }
            | Command::PublishCodec { participant, .. }
            | Command::LimitDownlink { participant, .. }
            | Command::Move { participant, .. } => self.placing.shard_of(*participant),
            Command::SendData { .. } | Command::SetPlayoutDelay { .. } => 0,
        }
    }

    /// Puts what the engine sends on the downlinks.
    fn send(&mut self, shard: usize, now: Instant) {
        let engine = if shard == 0 { &mut self.shard } else { &mut self.others[shard - 1] };
        let outbox = engine.outbox();
        for (flow, bytes) in outbox.datagrams() {
            self.meter.datagrams += 1;
            let inside = self.nat.inside_of(flow.remote);
            match inside.and_then(|inside| Some((inside, *self.by_address.get(&inside)?))) {
                Some((inside, index)) => {
                    let datagram = Datagram { flow: Flow { local: inside, ..reversed(flow) }, bytes: bytes.to_vec() };
                    // IPv4 and UDP.
                    let len = bytes.len() + 28;
                    match self.by_road.get(&index) {
                        Some(&(road, flow)) => self.roads[road].send(now, flow, len, (index, datagram)),
                        None => self.participants[index].down.send(now, len, datagram),
                    }
                }
                None => self.to_strangers += 1,
            }
        }
        outbox.clear();
    }

    fn carry(&mut self, now: Instant, signal: Signal) {
        match signal {
            Signal::ToEngine(command) => self.place(now, command),
            Signal::ToClient(index, _) if self.participants[index].is_gone => {}
            Signal::ToClient(index, ToClient::Answer(sdp)) => {
                self.participants[index].take_answer(now, &sdp);
                self.wakes[index] = now;
                self.send_offer(index);
            }
            Signal::ToClient(index, ToClient::MediaSections(audio, video)) => {
                self.participants[index].add_lines(audio, video);
                self.wakes[index] = now;
                self.send_offer(index);
            }
            Signal::ToClient(index, ToClient::Wanted(track, highest)) => {
                if let Some(sending) = self.participants[index].sending_mut(track) {
                    sending.send_up_to(highest);
                }
            }
            Signal::ToClient(index, ToClient::Offer(id, sdp)) => {
                let participant = &mut self.participants[index];
                let answer = Command::Answer { participant: participant.id, id, sdp: participant.take_offer(now, &sdp) };
                self.wakes[index] = now;
                self.command(answer);
            }
        }
    }

    /// What signaling does with an event.
    fn signal(&mut self, event: Event) {
        let at = self.clock.now() + SIGNALING_DELAY;
        match &event {
            Event::Answer { participant, sdp, .. } => {
                if let Some(&index) = self.by_id.get(participant) {
                    self.signaling.push_back((at, Signal::ToClient(index, ToClient::Answer(sdp.clone()))));
                }
            }
            Event::Offer { participant, id, sdp } => {
                if let Some(&index) = self.by_id.get(participant) {
                    self.signaling.push_back((at, Signal::ToClient(index, ToClient::Offer(*id, sdp.clone()))));
                }
            }
            Event::MediaSections { participant, audio, video } => {
                if let Some(&index) = self.by_id.get(participant) {
                    let ask = ToClient::MediaSections(*audio as usize, *video as usize);
                    self.signaling.push_back((at, Signal::ToClient(index, ask)));
                }
            }
            Event::WantedLayers { participant, track, codecs } if self.has_dynacast => {
                if let (Some(&index), Some(codec)) = (self.by_id.get(participant), codecs.first()) {
                    self.signaling.push_back((at, Signal::ToClient(index, ToClient::Wanted(*track, codec.max_spatial))));
                }
            }
            Event::TrackReady { track, .. } => {
                let track = *track;
                self.ready.push(track);
                let (now_possible, still_wanted) = std::mem::take(&mut self.wanted).into_iter().partition(|&(_, wanted)| wanted == track);
                self.wanted = still_wanted;
                let now_possible: Vec<(usize, TrackId)> = now_possible;
                for (index, track) in now_possible {
                    self.subscribe(Who(index), track);
                }
            }
            Event::Data { participant, delivery, payload } => {
                if let Some(&sender) = self.by_id.get(participant) {
                    let room = self.participants[sender].room;
                    let others = self.participants.iter().filter(|other| other.room == room && other.id != *participant && !other.is_gone);
                    let to = others.map(|other| other.id).collect();
                    self.command(Command::SendData { to, delivery: *delivery, payload: payload.clone() });
                }
            }
            _ => {}
        }
        self.log.push(event);
    }

    fn send_offer(&mut self, index: usize) {
        let participant = &mut self.participants[index];
        let id = participant.id;
        if let Some((offer, sdp)) = participant.offer() {
            self.command(Command::Offer { participant: id, id: offer, sdp });
        }
    }
}

/// Where the engine is.
#[must_use]
pub fn server_address() -> SocketAddr {
    ([192, 0, 2, 1], FIRST_PORT).into()
}

fn wall_clock(clock: &Clock, offset: Duration) -> WallClock {
    // 2023, plus what the clock is wrong by.
    WallClock { at: clock.at(Duration::ZERO), ntp: NtpTime::from_unix(Duration::from_secs(1_700_000_000) + offset) }
}

fn publish_request(track: TrackId, spec: &TrackSpec) -> PublishRequest {
    let largest = match spec {
        TrackSpec::Video(config) => config.encodings.last().map_or((0, 0), |e| (e.width_px, e.height_px)),
        TrackSpec::Audio { .. } | TrackSpec::Voice(_) => (0, 0),
    };
    PublishRequest {
        cid: cid(track),
        kind: if spec.codec().is_video() { MediaKind::Video } else { MediaKind::Audio },
        preferred_codec: spec.codec().mime().to_owned(),
        stereo: false,
        dtx: false,
        muted: false,
        width_px: largest.0.into(),
        height_px: largest.1.into(),
        layers: Vec::new(),
        red: true,
        backup_codecs: Vec::new(),
        backup_policy: BackupPolicy::default(),
        source: MediaSource::default(),
    }
}
