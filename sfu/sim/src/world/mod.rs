//! One shard or several, their participants and the network between them, in virtual time; plays signaling and the node too.
//!
//! A scenario calls [`World::join`], [`World::publish`] and so on, lets time pass with [`World::run_for`] or
//! [`World::run_until`] and asserts what participants report. Everything random follows from one seed. Time moves from event to
//! event, rounded up to a millisecond, so that what happens at about the same time is one batch, as on a real server.

mod acting;
mod meter;
mod network;
mod observing;
mod place;
mod shards;
mod signaling;
mod turn;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use sfu_api::{Event, ParticipantId, RoomId, TrackId};
use sfu_core::net::Protocol;
use sfu_core::shard::{Shard, ShardConfig};
use sfu_core::transport::Certificate;
use sfu_core::transport::params::Candidate;

use crate::clock::Clock;
use crate::participant::{Datagram, Participant, TrackSpec};
use crate::road::Road;
use crate::seed::Seed;

pub use meter::Meter;
pub use place::{Place, server_address};

use network::Nat;
use shards::{Placing, Rings, link};
use signaling::Signal;

/// A participant of a world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Who(usize);

/// The room in which most scenarios take place.
pub const ROOM: RoomId = RoomId(1);

/// See the module.
pub struct World {
    /// The engine; the first shard, if there are several.
    pub shard: Shard,
    /// Further shards.
    pub others: Vec<Shard>,
    /// Bytes that fit on the way from one shard to another.
    pub ring_bytes: usize,
    /// Time that a datagram of a handshake costs. A turn spends a slice of about a millisecond on handshakes.
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
}
