//! What comes before a client is known: the demultiplexer, connectivity checks, the DTLS handshake.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sfu_core::demux::Kind;
use sfu_core::negotiate::ice_ufrag;
use sfu_core::net::{Flow, Outbox, Protocol};
use sfu_core::rtp::header::is_rtcp;
use sfu_core::transport::params::{Fingerprint, IceCredentials, RemoteParams};
use sfu_core::transport::{Certificate, Transport, TransportEvent, answered_transaction, username_ufrag};
use sha1::Sha1;

use crate::messages;

pub(crate) fn demux(data: &[u8]) {
    match Kind::of(data) {
        Some(Kind::Stun) => assert!(data[0] < 4),
        Some(Kind::Dtls) => assert!((20..64).contains(&data[0])),
        Some(Kind::Srtp) => assert_eq!(data[0] >> 6, 2),
        None => {}
    }
    if is_rtcp(data) {
        assert!((192..=223).contains(&data[1]));
    }
    if let Some(ufrag) = username_ufrag(data) {
        assert!(ufrag.len() <= data.len() && !ufrag.contains(':'));
    }
    if let Some(transaction) = answered_transaction(data) {
        assert_eq!(data[8..20], transaction);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(ufrag) = ice_ufrag(text)
    {
        assert!(text.contains(ufrag) && !ufrag.contains('\n'));
    }
}

/// The input as a datagram, and as the attributes of a check that is signed with the right password.
pub(crate) fn stun(data: &[u8]) {
    let (mut transport, mut out) = (new_transport(), Outbox::default());
    assert!(transport.handle_stun(start(), flow(), data, &mut out).is_err(), "nobody knows the password");
    assert!(out.datagrams().next().is_none(), "a stranger gets no answer");
    assert!(!transport.accepts_from(flow()), "and no path");

    let check = signed_check(&transport, data.get(..data.len().min(1200)).unwrap_or_default());
    let result = transport.handle_stun(start(), flow(), &check, &mut out);
    let answers: Vec<&[u8]> = out.datagrams().map(|(_, datagram)| datagram).collect();
    stun_answer(data);
    if result.is_err() {
        assert!(answers.is_empty(), "what is refused is not answered");
        return;
    }
    let [answer] = answers[..] else { panic!("one answer to one check") };
    assert!(answer.starts_with(&[0x01, 0x01]) || answer.starts_with(&[0x01, 0x11]));
    assert_eq!(answer[8..20], check[8..20], "the transaction is echoed");
    assert_eq!(usize::from(u16::from_be_bytes([answer[2], answer[3]])), answer.len() - 20);
    assert_eq!(transport.accepts_from(flow()), answer[1] == 0x01, "success makes a path");
}

/// The input as the answer to a check of ours, and as the attributes of one that is signed with the right password.
fn stun_answer(data: &[u8]) {
    let (mut transport, mut out) = (new_transport(), Outbox::default());
    let ice = IceCredentials { ufrag: "peer".to_owned(), pwd: "0123456789abcdefghijkl".to_owned() };
    let remote = RemoteParams { ice: ice.clone(), fingerprint: Fingerprint([7; 32]), has_data: false };
    transport.set_remote(start(), &remote).expect("nothing contradicts it");
    let asked = transport.probe(start(), flow(), &mut StdRng::seed_from_u64(2), &mut out).expect("the client is known");
    let mut forged = data.to_vec();
    if let Some(transaction) = forged.get_mut(8..20) {
        transaction.copy_from_slice(&asked);
    }
    assert!(transport.handle_answer(start(), flow(), &forged).is_err(), "nobody knows the client's password");
    assert!(!transport.accepts_from(flow()));

    let mut message = vec![1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend_from_slice(&asked);
    message.extend_from_slice(data.get(..data.len().min(1200)).unwrap_or_default());
    sign(&mut message, &ice.pwd);
    let is_proof = transport.handle_answer(start(), flow(), &message).is_ok();
    assert_eq!(transport.accepts_from(flow()), is_proof);
    assert_eq!(transport.selected().is_some(), is_proof);
}

/// Datagrams of a client that has a path: nothing but a real handshake connects, and answers stay in proportion.
pub(crate) fn dtls(data: &[u8]) {
    let (mut transport, mut out) = (new_transport(), Outbox::default());
    let check = signed_check(&transport, &[0, 0x25, 0, 0]);
    assert!(transport.handle_stun(start(), flow(), &check, &mut out).is_ok());
    out.clear();
    let mut now = start();
    for datagram in messages(data).take(16) {
        let _ = transport.handle_dtls(now, flow(), datagram, &mut out);
        now += Duration::from_millis(50);
    }
    for _ in 0..4 {
        let Some(next) = transport.next_timeout().filter(|&next| next < start() + Duration::from_secs(20)) else { break };
        now = now.max(next);
        transport.handle_timeout(now, &mut out);
    }
    let sent: usize = out.datagrams().map(|(_, datagram)| datagram.len()).sum();
    assert!(sent <= MAX_FLIGHTS * MAX_FLIGHT_LEN, "{sent} bytes for {} received", data.len());
    assert!(transport.srtp().is_none());
    while let Some(event) = transport.poll_event() {
        assert!(!matches!(event, TransportEvent::Connected { .. } | TransportEvent::Data { .. }));
    }
}

/// Of the server, once for each of 16 datagrams and four timeouts.
const MAX_FLIGHTS: usize = 20;
/// Certificate and key exchange of one handshake are below this.
const MAX_FLIGHT_LEN: usize = 4096;

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn new_transport() -> Transport {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    let certificate = CERTIFICATE.get_or_init(|| Certificate::generate().expect("the system has randomness"));
    Transport::new(start(), certificate, "room", &mut StdRng::seed_from_u64(1))
}

fn flow() -> Flow {
    let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
    Flow { protocol: Protocol::Udp, local: address(7882), remote: address(40_000) }
}

/// A Binding request (RFC 8489) with the right user name, these attributes behind it, integrity and fingerprint.
fn signed_check(transport: &Transport, attributes: &[u8]) -> Vec<u8> {
    let ice = transport.local_ice();
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    push_attribute(&mut message, 0x0006, format!("{}:peer", ice.ufrag).as_bytes());
    message.extend_from_slice(attributes);
    sign(&mut message, &ice.pwd);
    message
}

/// Integrity and fingerprint.
fn sign(message: &mut Vec<u8>, pwd: &str) {
    message.resize(message.len().next_multiple_of(4), 0);
    set_length(message, 24);
    let mut mac = Hmac::<Sha1>::new_from_slice(pwd.as_bytes()).expect("a key of any length");
    mac.update(message);
    push_attribute(message, 0x0008, &mac.finalize().into_bytes());
    set_length(message, 8);
    let fingerprint = crc32(message) ^ 0x5354_554e;
    push_attribute(message, 0x8028, &fingerprint.to_be_bytes());
}

fn push_attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Sets the length field as if `extra` bytes followed.
fn set_length(message: &mut [u8], extra: usize) {
    let length = u16::try_from(message.len() - 20 + extra).unwrap_or(u16::MAX);
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// ITU V.42, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
