//! Sockets, clock and certificates around [`turn_proto`]: a TURN server to embed, and what the `sluice-turn` binary runs.
//!
//! In: a [`TurnConfig`]. Out: a [`TurnHandle`] to a server that runs in a thread of its own. Start at `event_loop`.

mod alarm;
mod audit;
mod config;
mod event_loop;
pub mod metrics;
mod sockets;
mod stats;
mod stream;
mod tcp;
mod tls;
mod train;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};
use rustls::ServerConnection;
use turn_proto::credentials::Credentials;
use turn_proto::server::Discovery;
use turn_proto::{Config, TurnServer};

pub use config::{RelayAddress, TurnConfig};
pub use stats::Snapshot;
pub use tcp::StreamCounters;
pub use tls::{CertificateError, Certificates, not_after};
pub use turn_proto::Admission;
pub use turn_proto::credentials::SharedSecret;
pub use turn_proto::limits::Limits;
pub use turn_proto::policy::{OwnPeer, PeerPolicy as Policy, Prefix, Rule};
pub use udp::UdpCounters;

use alarm::Alarm;
use event_loop::{Adopted, Door, EventLoop, Order, Parts, Revocation, WAKER};
use udp::UdpSocket;

/// What a client says with ALPN that wants TURN in TLS (RFC 7443).
pub const ALPN_TURN: &[u8] = b"stun.turn";
/// What a client says with ALPN that wants STUN in TLS (RFC 7443).
pub const ALPN_STUN: &[u8] = b"stun.nat-discovery";

/// Orders that wait for the loop; further connections are dropped, whoever gives another order waits.
const ORDERS: usize = 4_096;
/// Asked of the kernel for the sockets that all clients send to.
const CLIENT_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// A socket can't be had.
    #[error("can't listen on {protocol} {address}: {source}")]
    Listen {
        /// "udp" or "tcp".
        protocol: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// There is nowhere to listen.
    #[error("there is no address to listen on")]
    NoAddress,
    /// There is nothing to relay from.
    #[error("there is no address to relay from")]
    NoRelay,
    /// TLS without a certificate.
    #[error("TLS needs a certificate and its key")]
    NoCertificate,
    /// The loop can't run.
    #[error("the event loop can't be started: {0}")]
    Loop(#[from] io::Error),
}

/// Ports as bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BoundPorts {
    /// For datagrams.
    pub udp: Option<u16>,
    /// For streams.
    pub tcp: Option<u16>,
    /// For streams in TLS.
    pub tls: Option<u16>,
}

/// A running server. Clones speak to the same one.
#[derive(Clone)]
pub struct TurnHandle(Arc<Inner>);

struct Inner {
    orders: SyncSender<Order>,
    /// Those that the loop has not taken yet. One a participant that leaves: who says so does not wait for the loop.
    revocations: Arc<Mutex<Vec<Revocation>>>,
    waker: Waker,
    snapshot: Arc<Mutex<Snapshot>>,
    certificates: Option<Arc<Certificates>>,
    ports: BoundPorts,
    thread: Mutex<Option<JoinHandle<()>>>,
    alarm: Alarm,
}

/// Opens sockets and starts the server's thread.
///
/// # Errors
/// Nothing is left running after an error.
pub fn start(mut config: TurnConfig) -> Result<TurnHandle, TurnError> {
    // all of IPv6 on a machine without it is nothing
    config.listen.retain(|ip| !(ip.is_ipv6() && ip.is_unspecified()) || sockets::has_ipv6());
    config.relays.retain(|relay| relay.bind.is_ipv4() || sockets::has_ipv6());
    if config.listen.is_empty() {
        return Err(TurnError::NoAddress);
    }
    if config.relays.is_empty() {
        return Err(TurnError::NoRelay);
    }
    let mut ports = BoundPorts::default();
    let mut udp = Vec::new();
    if let Some(port) = config.udp_port {
        for ip in &config.listen {
            udp.push(bind_udp(*ip, ports.udp.unwrap_or(port))?);
            ports.udp = udp.last().map(|socket| socket.local().port());
        }
    }
    let discovery = open_discovery(&config, &mut udp)?;
    let mut doors = Vec::new();
    if let Some(port) = config.tcp_port {
        // where the system chooses, one number is easier to open in a firewall
        let wanted = if port == 0 { ports.udp.unwrap_or(0) } else { port };
        ports.tcp = Some(open_doors(&config, wanted, port == 0, None, &mut doors)?);
    }
    if let Some(port) = config.tls_port {
        let certificates = config.certificates.as_ref().ok_or(TurnError::NoCertificate)?;
        let tls = certificates.server_config(&[ALPN_TURN, ALPN_STUN]);
        ports.tls = Some(open_doors(&config, port, false, Some(tls), &mut doors)?);
    }
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (orders, received) = sync_channel(ORDERS);
    let revocations = Arc::new(Mutex::new(Vec::new()));
    let snapshot = Arc::new(Mutex::new(Snapshot::default()));
    let now = Instant::now();
    let listening = udp.iter().map(UdpSocket::local).collect();
    let certificates = config.certificates.clone();
    let parts = Parts {
        poll,
        relay_addresses: config.relays.clone(),
        certificates: certificates.clone(),
        udp,
        doors,
        orders: received,
        revocations: Arc::clone(&revocations),
        snapshot: Arc::clone(&snapshot),
        max_streams: config.max_streams,
        max_streams_per_address: config.max_streams_per_address,
        seed: rand::random(),
        core: core(config, listening, ports, discovery, now),
    };
    let event_loop = EventLoop::new(parts, now)?;
    let alarm = Alarm::default();
    let guard = alarm.guard();
    let thread = std::thread::Builder::new().name("turn".to_owned()).spawn(move || {
        if event_loop.run() {
            guard.disarm();
        }
    })?;
    tracing::info!(?ports, "TURN server is listening");
    let thread = Mutex::new(Some(thread));
    Ok(TurnHandle(Arc::new(Inner { orders, revocations, waker, snapshot, certificates, ports, thread, alarm })))
}

fn core(config: TurnConfig, listening: Vec<SocketAddr>, ports: BoundPorts, discovery: Option<Discovery>, now: Instant) -> TurnServer {
    let of_family = |is_v4: bool| config.relays.iter().map(|relay| relay.public.to_canonical()).find(|ip| ip.is_ipv4() == is_v4);
    let mut policy = config.policy;
    policy.listening.extend(listening);
    // as the world knows this server, and as whoever is in its networks does
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let known: Vec<IpAddr> = config.relays.iter().map(|relay| relay.public).chain(interfaces.iter().map(if_addrs::Interface::ip)).collect();
    let ports = [ports.udp, ports.tcp, ports.tls].into_iter().flatten();
    policy.listening.extend(ports.flat_map(|port| known.iter().map(move |ip| SocketAddr::new(*ip, port))));
    let core = Config {
        relay_v4: of_family(true),
        relay_v6: of_family(false),
        credentials: Credentials::new(config.realm, config.users, config.secrets),
        policy,
        limits: config.limits,
        relay_ports: config.relay_ports,
        tcp_relays: config.tcp_relays,
        discovery,
    };
    TurnServer::new(core, rand::random(), now)
}

fn bind_udp(ip: IpAddr, port: u16) -> Result<UdpSocket, TurnError> {
    let address = SocketAddr::new(ip, port);
    UdpSocket::bind(address, CLIENT_BUFFER_BYTES, ip.is_unspecified()).map_err(|source| TurnError::Listen {
        protocol: "udp",
        address,
        source,
    })
}

/// The three places beside the first one.
fn open_discovery(config: &TurnConfig, udp: &mut Vec<UdpSocket>) -> Result<Option<Discovery>, TurnError> {
    let (Some((second_ip, second_port)), Some(first)) = (config.discovery, udp.first().map(UdpSocket::local)) else { return Ok(None) };
    for address in
        [SocketAddr::new(first.ip(), second_port), SocketAddr::new(second_ip, first.port()), SocketAddr::new(second_ip, second_port)]
    {
        if udp.iter().all(|socket| socket.local() != address) {
            udp.push(bind_udp(address.ip(), address.port())?);
        }
    }
    Ok(Some(Discovery { addresses: [first.ip(), second_ip], ports: [first.port(), second_port] }))
}

/// Listens on all addresses with one port. `is_any`: another port will do as well.
fn open_doors(
    config: &TurnConfig,
    port: u16,
    is_any: bool,
    tls: Option<Arc<rustls::ServerConfig>>,
    doors: &mut Vec<Door>,
) -> Result<u16, TurnError> {
    let mut bound = port;
    for (index, ip) in config.listen.iter().enumerate() {
        let address = SocketAddr::new(*ip, bound);
        let listener = match sockets::listen(address) {
            Err(_) if is_any && index == 0 => sockets::listen(SocketAddr::new(*ip, 0)),
            done => done,
        };
        let listener = listener.map_err(|source| TurnError::Listen { protocol: "tcp", address, source })?;
        bound = listener.local_addr()?.port();
        doors.push(Door { listener, tls: tls.clone() });
    }
    Ok(bound)
}

impl TurnHandle {
    /// Ports with the numbers that the system chose.
    #[must_use]
    pub fn ports(&self) -> BoundPorts {
        self.0.ports
    }

    /// The latest snapshot; one is made every second.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        *self.0.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's thread has ended, and nobody told it to: nothing is relayed any more.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.alarm.has_failed()
    }

    /// Calls this once if the server fails, at once if it has: whoever embeds it should end as a whole, and be started anew. It is called
    /// on the thread that fails, and must not wait.
    pub fn when_failed(&self, tell: impl FnOnce() + Send + 'static) {
        self.0.alarm.when_raised(Box::new(tell));
    }

    /// When the certificate ends, in time since 1970.
    #[must_use]
    pub fn certificate_expires_at(&self) -> Option<Duration> {
        self.0.certificates.as_ref().and_then(|certificates| certificates.expires_at())
    }

    /// Takes a connection that was accepted elsewhere, with what was read from it already. If the server is overloaded, the
    /// connection is closed.
    pub fn adopt(&self, stream: std::net::TcpStream, tls: Option<Box<ServerConnection>>, begun: Vec<u8>) {
        if stream.set_nonblocking(true).is_ok() {
            let _ = self.0.orders.try_send(Order::Adopt(Box::new(Adopted { stream, tls, begun })));
            let _ = self.0.waker.wake();
        }
    }

    /// Never waits. Refuses credentials issued to this name, which expire by themselves at `forget_at` (since 1970), and ends what they have.
    pub fn revoke(&self, name: &str, forget_at: Duration) {
        let revocation = Revocation { name: name.to_owned(), forget_at };
        self.0.revocations.lock().unwrap_or_else(PoisonError::into_inner).push(revocation);
        let _ = self.0.waker.wake();
    }

    /// Says who gets new allocations from here on. What there is stays; anything but everybody shows as draining.
    pub fn admit(&self, admission: Admission) {
        self.order(Order::Admit(admission));
    }

    /// Makes no new allocations and stops when the last one is gone, or at the deadline.
    pub fn drain(&self, deadline: Instant) {
        self.order(Order::Drain(deadline));
    }

    /// Stops at once and waits for the end.
    pub fn shutdown(&self) {
        self.order(Order::Stop);
        self.join();
    }

    /// Waits for the end, for example of a drain.
    pub fn join(&self) {
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the TURN server died");
        }
    }

    /// Waits for room in the queue.
    fn order(&self, order: Order) {
        let _ = self.0.orders.send(order);
        let _ = self.0.waker.wake();
    }
}

impl std::fmt::Debug for TurnHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnHandle").field("ports", &self.0.ports).finish_non_exhaustive()
    }
}
