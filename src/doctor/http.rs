//! The smallest HTTP client that the checks need, with TLS whose faults are told apart.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use turn_server::not_after;

use super::finding::Finding;
use crate::certificates::LEAST_VALIDITY;

const PATIENCE: Duration = Duration::from_secs(5);
/// Where systems keep the certificates that they trust: Debian, Red Hat, SUSE, Alpine.
const ROOTS: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// A server by its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) is_secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Where to connect. None: where the name leads.
    pub(super) at: Option<SocketAddr>,
}

impl Target {
    /// `ws`, `wss`, `http` and `https` URLs; what follows the authority is not looked at.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_secure = match scheme {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next().filter(|authority| !authority.is_empty())?;
        let default = if is_secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, default),
        };
        Some(Self { is_secure, host: host.trim_matches(['[', ']']).to_owned(), port, at: None })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.is_secure { "wss" } else { "ws" }, self.authority())
    }
}

/// A connection, with or without TLS.
pub(super) trait Connection: Read + Write + Send {
    /// How long a read waits from now on.
    fn wait_at_most(&self, patience: Duration) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn wait_at_most(&self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))
    }
}

impl Connection for StreamOwned<ClientConnection, TcpStream> {
    fn wait_at_most(&self, patience: Duration) -> io::Result<()> {
        self.sock.set_read_timeout(Some(patience))
    }
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The name has no address.
    Name(io::Error),
    /// Nobody answers there.
    Tcp(SocketAddr, io::Error),
    /// What is wrong with the certificate or TLS.
    Tls(rustls::Error),
    /// The connection broke.
    Io(io::Error),
}

impl Target {
    pub(super) fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let addresses: Vec<SocketAddr> = match self.at {
            Some(address) => vec![address],
            None => (self.host.as_str(), self.port).to_socket_addrs().map_err(ConnectError::Name)?.collect(),
        };
        let mut last = ConnectError::Name(io::ErrorKind::NotFound.into());
        for address in addresses {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream
                        .set_read_timeout(Some(PATIENCE))
                        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
                        .map_err(ConnectError::Io)?;
                    return Ok(stream);
                }
                Err(error) => last = ConnectError::Tcp(address, error),
            }
        }
        Err(last)
    }

    /// Connects; with TLS the chain, the name and the time of the certificate are verified.
    pub(super) fn connect(&self) -> Result<Box<dyn Connection>, ConnectError> {
        let stream = self.tcp()?;
        if !self.is_secure {
            return Ok(Box::new(stream));
        }
        let mut tls = self.tls(stream)?;
        tls.flush().map_err(tls_error)?;
        Ok(Box::new(tls))
    }

    fn tls(&self, stream: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>, ConnectError> {
        let mut roots = RootCertStore::empty();
        let files = std::env::var_os("SSL_CERT_FILE").into_iter().chain(ROOTS.map(Into::into));
        if let Some(certificates) = files.filter_map(|file| CertificateDer::pem_file_iter(file).ok()).next() {
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ConnectError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(|_| ConnectError::Name(io::ErrorKind::InvalidInput.into()))?;
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(ConnectError::Tls)?;
        let mut stream = stream;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(tls_error)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    /// GET; status, the `Date` header in seconds since the Unix epoch, body.
    pub(super) fn get(&self, path: &str) -> Result<Answer, ConnectError> {
        let mut connection = self.connect()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.authority());
        connection.write_all(request.as_bytes()).map_err(ConnectError::Io)?;
        let mut bytes = Vec::new();
        // a server that does not end TLS properly has answered all the same
        let _ = connection.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes);
        Answer::parse(&String::from_utf8_lossy(&bytes)).ok_or(ConnectError::Io(io::ErrorKind::InvalidData.into()))
    }

    /// The certificate of a TLS server; none without TLS.
    pub(super) fn certificate(&self) -> Option<Finding> {
        if !self.is_secure {
            return None;
        }
        let certificate = |tls: StreamOwned<ClientConnection, TcpStream>| {
            let leaf = tls.conn.peer_certificates().and_then(|chain| chain.first().map(|leaf| leaf.as_ref().to_vec()));
            leaf.and_then(|leaf| not_after(&leaf))
        };
        Some(match self.tcp().and_then(|stream| self.tls(stream)).map(certificate) {
            Ok(Some(until)) => {
                let left = until.saturating_sub(super::machine::unix_now());
                let detail = format!("the certificate of {} is good for {} more days", self.host, left.as_secs() / 86_400);
                if left >= LEAST_VALIDITY {
                    Finding::ok("certificate", detail)
                } else {
                    Finding::warning("certificate", "certificate-expires-soon", detail, "renew it: see whether the automatic renewal works")
                }
            }
            Ok(None) => Finding::warning("certificate", "certificate-unreadable", "its time can't be read", "renew it"),
            Err(error) => self.explain("certificate", &error),
        })
    }

    /// What a failed connection means.
    pub(super) fn explain(&self, check: &'static str, error: &ConnectError) -> Finding {
        let host = &self.host;
        match error {
            ConnectError::Name(error) => {
                Finding::failed(check, "unknown-host", format!("{host} has no address: {error}"), "correct the name, or its DNS record")
            }
            ConnectError::Tcp(address, error) => Finding::failed(
                check,
                "http-unreachable",
                format!("nobody answers at {address} (tcp): {error}"),
                "start the server or its proxy, and open the TCP port in every firewall on the way",
            ),
            ConnectError::Tls(rustls::Error::InvalidCertificate(fault)) => {
                let (cause, remedy) = match fault {
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                        ("certificate-expired", "renew it, and see whether the automatic renewal works")
                    }
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                        ("certificate-not-yet-valid", "compare the clocks of this machine and of the issuer")
                    }
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        ("certificate-other-name", "get one that names this host")
                    }
                    CertificateError::UnknownIssuer => (
                        "certificate-untrusted",
                        "serve the whole chain with all intermediate certificates; browsers refuse self-signed ones",
                    ),
                    _ => ("certificate-invalid", "get another one"),
                };
                Finding::failed(check, cause, format!("the certificate of {host}: {fault}"), remedy)
            }
            ConnectError::Tls(error) => {
                Finding::failed(check, "tls", format!("TLS with {host}: {error}"), "see the configuration of whatever ends TLS there")
            }
            ConnectError::Io(error) => {
                Finding::failed(check, "http-broken", format!("the connection to {host} broke: {error}"), "see the server's log")
            }
        }
    }
}

fn tls_error(error: io::Error) -> ConnectError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => ConnectError::Tls(error),
        Err(error) => ConnectError::Io(error),
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Seconds since the Unix epoch.
    pub(super) date_s: Option<u64>,
    pub(super) body: String,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let date = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("date"));
        let date_s = date.and_then(|(_, value)| http_date_s(value.trim()));
        Some(Self { status, date_s, body: body.to_owned() })
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
fn http_date_s(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_ascii_whitespace().skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let time = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_name_a_host_and_a_port() {
        let parsed = |url: &str| Target::parse(url).map(|target| (target.is_secure, target.host, target.port));
        assert_eq!(parsed("wss://call.example.org/x?y"), Some((true, "call.example.org".to_owned(), 443)));
        assert_eq!(parsed("http://127.0.0.1:7880"), Some((false, "127.0.0.1".to_owned(), 7880)));
        assert_eq!(parsed("ws://[::1]:7880/"), Some((false, "::1".to_owned(), 7880)));
        assert_eq!(parsed("https://[2001:db8::1]"), Some((true, "2001:db8::1".to_owned(), 443)));
        assert_eq!((parsed("ftp://x"), parsed("x"), parsed("http://"), parsed("http://x:y")), (None, None, None, None));
    }

    #[test]
    fn the_date_header_is_a_time() {
        assert_eq!(http_date_s("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!((http_date_s("yesterday"), http_date_s("Sun, 06 Foo 1994 08:49:37 GMT")), (None, None));
        let answer = Answer::parse("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:01:00 GMT\r\n\r\nok").unwrap();
        assert_eq!((answer.status, answer.date_s, answer.body.as_str()), (200, Some(60), "ok"));
    }
}
