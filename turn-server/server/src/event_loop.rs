//! LOOP 3: one thread that reads the clock, drains sockets, asks the core and sends.
//!
//! A turn: wait; read the clock; take messages from every socket that is ready; take orders; run timers; write what streams have to
//! send. There is no batching timer: at low load a turn is one packet, under load what has queued up meanwhile. Datagrams of one
//! batch that follow each other on one way leave in one train. Nothing on the way of a datagram allocates.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rustls::{ServerConfig, ServerConnection};
use turn_proto::wire::channel::{self, ChannelNumber};
use turn_proto::wire::write::data_indication_header;
use turn_proto::{
    Admission, Client, ConnectionId, Family, Forward, Moment, Output, RelayId, RelayProtocol, ToClient, Transport, TurnServer,
};

use crate::audit::Audit;
use crate::config::RelayAddress;
use crate::sockets;
use crate::stats::{LoopCounters, Snapshot};
use crate::tcp::{FromStream, Streams};
use crate::tls::Certificates;
use crate::train::{Cargo, Train, Way};
use crate::udp::{BATCH, HEADROOM, Inbox, UdpCounters, UdpSocket};

/// Token of the waker; listeners follow, then relays, then streams.
pub(crate) const WAKER: Token = Token(0);
const FIRST_UDP: usize = 1;
const FIRST_TCP: usize = 1 << 10;
const FIRST_RELAY: usize = 1 << 12;
const FIRST_STREAM: usize = 1 << 40;
/// Readiness events taken in one turn; further ones come with the next.
const EVENTS_PER_TURN: usize = 1024;
/// Batches from one socket in one turn.
const BATCHES_PER_TURN: usize = 4;
/// Messages from one relayed address at once. Most have few; a busy one is asked again.
const RELAY_BATCH: usize = 16;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 16;
/// TLS handshakes that go on in one turn, of up to a millisecond each with an RSA key. The others wait in the order in which they came.
const HANDSHAKES_PER_TURN: usize = 2;
/// How often a snapshot is handed out.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// How often the certificate's files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// Kernel buffers of a relayed address: one client's traffic.
const RELAY_BUFFER_BYTES: usize = 1024 * 1024;

/// What other threads send.
pub(crate) enum Order {
    /// A client's connection that was accepted elsewhere.
    Adopt(Box<Adopted>),
    /// Who gets new allocations from here on.
    Admit(Admission),
    /// No new allocations; the loop ends with the last one, or at this time.
    Drain(Instant),
    Stop,
}

/// Credentials of this name are refused from here on, and forgotten at this time since 1970.
pub(crate) struct Revocation {
    pub(crate) name: String,
    pub(crate) forget_at: Duration,
}

/// A connection that was accepted elsewhere.
pub(crate) struct Adopted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) tls: Option<Box<ServerConnection>>,
    pub(crate) begun: Vec<u8>,
}

/// A listener and what its connections are.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// A relayed address.
enum Relay {
    Udp(UdpSocket),
    Tcp { listener: TcpListener, bound: SocketAddr },
}

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
    counters: LoopCounters,
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
            counters: LoopCounters::default(),
            snapshot: parts.snapshot,
            next_snapshot: now,
            next_look: now + CERTIFICATE_INTERVAL,
            is_draining: false,
            drain_until: None,
        })
    }

    /// Runs until it is told to stop, or drained.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        loop {
            let patience = self.patience(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, Some(patience))
                && error.kind() != ErrorKind::Interrupted
            {
                tracing::error!(%error, "the event queue is gone");
                return;
            }
            let at = read_clock();
            self.counters.turns += 1;
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

    /// Datagrams of clients.
    fn serve_clients(&mut self, index: usize, at: Moment) {
        for _ in 0..BATCHES_PER_TURN {
            let Some(socket) = self.udp.get(index) else { return };
            let Ok(count) = socket.receive(&mut self.inbox, BATCH, &mut self.udp_counters) else { return };
            for slot in 0..count {
                self.pass_up(index, slot, at);
            }
            self.depart();
            self.settle(at);
            if count < BATCH {
                return;
            }
        }
        self.again.push_back(Token(FIRST_UDP + index));
    }

    /// One message of a client: one datagram, or several of equal length that came in a row.
    fn pass_up(&mut self, index: usize, slot: usize, at: Moment) {
        let received = self.udp[index].received(&self.inbox, slot);
        let client = Client { transport: Transport::Udp, remote: received.from, local: received.local };
        for begin in (0..received.len.max(1)).step_by(received.stride) {
            let begin_in_arena = Inbox::place(slot) + begin;
            let len = received.stride.min(received.len - begin);
            let datagram = &self.inbox.bytes()[begin_in_arena..begin_in_arena + len];
            let Forward::ToPeer { relay, peer, payload } = self.core.handle_client(at, client, datagram) else { continue };
            let way = Way::ToPeer(relay, peer);
            if !self.train.accepts(&way, payload.len()) {
                self.depart();
            }
            self.train.add(way, self.inbox.bytes(), begin_in_arena + payload.start..begin_in_arena + payload.end);
        }
    }

    /// Sends what is collected.
    fn depart(&mut self) {
        let Self { train, inbox, relays, udp, udp_counters, .. } = self;
        let Some((way, cargo)) = train.take() else { return };
        let (socket, from, to) = match way {
            Way::ToPeer(relay, peer) => {
                let Some(Some(Relay::Udp(socket))) = relays.get_mut(relay.0 as usize) else { return };
                (socket, None, peer)
            }
            Way::ToClient { socket, from, to } => (&mut udp[socket], Some(from), to),
        };
        match cargo {
            Cargo::Received(place) => socket.send(from, to, &inbox.bytes()[place], udp_counters),
            Cargo::Train { segment, bytes } => socket.send_train(from, to, segment, bytes, udp_counters),
        }
    }

    /// Datagrams of peers, or their connections.
    fn serve_relay(&mut self, id: RelayId, at: Moment) {
        for _ in 0..BATCHES_PER_TURN {
            let count = match self.relays.get(id.0 as usize) {
                Some(Some(Relay::Udp(socket))) => match socket.receive(&mut self.inbox, RELAY_BATCH, &mut self.udp_counters) {
                    Ok(count) => count,
                    // an ICMP error of an earlier datagram; what is behind it can be read
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                    Err(_) => return,
                },
                Some(Some(Relay::Tcp { .. })) => return self.accept_peers(id, at),
                _ => return,
            };
            for slot in 0..count {
                self.pass_down(id, slot, at);
            }
            self.depart();
            if count < RELAY_BATCH {
                return;
            }
        }
        self.again.push_back(Token(FIRST_RELAY + id.0 as usize));
    }

    /// One message of a peer.
    fn pass_down(&mut self, id: RelayId, slot: usize, at: Moment) {
        let Some(Some(Relay::Udp(socket))) = self.relays.get(id.0 as usize) else { return };
        let received = socket.received(&self.inbox, slot);
        let datagrams = received.len.div_ceil(received.stride).max(1);
        let Some(to_client) = self.core.handle_peer(at.now, id, received.from, datagrams, received.len) else { return };
        let begin = Inbox::place(slot);
        let (client, channel) = match to_client {
            ToClient::Channel(client, number) => (client, Some(number)),
            ToClient::Indication(client, _) => (client, None),
        };
        let way = match client.transport {
            Transport::Udp => {
                let Some(socket) = self.udp.iter().position(|socket| serves(socket.local(), client.local)) else { return };
                Some(Way::ToClient { socket, from: client.local.ip(), to: client.remote })
            }
            Transport::Tcp | Transport::Tls => None,
        };
        // a datagram by itself gets its header in front of it, where it is
        if let (Some(way), Some(number), 1) = (way, channel, datagrams) {
            let place = begin - channel::HEADER_BYTES..begin + received.len;
            self.inbox.bytes_mut()[place.start..begin].copy_from_slice(&channel_header(number, received.len));
            if !self.train.accepts(&way, place.len()) {
                self.depart();
            }
            return self.train.add(way, self.inbox.bytes(), place);
        }
        for offset in (0..received.len.max(1)).step_by(received.stride) {
            let end = begin + received.len.min(offset + received.stride);
            let payload_len = end - begin - offset;
            let mut header = [0; HEADROOM];
            let (header_len, padding) = match to_client {
                ToClient::Channel(_, number) => {
                    header[..channel::HEADER_BYTES].copy_from_slice(&channel_header(number, payload_len));
                    (channel::HEADER_BYTES, 0)
                }
                ToClient::Indication(_, peer) => {
                    let (bytes, len) = data_indication_header(peer, len_u16(payload_len), &self.rng.random());
                    header[..len].copy_from_slice(&bytes[..len]);
                    (len, payload_len.next_multiple_of(4) - payload_len)
                }
            };
            let Some(way) = way else {
                self.streams.send_data(client, &header[..header_len], &self.inbox.bytes()[begin + offset..end]);
                continue;
            };
            if !self.train.accepts(&way, header_len + payload_len + padding) {
                self.depart();
            }
            let Self { train, inbox, .. } = self;
            train.add_parts(way, inbox.bytes(), &[&header[..header_len], &inbox.bytes()[begin + offset..end], &[0; 3][..padding]]);
        }
    }

    /// Media does not wait for a crowd that knocks: of streams in their handshake so many are served in one turn.
    fn serve_or_put_off(&mut self, handshakes: &mut usize, token: Token, readable: bool, writable: bool, at: Moment) {
        if self.streams.is_handshaking(token) {
            if *handshakes == 0 {
                return self.streams.put_off(token, readable);
            }
            *handshakes -= 1;
        }
        self.serve_stream(token, readable, writable, at);
    }

    fn serve_stream(&mut self, token: Token, readable: bool, writable: bool, at: Moment) {
        let Self { poll, core, relays, streams, udp_counters, .. } = self;
        streams.ready(token, readable, writable, poll.registry(), |client, message| {
            if let Forward::ToPeer { relay, peer, payload } = core.handle_client(at, client, message)
                && let Some(Some(Relay::Udp(socket))) = relays.get(relay.0 as usize)
            {
                socket.send(None, peer, &message[payload], udp_counters);
            }
        });
        self.settle(at);
    }

    /// Connections of clients.
    fn accept(&mut self, index: usize, at: Moment) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = self.doors.get(index) else { return };
            match door.listener.accept() {
                Ok((stream, _)) => {
                    let tls = match &door.tls {
                        None => None,
                        Some(config) => match ServerConnection::new(Arc::clone(config)) {
                            Ok(tls) => Some(Box::new(tls)),
                            Err(_) => continue,
                        },
                    };
                    self.streams.admit(stream, tls, Vec::new(), at.now, self.poll.registry());
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // out of descriptors: the next connection, or the next second, tries again
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    return;
                }
            }
        }
        self.again.push_back(Token(FIRST_TCP + index));
    }

    fn accept_peers(&mut self, id: RelayId, at: Moment) {
        while let Some(Some(Relay::Tcp { listener, .. })) = self.relays.get(id.0 as usize) {
            match listener.accept() {
                Ok((stream, source)) => {
                    if let Some(connection) = self.core.peer_accepted(at.now, id, source)
                        && self.streams.admit_peer(stream, connection, false, at.now, self.poll.registry()).is_none()
                    {
                        self.core.connection_closed(connection);
                    }
                    self.settle(at);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }

    /// Does everything that the core and the streams want done.
    fn settle(&mut self, at: Moment) {
        loop {
            let mut is_quiet = true;
            while let Some(output) = self.core.poll_output() {
                is_quiet = false;
                self.carry_out(output, at);
            }
            for event in self.streams.take_events() {
                is_quiet = false;
                match event {
                    FromStream::ClientClosed(client, connection) => {
                        if let Some(connection) = connection {
                            self.core.connection_closed(connection);
                        }
                        self.core.client_closed(client);
                    }
                    FromStream::PeerClosed(connection) => self.core.connection_closed(connection),
                    FromStream::Connected(connection, is_connected) => self.core.peer_connected(at.now, connection, is_connected),
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output, at: Moment) {
        match output {
            Output::Send { client, bytes } if client.transport == Transport::Udp => {
                if let Some(socket) = self.udp.iter().find(|socket| serves(socket.local(), client.local)) {
                    socket.send(Some(client.local.ip()), client.remote, &bytes, &mut self.udp_counters);
                }
            }
            Output::Send { client, bytes } => {
                if self.core.has_allocation(client) {
                    self.streams.trust(client);
                }
                self.streams.send(client, &bytes, self.poll.registry());
            }
            Output::OpenRelay { relay, protocol, family, port, dont_fragment: _ } => {
                let opened = self.open_relay(relay, protocol, family, port);
                if let Err(error) = &opened {
                    tracing::debug!(%error, port, "a relayed address can't be opened");
                }
                self.core.relay_opened(at, relay, opened.is_ok());
            }
            Output::CloseRelay(relay) => {
                if let Some(place) = self.relays.get_mut(relay.0 as usize) {
                    match place.take() {
                        Some(Relay::Udp(mut socket)) => drop(self.poll.registry().deregister(socket.source())),
                        Some(Relay::Tcp { mut listener, .. }) => drop(self.poll.registry().deregister(&mut listener)),
                        None => {}
                    }
                }
            }
            // every datagram leaves with the bit set: see `udp`
            Output::DontFragment(_) => {}
            Output::Connect { connection, relay, peer } => {
                let connected = self.connect(connection, relay, peer, at.now);
                if connected.is_none() {
                    self.core.peer_connected(at.now, connection, false);
                }
            }
            Output::Splice { client, connection } => self.streams.splice(client, connection),
            Output::CloseConnection(connection) => self.streams.close_connection(connection, self.poll.registry()),
            Output::CloseClient(client) => self.streams.close_client(client, self.poll.registry()),
            Output::Denied(denial) => self.audit.record(&denial, at.now),
        }
    }

    fn bind_address(&self, family: Family) -> io::Result<IpAddr> {
        let address = self.relay_addresses.iter().find(|address| Family::of(address.public.to_canonical()) == family);
        address.map(|address| address.bind).ok_or_else(|| ErrorKind::AddrNotAvailable.into())
    }

    fn open_relay(&mut self, id: RelayId, protocol: RelayProtocol, family: Family, port: u16) -> io::Result<()> {
        let address = SocketAddr::new(self.bind_address(family)?, port);
        let token = Token(FIRST_RELAY + id.0 as usize);
        let registry = self.poll.registry();
        let relay = match protocol {
            RelayProtocol::Udp => {
                let mut socket = UdpSocket::bind(address, RELAY_BUFFER_BYTES, false)?;
                registry.register(socket.source(), token, Interest::READABLE)?;
                Relay::Udp(socket)
            }
            RelayProtocol::Tcp => {
                let mut listener = sockets::listen_for_peers(address)?;
                registry.register(&mut listener, token, Interest::READABLE)?;
                Relay::Tcp { listener, bound: address }
            }
        };
        let index = id.0 as usize;
        if self.relays.len() <= index {
            self.relays.resize_with(index + 1, || None);
        }
        self.relays[index] = Some(relay);
        Ok(())
    }

    fn connect(&mut self, connection: ConnectionId, relay: RelayId, peer: SocketAddr, now: Instant) -> Option<Token> {
        let Some(Some(Relay::Tcp { bound, .. })) = self.relays.get(relay.0 as usize) else { return None };
        let stream = sockets::connect_from(*bound, peer).ok()?;
        self.streams.admit_peer(stream, connection, true, now, self.poll.registry())
    }

    /// False: the loop is to stop.
    fn take_orders(&mut self, at: Moment) -> bool {
        self.has_orders = false;
        let revocations = std::mem::take(&mut *self.revocations.lock().unwrap_or_else(PoisonError::into_inner));
        for Revocation { name, forget_at } in revocations {
            self.core.revoke(at, &name, forget_at);
        }
        loop {
            match self.orders.try_recv() {
                Ok(Order::Adopt(adopted)) => {
                    let Adopted { stream, tls, begun } = *adopted;
                    self.streams.admit(TcpStream::from_std(stream), tls, begun, at.now, self.poll.registry());
                }
                Ok(Order::Admit(admission)) => self.admit(admission),
                Ok(Order::Drain(until)) => {
                    self.admit(Admission::Nobody);
                    self.drain_until = Some(until);
                }
                Ok(Order::Stop) => return false,
                // whoever held the handle is gone: the server goes on without it
                Err(_) => return true,
            }
        }
    }

    fn admit(&mut self, admission: Admission) {
        self.is_draining = admission != Admission::Everybody;
        self.core.admit(admission);
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
            turns: self.counters,
            is_draining: self.is_draining,
        };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

fn channel_header(number: ChannelNumber, len: usize) -> [u8; channel::HEADER_BYTES] {
    channel::header(number, len_u16(len))
}

/// A datagram's length fits.
fn len_u16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// True if packets of a flow with this local address came through a socket that is bound so.
fn serves(bound: SocketAddr, local: SocketAddr) -> bool {
    local.port() == bound.port() && local.is_ipv4() == bound.is_ipv4() && (bound.ip().is_unspecified() || bound.ip() == local.ip())
}

fn read_clock() -> Moment {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment { now: Instant::now(), unix }
}
