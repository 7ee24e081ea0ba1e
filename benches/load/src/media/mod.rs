//! Everything about media: one thread that has the sockets, the transports, the sources and the measurement of all participants.
//!
//! Its loop turns once a millisecond, or earlier if a frame is due: orders, datagrams, frames, then a twentieth of the transports' timers
//! and feedback. It waits for time only, never for a socket ([`sockets`]).

pub mod addresses;
pub mod counters;
pub mod link;
pub mod packetize;
mod receiver;
mod sender;
mod sockets;
pub mod source;
pub mod stamp;
mod transport;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use sfu_core::net::Outbox;
use sfu_core::rtp::ntp::NtpTime;
use sfu_sim::client::ClientTransport;
use tokio::sync::oneshot;

use self::counters::Measured;
use self::link::{MediaLink, Order, Purpose, TransportId};
use self::sockets::Sockets;
use self::transport::{Transport, Turn};
use crate::plan::Participant;

/// Between two turns.
const TURN: Duration = Duration::from_millis(1);
/// Each transport has its turn once in so many milliseconds.
const SLOTS: u64 = 20;
/// Congestion feedback every 100 ms, as libwebrtc sends it at medium bitrates.
const FEEDBACK_ROUNDS: u64 = 5;
/// Reports once a second.
const REPORT_ROUNDS: u64 = 50;
/// Batches that are read of a socket before the others have their turn.
const BATCHES: usize = 16;
/// Orders that are carried out before media has its turn again: making a transport signs a certificate.
const ORDER_SLICE: Duration = Duration::from_millis(1);

/// The media thread.
pub struct Media {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// What was measured so far.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Counters since the start, latencies since the last mark.
    pub measured: Measured,
    /// By index; `None` for those that have not begun.
    pub participants: Vec<Option<Progress>>,
}

/// How far a participant has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// From the begin of its session until its transport was connected: a publisher's for sending, a subscriber's for receiving.
    pub connected_after: Option<Duration>,
    /// Until its first media came.
    pub media_after: Option<Duration>,
    /// Tracks that media has come of.
    pub live_tracks: usize,
    /// Why it can't go on.
    pub failure: Option<String>,
}

/// Nanoseconds since 1970, on the clock that the kernel's receive timestamps are of.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

impl Media {
    /// Starts the thread. `client_ip` is where clients are if the server is not on loopback.
    ///
    /// # Errors
    /// If the system has no thread.
    pub fn start(client_ip: Option<Ipv4Addr>) -> anyhow::Result<Self> {
        let (orders, queue) = channel();
        let thread = std::thread::Builder::new().name("media".to_owned()).spawn(move || Engine::new(client_ip, queue).run())?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// A participant's session begins now.
    #[must_use]
    pub fn begin(&self, participant: &Arc<Participant>) -> MediaLink {
        self.order(Order::Begin { participant: Arc::clone(participant) });
        MediaLink::new(participant.index, self.orders.clone())
    }

    /// Lets sources send a packet twice a second only, or all again.
    pub fn set_idle(&self, is_idle: bool) {
        self.order(Order::Idle(is_idle));
    }

    /// What was measured. With `is_mark`, latencies are counted anew from now on.
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn look(&self, is_mark: bool) -> anyhow::Result<Box<Look>> {
        let (reply, look) = oneshot::channel();
        self.order(Order::Look { is_mark, reply });
        look.await.context("the media thread has ended")
    }

    fn order(&self, order: Order) {
        // Fails only when the thread has ended, which the next look tells.
        let _ = self.orders.send(order);
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// State of the thread.
struct Engine {
    orders: Receiver<Order>,
    sockets: Sockets,
    transports: Vec<Transport>,
    participants: Vec<Option<Known>>,
    /// Transports that send.
    senders: Vec<usize>,
    is_idle: bool,
    measured: Measured,
    out: Outbox,
    began: Instant,
    /// Milliseconds since then whose transports have had their turn.
    ticked: u64,
}

struct Known {
    participant: Arc<Participant>,
    began: Instant,
    progress: Progress,
}

impl Engine {
    fn new(client_ip: Option<Ipv4Addr>, orders: Receiver<Order>) -> Self {
        // A thread's timers are late by 50 us otherwise. Best effort.
        let _ = nix::sys::prctl::set_timerslack(1);
        Self {
            orders,
            sockets: Sockets::new(client_ip),
            transports: Vec::new(),
            participants: Vec::new(),
            senders: Vec::new(),
            is_idle: false,
            measured: Measured::default(),
            out: Outbox::default(),
            began: Instant::now(),
            ticked: 0,
        }
    }

    fn run(mut self) {
        loop {
            let turn_began = Instant::now();
            if !self.take_orders(turn_began) {
                return;
            }
            self.receive();
            let now = Instant::now();
            self.send_due(now);
            self.tick(now);
            let next = self.next_due().map_or(turn_began + TURN, |due| due.min(turn_began + TURN));
            let patience = next.saturating_duration_since(Instant::now());
            if !patience.is_zero() {
                std::thread::sleep(patience);
            }
        }
    }

    /// False: it is over.
    fn take_orders(&mut self, now: Instant) -> bool {
        while now.elapsed() < ORDER_SLICE {
            match self.orders.try_recv() {
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(order) => self.carry_out(now, order),
                Err(TryRecvError::Empty) => break,
            }
        }
        true
    }

    fn carry_out(&mut self, now: Instant, order: Order) {
        match order {
            Order::Begin { participant } => {
                let index = participant.index;
                if self.participants.len() <= index {
                    self.participants.resize_with(index + 1, || None);
                }
                let progress = Progress { connected_after: None, media_after: None, live_tracks: 0, failure: None };
                self.participants[index] = Some(Known { participant, began: now, progress });
            }
            Order::Open { participant, purpose, has_data, reply } => {
                let is_sink = purpose == Purpose::Receive && self.participant(participant).is_some_and(|known| known.participant.is_sink);
                let mut client = ClientTransport::new(now, &mut rand::rng());
                if has_data {
                    client = client.with_data();
                }
                match self.sockets.add(is_sink) {
                    Ok((group, local)) => {
                        let _ = reply.send((TransportId(self.transports.len()), client.params()));
                        self.transports.push(Transport::new(participant, group, local, client));
                    }
                    // Without an answer the session fails.
                    Err(error) => eprintln!("no socket: {error}"),
                }
            }
            Order::Connect { transport, remote } => self.with(transport, now, |transport, turn| transport.connect(turn, remote)),
            Order::Candidate { transport, address } => {
                self.with(transport, now, |transport, turn| transport.add_candidate(turn, address));
            }
            Order::WhenConnected { transport, reply } => self.with(transport, now, |transport, _| transport.when_connected(reply)),
            Order::Send { transport: TransportId(index), tracks } => {
                let Some(transport) = self.transports.get_mut(index) else { return };
                let Some(Some(known)) = self.participants.get(transport.participant) else { return };
                transport.set_sending(now, tracks, &known.participant, self.is_idle);
                if !self.senders.contains(&index) {
                    self.senders.push(index);
                }
            }
            Order::Receive { transport, tracks } => self.with(transport, now, |transport, _| transport.set_receiving(tracks)),
            Order::Idle(is_idle) => {
                self.is_idle = is_idle;
                self.transports.iter_mut().for_each(|transport| transport.set_idle(now, is_idle));
            }
            Order::Look { is_mark, reply } => {
                let participants = self.participants.iter().map(|known| known.as_ref().map(|known| known.progress.clone())).collect();
                let _ = reply.send(Box::new(Look { measured: self.measured.clone(), participants }));
                if is_mark {
                    self.measured.latency = crate::histogram::Histogram::default();
                }
            }
            Order::Stop => {}
        }
    }

    fn participant(&self, index: usize) -> Option<&Known> {
        self.participants.get(index)?.as_ref()
    }

    fn with(&mut self, TransportId(index): TransportId, now: Instant, act: impl FnOnce(&mut Transport, &mut Turn<'_>)) {
        let Self { transports, out, measured, sockets, .. } = self;
        let Some(transport) = transports.get_mut(index) else { return };
        act(transport, &mut Turn { now, out, measured });
        flush(sockets, transport, out, measured);
    }

    fn receive(&mut self) {
        for group in 0..self.sockets.groups() {
            for _ in 0..BATCHES {
                let now = Instant::now();
                let Self { transports, out, measured, sockets, .. } = self;
                let taken = sockets.receive(group, |message| {
                    let Some(transport) = transports.get_mut(message.transport) else { return };
                    let arrived_at_ns = message.arrived_at_ns.unwrap_or_else(wall_clock_ns);
                    for datagram in message.bytes.chunks_mut(message.stride) {
                        transport.receive(&mut Turn { now, out, measured }, message.remote, arrived_at_ns, datagram);
                    }
                });
                // Answers of handshakes; each datagram knows the address that it leaves from.
                flush_all(sockets, transports, out, measured);
                match taken {
                    Ok(false) => {
                        // Many have come: frames must not wait for them.
                        if self.next_due().is_some_and(|due| due <= now) {
                            self.send_due(now);
                        }
                    }
                    Ok(true) => break,
                    Err(error) => {
                        eprintln!("a socket is lost: {error}");
                        break;
                    }
                }
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.senders.iter().filter_map(|&index| self.transports[index].next_due()).min()
    }

    fn send_due(&mut self, now: Instant) {
        let Self { transports, out, measured, sockets, senders, .. } = self;
        for &index in senders.iter() {
            let transport = &mut transports[index];
            if transport.next_due().is_some_and(|due| due <= now) {
                transport.send_due(&mut Turn { now, out, measured });
                flush(sockets, transport, out, measured);
            }
        }
    }

    /// Timers and feedback of those transports whose milliseconds have come.
    fn tick(&mut self, now: Instant) {
        let ms = u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        let ntp = NtpTime::from_unix(Duration::from_nanos(wall_clock_ns()));
        let first = self.ticked.max(ms.saturating_sub(SLOTS - 1));
        for at in first..=ms {
            let slot = usize::try_from(at % SLOTS).unwrap_or(0);
            for index in (slot..self.transports.len()).step_by(usize::try_from(SLOTS).unwrap_or(1)) {
                let Self { transports, participants, out, measured, sockets, .. } = self;
                let transport = &mut transports[index];
                // Not all at the same time.
                let round = at / SLOTS + index as u64 / SLOTS;
                let mut turn = Turn { now, out, measured };
                transport.tick(&mut turn, round.is_multiple_of(FEEDBACK_ROUNDS), round.is_multiple_of(REPORT_ROUNDS), ntp);
                flush(sockets, transport, out, measured);
                if let Some(Some(known)) = participants.get_mut(transport.participant) {
                    known.failed(transport);
                }
            }
        }
        if self.ticked <= ms {
            self.ticked = ms + 1;
            self.watch(now);
        }
    }

    /// Who has got further.
    fn watch(&mut self, now: Instant) {
        let is_late =
            |known: &Known| known.progress.connected_after.is_none() || known.progress.live_tracks < known.participant.expected_tracks;
        if !self.participants.iter().flatten().any(is_late) {
            return;
        }
        let mut live = vec![0; self.participants.len()];
        for transport in self.transports.iter().filter(|transport| transport.is_connected) {
            if let Some(Some(known)) = self.participants.get_mut(transport.participant) {
                live[transport.participant] += transport.live_tracks();
                let publishes = known.participant.audio.is_some() || known.participant.video.is_some();
                if transport.is_sender() || !publishes {
                    known.progress.connected_after.get_or_insert(now.saturating_duration_since(known.began));
                }
            }
        }
        for (known, live) in self.participants.iter_mut().zip(live) {
            let Some(known) = known else { continue };
            known.progress.live_tracks = live;
            if live > 0 {
                known.progress.media_after.get_or_insert(now.saturating_duration_since(known.began));
            }
        }
    }
}

impl Known {
    fn failed(&mut self, transport: &Transport) {
        if self.progress.failure.is_none() {
            self.progress.failure.clone_from(&transport.failure);
        }
    }
}

/// Sends what one transport has.
fn flush(sockets: &Sockets, transport: &Transport, out: &mut Outbox, measured: &mut Measured) {
    for (flow, datagram) in out.datagrams() {
        if !sockets.send(transport.group, transport.local(), flow.remote, datagram) {
            measured.counters.unsent += 1;
        }
    }
    out.clear();
}

/// Sends what transports of one socket have.
fn flush_all(sockets: &Sockets, transports: &[Transport], out: &mut Outbox, measured: &mut Measured) {
    for (flow, datagram) in out.datagrams() {
        let owner = transports.iter().find(|transport| transport.local() == flow.local);
        if !owner.is_some_and(|transport| sockets.send(transport.group, flow.local, flow.remote, datagram)) {
            measured.counters.unsent += 1;
        }
    }
    out.clear();
}
