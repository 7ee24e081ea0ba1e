//! A door for `benches/micro` to the loop of one shard, driven turn by turn on the caller's thread. Nothing else goes through it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Events;
use sfu_core::shard::Shard;
use sfu_core::snapshot::Snapshot;

use crate::clock::Moment;
use crate::events::{EventQueue, Refusals};
use crate::net::udp::UdpEndpoint;
use crate::stats::UdpCounters;
use crate::worker::{EVENTS_PER_TURN, Mailbox, ReportSlot, Worker, WorkerParts, read_clock};

/// One worker with a UDP socket and no thread of its own.
pub struct BenchLoop {
    worker: Worker,
    ready: Events,
    previous: Instant,
    /// The engine's time is ahead of the machine's by this, if it lived in a simulation before.
    ahead: Duration,
    _mailbox: Mailbox,
}

impl BenchLoop {
    /// Drives `engine`, whose time is `now`, with a socket at `address`.
    ///
    /// # Errors
    /// The socket or the event queue could not be opened.
    pub fn new(engine: Shard, now: Instant, address: SocketAddr) -> io::Result<Self> {
        let (parts, mailbox) = WorkerParts::new(vec![UdpEndpoint::bind(address)?])?;
        let (events, _) = tokio::sync::mpsc::channel(1);
        let refusals = Arc::new(Refusals::new(&events));
        let worker = Worker::new(0, parts, engine, None, EventQueue::new(events), refusals, ReportSlot::default());
        let ahead = now.saturating_duration_since(Instant::now());
        Ok(Self { worker, ready: Events::with_capacity(EVENTS_PER_TURN), previous: now, ahead, _mailbox: mailbox })
    }

    /// One turn of the loop without waiting: everything from the poll to the last send.
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

    /// Counters of the engine.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.worker.snapshot()
    }

    /// Counters of the socket.
    #[must_use]
    pub fn udp_counters(&self) -> UdpCounters {
        self.worker.udp_counters()
    }
}
