//! Certificates that change, draining, junk on streams.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use turn_proto::client::User;
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::{attribute, method};

use crate::process::{Server, until, write_certificate};

/// Asks over UDP until it is answered; twice if it is challenged.
fn ask(server: &Server, socket: &UdpSocket, user: &mut User, method: u16) -> (Class, Option<u16>) {
    loop {
        let request = user.request(method, |writer| {
            writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        });
        socket.send_to(&request, server.address()).unwrap();
        let mut answer = [0; 2048];
        let length = socket.recv(&mut answer).unwrap();
        let message = Message::parse(&answer[..length]).unwrap();
        if !user.learn(&message) {
            return (message.class, message.attributes.error_code);
        }
    }
}

fn client(server: &Server) -> (UdpSocket, User) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (name, password) = server.credentials("PA_1");
    (socket, User::new(name, password))
}

#[test]
fn a_drained_server_ends_with_its_last_allocation() {
    let mut server = Server::start("");
    let (socket, mut user) = client(&server);
    assert_eq!(ask(&server, &socket, &mut user, method::ALLOCATE).0, Class::Success);
    server.signal(Signal::SIGTERM);
    server.await_metric("turn_draining", |draining| draining == 1.0);
    let (other, mut newcomer) = client(&server);
    assert_eq!(ask(&server, &other, &mut newcomer, method::ALLOCATE), (Class::Error, Some(508)));
    assert!(!server.has_ended());
    let request = user.request(method::REFRESH, |writer| {
        writer.attribute(attribute::LIFETIME, &[0; 4]);
    });
    socket.send_to(&request, server.address()).unwrap();
    until("the end", || server.has_ended());
}

#[test]
fn a_drained_server_ends_at_its_deadline() {
    let mut server = Server::start("drain = \"1s\"\n");
    let (socket, mut user) = client(&server);
    assert_eq!(ask(&server, &socket, &mut user, method::ALLOCATE).0, Class::Success);
    server.signal(Signal::SIGTERM);
    until("the end", || server.has_ended());
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(server: &Server, certificate: &[u8]) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", server.tls.unwrap()))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(tls, socket);
    stream.flush()?;
    bind(&mut stream)?;
    Ok(stream)
}

/// A Binding request and its answer.
fn bind(stream: &mut Tls) -> std::io::Result<()> {
    stream.write_all(&User::new("", "").request(method::BINDING, |_| {}))?;
    let mut header = [0; 32];
    stream.read_exact(&mut header)
}

#[test]
fn a_new_certificate_is_used_without_dropping_anybody() {
    let server = Server::start("tls_port = 0\ncertificate = \"FOLDER/certificate.pem\"\nkey = \"FOLDER/key.pem\"\n");
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
    let server = Server::start("tls_port = 0\ncertificate = \"FOLDER/certificate.pem\"\nkey = \"FOLDER/key.pem\"\n");
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
