//! `GET /metrics`, `GET /healthz` and `GET /readyz` for Prometheus, probes and balancers: one request a connection, one connection
//! at a time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use prometheus::{Registry, TextEncoder};
use turn_server::TurnHandle;

/// Longest request head.
const MAX_HEAD_BYTES: u64 = 8 * 1024;
/// Time for one client to ask, and again to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Serves in a thread of its own. Returns the address with the port that the system chose.
pub(super) fn serve(address: SocketAddr, registry: Registry, server: TurnHandle) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(&stream, &registry, &server) {
                tracing::debug!(%error, "a scrape failed");
            }
        }
    })?;
    Ok(bound)
}

/// Reads until a time, however the bytes come: one at a time would otherwise hold up the next client for hours.
struct Hasty<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl io::Read for Hasty<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut stream = self.stream;
        stream.read(into)
    }
}

fn answer(mut stream: &TcpStream, registry: &Registry, server: &TurnHandle) -> io::Result<()> {
    let hasty = Hasty { stream, deadline: Instant::now() + PATIENCE };
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = BufReader::new(hasty.take(MAX_HEAD_BYTES));
    let mut request = String::new();
    head.read_line(&mut request)?;
    // the rest of the head is of no interest, but a connection that is closed with unread bytes is reset
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = request.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let (status, body) = match path {
        "/metrics" => ("200 OK", TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default()),
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        // alive, but not for anybody new
        "/readyz" if server.snapshot().is_draining => ("503 Service Unavailable", "draining\n".to_owned()),
        "/readyz" => ("200 OK", "ok\n".to_owned()),
        _ => ("404 Not Found", "only /metrics, /healthz and /readyz are here\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
