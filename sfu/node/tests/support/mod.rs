//! A client that can just do ICE: enough to see a node's sockets answer.
#![allow(clippy::unwrap_used, dead_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use aws_lc_rs::hmac;
use sfu_api::{Command, Event, ParticipantId, RoomId};
use sfu_node::{Advertised, Node, NodeConfig, NodeHandle};
use tokio::sync::mpsc::Receiver;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A node on loopback with free ports.
pub(crate) fn start(shards: usize) -> (NodeHandle, Receiver<Event>) {
    Node::start(&loopback(shards)).unwrap()
}

pub(crate) fn loopback(shards: usize) -> NodeConfig {
    NodeConfig {
        shards: Some(shards),
        udp_port: 0,
        tcp_port: Some(0),
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        advertised: Advertised::Detected { include_loopback: true, stun_server: None },
        pin_threads: false,
        ..NodeConfig::default()
    }
}

/// What the node's answer says.
pub(crate) struct Session {
    pub(crate) ufrag: String,
    pwd: String,
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
}

impl Session {
    /// Joins a room and offers a data channel.
    pub(crate) fn join(node: &NodeHandle, events: &mut Receiver<Event>, room: u64, participant: u64) -> Self {
        let participant = ParticipantId(participant);
        node.send(Command::Join { room: RoomId(room), participant, can_subscribe: false, mode: sfu_api::PeerMode::Dual }).unwrap();
        node.send(Command::Offer { participant, id: 1, sdp: offer() }).unwrap();
        match events.blocking_recv() {
            Some(Event::Answer { participant: to, sdp, .. }) if to == participant => Self::of_answer(&sdp),
            other => panic!("no answer but {other:?}"),
        }
    }

    fn of_answer(sdp: &str) -> Self {
        let value = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let candidate = |protocol: &str| {
            let columns = sdp.lines().filter(|line| line.starts_with("a=candidate:")).map(|line| line.split(' ').collect::<Vec<_>>());
            let columns = columns.into_iter().find(|c| c[2].eq_ignore_ascii_case(protocol)).unwrap();
            format!("{}:{}", columns[4], columns[5]).parse().unwrap()
        };
        Self { ufrag: value("a=ice-ufrag:"), pwd: value("a=ice-pwd:"), udp: candidate("udp"), tcp: candidate("tcp") }
    }

    /// Does a connectivity check over UDP. False: no answer in time.
    pub(crate) fn check_udp(&self, socket: &UdpSocket) -> bool {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.send_to(&self.binding_request(), self.udp).unwrap();
        let mut answer = [0; 1_500];
        loop {
            match socket.recv(&mut answer) {
                Ok(len) if is_success(&answer[..len]) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// Does a connectivity check over TCP, sent in pieces of `cut` bytes.
    pub(crate) fn check_tcp(&self, stream: &mut TcpStream, cut: usize) -> bool {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = self.binding_request();
        let framed = [u16::try_from(request.len()).unwrap().to_be_bytes().as_slice(), &request].concat();
        for piece in framed.chunks(cut) {
            stream.write_all(piece).unwrap();
        }
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut answer).unwrap();
        is_success(&answer)
    }

    /// RFC 8489 and RFC 8445 section 7.2: what a full agent sends to nominate.
    fn binding_request(&self) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        message.extend([9; 12]);
        attribute(&mut message, 0x0006, format!("{}:abcd", self.ufrag).as_bytes());
        attribute(&mut message, 0x0024, &[110, 0, 0, 1]);
        attribute(&mut message, 0x802a, &[1; 8]);
        attribute(&mut message, 0x0025, &[]);
        set_len(&mut message, 24);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.pwd.as_bytes());
        let integrity = hmac::sign(&key, &message);
        attribute(&mut message, 0x0008, integrity.as_ref());
        set_len(&mut message, 8);
        let fingerprint = crc32(&message) ^ 0x5354_554e;
        attribute(&mut message, 0x8028, &fingerprint.to_be_bytes());
        message
    }
}

fn offer() -> String {
    let fingerprint = vec!["AA"; 32].join(":");
    [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789012345678901",
        &format!("a=fingerprint:sha-256 {fingerprint}"),
        "a=setup:actpass",
        "a=mid:0",
        "a=sctp-port:5000",
        "",
    ]
    .join("\r\n")
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// The length field counts an attribute that is not written yet.
fn set_len(message: &mut [u8], to_come: usize) {
    let len = u16::try_from(message.len() - 20 + to_come).unwrap();
    message[2..4].copy_from_slice(&len.to_be_bytes());
}

fn is_success(message: &[u8]) -> bool {
    message.starts_with(&[1, 1]) && message.get(8..20) == Some(&[9; 12])
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }))
}
