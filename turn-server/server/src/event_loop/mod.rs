//! LOOP 3: one thread that reads the clock, drains sockets, asks the core and sends.
//!
//! A turn: wait; read the clock; take messages from every socket that is ready; take orders; run timers; write what streams have to
//! send. There is no batching timer: at low load a turn is one packet, under load what has queued up meanwhile. Datagrams of one
//! batch that follow each other on one way leave in one train. Nothing on the way of a datagram allocates.

mod connections;
mod datagrams;
mod orders;
mod outputs;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Interest, Poll, Token};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use turn_proto::{Moment, RelayId, TurnServer};

use crate::audit::Audit;
use crate::config::RelayAddress;
use crate::stats::Snapshot;
use crate::tcp::Streams;
use crate::tls::Certificates;
use crate::train::Train;
use crate::udp::{Inbox, UdpCounters, UdpSocket};

pub(crate) use connections::Door;
pub(crate) use orders::{Adopted, Order, Revocation};

use outputs::Relay;

/// Token of the waker; listeners follow, then relays, then streams.
pub(crate) const WAKER: Token = Token(0);
const FIRST_UDP: usize = 1;
const FIRST_TCP: usize = 1 << 10;
const FIRST_RELAY: usize = 1 << 12;
const FIRST_STREAM: usize = 1 << 40;
/// Readiness events taken in one turn; further ones come with the next.
const EVENTS_PER_TURN: usize = 1024;
/// TLS handshakes that go on in one turn, of up to a millisecond each with an RSA key. The others wait in the order in which they came.
const HANDSHAKES_PER_TURN: usize = 2;
/// How often a snapshot is handed out.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// How often the certificate's files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);

/// Everything that the loop has.
pub(crate) struct EventLoop {
    poll: Poll,
    core: TurnServer,
    udp: Vec<UdpSocket>,
    doors: Vec<Door>,
    relays: Vec<Option<Relay>>,
    streams: Streams,
    relay_addresses: Vec<RelayAddress>,
    certificates: Option<Arc<Certificates>>,
    orders: Receiver<Order>,
    revocations: Arc<Mutex<Vec<Revocation>>>,
    has_orders: bool,
    inbox: Inbox,
    train: Train,
    /// Sockets that have more than one turn takes.
    again: VecDeque<Token>,
    rng: SmallRng,
    audit: Audit,
    udp_counters: UdpCounters,
    snapshot: Arc<Mutex<Snapshot>>,
    next_snapshot: Instant,
    next_look: Instant,
    is_draining: bool,
    drain_until: Option<Instant>,
}

/// The parts of a loop that are made outside.
pub(crate) struct Parts {
    pub(crate) poll: Poll,
    pub(crate) core: TurnServer,
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) doors: Vec<Door>,
    pub(crate) relay_addresses: Vec<RelayAddress>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) revocations: Arc<Mutex<Vec<Revocation>>>,
    pub(crate) snapshot: Arc<Mutex<Snapshot>>,
    pub(crate) max_streams: usize,
    pub(crate) max_streams_per_address: usize,
    pub(crate) seed: u64,
}

impl EventLoop {
    pub(crate) fn new(mut parts: Parts, now: Instant) -> io::Result<Self> {
        for (socket, token) in parts.udp.iter_mut().zip(FIRST_UDP..) {
            parts.poll.registry().register(socket.source(), Token(token), Interest::READABLE)?;
        }
        for (door, token) in parts.doors.iter_mut().zip(FIRST_TCP..) {
            parts.poll.registry().register(&mut door.listener, Token(token), Interest::READABLE)?;
        }
        Ok(Self {
            poll: parts.poll,
            core: parts.core,
            udp: parts.udp,
            doors: parts.doors,
            relays: Vec::new(),
            streams: Streams::new(FIRST_STREAM, parts.max_streams, parts.max_streams_per_address),
            relay_addresses: parts.relay_addresses,
            certificates: parts.certificates,
            orders: parts.orders,
            revocations: parts.revocations,
            has_orders: false,
            inbox: Inbox::new(),
            train: Train::new(),
            again: VecDeque::new(),
            rng: SmallRng::seed_from_u64(parts.seed),
            audit: Audit::new(now),
            udp_counters: UdpCounters::default(),
            snapshot: parts.snapshot,
            next_snapshot: now,
            next_look: now + CERTIFICATE_INTERVAL,
            is_draining: false,
            drain_until: None,
        })
    }

    /// Runs until it is told to stop, or drained; false: it can't go on.
    pub(crate) fn run(mut self) -> bool {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            let patience = self.patience(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, Some(patience))
                && error.kind() != ErrorKind::Interrupted
            {
                tracing::error!(%error, "the event queue is gone");
                return false;
            }
            let at = read_clock();
            for token in std::mem::take(&mut self.again) {
                self.serve(token, at);
            }
            let mut handshakes = HANDSHAKES_PER_TURN;
            for token in self.streams.take_again() {
                self.serve_or_put_off(&mut handshakes, token, false, false, at);
            }
            for event in &events {
                let token = event.token();
                if token.0 >= FIRST_STREAM {
                    self.serve_or_put_off(
                        &mut handshakes,
                        token,
                        event.is_readable() || event.is_read_closed() || event.is_error(),
                        event.is_writable(),
                        at,
                    );
                } else if token == WAKER {
                    self.has_orders = true;
                } else {
                    self.serve(token, at);
                }
            }
            if self.has_orders && !self.take_orders(at) {
                break;
            }
            self.core.handle_timeout(at.now);
            self.settle(at);
            self.streams.flush(self.poll.registry());
            self.settle(at);
            if at.now >= self.next_snapshot {
                self.once_a_second(at.now);
            }
            if self.drain_until.is_some_and(|until| self.core.allocation_count() == 0 || at.now >= until) {
                break;
            }
        }
        self.hand_out_snapshot();
        true
    }

    fn patience(&self, now: Instant) -> Duration {
        if !self.again.is_empty() || self.streams.has_more() {
            return Duration::ZERO;
        }
        let deadlines = [self.core.next_timeout(), self.drain_until];
        let deadline = deadlines.into_iter().flatten().fold(self.next_snapshot, Instant::min);
        deadline.saturating_duration_since(now)
    }

    fn serve(&mut self, token: Token, at: Moment) {
        match token.0 {
            FIRST_RELAY.. => self.serve_relay(RelayId(u32::try_from(token.0 - FIRST_RELAY).unwrap_or(u32::MAX)), at),
            FIRST_TCP.. => self.accept(token.0 - FIRST_TCP, at),
            _ => self.serve_clients(token.0 - FIRST_UDP, at),
        }
    }

    fn once_a_second(&mut self, now: Instant) {
        self.next_snapshot = now + SNAPSHOT_INTERVAL;
        if now >= self.next_look {
            self.next_look = now + CERTIFICATE_INTERVAL;
            if let Some(certificates) = &self.certificates {
                certificates.reload_if_changed();
            }
        }
        let Self { streams, poll, core, .. } = self;
        streams.expel(now, poll.registry(), |client| core.has_allocation(*client));
        // after a lack of descriptors nothing else would say that connections wait
        self.again.extend((0..self.doors.len()).map(|index| Token(FIRST_TCP + index)));
        self.audit.tick(now);
        self.hand_out_snapshot();
    }

    fn hand_out_snapshot(&self) {
        let snapshot = Snapshot {
            core: *self.core.counters(),
            census: self.core.census(),
            udp: self.udp_counters,
            streams: self.streams.counters,
            open_streams: self.streams.len(),
            is_draining: self.is_draining,
        };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

fn read_clock() -> Moment {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment { now: Instant::now(), unix }
}
