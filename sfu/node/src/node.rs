//! Starts the threads of a node and stops them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use sfu_api::{Command, Event, ParticipantId};
use sfu_core::net::Protocol;
use sfu_core::relay::LinkId;
use sfu_core::shard::{Shard, ShardConfig};
use sfu_core::transport::params::Candidate;
use sfu_core::transport::{Certificate, CertificateError};
use tokio::sync::mpsc;

use crate::addresses::candidates;
use crate::config::NodeConfig;
use crate::control::{Change, CommandError, Directory, Share};
use crate::events::{EventQueue, Refusals};
use crate::lanes::Lane;
use crate::mailbox::{Mailbox, Order, Sharing};
use crate::net::accept::{self, Acceptor, Ledger, MAX_SHARDS, introduce, ufrag_prefix};
use crate::net::udp::UdpEndpoint;
use crate::stats::ShardReport;
use crate::worker::{Outside, Reception, ReportSlot, Worker, WorkerParts, read_clock};

/// Age from which a missing report says that a shard hangs; six are made in this time.
const REPORT_OVERDUE: Duration = Duration::from_secs(6);

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// There are more shards than user name fragments can name, or none, or no ports for them.
    #[error("{0} shards from UDP port {1} on are not possible")]
    Shards(usize, u16),
    /// `bind` is empty, or has only addresses of a family that this machine does not have.
    #[error("there is no address to listen on")]
    NoAddress,
    /// A socket could not be opened.
    #[error("cannot listen on {protocol} {address}: {source}")]
    Bind {
        /// "udp" or "tcp".
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The addresses of the network interfaces could not be read.
    #[error("cannot read the interface addresses: {0}")]
    Interfaces(io::Error),
    /// An advertised address is translated to one that no interface has.
    #[error("{0} is not an address of this machine")]
    NotLocal(IpAddr),
    /// The STUN server that was to tell the public address did not.
    #[error("the public address can't be found: {0}")]
    Reflexive(io::Error),
    /// No address that clients could be told was found or configured.
    #[error("there is no address to tell clients; configure the advertised addresses")]
    NothingAdvertised,
    /// The DTLS certificate could not be made.
    #[error("cannot make a DTLS certificate: {0}")]
    Certificate(CertificateError),
    /// A thread or its event queue could not be made.
    #[error("cannot start a shard: {0}")]
    Thread(io::Error),
}

/// Namespace for [`Node::start`].
#[derive(Debug)]
pub struct Node;

/// A running node. Clones speak to the same one; when the last is dropped, the shards stop by themselves.
#[derive(Clone)]
pub struct NodeHandle(Arc<Inner>);

struct Inner {
    mailboxes: Vec<Mailbox>,
    directory: Mutex<Directory>,
    refusals: Arc<Refusals>,
    reports: Vec<ReportSlot>,
    candidates: Vec<Candidate>,
    udp_ports: Vec<u16>,
    /// Of connections that were accepted elsewhere.
    adopted: Arc<Ledger>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    started_at: Instant,
}

impl Node {
    /// Opens sockets and starts one thread per shard. Events of all shards come out of the receiver.
    ///
    /// # Errors
    /// Nothing is left running after an error.
    pub fn start(config: &NodeConfig) -> Result<(NodeHandle, mpsc::Receiver<Event>), NodeError> {
        let shards = shard_count(config)?;
        if let Some(address) = config.advertised.missing_local().map_err(NodeError::Interfaces)? {
            return Err(NodeError::NotLocal(address));
        }
        let mut advertised = config.advertised.seen_from_outside().map_err(NodeError::Reflexive)?;
        for address in config.advertised.addresses().map_err(NodeError::Interfaces)? {
            if advertised.iter().all(|seen| seen.public != address.public) {
                advertised.push(address);
            }
        }
        let certificate = Certificate::generate().map_err(NodeError::Certificate)?;
        let (parts, mailboxes) = open_shards(config, shards)?;
        let mut acceptor = None;
        if let (Some(port), Some(first)) = (config.tcp_port, parts.first()) {
            acceptor = Some(listen(config, port, first, shards)?);
        }
        let tcp = acceptor.as_ref().map_or(Ok(Vec::new()), |a| a.local_addresses()).map_err(NodeError::Thread)?;
        let shared = config.shared_tcp_port.into_iter().flat_map(|port| config.bind.iter().map(move |ip| SocketAddr::new(*ip, port)));
        let shared: Vec<SocketAddr> = shared.collect();

        let udp_ports = parts.iter().flat_map(WorkerParts::local_addresses).map(|address| address.port()).collect();
        let start = read_clock();
        let (events, receiver) = mpsc::channel(config.event_queue.max(1));
        let refusals = Arc::new(Refusals::new(&events));
        let cores = if config.pin_threads { allowed_cores() } else { Vec::new() };
        let directory = Directory::new(shards, config.sharing);
        let mut all_candidates = Vec::new();
        let (mut reports, mut workers) = (Vec::new(), Vec::new());
        for (shard, parts) in (0..).zip(parts) {
            let on = |udp: &[SocketAddr], tcp: &[SocketAddr]| candidates(&config.advertised, &advertised, udp, tcp);
            let mut candidates = on(&parts.local_addresses(), &tcp);
            candidates.extend(on(&[], &shared));
            if candidates.is_empty() {
                return Err(NodeError::NothingAdvertised);
            }
            all_candidates.extend(candidates.iter().copied().filter(|c| !all_candidates.contains(c)).collect::<Vec<_>>());
            let certificate = certificate.clone();
            let (ufrag_prefix, seed) = (ufrag_prefix(shard), rand::random());
            let mut engine = Shard::new(ShardConfig { candidates, certificate, ufrag_prefix, seed });
            engine.set_link_id(LinkId(shard));
            let reception = acceptor.take().map(|acceptor| Reception { acceptor, mailboxes: mailboxes.clone() });
            let report = ReportSlot::default();
            reports.push(Arc::clone(&report));
            let (events, refusals) = (EventQueue::new(events.clone()), Arc::clone(&refusals));
            let outside = Outside { events, refusals, report, busy_percent: directory.busy_percent(shard) };
            workers.push(Worker::new(shard, parts, engine, reception, outside));
        }
        let inner = Inner {
            mailboxes,
            directory: Mutex::new(directory),
            refusals,
            reports,
            candidates: all_candidates,
            udp_ports,
            adopted: Arc::default(),
            threads: Mutex::default(),
            started_at: start.now,
        };
        let handle = NodeHandle(Arc::new(inner));
        for (shard, worker) in workers.into_iter().enumerate() {
            let core = (!cores.is_empty()).then(|| cores[shard % cores.len()]);
            // On an error the handle is dropped, which stops the threads that run already.
            let thread = spawn(shard, worker, core, handle.0.mailboxes.clone()).map_err(NodeError::Thread)?;
            handle.threads().push(thread);
        }
        tracing::info!(shards, candidates = handle.candidates().len(), "media node started");
        Ok((handle, receiver))
    }
}

impl NodeHandle {
    /// Gives a command to the shard that it is for. Never blocks; commands for one room keep their order.
    ///
    /// # Errors
    /// The command is for nothing that exists, or the shard can't take it; then nothing was changed.
    pub fn send(&self, command: Command) -> Result<(), CommandError> {
        let result = self.post(command);
        self.wake();
        result
    }

    /// As [`Self::send`], for one of several commands that belong together: the shard looks at [`Self::wake`].
    ///
    /// # Errors
    /// Those of [`Self::send`].
    pub fn post(&self, command: Command) -> Result<(), CommandError> {
        // Held while the order is queued, so that two callers can't swap the order of their commands.
        let mut directory = self.0.directory.lock().unwrap_or_else(PoisonError::into_inner);
        let moving = moving(&command);
        let change = Change::of(&command);
        if let Some(parts) = directory.split(&command) {
            let mut result = Ok(());
            for (shard, part) in parts {
                // What one shard can't take is no reason to keep it from the others.
                result = result.and(self.order(shard, Order::Command(part)));
            }
            directory.delivered(change, 0);
            return result;
        }
        let shard = directory.shard_of(&command).inspect_err(|error| {
            if *error == CommandError::OtherShard {
                self.refuse_move(moving);
            }
        })?;
        let order = match directory.share_for(&command, shard) {
            None => Order::Command(command),
            Some(share) => self.share(&mut directory, shard, share, command).inspect_err(|_| self.refuse_move(moving))?,
        };
        let lanes = if let Order::Share(sharing) = &order { sharing.lanes.iter().map(|lane| lane.link.0).collect() } else { Vec::new() };
        self.order(shard, order).inspect_err(|_| self.refuse_move(moving))?;
        for other in lanes {
            directory.lane_made(shard, other);
        }
        directory.delivered(change, shard);
        Ok(())
    }

    /// The shards take what was posted.
    pub fn wake(&self) {
        self.0.mailboxes.iter().for_each(Mailbox::wake);
    }

    fn order(&self, shard: u16, order: Order) -> Result<(), CommandError> {
        self.0.mailboxes.get(usize::from(shard)).ok_or(CommandError::Stopped)?.post(order)
    }

    /// A shard gets its first participant of a room that others have: they need ways to each other. Where a shard has got its end
    /// and the other has not, both get new ones next time.
    fn share(&self, directory: &mut Directory, shard: u16, share: Share, command: Command) -> Result<Order, CommandError> {
        let bell = |shard: u16| self.0.mailboxes.get(usize::from(shard)).map(Mailbox::bell).ok_or(CommandError::Stopped);
        let mut lanes = Vec::new();
        for other in directory.missing_lanes(shard, &share.others) {
            let (here, there) = Lane::pair((LinkId(shard), bell(shard)?), (LinkId(other), bell(other)?));
            self.order(other, Order::Lane(Box::new(there)))?;
            lanes.push(here);
        }
        Ok(Order::Share(Box::new(Sharing { lanes, share, command })))
    }

    /// What signaling believes is done and can't be is an event.
    fn refuse_move(&self, moving: Option<ParticipantId>) {
        if let Some(participant) = moving {
            self.0.refusals.refuse_move(participant);
        }
    }

    /// Takes an ICE connection (RFC 6544) that was accepted elsewhere, with its first packet and whatever else was read from it. If it
    /// is not for this node, it is closed.
    pub fn adopt_tcp(&self, stream: std::net::TcpStream, begun: &[u8]) {
        let shards = u16::try_from(self.0.mailboxes.len()).unwrap_or(MAX_SHARDS);
        let Some((shard, connection)) = introduce(stream, begun, shards, &self.0.adopted) else { return };
        if let Some(mailbox) = self.0.mailboxes.get(usize::from(shard)) {
            // a full mailbox drops the connection; the client tries again
            let _ = mailbox.send(Order::Connection(Box::new(connection)));
        }
    }

    /// The latest report of every shard that has made one.
    #[must_use]
    pub fn snapshots(&self) -> Vec<ShardReport> {
        self.0.reports.iter().filter_map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// Every address that clients are told, of all shards, best first.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.0.candidates
    }

    /// The addresses among them that take datagrams.
    #[must_use]
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.0.candidates.iter().filter(|c| c.protocol == Protocol::Udp).map(|c| c.address).collect()
    }

    /// Bound UDP ports of all shards.
    pub(crate) fn udp_ports(&self) -> &[u16] {
        &self.0.udp_ports
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.0.mailboxes.len()
    }

    /// True if every shard's thread runs and has reported lately. A shard reports once a second, whatever else it does or waits for.
    #[must_use]
    pub fn is_live(&self, now: Instant) -> bool {
        let is_fresh = |slot: &ReportSlot| {
            let taken_at = slot.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(self.0.started_at, |r| r.taken_at);
            now.saturating_duration_since(taken_at) < REPORT_OVERDUE
        };
        let threads = self.threads();
        !threads.is_empty() && threads.iter().all(|thread| !thread.is_finished()) && self.0.reports.iter().all(is_fresh)
    }

    /// Lets everybody leave, so that clients hear of it, then stops the shards and waits for them. Blocks for a moment: call it
    /// where that is allowed.
    pub fn shutdown(&self) {
        let participants = self.0.directory.lock().unwrap_or_else(PoisonError::into_inner).participants();
        for participant in participants {
            // Who can't be told because the queue is full finds out by the missing consent.
            let _ = self.send(Command::Leave { participant });
        }
        for mailbox in &self.0.mailboxes {
            mailbox.stop();
        }
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a shard has panicked");
            }
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.0.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHandle").field("shards", &self.shards()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for mailbox in &self.mailboxes {
            let _ = mailbox.send(Order::Stop);
        }
    }
}

/// Whom a command moves to another room.
fn moving(command: &Command) -> Option<ParticipantId> {
    if let Command::Move { participant, .. } = command { Some(*participant) } else { None }
}

fn shard_count(config: &NodeConfig) -> Result<u16, NodeError> {
    let wanted = config.shards.unwrap_or_else(|| allowed_cores().len().clamp(1, usize::from(MAX_SHARDS)));
    let impossible = NodeError::Shards(wanted, config.udp_port);
    let shards = u16::try_from(wanted).ok().filter(|n| (1..=MAX_SHARDS).contains(n));
    match shards {
        Some(shards) if config.udp_port.checked_add(shards - 1).is_some() => Ok(shards),
        _ => Err(impossible),
    }
}

fn open_shards(config: &NodeConfig, shards: u16) -> Result<(Vec<WorkerParts>, Vec<Mailbox>), NodeError> {
    let (mut parts, mut mailboxes) = (Vec::new(), Vec::new());
    for shard in 0..shards {
        let port = if config.udp_port == 0 { 0 } else { config.udp_port + shard };
        let endpoints = bind_all(&config.bind, port, "udp", UdpEndpoint::bind)?;
        let (part, mailbox) = WorkerParts::new(endpoints).map_err(NodeError::Thread)?;
        parts.push(part);
        mailboxes.push(mailbox);
    }
    Ok((parts, mailboxes))
}

fn listen(config: &NodeConfig, port: u16, first: &WorkerParts, shards: u16) -> Result<Acceptor, NodeError> {
    let listeners = bind_all(&config.bind, port, "tcp", accept::listen)?;
    first.watch(listeners, shards).map_err(NodeError::Thread)
}

/// Opens a socket at every address; leaves "all of IPv6" out where there is no IPv6.
fn bind_all<S>(ips: &[IpAddr], port: u16, protocol: &'static str, bind: impl Fn(SocketAddr) -> io::Result<S>) -> Result<Vec<S>, NodeError> {
    let mut sockets = Vec::new();
    for &ip in ips {
        let address = SocketAddr::new(ip, port);
        match bind(address) {
            Ok(socket) => sockets.push(socket),
            Err(source) if ip.is_ipv6() && ip.is_unspecified() && is_about_the_family(&source) => {
                tracing::info!(protocol, "this machine has no IPv6");
            }
            Err(source) => return Err(NodeError::Bind { protocol, address, source }),
        }
    }
    if sockets.is_empty() { Err(NodeError::NoAddress) } else { Ok(sockets) }
}

fn is_about_the_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

/// Cores that this process may use.
fn allowed_cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect()
}

/// Runs a worker in a thread. `node`: all shards, which stop when this one fails.
pub(crate) fn spawn(shard: usize, worker: Worker, core: Option<usize>, node: Vec<Mailbox>) -> io::Result<JoinHandle<()>> {
    let alarm = Alarm { shard, node };
    std::thread::Builder::new().name(format!("sfu-shard-{shard}")).spawn(move || {
        if let Some(core) = core
            && let Err(error) = pin(core)
        {
            tracing::warn!(shard, core, %error, "cannot pin the shard's thread");
        }
        if worker.run() {
            alarm.disarm();
        }
    })
}

/// A node that has lost a shard looks well and loses every room that is placed there. So it ends as a whole: dropped by a shard
/// that was not told to stop, a panicking one as well, it stops all others, and whoever reads the events hears of their end.
struct Alarm {
    shard: usize,
    node: Vec<Mailbox>,
}

impl Alarm {
    fn disarm(mut self) {
        self.node.clear();
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.node.is_empty() {
            tracing::error!(shard = self.shard, "a shard has failed: the node stops");
        }
        for mailbox in &self.node {
            mailbox.stop();
        }
    }
}

fn pin(core: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sfu_api::{PeerMode, RoomId};

    use super::*;

    #[test]
    fn a_shard_that_panics_takes_the_node_with_it() {
        let (node, mut events) = Node::start(&NodeConfig {
            shards: Some(2),
            udp_port: 0,
            tcp_port: Some(0),
            bind: vec![IpAddr::from([127, 0, 0, 1])],
            advertised: crate::Advertised::Detected { include_loopback: true, stun_server: None },
            pin_threads: false,
            ..NodeConfig::default()
        })
        .unwrap();
        let alarm = Alarm { shard: 1, node: node.0.mailboxes.clone() };
        let failed = std::thread::spawn(move || {
            let _alarm = alarm;
            panic!("a shard of this test panics");
        });
        assert!(failed.join().is_err());
        // Whoever reads the events hears of the end while there still is a handle.
        while events.blocking_recv().is_some() {}
        node.shutdown();
    }

    #[test]
    fn a_shard_that_was_told_to_stop_stops_no_other() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (mailbox, mut orders) = crate::mailbox::open(Arc::clone(&waker), Arc::new(crate::lanes::Bell::new(waker)));
        let alarm = || Alarm { shard: 0, node: vec![mailbox.clone()] };
        alarm().disarm();
        assert!(matches!(orders.take(), Ok(None)));
        drop(alarm());
        assert!(matches!(orders.take(), Ok(Some(Order::Stop))));
    }

    #[test]
    fn a_move_that_its_shard_can_not_take_is_refused() {
        // Nobody takes anything out of the mailbox.
        let (_parts, mailbox) = WorkerParts::new(Vec::new()).unwrap();
        let (events, mut receiver) = mpsc::channel(1);
        let handle = NodeHandle(Arc::new(Inner {
            mailboxes: vec![mailbox.clone()],
            directory: Mutex::new(Directory::new(1, crate::config::Sharing::default())),
            refusals: Arc::new(Refusals::new(&events)),
            reports: Vec::new(),
            candidates: Vec::new(),
            udp_ports: Vec::new(),
            adopted: Arc::default(),
            threads: Mutex::default(),
            started_at: read_clock().now,
        }));
        let participant = ParticipantId(1);
        handle.send(Command::Join { room: RoomId(1), participant, can_subscribe: true, mode: PeerMode::Dual }).unwrap();
        while mailbox.send(Order::Command(Command::RestartIce { participant })).is_ok() {}
        let there = Command::Move { participant, room: RoomId(2) };
        assert_eq!(handle.send(there), Err(CommandError::Overloaded));
        assert_eq!(receiver.try_recv().unwrap(), Event::MoveRefused { participant });
    }
}
