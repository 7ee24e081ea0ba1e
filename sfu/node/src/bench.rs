//! A door for `benches/micro` to the loop of a shard, around an engine that has its connections already. Nothing else goes
//! through it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use sfu_core::shard::Shard;
use tokio::sync::mpsc;

use crate::events::{EventQueue, Refusals};
use crate::net::udp::UdpEndpoint;
use crate::stats::ShardReport;
use crate::worker::{Mailbox, Outside, ReportSlot, Worker, WorkerParts};

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
        let (events, _) = mpsc::channel(EVENTS);
        let refusals = Arc::new(Refusals::new(&events));
        let report = ReportSlot::default();
        let outside = Outside { events: EventQueue::new(events), refusals, report: Arc::clone(&report), busy_percent: Arc::default() };
        let worker = Worker::new(0, self.parts, engine, None, outside);
        let thread = crate::node::spawn(0, worker, core)?;
        Ok(Running { mailbox: self.mailbox, report, thread })
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
