//! Certificates that change, draining, junk on streams.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use turn_proto::client::User;
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::write::Writer;
use turn_proto::wire::{attribute, method};

use crate::client::Client;
use crate::process::{Server, WITH_CERTIFICATE, until, write_certificate};
use crate::tls::{bind, connect};

#[test]
fn a_drained_server_ends_with_its_last_allocation() {
    let mut server = Server::start("");
    let mut client = Client::new(&server, "PA_1");
    assert_eq!(client.allocate().0, Class::Success);
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200"));
    server.signal(Signal::SIGTERM);
    server.await_metric("turn_draining", |draining| draining == 1.0);
    assert!(server.get("/readyz").starts_with("HTTP/1.1 503"), "nothing new is to be sent here");
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"), "but it is well");
    assert_eq!(Client::new(&server, "PA_2").allocate(), (Class::Error, Some(508)));
    server.await_metric("turn_allocations_total{result=\"draining\"}", |refused| refused == 1.0);
    let refresh = |seconds: u32| {
        move |writer: &mut Writer| {
            writer.attribute(attribute::LIFETIME, &seconds.to_be_bytes());
        }
    };
    assert_eq!(client.ask(method::REFRESH, refresh(600), |message| message.class), Class::Success, "what there is goes on");
    client.ask(method::REFRESH, refresh(0), |message| message.class);
    drop(client);
    until("the end", || server.has_ended());
}

#[test]
fn a_drained_server_ends_at_its_deadline() {
    let mut server = Server::start("drain = \"1s\"\n");
    assert_eq!(Client::new(&server, "PA_1").allocate().0, Class::Success);
    server.signal(Signal::SIGTERM);
    until("the end", || server.has_ended());
}

#[test]
fn a_new_certificate_is_used_without_dropping_anybody() {
    let server = Server::start(WITH_CERTIFICATE);
    server.await_metric("turn_certificate_expiry_seconds", |seconds| seconds > 86_400.0);
    let first = write_certificate(&server.folder, "localhost");
    // the one that was made at the start is replaced; both this and the next exchange are noticed
    let mut old = None;
    until("the first exchange", || {
        old = connect(&server, &first).ok();
        old.is_some()
    });
    let second = write_certificate(&server.folder, "localhost");
    until("the second exchange", || connect(&server, &second).is_ok());
    assert!(connect(&server, &first).is_err(), "the old one is not shown any more");
    bind(&mut old.unwrap()).expect("the connection of before goes on");
}

#[test]
fn a_certificate_that_can_not_be_used_leaves_the_old_one() {
    let server = Server::start(WITH_CERTIFICATE);
    let first = write_certificate(&server.folder, "localhost");
    until("the exchange", || connect(&server, &first).is_ok());
    std::fs::write(server.folder.path().join("key.pem"), "nonsense").unwrap();
    until("the warning", || server.log().contains("can't be used"));
    assert!(connect(&server, &first).is_ok());
}

#[test]
fn a_stream_that_is_not_turn_is_closed() {
    let server = Server::start("");
    for junk in
        [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"\x00\x14\x00\x01\x00\x00\x21\x12\xa4\x42", &[0xFF; 64]]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", server.tcp)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(junk).unwrap();
        let mut answer = Vec::new();
        // the end of the stream, or a reset because not all was read
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{junk:?}");
    }
    server.await_metric("turn_streams_total{result=\"expelled\"}", |expelled| expelled >= 4.0);
    assert!(server.get("/healthz").ends_with("ok\n"));
    assert!(server.get("/").starts_with("HTTP/1.1 404"));
}

#[test]
fn who_asks_for_metrics_a_byte_at_a_time_does_not_keep_others_waiting() {
    let server = Server::start("");
    let mut slow = TcpStream::connect(("127.0.0.1", server.metrics)).unwrap();
    // until it is hung up on, which is before the head is as long as it may be
    let mut sent = 0;
    until("the end of the slow one's time", || {
        sent += 1;
        slow.write_all(b"G").is_err()
    });
    assert!(server.get("/healthz").ends_with("ok\n"), "after {sent} bytes");
}

#[test]
fn a_message_that_comes_a_byte_at_a_time_is_answered() {
    let server = Server::start("");
    let mut stream = TcpStream::connect(("127.0.0.1", server.tcp)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for byte in User::new("", "").request(method::BINDING, |_| {}) {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(Message::parse(&answer).unwrap().attributes.mapped, Some(stream.local_addr().unwrap()));
}
