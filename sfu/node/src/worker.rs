//! LOOP 1: one thread per shard. It reads the clock, drains sockets, drives the engine and sends what comes out.
//!
//! A turn: wait; read the clock; take a batch of datagrams from every socket that is ready, but for media that is too late; look for the
//! rest of a picture that goes to many; take what other shards have sent; if there are commands, send what is to be sent and take them
//! for at most [`COMMAND_SLICE`]; run timers; send to other shards; flush the engine and send, until it has no more; go on with
//! handshakes for at most [`HANDSHAKE_SLICE`]; hand out events. There is no batching timer: at low load a turn is one packet, under load
//! what has queued up meanwhile. Nothing on the way of a packet locks or allocates.
//! Time given to the engine never goes back from one batch to the next (`clock`).

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mio::net::TcpListener;
use mio::{Events, Poll, Token, Waker};
use sfu_api::{Command, Event};
use sfu_core::egress::Progress;
use sfu_core::relay::LinkId;
use sfu_core::shard::Shard;

use crate::clock::{Arrivals, Moment};
use crate::control::Share;
use crate::events::{EventQueue, Refusals};
use crate::lanes::{Bell, Lane};
use crate::mailbox::{self, Mailbox, Order, Orders, Sharing};
use crate::net::accept::Acceptor;
use crate::net::sockets::Sockets;
use crate::net::udp::UdpEndpoint;
use crate::stats::{LoopCounters, ShardReport};

/// Token of the waker; sockets follow.
const WAKER: Token = Token(0);
/// Where tokens of UDP endpoints begin, and, far enough behind, those of the acceptor.
const FIRST_ENDPOINT: usize = 1;
const FIRST_LISTENER: usize = 1 << 16;
/// Readiness events taken in one turn; further ones come with the next.
pub(crate) const EVENTS_PER_TURN: usize = 256;
/// Looks for the rest of pictures in one turn: what comes later is for the next one.
const MOST_LOOKS: usize = 8;
/// Time for commands in one turn: a session description costs about 0.2 ms, and media waits meanwhile. While media is late,
/// and so about to be dropped, it is a share of what media took in the turn ([`SHARE_BEHIND`]).
const COMMAND_SLICE: Duration = Duration::from_micros(500);
/// Time for handshakes in one turn: they cost up to some hundred microseconds a datagram, and media waits meanwhile.
const HANDSHAKE_SLICE: Duration = Duration::from_micros(500);
/// While media is late, commands and handshakes each get this part of the time that media takes, and at least one step in a turn.
const SHARE_BEHIND: u32 = 8;
/// How often a report is handed out; also the grain of coarse timeouts.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Wait between two attempts to hand out events that nobody takes.
const EVENT_RETRY: Duration = Duration::from_millis(5);

/// Where a worker leaves what others take.
pub(crate) struct Outside {
    pub(crate) events: EventQueue,
    /// Of all shards together.
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) report: ReportSlot,
    pub(crate) busy_percent: Arc<AtomicU32>,
}

/// Where a shard leaves its latest report.
pub(crate) type ReportSlot = Arc<Mutex<Option<ShardReport>>>;

/// The acceptor of the shared TCP listener with the ways to all shards; one worker has it.
pub(crate) struct Reception {
    pub(crate) acceptor: Acceptor,
    pub(crate) mailboxes: Vec<Mailbox>,
}

/// A shard's sockets before it has a thread.
pub(crate) struct WorkerParts {
    poll: Poll,
    orders: Orders,
    sockets: Sockets,
    bell: Arc<Bell>,
}

/// State of the loop.
pub(crate) struct Worker {
    shard: u16,
    poll: Poll,
    orders: Orders,
    sockets: Sockets,
    reception: Option<Reception>,
    engine: Shard,
    /// Ways to other shards.
    lanes: Vec<Lane>,
    bell: Arc<Bell>,
    outside: Outside,
    counters: LoopCounters,
    next_report: Instant,
    /// Time spent in turns until the last report, and when that was.
    reported: (Duration, Instant),
    /// Receive time of the oldest of the turn's datagrams, for the latency histogram.
    oldest: Option<Instant>,
}

impl WorkerParts {
    /// Watches the endpoints and opens a mailbox.
    pub(crate) fn new(endpoints: Vec<UdpEndpoint>) -> io::Result<(Self, Mailbox)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut sockets = Sockets::new(endpoints, FIRST_ENDPOINT);
        sockets.register(poll.registry())?;
        let bell = Arc::new(Bell::new(Arc::clone(&waker)));
        let (mailbox, orders) = mailbox::open(waker, Arc::clone(&bell));
        Ok((Self { poll, orders, sockets, bell }, mailbox))
    }

    /// Accepts for all `shards`, in this shard's loop.
    pub(crate) fn watch(&self, listeners: Vec<TcpListener>, shards: u16) -> io::Result<Acceptor> {
        let mut acceptor = Acceptor::new(listeners, FIRST_LISTENER, shards);
        acceptor.register(self.poll.registry())?;
        Ok(acceptor)
    }

    /// Where the UDP endpoints are bound.
    pub(crate) fn local_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.local_addresses()
    }
}

impl Worker {
    /// A worker that is ready to run.
    pub(crate) fn new(shard: u16, parts: WorkerParts, engine: Shard, reception: Option<Reception>, outside: Outside) -> Self {
        let WorkerParts { poll, orders, sockets, bell } = parts;
        let now = Instant::now();
        Self {
            shard,
            poll,
            orders,
            sockets,
            reception,
            engine,
            lanes: Vec::new(),
            bell,
            outside,
            counters: LoopCounters::default(),
            next_report: now,
            reported: (Duration::ZERO, now),
            oldest: None,
        }
    }

    /// Runs until it is told to stop; the last thing that it does is a report. False: it can't go on.
    pub(crate) fn run(mut self) -> bool {
        let mut ready = Events::with_capacity(EVENTS_PER_TURN);
        let mut previous = Instant::now();
        let mut is_running = true;
        while is_running {
            self.bell.fall_asleep();
            let deadline = self.deadline(previous);
            let patience = deadline.saturating_duration_since(Instant::now());
            let polled = self.poll.poll(&mut ready, Some(patience));
            self.bell.wake_up();
            if let Err(error) = polled
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(shard = self.shard, %error, "the event queue is gone");
                return false;
            }
            let batch = read_clock();
            if deadline > previous && batch.now >= deadline {
                self.counters.lag.observe(batch.now - deadline, 1);
            }
            is_running = self.turn(&ready, batch, previous);
            previous = batch.now;
        }
        self.once_a_second(previous);
        true
    }

    /// What is ready at once (`bench`).
    pub(crate) fn look(&mut self, ready: &mut Events) -> io::Result<()> {
        self.poll.poll(ready, Some(Duration::ZERO))
    }

    /// Packets that the engine has forwarded (`bench`).
    pub(crate) fn forwarded_packets(&self) -> u64 {
        self.engine.snapshot().forwarded.packets
    }

    /// When to stop waiting; not later than now if there is something to do already.
    fn deadline(&self, now: Instant) -> Instant {
        let has_connections = self.reception.as_ref().is_some_and(|r| r.acceptor.has_more());
        let has_frames = self.lanes.iter().any(|lane| !lane.is_empty());
        if self.orders.has_more || has_connections || has_frames || self.engine.has_handshakes() || self.sockets.is_readable() {
            return now;
        }
        let first_packet = self.reception.as_ref().and_then(|r| r.acceptor.next_timeout());
        let retry = self.outside.events.has_waiting().then(|| now + EVENT_RETRY);
        [self.engine.next_timeout(), first_packet, retry].into_iter().flatten().fold(self.next_report, Instant::min)
    }

    /// One turn. False: the shard is to stop.
    pub(crate) fn turn(&mut self, ready: &Events, batch: Moment, previous: Instant) -> bool {
        self.take_readiness(ready, batch.now);
        // Before anything is read: a client may have a new connection on the port of the old one.
        self.report_closed(batch.now);
        self.oldest = None;
        self.receive(batch, previous);
        self.receive_rest(batch, previous);
        self.report_closed(batch.now);
        self.take_frames(batch.now);
        if self.orders.has_more {
            // Commands may take their whole slice; what has come goes out first.
            self.flush(batch.now);
        }
        let is_running = self.take_orders(Instant::now(), batch.now);
        if self.engine.next_timeout().is_some_and(|at| at <= batch.now) {
            self.engine.handle_timeout(batch.now);
        }
        // The others begin while this shard sends to its own.
        self.send_frames(batch.now);
        self.flush(batch.now);
        self.report_closed(batch.now);
        // Media is out; what follows costs nobody's packets time.
        let sent_at = Instant::now();
        self.shake_hands(sent_at, batch.now);
        self.send_frames(batch.now);
        self.hand_out_events();

        let finished = Instant::now();
        self.counters.turns += 1;
        self.counters.batches += u64::from(self.oldest.is_some());
        self.counters.turn.observe(finished.saturating_duration_since(batch.now), 1);
        if batch.now >= self.next_report {
            self.once_a_second(batch.now);
        }
        is_running
    }

    fn take_readiness(&mut self, ready: &Events, now: Instant) {
        let registry = self.poll.registry();
        for event in ready {
            if event.token() == WAKER {
                self.orders.has_more = true;
            } else if !self.sockets.handle_event(event, registry)
                && let Some(reception) = &mut self.reception
                && let Some((shard, connection)) = reception.acceptor.handle_event(event.token(), registry)
            {
                match reception.mailboxes.get(usize::from(shard)) {
                    Some(mailbox) if shard != self.shard => {
                        // A full mailbox drops the connection; the client tries again.
                        let _ = mailbox.send(Order::Connection(Box::new(connection)));
                    }
                    _ => self.sockets.tcp.adopt(connection, registry, now),
                }
            }
        }
        if let Some(Reception { acceptor, .. }) = &mut self.reception {
            if acceptor.has_more() {
                acceptor.accept(now, registry);
            }
            acceptor.expire(now, registry);
        }
    }

    fn receive(&mut self, batch: Moment, previous: Instant) {
        let Self { sockets, engine, poll, oldest, .. } = self;
        let clock = Arrivals::new(batch, previous);
        sockets.receive(poll.registry(), |flow, received_at, datagram| {
            // Only the kernel's queue of datagrams can be told from a queue on the way here.
            if received_at.is_some_and(|at| engine.sheds(batch.now, clock.age_of(at), datagram)) {
                return;
            }
            let arrival = clock.time_of(received_at);
            *oldest = Some(oldest.map_or(arrival, |oldest| oldest.min(arrival)));
            engine.handle_datagram(arrival, flow, datagram);
        });
    }

    /// The rest of a picture of which a part has come: one train to each of many subscribers costs half of two.
    fn receive_rest(&mut self, batch: Moment, previous: Instant) {
        let mut fruitless = 0;
        for _ in 0..MOST_LOOKS {
            if fruitless >= self.engine.looks_for_rest() {
                return;
            }
            let before = self.sockets.udp_counters.received_messages;
            self.sockets.look_again();
            self.receive(batch, previous);
            fruitless += usize::from(self.sockets.udp_counters.received_messages == before);
        }
    }

    /// Tells the engine of TCP connections that have ended.
    fn report_closed(&mut self, now: Instant) {
        while let Some(flow) = self.sockets.tcp.poll_closed() {
            self.engine.flow_closed(now, flow);
        }
    }

    /// Takes what other shards have sent.
    fn take_frames(&mut self, now: Instant) {
        let Self { lanes, engine, .. } = self;
        for lane in lanes.iter_mut().filter(|lane| !lane.is_empty()) {
            let link = lane.link;
            lane.receive(|frames| engine.handle_relay(now, link, frames));
        }
    }

    /// Sends what is for other shards, as far as there is room.
    fn send_frames(&mut self, now: Instant) {
        let Self { lanes, engine, .. } = self;
        let mut has_sent = false;
        for lane in lanes {
            let outbox = engine.relay_outbox(lane.link);
            if outbox.is_empty() {
                continue;
            }
            let room = lane.room();
            let frames = outbox.prepare(room);
            let sent = if frames.is_empty() || !lane.send(frames) { 0 } else { frames.len() };
            outbox.sent(sent);
            has_sent = true;
        }
        if has_sent {
            engine.mend_torn(now);
        }
    }

    /// Goes on with handshakes until there are none or the slice is used up.
    fn shake_hands(&mut self, started: Instant, now: Instant) {
        let mut has_stepped = false;
        let slice = self.slice(HANDSHAKE_SLICE, started, now);
        while self.engine.step_handshake(now) {
            has_stepped = true;
            if Instant::now().saturating_duration_since(started) >= slice {
                break;
            }
        }
        if has_stepped {
            self.flush(now);
        }
    }

    /// Time for something that is not media, in a turn that began at `batch`.
    fn slice(&self, usual: Duration, started: Instant, batch: Instant) -> Duration {
        if self.engine.is_behind() { usual.min(started.saturating_duration_since(batch) / SHARE_BEHIND) } else { usual }
    }

    /// A way to another shard; one that was there before led to nobody.
    fn add_lane(&mut self, lane: Lane) {
        self.lanes.retain(|known| known.link != lane.link);
        self.lanes.push(lane);
    }

    /// Takes commands and connections until there are none or the slice is used up. False: the shard is to stop.
    fn take_orders(&mut self, started: Instant, now: Instant) -> bool {
        let slice = self.slice(COMMAND_SLICE, started, now);
        while self.orders.has_more {
            match self.orders.take() {
                Ok(Some(Order::Command(command))) => {
                    self.counters.commands += 1;
                    // What it names may have been announced by another shard a moment ago.
                    self.take_frames(now);
                    self.engine.handle_command(now, command);
                }
                Ok(Some(Order::Lane(lane))) => self.add_lane(*lane),
                Ok(Some(Order::Share(sharing))) => {
                    let Sharing { lanes, share: Share { room, others, playout_delay: delay }, command } = *sharing;
                    self.counters.commands += 1;
                    lanes.into_iter().for_each(|lane| self.add_lane(lane));
                    let others: Vec<LinkId> = others.into_iter().map(LinkId).collect();
                    self.engine.share_room(room, &others);
                    if delay.is_some() {
                        self.engine.handle_command(now, Command::SetPlayoutDelay { room, delay });
                    }
                    self.engine.handle_command(now, command);
                }
                Ok(Some(Order::Connection(connection))) => self.sockets.tcp.adopt(*connection, self.poll.registry(), now),
                Ok(None) => {}
                Ok(Some(Order::Stop)) | Err(_) => return false,
            }
            if Instant::now().saturating_duration_since(started) >= slice {
                break;
            }
        }
        true
    }

    /// Sends all that the engine has.
    fn flush(&mut self, now: Instant) {
        let (latency, oldest) = (&mut self.counters.forward_latency, self.oldest);
        loop {
            let progress = self.engine.flush(now);
            let outbox = self.engine.outbox();
            self.sockets.send(outbox, self.poll.registry(), |datagrams| {
                if let Some(arrival) = oldest {
                    latency.observe(Instant::now().saturating_duration_since(arrival), datagrams);
                }
            });
            outbox.clear();
            if progress == Progress::Done {
                return;
            }
        }
    }

    fn hand_out_events(&mut self) {
        let events = &mut self.outside.events;
        events.retry();
        while let Some(event) = self.engine.poll_event() {
            events.push(event);
        }
    }

    fn once_a_second(&mut self, now: Instant) {
        self.next_report = now + REPORT_INTERVAL;
        self.sockets.tcp.close_unproven(now, self.poll.registry(), |flow| self.engine.is_path(flow));
        if let Some(reception) = &mut self.reception {
            reception.acceptor.retry();
        }
        self.outside.refusals.hand_over(&mut self.outside.events);
        let samples = self.engine.take_samples();
        if !samples.is_empty() {
            self.outside.events.push(Event::Samples(samples));
        }
        let busy_ratio = self.tell_load(now);
        let report = self.report(now, busy_ratio);
        *self.outside.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    /// Says how busy the shard was since it last said so, and returns it: 0.0 to 1.0.
    fn tell_load(&mut self, now: Instant) -> f64 {
        // The report at the start is about no time at all.
        if now.saturating_duration_since(self.reported.1) < REPORT_INTERVAL / 2 {
            return 0.0;
        }
        let (spent, at) = std::mem::replace(&mut self.reported, (self.counters.turn.sum(), now));
        let (busy, passed) = (self.counters.turn.sum().saturating_sub(spent), now.saturating_duration_since(at));
        let percent = u32::try_from(busy.as_micros().saturating_mul(100) / passed.as_micros().max(1)).unwrap_or(u32::MAX);
        self.outside.busy_percent.store(percent, Ordering::Relaxed);
        if passed.is_zero() { 0.0 } else { (busy.as_secs_f64() / passed.as_secs_f64()).min(1.0) }
    }

    fn report(&self, taken_at: Instant, busy_ratio: f64) -> ShardReport {
        ShardReport {
            shard: self.shard,
            taken_at,
            busy_ratio,
            engine: self.engine.snapshot(),
            turns: LoopCounters { events_dropped: self.outside.events.dropped(), ..self.counters },
            udp: self.sockets.udp_counters,
            socket_buffers: self.sockets.buffers(),
            tcp: self.sockets.tcp.counters(),
            accept: self.reception.as_ref().map(|r| r.acceptor.counters()).unwrap_or_default(),
        }
    }
}

/// Both clocks at once.
pub(crate) fn read_clock() -> Moment {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment { now: Instant::now(), wall }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sfu_core::shard::ShardConfig;
    use sfu_core::transport::Certificate;

    use super::*;
    use crate::control::CommandError;

    #[test]
    fn an_order_is_heard_although_its_sender_is_gone() {
        let (worker, mailbox) = worker();
        mailbox.send(Order::Stop).unwrap();
        drop(mailbox);
        worker.run();
    }

    #[test]
    fn what_was_sent_before_the_stop_is_carried_out() {
        let (worker, mailbox) = worker();
        for _ in 0..10_000 {
            mailbox.send(Order::Command(Command::Leave { participant: sfu_api::ParticipantId(1) })).unwrap();
        }
        let report = Arc::clone(&worker.outside.report);
        let thread = std::thread::spawn(|| worker.run());
        mailbox.stop();
        thread.join().unwrap();
        assert_eq!(report.lock().unwrap().as_ref().unwrap().turns.commands, 10_000);
        assert_eq!(mailbox.send(Order::Stop), Err(CommandError::Stopped));
    }

    #[test]
    fn a_turn_does_not_allocate() {
        let (mut worker, _mailbox) = worker();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = worker.sockets.local_addresses()[0];
        let mut ready = Events::with_capacity(EVENTS_PER_TURN);
        let mut batch_of = |worker: &mut Worker, packets: usize| {
            let before = worker.sockets.udp_counters.received_datagrams;
            for _ in 0..packets {
                client.send_to(&[200; 1_200], address).unwrap();
            }
            while worker.sockets.udp_counters.received_datagrams < before + packets as u64 {
                let patience = if worker.sockets.is_readable() { Duration::ZERO } else { Duration::from_secs(5) };
                worker.poll.poll(&mut ready, Some(patience)).unwrap();
                let batch = read_clock();
                worker.turn(&ready, batch, batch.now);
            }
        };
        batch_of(&mut worker, 64);
        let allocations = allocation_counter::measure(|| batch_of(&mut worker, 64));
        assert_eq!(allocations.count_total, 0);
    }

    fn worker() -> (Worker, Mailbox) {
        let endpoint = UdpEndpoint::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (parts, mailbox) = WorkerParts::new(vec![endpoint]).unwrap();
        let certificate = Certificate::generate().unwrap();
        let engine = Shard::new(ShardConfig { candidates: Vec::new(), certificate, ufrag_prefix: "aa".to_owned(), seed: [1; 32] });
        let (events, _) = tokio::sync::mpsc::channel(1);
        let refusals = Arc::new(Refusals::new(&events));
        let outside = Outside { events: EventQueue::new(events), refusals, report: ReportSlot::default(), busy_percent: Arc::default() };
        (Worker::new(0, parts, engine, None, outside), mailbox)
    }
}
