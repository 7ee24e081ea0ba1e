//! The shared ICE-TCP listener: accepts, waits for the first packet and finds the shard that it is for.
//!
//! In: connections from anyone. Out: a [`Handover`] with the shard that the first packet's ICE user name names. Every local user
//! name fragment begins with two characters for its shard ([`ufrag_prefix`]). A connection that sends anything but a Binding
//! request for a shard of ours, or nothing for [`FIRST_PACKET_TIMEOUT`], is closed.
//! Bounds: [`MAX_CONNECTIONS`] in all, [`MAX_CONNECTIONS_PER_ADDRESS`] from one address, open ones included.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use sfu_core::net::{Flow, Protocol};
use sfu_core::transport::username_ufrag;
use socket2::{Domain, Socket, Type};

use super::framing::{Fill, FrameReader};

/// Connections of a node; further ones are refused.
const MAX_CONNECTIONS: usize = 4_096;
/// Connections from one IPv4 address or one IPv6 /64: an office behind one address, with two transports per person.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 128;
/// From accepting a connection to having its first packet.
const FIRST_PACKET_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are accepted in one turn of the loop, so that a flood of them does not hold up media.
const ACCEPTS_PER_TURN: usize = 16;
/// Bytes read in a row that may pass without a whole packet: more than the longest Binding request, so that more of them are
/// empty packets. Bytes and not reads, because a client may send a byte at a time, and each may be read alone.
const BYTES_FOR_FIRST_PACKET: usize = 4_096;
/// Kernel buffer for sending: what the network may have in flight, 10 Mbit/s over 200 ms.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Part of it that may wait for the network's window. A slow network then shows in our own queue, which tells media from the
/// rest, and not as a delay of seconds in the kernel's, which does not.
const UNSENT_BYTES: u32 = 16 * 1024;
/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 256;
/// Shards that two digits can name.
pub(crate) const MAX_SHARDS: u16 = 1_024;
/// Digits of a shard's number, base 32 (RFC 4648 section 6 in lower case); all of them are ICE characters.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The two characters that begin every ICE user name fragment of a shard.
pub(crate) fn ufrag_prefix(shard: u16) -> String {
    let digit = |n: u16| char::from(DIGITS[usize::from(n % 32)]);
    [digit(shard / 32), digit(shard)].iter().collect()
}

/// The shard that a user name fragment of ours belongs to.
pub(crate) fn shard_of_ufrag(ufrag: &str) -> Option<u16> {
    let value = |byte: u8| DIGITS.iter().zip(0..).find_map(|(&digit, value)| (digit == byte).then_some(value));
    let [high, low, ..] = ufrag.as_bytes() else { return None };
    Some(value(*high)? * 32 + value(*low)?)
}

/// What happened to connections before they had a shard. Plain counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptCounters {
    /// Accepted from the kernel.
    pub accepted: u64,
    /// Closed at once because of a bound, or not accepted for want of descriptors.
    pub refused: u64,
    /// Closed because the first packet was not for us.
    pub unroutable: u64,
    /// Closed because no first packet came in time, or the other end closed.
    pub silent: u64,
}

/// A connection on its way to a shard. Its first packet is in the reader.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) stream: TcpStream,
    pub(crate) flow: Flow,
    pub(crate) reader: FrameReader,
    pub(crate) permit: Permit,
}

/// Accepts for all shards; runs in the loop of one.
pub(crate) struct Acceptor {
    listeners: Vec<TcpListener>,
    /// Where the listeners' tokens begin; those of waiting connections follow.
    first_token: usize,
    next_token: usize,
    shards: u16,
    ledger: Arc<Ledger>,
    has_more: bool,
    waiting: HashMap<Token, Handover>,
    /// In order of their deadlines; some are gone already.
    deadlines: VecDeque<(Instant, Token)>,
    counters: AcceptCounters,
}

impl Acceptor {
    /// Accepts from sockets of [`listen`]. Uses tokens from `first_token` up to those of [`super::tcp`].
    pub(crate) fn new(listeners: Vec<TcpListener>, first_token: usize, shards: u16) -> Self {
        let next_token = first_token + listeners.len();
        Self {
            listeners,
            first_token,
            next_token,
            shards,
            ledger: Arc::default(),
            has_more: false,
            waiting: HashMap::new(),
            deadlines: VecDeque::new(),
            counters: AcceptCounters::default(),
        }
    }

    /// Bound addresses with the ports that the kernel chose.
    pub(crate) fn local_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Starts to watch the listeners.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (listener, token) in self.listeners.iter_mut().zip(self.first_token..) {
            registry.register(listener, Token(token), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Counters so far.
    pub(crate) const fn counters(&self) -> AcceptCounters {
        self.counters
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.front().map(|&(deadline, _)| deadline)
    }

    /// True if [`Self::accept`] has something to do.
    pub(crate) const fn has_more(&self) -> bool {
        self.has_more
    }

    /// A listener or a waiting connection is ready. Returns a connection that has its first packet, and its shard.
    pub(crate) fn handle_event(&mut self, token: Token, registry: &Registry) -> Option<(u16, Handover)> {
        if token.0 < self.first_token + self.listeners.len() {
            self.has_more = true;
            return None;
        }
        self.read_first(token, registry)
    }

    /// Accepts some of the connections that the kernel has completed.
    pub(crate) fn accept(&mut self, now: Instant, registry: &Registry) {
        self.has_more = false;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                match self.listeners[index].accept() {
                    Ok((stream, remote)) => self.admit(stream, remote, now, registry),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if is_about_the_connection(&error) => {}
                    // Out of descriptors or memory: the next connection, or the tick of the loop, tries again.
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept TCP connections");
                        self.counters.refused += 1;
                        break;
                    }
                }
                self.has_more = true;
            }
        }
    }

    /// Makes [`Self::accept`] try again after an error that left connections with the kernel.
    pub(crate) const fn retry(&mut self) {
        self.has_more = true;
    }

    /// Closes connections whose first packet is overdue.
    pub(crate) fn expire(&mut self, now: Instant, registry: &Registry) {
        while let Some(&(_, token)) = self.deadlines.front().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.pop_front();
            if self.release(token, registry).is_some() {
                self.counters.silent += 1;
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream, remote: SocketAddr, now: Instant, registry: &Registry) {
        self.counters.accepted += 1;
        let Some(permit) = self.ledger.admit(remote.ip()) else {
            self.counters.refused += 1;
            return;
        };
        let token = Token(self.next_token);
        let Ok(local) = stream.local_addr() else { return };
        if stream.set_nodelay(true).is_err() || registry.register(&mut stream, token, Interest::READABLE).is_err() {
            return;
        }
        self.next_token += 1;
        let flow = Flow { protocol: Protocol::Tcp, local, remote };
        self.waiting.insert(token, Handover { stream, flow, reader: FrameReader::new(), permit });
        self.deadlines.push_back((now + FIRST_PACKET_TIMEOUT, token));
    }

    fn read_first(&mut self, token: Token, registry: &Registry) -> Option<(u16, Handover)> {
        let connection = self.waiting.get_mut(&token)?;
        let (mut shard, mut bytes) = (None, 0);
        while bytes < BYTES_FOR_FIRST_PACKET {
            match connection.reader.fill(&mut connection.stream) {
                Fill::Empty => return None,
                Fill::Closed => {
                    self.counters.silent += 1;
                    self.release(token, registry);
                    return None;
                }
                Fill::Some(count) => bytes += count,
            }
            match connection.reader.peek_frame() {
                Ok(None) => continue,
                Ok(Some(packet)) => shard = shard_of_packet(packet).filter(|&shard| shard < self.shards),
                Err(_) => {}
            }
            break;
        }
        let connection = self.release(token, registry)?;
        if shard.is_none() {
            self.counters.unroutable += 1;
        }
        shard.map(|shard| (shard, connection))
    }

    fn release(&mut self, token: Token, registry: &Registry) -> Option<Handover> {
        let mut connection = self.waiting.remove(&token)?;
        let _ = registry.deregister(&mut connection.stream);
        Some(connection)
    }
}

/// A connection that was accepted elsewhere, with the bytes that were read from it: its first packet at least. None: it is not for
/// a shard of ours, or there are too many.
pub(crate) fn introduce(stream: std::net::TcpStream, begun: &[u8], shards: u16, ledger: &Arc<Ledger>) -> Option<(u16, Handover)> {
    // a listener for both families shows IPv4 in IPv6 form; here the families are told apart
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (remote, local) = (plain(stream.peer_addr().ok()?), plain(stream.local_addr().ok()?));
    stream.set_nonblocking(true).ok()?;
    stream.set_nodelay(true).ok()?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES).ok()?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES).ok()?;
    let mut reader = FrameReader::begun(begun)?;
    let shard = reader.peek_frame().ok().flatten().and_then(shard_of_packet).filter(|&shard| shard < shards)?;
    let permit = ledger.admit(remote.ip())?;
    let flow = Flow { protocol: Protocol::Tcp, local, remote };
    Some((shard, Handover { stream: TcpStream::from_std(stream), flow, reader, permit }))
}

/// The shard that a Binding request names.
fn shard_of_packet(packet: &[u8]) -> Option<u16> {
    shard_of_ufrag(username_ufrag(packet)?)
}

/// Opens a listening socket (port 0: any). An IPv6 one takes no IPv4 connections.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // Both are inherited by accepted connections.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// accept(2): these errors are of the connection that would have been next, and others may wait behind it.
fn is_about_the_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

/// Counts open connections; shared by the shards, touched only when one opens or closes.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right of one connection to exist; ends when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    ledger: Arc<Ledger>,
    key: IpAddr,
}

impl Ledger {
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let key = one_customer(address);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from_address = open.by_address.get(&key).copied().unwrap_or(0);
        if open.total >= MAX_CONNECTIONS || from_address >= MAX_CONNECTIONS_PER_ADDRESS {
            return None;
        }
        open.total += 1;
        open.by_address.insert(key, from_address + 1);
        Some(Permit { ledger: Arc::clone(self), key })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(count) = open.by_address.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.key);
            }
        }
    }
}

/// IPv6 customers have a /64 each, IPv4 customers one address.
fn one_customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_user_name_fragment_tells_its_shard() {
        for shard in [0, 1, 31, 32, 1_023] {
            let prefix = ufrag_prefix(shard);
            assert_eq!(prefix.len(), 2);
            assert_eq!(shard_of_ufrag(&format!("{prefix}kJ9+")), Some(shard));
        }
        assert_eq!(ufrag_prefix(33), "bb");
        for foreign in ["", "a", "A1", "0a", "é!"] {
            assert_eq!(shard_of_ufrag(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn one_address_cannot_take_all_connections() {
        let ledger = Arc::new(Ledger::default());
        let greedy = IpAddr::from([192, 0, 2, 1]);
        let mut permits: Vec<_> = (0..MAX_CONNECTIONS_PER_ADDRESS).map(|_| ledger.admit(greedy).unwrap()).collect();
        assert!(ledger.admit(greedy).is_none());
        assert!(ledger.admit(IpAddr::from([192, 0, 2, 2])).is_some());
        permits.pop();
        assert!(ledger.admit(greedy).is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_customer_count_together() {
        let ledger = Arc::new(Ledger::default());
        let host = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        let _permits: Vec<_> = (0..MAX_CONNECTIONS_PER_ADDRESS).map(|n| ledger.admit(host(n as u16)).unwrap()).collect();
        assert!(ledger.admit(host(9_999)).is_none());
        assert!(ledger.admit(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])).is_some());
    }

    #[test]
    fn the_node_bounds_all_connections_together_and_forgets_closed_ones() {
        let ledger = Arc::new(Ledger::default());
        let address = |n: usize| IpAddr::V4((n as u32).into());
        let permits: Vec<_> = (0..MAX_CONNECTIONS).map(|n| ledger.admit(address(n)).unwrap()).collect();
        assert!(ledger.admit(address(MAX_CONNECTIONS)).is_none());
        drop(permits);
        assert!(ledger.0.lock().unwrap().by_address.is_empty());
    }
}
