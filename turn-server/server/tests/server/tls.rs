//! Clients in TLS.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use turn_proto::client::User;
use turn_proto::wire::method;

use crate::process::Server;

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client that has said hello.
pub(crate) struct Unfinished(Tls);

impl Unfinished {
    pub(crate) fn begin(server: &Server, certificate: &[u8]) -> Self {
        let mut stream = open(server, certificate).unwrap();
        stream.conn.write_tls(&mut stream.sock).unwrap();
        Self(stream)
    }

    /// The rest of the handshake, and a Binding request that is answered.
    pub(crate) fn finish(mut self) -> std::io::Result<()> {
        bind(&mut self.0)
    }
}

/// A client that trusts this certificate and gets an answer.
pub(crate) fn connect(server: &Server, certificate: &[u8]) -> std::io::Result<Tls> {
    let mut stream = open(server, certificate)?;
    bind(&mut stream)?;
    Ok(stream)
}

/// A Binding request and its answer.
pub(crate) fn bind(stream: &mut Tls) -> std::io::Result<()> {
    stream.write_all(&User::new("", "").request(method::BINDING, |_| {}))?;
    let mut header = [0; 32];
    stream.read_exact(&mut header)
}

/// What the server was started with.
pub(crate) fn certificate_of(server: &Server) -> Vec<u8> {
    CertificateDer::from_pem_file(server.folder.path().join("certificate.pem")).unwrap().to_vec()
}

fn open(server: &Server, certificate: &[u8]) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", server.tls.unwrap()))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(StreamOwned::new(tls, socket))
}
