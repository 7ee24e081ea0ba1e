//! A door for `benches/micro` to the loop of a shard, around an engine that has its connections already. Nothing else goes
//! through it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Events;
use sfu_core::shard::Shard;
use tokio::sync::mpsc;

use crate::clock::Moment;
use crate::events::{EventQueue, Refusals};
use crate::mailbox::Mailbox;
use crate::net::udp::UdpEndpoint;
use crate::stats::ShardReport;
use crate::worker::{EVENTS_PER_TURN, Outside, ReportSlot, Worker, WorkerParts, read_clock};

/// Room for events; nobody takes them.
const EVENTS: usize = 16;

/// A UDP endpoint that waits for its engine.
pub struct Endpoint {
    parts: WorkerParts,
    mailbox: Mailbox,
}

impl Endpoint {
    /// Opens it.
    ///
    /// # Errors
    /// See `bind(2)`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let (parts, mailbox) = WorkerParts::new(vec![UdpEndpoint::bind(address)?])?;
        Ok(Self { parts, mailbox })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.parts.local_addresses().first().copied()
    }

    /// Runs the loop in a thread, on this core if one is given.
    ///
    /// # Errors
    /// See `pthread_create(3)`.
    pub fn run(self, engine: Shard, core: Option<usize>) -> io::Result<Running> {
        let report = ReportSlot::default();
        let worker = Worker::new(0, self.parts, engine, None, outside(&report));
        let thread = crate::node::spawn(0, worker, core, Vec::new())?;
        Ok(Running { mailbox: self.mailbox, report, thread })
    }

    /// The loop on the caller's thread, turn by turn. The engine's time is `now`, which may be ahead of the machine's.
    #[must_use]
    pub fn drive(self, engine: Shard, now: Instant) -> Driven {
        let worker = Worker::new(0, self.parts, engine, None, outside(&ReportSlot::default()));
        let ahead = now.saturating_duration_since(Instant::now());
        Driven { worker, ready: Events::with_capacity(EVENTS_PER_TURN), previous: now, ahead, _mailbox: self.mailbox }
    }
}

fn outside(report: &ReportSlot) -> Outside {
    let (events, _) = mpsc::channel(EVENTS);
    let refusals = Arc::new(Refusals::new(&events));
    Outside { events: EventQueue::new(events), refusals, report: Arc::clone(report), busy_percent: Arc::default() }
}

/// A loop without a thread of its own.
pub struct Driven {
    worker: Worker,
    ready: Events,
    previous: Instant,
    ahead: Duration,
    /// Held, because a loop ends with its last mailbox.
    _mailbox: Mailbox,
}

impl Driven {
    /// One turn without waiting: everything from the poll to the last send.
    ///
    /// # Errors
    /// The event queue is broken.
    pub fn turn(&mut self) -> io::Result<()> {
        self.worker.look(&mut self.ready)?;
        let clock = read_clock();
        let batch = Moment { now: clock.now + self.ahead, wall: clock.wall };
        self.worker.turn(&self.ready, batch, self.previous);
        self.previous = batch.now;
        Ok(())
    }

    /// Packets that were forwarded so far.
    #[must_use]
    pub fn forwarded_packets(&self) -> u64 {
        self.worker.forwarded_packets()
    }
}

/// A loop that runs.
pub struct Running {
    mailbox: Mailbox,
    report: ReportSlot,
    thread: JoinHandle<()>,
}

impl Running {
    /// The newest report; there is one each second.
    #[must_use]
    pub fn report(&self) -> Option<ShardReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the loop; its last report.
    #[must_use]
    pub fn stop(self) -> Option<ShardReport> {
        self.mailbox.stop();
        self.thread.join().ok()?;
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
