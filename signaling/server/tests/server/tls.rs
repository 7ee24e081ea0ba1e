//! HTTPS and WSS on the port that is shared with others.

use std::sync::Arc;

use futures_util::StreamExt as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use signaling_server::SharedPort;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{TestServer, soon, token};

#[tokio::test]
async fn a_web_socket_in_tls_has_a_place_among_all_connections() {
    let (server, connector) = start(1).await;
    let tls = connect(&server, &connector).await.unwrap();
    let url = format!("wss://localhost/rtc?access_token={}", token("alice", "lobby"));
    let (mut socket, _) = soon(tokio_tungstenite::client_async(url, tls)).await.unwrap();
    soon(socket.next()).await.unwrap().unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(soon(second.read(&mut [0])).await.unwrap_or(0), 0, "all places are taken");

    drop(socket);
    let served = async { while get(&server, &connector, "/livez").await.is_none() {} };
    soon(served).await;
}

#[tokio::test]
async fn a_server_that_is_found_by_tls_names_itself_so() {
    let (server, connector) = start(10).await;
    let answer = get(&server, &connector, "/settings/regions").await.unwrap();
    assert!(answer.contains("wss://localhost"), "{answer}");
}

/// A server that serves only TLS, with places for so many connections.
async fn start(max_connections: usize) -> (TestServer, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.clone()], key.into()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let server = TestServer::with(|config| {
        config.shared = SharedPort { tls: Some(Arc::new(tls)), ..SharedPort::default() };
        config.limits.max_connections = max_connections;
    })
    .await;
    (server, TlsConnector::from(Arc::new(client)))
}

async fn connect(server: &TestServer, connector: &TlsConnector) -> Option<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    soon(connector.connect(ServerName::try_from("localhost").unwrap(), stream)).await.ok()
}

/// The answer; None if there was no place.
async fn get(server: &TestServer, connector: &TlsConnector, path: &str) -> Option<String> {
    let mut stream = connect(server, connector).await?;
    stream
        .write_all(
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
                token("alice", "lobby")
            )
            .as_bytes(),
        )
        .await
        .ok()?;
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}
