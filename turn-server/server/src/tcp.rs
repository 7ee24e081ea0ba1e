//! Streams of clients and of peers: accepting, cutting into messages, passing through (RFC 6062).
//!
//! Bounds: so many streams in all and from one address; a client's queue holds [`MAX_QUEUE`], data is dropped from [`MAX_DATA`] on
//! and a client that does not even take answers is closed; what passes through waits in the other end's window from
//! [`MAX_SPLICE`] on. A stream that does not get an allocation or a connection in [`IDLE`] is closed, and so is one whose other end
//! does not take the rest of what it is to get in that time. Who has no allocation yet may begin no message above [`MAX_STRANGE`].

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;
use turn_proto::wire::stream::{Begin, begin};
use turn_proto::{Client, ConnectionId, Transport, one_customer};

use crate::stream::ByteStream;

/// Bytes that may wait for one client.
const MAX_QUEUE: usize = 256 * 1024;
/// Bytes of data among them: what is above is dropped, as a full UDP socket would.
const MAX_DATA: usize = 128 * 1024;
/// Bytes of an unfinished message of a client without allocation: no request is as long, and there may be many strangers.
const MAX_STRANGE: usize = 2 * 1024;
/// Part of what the kernel takes that may wait for the network's window: media that is late is worse than media that is dropped.
const UNSENT_BYTES: u32 = 16 * 1024;
/// Bytes that wait for one end before the other is no longer read.
const MAX_SPLICE: usize = 128 * 1024;
/// Bytes read from one stream in one turn, so that a fast one does not hold up the others.
const READ_PER_TURN: usize = 256 * 1024;
/// How long a stream may be without purpose.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// Who is at the other end.
#[derive(Debug)]
enum Role {
    /// A client, with the beginning of a message.
    Client { client: Client, input: Vec<u8>, has_spoken: bool, has_allocation: bool },
    /// A peer.
    Peer { connection: ConnectionId, is_connecting: bool },
}

#[derive(Debug)]
struct Stream {
    bytes: ByteStream,
    role: Role,
    opened_at: Instant,
    is_readable: bool,
    /// The stream that gets what comes here, and that sends what goes there.
    spliced_with: Option<Token>,
    /// Closed once everything is sent.
    is_ending: bool,
    /// When that was seen first.
    ending_since: Option<Instant>,
}

/// What came out of a stream.
#[derive(Debug)]
pub(crate) enum FromStream {
    /// This client has ended; so has this connection, if it had one.
    ClientClosed(Client, Option<ConnectionId>),
    /// This connection to a peer has ended.
    PeerClosed(ConnectionId),
    /// A peer was reached, or not.
    Connected(ConnectionId, bool),
}

/// What happened to streams. Plain counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Streams of clients that were taken.
    pub accepted: u64,
    /// Refused because of a bound.
    pub refused: u64,
    /// Messages of data dropped because a client did not read.
    pub dropped: u64,
    /// Closed because they were no TURN streams, or had no purpose.
    pub expelled: u64,
}

/// All streams.
#[derive(Debug)]
pub(crate) struct Streams {
    streams: HashMap<Token, Stream>,
    by_client: HashMap<Client, Token>,
    by_connection: HashMap<ConnectionId, Token>,
    by_address: HashMap<IpAddr, usize>,
    /// To be flushed at the end of the turn.
    dirty: Vec<Token>,
    /// To be read again, though nothing new may come.
    again: Vec<Token>,
    next_token: usize,
    max: usize,
    max_per_address: usize,
    scratch: Box<[u8]>,
    events: Vec<FromStream>,
    pub(crate) counters: StreamCounters,
}

impl Streams {
    /// Tokens begin with `first_token`.
    pub(crate) fn new(first_token: usize, max: usize, max_per_address: usize) -> Self {
        Self {
            streams: HashMap::new(),
            by_client: HashMap::new(),
            by_connection: HashMap::new(),
            by_address: HashMap::new(),
            dirty: Vec::new(),
            again: Vec::new(),
            next_token: first_token,
            max,
            max_per_address,
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            events: Vec::new(),
            counters: StreamCounters::default(),
        }
    }

    /// Takes a client's connection; `begun` was read from it already.
    pub(crate) fn admit(
        &mut self,
        socket: TcpStream,
        tls: Option<Box<ServerConnection>>,
        begun: Vec<u8>,
        now: Instant,
        registry: &Registry,
    ) -> Option<Token> {
        let (Ok(remote), Ok(local)) = (socket.peer_addr(), socket.local_addr()) else { return None };
        let from_address = self.by_address.entry(one_customer(remote.ip())).or_default();
        if self.by_client.len() >= self.max || *from_address >= self.max_per_address {
            self.counters.refused += 1;
            if *from_address == 0 {
                self.by_address.remove(&one_customer(remote.ip()));
            }
            return None;
        }
        *from_address += 1;
        self.counters.accepted += 1;
        let transport = if tls.is_some() { Transport::Tls } else { Transport::Tcp };
        let client = Client { transport, remote, local };
        // best effort: without them it works, only later
        let _ = socket.set_nodelay(true);
        let _ = socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES);
        let role = Role::Client { client, input: begun, has_spoken: false, has_allocation: false };
        let Some(token) = self.insert(ByteStream::new(socket, tls), role, now, registry) else {
            self.release(remote);
            return None;
        };
        self.by_client.insert(client, token);
        Some(token)
    }

    /// Takes a connection to a peer.
    pub(crate) fn admit_peer(
        &mut self,
        socket: TcpStream,
        connection: ConnectionId,
        is_connecting: bool,
        now: Instant,
        registry: &Registry,
    ) -> Option<Token> {
        let token = self.insert(ByteStream::new(socket, None), Role::Peer { connection, is_connecting }, now, registry)?;
        self.by_connection.insert(connection, token);
        Some(token)
    }

    fn insert(&mut self, mut bytes: ByteStream, role: Role, now: Instant, registry: &Registry) -> Option<Token> {
        let token = Token(self.next_token);
        registry.register(bytes.source(), token, Interest::READABLE | Interest::WRITABLE).ok()?;
        self.next_token += 1;
        // what came before the registration makes no event
        self.streams.insert(
            token,
            Stream { bytes, role, opened_at: now, is_readable: true, spliced_with: None, is_ending: false, ending_since: None },
        );
        self.again.push(token);
        Some(token)
    }

    /// What has happened, in order.
    pub(crate) fn take_events(&mut self) -> Vec<FromStream> {
        std::mem::take(&mut self.events)
    }

    /// True if some stream is to be read without an event.
    pub(crate) const fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    /// Streams to be read without an event.
    pub(crate) fn take_again(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.again)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// True while the stream's TLS handshake goes on.
    pub(crate) fn is_handshaking(&self, token: Token) -> bool {
        self.streams.get(&token).is_some_and(|stream| stream.bytes.is_handshaking())
    }

    /// A stream is ready, and its turn comes later.
    pub(crate) fn put_off(&mut self, token: Token, readable: bool) {
        if let Some(stream) = self.streams.get_mut(&token) {
            stream.is_readable |= readable;
            self.again.push(token);
        }
    }

    /// A stream is ready. Whole messages of a client go to `handle`.
    pub(crate) fn ready(
        &mut self,
        token: Token,
        readable: bool,
        writable: bool,
        registry: &Registry,
        mut handle: impl FnMut(Client, &[u8]),
    ) {
        let Some(stream) = self.streams.get_mut(&token) else { return };
        stream.is_readable |= readable;
        if writable {
            if let Role::Peer { connection, is_connecting: is_connecting @ true } = &mut stream.role {
                let connection = *connection;
                let failed = !matches!(stream.bytes.socket().take_error(), Ok(None));
                if failed || stream.bytes.socket().peer_addr().is_ok() {
                    *is_connecting = false;
                    self.events.push(FromStream::Connected(connection, !failed));
                }
                if failed {
                    return self.close(token, registry);
                }
            }
            self.dirty.push(token);
        }
        self.read(token, registry, &mut handle);
    }

    fn read(&mut self, token: Token, registry: &Registry, handle: &mut impl FnMut(Client, &[u8])) {
        let mut budget = READ_PER_TURN;
        loop {
            let Some(stream) = self.streams.get_mut(&token) else { return };
            // a peer is read when there is somebody to pass it on to
            let is_for_passing = matches!(stream.role, Role::Peer { .. });
            if !stream.is_readable || stream.is_ending || (is_for_passing && stream.spliced_with.is_none()) {
                return;
            }
            if let Some(other) = stream.spliced_with {
                if self.streams.get(&other).is_some_and(|other| other.bytes.waiting() > MAX_SPLICE) {
                    return;
                }
            } else if let Role::Client { client, input, has_spoken, has_allocation } = &mut stream.role
                && !input.is_empty()
            {
                match cut(*client, input, has_spoken, handle) {
                    Cut::Done if !*has_allocation && input.len() > MAX_STRANGE => {
                        self.counters.expelled += 1;
                        return self.close(token, registry);
                    }
                    Cut::Done if !*has_allocation => input.shrink_to(MAX_STRANGE),
                    Cut::Done => {}
                    Cut::Foreign => {
                        self.counters.expelled += 1;
                        return self.close(token, registry);
                    }
                }
            }
            if budget == 0 {
                return self.again.push(token);
            }
            let Some(stream) = self.streams.get_mut(&token) else { return };
            match stream.bytes.read(&mut self.scratch) {
                Ok(0) => return self.close(token, registry),
                Ok(len) => {
                    budget = budget.saturating_sub(len);
                    if let Some(other) = stream.spliced_with {
                        if let Some(other_stream) = self.streams.get_mut(&other) {
                            other_stream.bytes.queue(&[&self.scratch[..len]], usize::MAX);
                            self.dirty.push(other);
                        }
                    } else if let Role::Client { input, .. } = &mut stream.role {
                        input.extend_from_slice(&self.scratch[..len]);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stream.is_readable = false;
                    // TLS may have something to answer
                    return self.dirty.push(token);
                }
                Err(_) => return self.close(token, registry),
            }
        }
    }

    /// This client has an allocation, and may send messages as long as they get.
    pub(crate) fn trust(&mut self, client: Client) {
        if let Some(stream) = self.by_client.get(&client).and_then(|token| self.streams.get_mut(token))
            && let Role::Client { has_allocation, .. } = &mut stream.role
        {
            *has_allocation = true;
        }
    }

    /// Sends a whole message to a client: an answer.
    pub(crate) fn send(&mut self, client: Client, message: &[u8], registry: &Registry) {
        let Some(&token) = self.by_client.get(&client) else { return };
        let Some(stream) = self.streams.get_mut(&token) else { return };
        if stream.bytes.queue(&[message], MAX_QUEUE) {
            self.dirty.push(token);
        } else {
            self.close(token, registry);
        }
    }

    /// Sends a message of data, or drops it. Header and payload are padded to four bytes.
    pub(crate) fn send_data(&mut self, client: Client, header: &[u8], payload: &[u8]) {
        let Some(&token) = self.by_client.get(&client) else { return };
        let Some(stream) = self.streams.get_mut(&token) else { return };
        let padding = (header.len() + payload.len()).next_multiple_of(4) - header.len() - payload.len();
        if stream.bytes.queue(&[header, payload, &[0; 3][..padding]], MAX_DATA) {
            if self.dirty.last() != Some(&token) {
                self.dirty.push(token);
            }
        } else {
            self.counters.dropped += 1;
        }
    }

    /// From here on two streams are one.
    pub(crate) fn splice(&mut self, client: Client, connection: ConnectionId) {
        let (Some(&here), Some(&there)) = (self.by_client.get(&client), self.by_connection.get(&connection)) else { return };
        if let Some(stream) = self.streams.get_mut(&there) {
            stream.spliced_with = Some(here);
        }
        let mut early = Vec::new();
        if let Some(stream) = self.streams.get_mut(&here) {
            stream.spliced_with = Some(there);
            if let Role::Client { input, .. } = &mut stream.role {
                early = std::mem::take(input);
            }
        }
        if let Some(stream) = self.streams.get_mut(&there) {
            stream.bytes.queue(&[&early], usize::MAX);
        }
        self.dirty.push(there);
        self.again.extend([here, there]);
    }

    pub(crate) fn close_connection(&mut self, connection: ConnectionId, registry: &Registry) {
        if let Some(&token) = self.by_connection.get(&connection) {
            self.close(token, registry);
        }
    }

    pub(crate) fn close_client(&mut self, client: Client, registry: &Registry) {
        if let Some(&token) = self.by_client.get(&client) {
            self.close(token, registry);
        }
    }

    /// Closes clients that have no purpose.
    pub(crate) fn expel(&mut self, now: Instant, registry: &Registry, has_purpose: impl Fn(&Client) -> bool) {
        let is_over = |since: Instant| now.saturating_duration_since(since) > IDLE;
        let is_idle = |stream: &mut Stream| match &stream.role {
            // the other end may be slow to take the rest, but not for ever
            _ if stream.is_ending => is_over(*stream.ending_since.get_or_insert(now)),
            Role::Client { client, .. } => stream.spliced_with.is_none() && is_over(stream.opened_at) && !has_purpose(client),
            Role::Peer { .. } => false,
        };
        let idle: Vec<Token> = self.streams.iter_mut().filter_map(|(token, stream)| is_idle(stream).then_some(*token)).collect();
        for token in idle {
            self.counters.expelled += 1;
            self.close(token, registry);
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, registry: &Registry) {
        for token in std::mem::take(&mut self.dirty) {
            let Some(stream) = self.streams.get_mut(&token) else { continue };
            let is_gone = stream.bytes.flush().is_err();
            let waiting = stream.bytes.waiting();
            let (spliced_with, is_ended) = (stream.spliced_with, stream.is_ending && waiting == 0);
            if is_gone || is_ended {
                self.close(token, registry);
            } else if let Some(other) = spliced_with
                && waiting <= MAX_SPLICE
                && self.streams.get(&other).is_some_and(|other| other.is_readable)
            {
                self.again.push(other);
            }
        }
    }

    fn close(&mut self, token: Token, registry: &Registry) {
        let Some(mut stream) = self.streams.remove(&token) else { return };
        let _ = stream.bytes.flush();
        stream.bytes.shut_down();
        let _ = registry.deregister(stream.bytes.source());
        let mut connection = None;
        // what the other end is still to get, it gets
        if let Some(other) = stream.spliced_with
            && let Some(other_stream) = self.streams.get_mut(&other)
        {
            other_stream.spliced_with = None;
            other_stream.is_ending = true;
            if let Role::Peer { connection: id, .. } = other_stream.role {
                connection = Some(id);
            }
            self.dirty.push(other);
        }
        match stream.role {
            Role::Client { client, .. } => {
                self.by_client.remove(&client);
                self.release(client.remote);
                self.events.push(FromStream::ClientClosed(client, connection));
            }
            Role::Peer { connection, is_connecting } => {
                self.by_connection.remove(&connection);
                if is_connecting {
                    self.events.push(FromStream::Connected(connection, false));
                }
                self.events.push(FromStream::PeerClosed(connection));
            }
        }
    }

    fn release(&mut self, remote: SocketAddr) {
        let key = one_customer(remote.ip());
        if let Some(count) = self.by_address.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&key);
            }
        }
    }
}

enum Cut {
    Done,
    Foreign,
}

/// Takes whole messages from the beginning of what came.
fn cut(client: Client, input: &mut Vec<u8>, has_spoken: &mut bool, handle: &mut impl FnMut(Client, &[u8])) -> Cut {
    let mut at = 0;
    let outcome = loop {
        let rest = &input[at..];
        match begin(rest) {
            // data before the first request makes no sense, and would let other protocols pass for ours
            Begin::Message { .. } if !*has_spoken && rest[0] & 0xC0 != 0 => break Cut::Foreign,
            Begin::Message { len, padded } if padded <= rest.len() => {
                *has_spoken = true;
                handle(client, &rest[..len]);
                at += padded;
            }
            Begin::Message { .. } | Begin::Partial => break Cut::Done,
            Begin::Foreign => break Cut::Foreign,
        }
    };
    input.drain(..at);
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use mio::Poll;
    use mio::net::TcpListener;

    use super::*;

    /// A client and a peer that are one, with the far ends, which read nothing.
    struct Spliced {
        poll: Poll,
        streams: Streams,
        client: Client,
        start: Instant,
        _far_ends: Vec<std::net::TcpStream>,
    }

    const PEER: ConnectionId = ConnectionId(1);

    impl Spliced {
        fn new() -> Self {
            let poll = Poll::new().unwrap();
            let start = Instant::now();
            let mut streams = Streams::new(1, 10, 10);
            let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let mut far_ends = Vec::new();
            let mut pair = || {
                far_ends.push(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
                loop {
                    if let Ok((stream, _)) = listener.accept() {
                        return stream;
                    }
                }
            };
            streams.admit(pair(), None, Vec::new(), start, poll.registry()).unwrap();
            streams.admit_peer(pair(), PEER, false, start, poll.registry()).unwrap();
            let client = *streams.by_client.keys().next().unwrap();
            streams.splice(client, PEER);
            Self { poll, streams, client, start, _far_ends: far_ends }
        }

        /// More than the kernel takes for somebody who does not read.
        fn fill(&mut self, token: Token) {
            assert!(self.streams.streams.get_mut(&token).unwrap().bytes.queue(&[&vec![0; 32 << 20]], usize::MAX));
            self.streams.flush(self.poll.registry());
        }

        fn left_after(&mut self, time: Duration) -> usize {
            self.streams.expel(self.start + time, self.poll.registry(), |_| false);
            self.streams.streams.len()
        }
    }

    #[test]
    fn a_peer_that_does_not_take_the_rest_is_closed_in_the_end() {
        let mut pair = Spliced::new();
        pair.fill(pair.streams.by_connection[&PEER]);
        pair.streams.close_client(pair.client, pair.poll.registry());
        pair.streams.flush(pair.poll.registry());
        assert_eq!(pair.left_after(Duration::from_secs(1)), 1, "it may take its time");
        assert_eq!(pair.left_after(Duration::from_secs(32)), 0);
    }

    #[test]
    fn a_client_gets_the_rest_though_it_was_there_for_long() {
        let mut pair = Spliced::new();
        pair.fill(pair.streams.by_client[&pair.client]);
        pair.streams.close_connection(PEER, pair.poll.registry());
        pair.streams.flush(pair.poll.registry());
        assert_eq!(pair.left_after(Duration::from_secs(300)), 1);
        assert_eq!(pair.left_after(Duration::from_secs(331)), 0);
    }
}
