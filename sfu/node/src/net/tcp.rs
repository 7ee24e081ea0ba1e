//! Established ICE-TCP connections of one shard (RFC 6544, framing by RFC 4571).
//!
//! In: connections from `accept`, whose first packet is still unread. Out: packets with their flow, like datagrams of UDP, and the
//! flows of connections that have ended.
//! Bounds: a connection that is none of the engine's paths for [`PROOF_TIMEOUT`] is closed, whatever it sends; only an
//! authentic check makes it one, and the end of consent (RFC 7675) takes it back. A slow reader costs [`MAX_WAITING`] bytes: media
//! is dropped from [`MAX_MEDIA_WAITING`] on, so that checks, handshakes, data and RTCP still get through.
//! Not here: how many connections there may be (`accept`).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use sfu_core::demux::Kind;
use sfu_core::net::Flow;
use sfu_core::rtp::header::is_rtcp;

use super::accept::{Handover, Permit};
use super::framing::{Fill, FrameReader, FrameTooLong, FrameWriter};

/// Bytes of which some are media that wait for a slow connection, beside the kernel's buffer: a quarter of a second of video. More
/// would arrive too late to be shown.
const MAX_MEDIA_WAITING: usize = 64 * 1024;
/// Bytes of any kind that wait for a slow connection.
const MAX_WAITING: usize = 256 * 1024;
/// From the handover to the first authentic check, and from the end of consent to the end of the connection.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens below belong to other sockets of the loop.
const FIRST_TOKEN: usize = 1 << 32;
/// Connections that are read in one turn of the loop.
const READS_PER_TURN: usize = 64;

/// What happened to connections and their packets. Plain counters, but for `connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// Open right now.
    pub connections: usize,
    /// Handed to this shard so far.
    pub opened: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Their bytes without framing.
    pub received_bytes: u64,
    /// Packets accepted for sending.
    pub sent_packets: u64,
    /// Their bytes without framing.
    pub sent_bytes: u64,
    /// Media dropped because the client reads too slowly for it.
    pub dropped_media: u64,
    /// Other packets dropped because too much was waiting already.
    pub dropped_full: u64,
    /// Packets for connections that are gone.
    pub dropped_gone: u64,
    /// Connections closed because no authentic check came by them in time.
    pub unproven: u64,
}

/// The connections, by token and by flow.
pub(crate) struct TcpConnections {
    by_token: HashMap<Token, Connection>,
    by_flow: HashMap<Flow, Token>,
    next_token: usize,
    /// Connections that may have something to read, in turn.
    readable: VecDeque<Token>,
    /// Flows of connections that have ended, until somebody asks. At most as many as there may be connections.
    closed: Vec<Flow>,
    counters: TcpCounters,
}

struct Connection {
    stream: TcpStream,
    flow: Flow,
    reader: FrameReader,
    writer: FrameWriter,
    /// Since when it is no path of the engine.
    unproven_since: Option<Instant>,
    /// It is in the queue of those that may have something to read.
    is_queued: bool,
    _permit: Permit,
}

impl TcpConnections {
    pub(crate) fn new() -> Self {
        Self {
            by_token: HashMap::new(),
            by_flow: HashMap::new(),
            next_token: FIRST_TOKEN,
            readable: VecDeque::new(),
            closed: Vec::new(),
            counters: TcpCounters::default(),
        }
    }

    /// True for tokens that this table gives out.
    pub(crate) const fn owns(token: Token) -> bool {
        token.0 >= FIRST_TOKEN
    }

    /// Counters with the number of connections as it is.
    pub(crate) fn counters(&self) -> TcpCounters {
        TcpCounters { connections: self.by_token.len(), ..self.counters }
    }

    /// Takes a connection over; what it has sent already is read in this turn.
    pub(crate) fn adopt(&mut self, mut handover: Handover, registry: &Registry, now: Instant) {
        let token = Token(self.next_token);
        self.next_token += 1;
        if let Err(error) = registry.register(&mut handover.stream, token, Interest::READABLE | Interest::WRITABLE) {
            tracing::warn!(%error, "cannot watch a TCP connection");
            return;
        }
        let Handover { stream, flow, reader, permit } = handover;
        let writer = FrameWriter::default();
        let connection = Connection { stream, flow, reader, writer, unproven_since: Some(now), is_queued: true, _permit: permit };
        if let Some(old) = self.by_flow.insert(flow, token) {
            // The client uses its port again; what ended the old connection has not been read yet.
            self.close(old, registry);
            self.by_flow.insert(flow, token);
        }
        self.by_token.insert(token, connection);
        self.readable.push_back(token);
        self.counters.opened += 1;
    }

    /// Notes what a connection is ready for and sends what it held back.
    pub(crate) fn handle_event(&mut self, event: &Event, registry: &Registry) {
        let token = event.token();
        let Some(connection) = self.by_token.get_mut(&token) else { return };
        if event.is_writable() && connection.writer.flush(&mut connection.stream).is_err() {
            self.close(token, registry);
        } else if !connection.is_queued {
            // Also when it was only writable: one read in vain is cheaper than telling all kinds of hang-ups apart.
            connection.is_queued = true;
            self.readable.push_back(token);
        }
    }

    /// True if [`Self::read`] has something to do.
    pub(crate) fn is_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Reads once from each connection that is ready, at most [`READS_PER_TURN`] of them, and visits every whole packet.
    pub(crate) fn read(&mut self, registry: &Registry, mut visit: impl FnMut(Flow, &mut [u8])) {
        for _ in 0..self.readable.len().min(READS_PER_TURN) {
            let Some(token) = self.readable.pop_front() else { return };
            let Some(connection) = self.by_token.get_mut(&token) else { continue };
            match connection.read(&mut self.counters, &mut visit) {
                Fill::Some(_) => self.readable.push_back(token),
                Fill::Empty => connection.is_queued = false,
                Fill::Closed => self.close(token, registry),
            }
        }
    }

    /// Sends the packets of a train.
    pub(crate) fn send(&mut self, flow: &Flow, segment_len: usize, bytes: &[u8], registry: &Registry) {
        let packets = bytes.chunks(segment_len.max(1));
        let Some(&token) = self.by_flow.get(flow) else {
            self.counters.dropped_gone += packets.len() as u64;
            return;
        };
        let connection = self.by_token.get_mut(&token).expect("both maps have the same connections");
        for packet in packets {
            let is_media = Kind::of(packet) == Some(Kind::Srtp) && !is_rtcp(packet);
            if connection.writer.push(packet, if is_media { MAX_MEDIA_WAITING } else { MAX_WAITING }) {
                self.counters.sent_packets += 1;
                self.counters.sent_bytes += packet.len() as u64;
            } else if is_media {
                self.counters.dropped_media += 1;
            } else {
                self.counters.dropped_full += 1;
            }
        }
        if connection.writer.flush(&mut connection.stream).is_err() {
            self.close(token, registry);
        }
    }

    /// Closes what has been no path of the engine for too long. Precise to the second at which it is called.
    pub(crate) fn close_unproven(&mut self, now: Instant, registry: &Registry, is_path: impl Fn(&Flow) -> bool) {
        let mut overdue = Vec::new();
        for (&token, connection) in &mut self.by_token {
            if is_path(&connection.flow) {
                connection.unproven_since = None;
            } else if now.saturating_duration_since(*connection.unproven_since.get_or_insert(now)) >= PROOF_TIMEOUT {
                overdue.push(token);
            }
        }
        for token in overdue {
            self.counters.unproven += 1;
            self.close(token, registry);
        }
    }

    /// The flow of a connection that has ended.
    pub(crate) fn poll_closed(&mut self) -> Option<Flow> {
        self.closed.pop()
    }

    fn close(&mut self, token: Token, registry: &Registry) {
        let Some(mut connection) = self.by_token.remove(&token) else { return };
        // Closing the socket would end the registration too; an error says the same.
        let _ = registry.deregister(&mut connection.stream);
        self.by_flow.remove(&connection.flow);
        self.closed.push(connection.flow);
    }
}

impl Connection {
    /// Visits the packets that are there, then reads once, so that a packet that came before the handover is not left waiting.
    fn read(&mut self, counters: &mut TcpCounters, visit: &mut impl FnMut(Flow, &mut [u8])) -> Fill {
        if self.visit_frames(counters, visit).is_err() {
            return Fill::Closed;
        }
        let fill = self.reader.fill(&mut self.stream);
        if matches!(fill, Fill::Some(_)) && self.visit_frames(counters, visit).is_err() {
            return Fill::Closed;
        }
        fill
    }

    fn visit_frames(&mut self, counters: &mut TcpCounters, visit: &mut impl FnMut(Flow, &mut [u8])) -> Result<(), FrameTooLong> {
        while let Some(packet) = self.reader.next_frame()? {
            counters.received_packets += 1;
            counters.received_bytes += packet.len() as u64;
            visit(self.flow, packet);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    use mio::{Events, Poll};

    use super::super::accept::{AcceptCounters, Acceptor, listen, ufrag_prefix};
    use super::*;

    #[test]
    fn the_first_packet_chooses_the_shard_and_reaches_it() {
        let mut rig = Rig::new();
        let mut client = rig.connect();
        let request = framed(&binding_request(&format!("{}abcd:remote", ufrag_prefix(1))));
        client.write_all(&request).unwrap();
        client.write_all(&framed(b"second")).unwrap();
        rig.until(|rig| rig.heard.len() == 2);
        assert_eq!(rig.shards, [1]);
        assert_eq!(rig.heard[0].1, request[2..]);
        assert_eq!(rig.heard[1].1, b"second");
        assert_eq!(rig.heard[0].0.remote, client.local_addr().unwrap());
    }

    #[test]
    fn packets_arrive_wherever_the_client_cuts_the_stream() {
        let request = framed(&binding_request(&format!("{}abcd:remote", ufrag_prefix(0))));
        let stream = [request.clone(), framed(b"media")].concat();
        for cut in 1..stream.len() {
            let mut rig = Rig::new();
            let mut client = rig.connect();
            client.write_all(&stream[..cut]).unwrap();
            rig.turn();
            client.write_all(&stream[cut..]).unwrap();
            rig.until(|rig| rig.heard.len() == 2);
            assert_eq!((&rig.heard[0].1[..], &rig.heard[1].1[..]), (&request[2..], &b"media"[..]), "cut at {cut}");
        }
    }

    #[test]
    fn a_packet_goes_back_framed() {
        let mut rig = Rig::new();
        let mut client = rig.joined();
        let flow = rig.heard[0].0;
        rig.tcp.send(&flow, 3, b"onetwo!", rig.poll.registry());
        let mut answer = [0; 13];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\0\x03one\0\x03two\0\x01!");
    }

    #[test]
    fn what_is_not_for_a_shard_of_ours_is_closed() {
        for first in [
            framed(b"GET / HTTP/1.1"),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            framed(&binding_request(&format!("{}abcd:remote", ufrag_prefix(2)))),
            framed(&binding_request("?!:remote")),
            vec![0; 400_000],
        ] {
            let mut rig = Rig::new();
            let mut client = rig.connect();
            let _ = client.write_all(&first);
            rig.until(|rig| rig.acceptor.counters().unroutable == 1);
            assert_closed(&mut client);
            assert!(rig.heard.is_empty());
        }
    }

    #[test]
    fn a_connection_without_a_first_packet_is_closed_after_five_seconds() {
        let mut rig = Rig::new();
        let mut client = rig.connect();
        client.write_all(&[0, 20, 0]).unwrap();
        rig.until(|rig| rig.acceptor.counters().accepted == 1);
        rig.now += Duration::from_millis(4_999);
        rig.turn();
        assert_eq!(rig.acceptor.counters(), AcceptCounters { accepted: 1, ..AcceptCounters::default() });
        rig.now += Duration::from_millis(1);
        rig.turn();
        assert_eq!(rig.acceptor.counters().silent, 1);
        assert_closed(&mut client);
    }

    #[test]
    fn a_connection_that_proves_nothing_is_closed_after_ten_seconds_whatever_it_sends() {
        let mut rig = Rig::new();
        let mut client = rig.joined();
        for second in 0..10_u8 {
            client.write_all(&framed(&[200, second])).unwrap();
            rig.until(|rig| rig.heard.len() == usize::from(second) + 2);
            rig.tcp.close_unproven(rig.now, rig.poll.registry(), |_| false);
            assert_eq!(rig.tcp.counters().connections, 1, "after {second} s");
            rig.now += Duration::from_secs(1);
        }
        rig.tcp.close_unproven(rig.now, rig.poll.registry(), |_| false);
        assert_eq!((rig.tcp.counters().connections, rig.tcp.counters().unproven), (0, 1));
        assert_eq!(rig.tcp.poll_closed(), Some(rig.heard[0].0));
        assert_closed(&mut client);
    }

    #[test]
    fn a_path_stays_however_silent_and_ends_ten_seconds_after_its_consent() {
        let mut rig = Rig::new();
        let mut client = rig.joined();
        for is_path in [true, false] {
            for _ in 0..(if is_path { 100 } else { 11 }) {
                assert_eq!(rig.tcp.counters().connections, 1);
                rig.tcp.close_unproven(rig.now, rig.poll.registry(), |_| is_path);
                rig.now += Duration::from_secs(1);
            }
        }
        assert_eq!(rig.tcp.counters().connections, 0);
        assert_closed(&mut client);
    }

    #[test]
    fn what_is_not_media_still_gets_to_a_slow_client() {
        let mut rig = Rig::new();
        let _client = rig.joined();
        let flow = rig.heard[0].0;
        let (media, report, data) = ([150; 1_200], [200; 100], [23; 1_000]);
        while rig.tcp.counters().dropped_media < 10 {
            rig.tcp.send(&flow, 1_200, &media, rig.poll.registry());
        }
        let before = rig.tcp.counters();
        for _ in 0..100 {
            rig.tcp.send(&flow, 1_000, &data, rig.poll.registry());
            rig.tcp.send(&flow, 100, &report, rig.poll.registry());
        }
        let after = rig.tcp.counters();
        assert_eq!((after.sent_packets - before.sent_packets, after.dropped_full), (200, 0));
    }

    #[test]
    fn a_client_that_goes_away_is_forgotten() {
        let mut rig = Rig::new();
        let client = rig.joined();
        let flow = rig.heard[0].0;
        drop(client);
        rig.until(|rig| rig.tcp.counters().connections == 0);
        rig.tcp.send(&flow, 3, b"onetwo", rig.poll.registry());
        assert_eq!(rig.tcp.counters().dropped_gone, 2);
        assert!(rig.tcp.by_flow.is_empty());
        assert_eq!((rig.tcp.poll_closed(), rig.tcp.poll_closed()), (Some(flow), None));
    }

    #[test]
    fn a_client_that_does_not_read_loses_packets_and_memory_stays_flat() {
        let mut rig = Rig::new();
        let _client = rig.joined();
        let flow = rig.heard[0].0;
        for kind in [150, 23] {
            for _ in 0..20_000 {
                rig.tcp.send(&flow, 1_200, &[kind; 1_200], rig.poll.registry());
            }
        }
        let counters = rig.tcp.counters();
        assert!(counters.dropped_media > 10_000 && counters.dropped_full > 10_000, "{counters:?}");
        assert_eq!(counters.sent_packets + counters.dropped_media + counters.dropped_full, 40_000);
        let waiting: usize = rig.tcp.by_token.values().map(|c| c.writer.waiting()).sum();
        assert!(waiting <= MAX_WAITING);
    }

    #[test]
    fn a_slow_client_gets_whole_packets_only() {
        let mut rig = Rig::new();
        let mut client = rig.joined();
        let flow = rig.heard[0].0;
        for n in 0..10_000_u16 {
            rig.tcp.send(&flow, 1_200, &[n.to_be_bytes(); 600].concat(), rig.poll.registry());
        }
        let sent = rig.tcp.counters().sent_packets;
        let reader = std::thread::spawn(move || {
            let mut packet = [0; 1_202];
            let mut numbers = Vec::new();
            for _ in 0..sent {
                client.read_exact(&mut packet).unwrap();
                assert_eq!(packet[..2], 1_200_u16.to_be_bytes());
                assert!(packet[2..].chunks(2).all(|n| n == &packet[2..4]));
                numbers.push(u16::from_be_bytes([packet[2], packet[3]]));
            }
            assert!(numbers.is_sorted());
        });
        while !reader.is_finished() {
            rig.turn();
        }
        reader.join().unwrap();
    }

    /// A listener and a table as the loop drives them.
    struct Rig {
        poll: Poll,
        acceptor: Acceptor,
        tcp: TcpConnections,
        now: Instant,
        shards: Vec<u16>,
        heard: Vec<(Flow, Vec<u8>)>,
    }

    impl Rig {
        fn new() -> Self {
            let poll = Poll::new().unwrap();
            let mut acceptor = Acceptor::new(vec![listen("127.0.0.1:0".parse().unwrap()).unwrap()], 1, 2);
            acceptor.register(poll.registry()).unwrap();
            Self { poll, acceptor, tcp: TcpConnections::new(), now: Instant::now(), shards: Vec::new(), heard: Vec::new() }
        }

        fn connect(&self) -> Client {
            let client = Client::connect(self.acceptor.local_addresses().unwrap()[0]).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client
        }

        fn joined(&mut self) -> Client {
            let mut client = self.connect();
            client.write_all(&framed(&binding_request(&format!("{}abcd:remote", ufrag_prefix(0))))).unwrap();
            self.until(|rig| rig.heard.len() == 1);
            client
        }

        fn turn(&mut self) {
            let mut events = Events::with_capacity(16);
            self.poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
            let registry = self.poll.registry();
            for event in &events {
                if TcpConnections::owns(event.token()) {
                    self.tcp.handle_event(event, registry);
                } else if let Some((shard, handover)) = self.acceptor.handle_event(event.token(), registry) {
                    self.shards.push(shard);
                    self.tcp.adopt(handover, registry, self.now);
                }
            }
            self.acceptor.accept(self.now, registry);
            self.acceptor.expire(self.now, registry);
            self.tcp.read(registry, |flow, packet| self.heard.push((flow, packet.to_vec())));
        }

        fn until(&mut self, is_done: impl Fn(&Self) -> bool) {
            for _ in 0..5_000 {
                if is_done(self) {
                    return;
                }
                self.turn();
            }
            panic!("it does not happen: {:?} {:?}", self.acceptor.counters(), self.tcp.counters());
        }
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        [&u16::try_from(packet.len()).unwrap().to_be_bytes(), packet].concat()
    }

    fn assert_closed(client: &mut Client) {
        // A close with unread bytes is a reset.
        let result = client.read(&mut [0; 1]);
        assert!(matches!(&result, Ok(0)) || result.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    }

    /// RFC 8489 section 5: header and USERNAME.
    fn binding_request(username: &str) -> Vec<u8> {
        let padded = username.len().next_multiple_of(4);
        let mut packet = vec![0, 1];
        packet.extend(u16::try_from(4 + padded).unwrap().to_be_bytes());
        packet.extend(0x2112_a442_u32.to_be_bytes());
        packet.extend([7; 12]);
        packet.extend([0, 6]);
        packet.extend(u16::try_from(username.len()).unwrap().to_be_bytes());
        packet.extend(username.as_bytes());
        packet.resize(24 + padded, 0);
        packet
    }
}
