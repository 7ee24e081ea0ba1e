//! Sends spans to a collector of OpenTelemetry: OTLP over HTTP with JSON (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP").
//!
//! In: spans. Out: POST requests of up to [`BATCH`] spans, from a thread of its own. Invariants: nobody waits for the collector
//! but that thread, at the end for [`FAREWELL`] at most; what it can't take in time is counted and dropped. The crates of OpenTelemetry would bring three dozen
//! others, an HTTP client among them, for one document and one request.
//! Not here: TLS. A collector that is not on a trusted network is reached by way of a local one.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntCounterVec};
use serde_json::{Value, json};
use tracing::{debug, info, warn};

use super::Span;

/// Spans that wait; more are dropped.
const QUEUE: usize = 4096;
/// Spans of one request.
const BATCH: usize = 512;
/// A request has waited at most so long for its spans.
const LINGER: Duration = Duration::from_secs(1);
/// For a whole request: connecting, sending it, and the first line of the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// At the end, for what waits.
const FAREWELL: Duration = Duration::from_secs(3);
/// `SPAN_KIND_SERVER` and `SPAN_KIND_INTERNAL`.
const KIND_SERVER: u8 = 2;
const KIND_INTERNAL: u8 = 1;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u8 = 2;

/// Where a collector listens: `http://host:port`, with `/v1/traces` unless another path is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collector {
    authority: String,
    path: String,
}

impl FromStr for Collector {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or("write it as \"http://host:4318\"; TLS is a local collector's work")?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = authority.rsplit_once(':').ok_or("the port is missing: OTLP over HTTP has 4318")?;
        if host.is_empty() || port.parse::<u16>().is_err() || url.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(format!("{url:?} is no URL such as \"http://host:4318\""));
        }
        let path = if path.is_empty() || path == "/" { "/v1/traces" } else { path };
        Ok(Self { authority: authority.to_owned(), path: path.to_owned() })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// The queue to the thread that sends. At its end what waits is sent, as far as there is time.
pub(crate) struct Exporter {
    queue: Option<SyncSender<Span>>,
    /// Its other end is the thread's.
    end: Receiver<()>,
    farewell: Duration,
    dropped: IntCounter,
}

impl Exporter {
    /// Begins to send. `counts` has the label `result`; `region` may be empty.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(collector: Collector, region: &str, counts: &IntCounterVec) -> io::Result<Self> {
        Self::with_patience(collector, region, counts, PATIENCE, FAREWELL)
    }

    fn with_patience(
        collector: Collector,
        region: &str,
        counts: &IntCounterVec,
        patience: Duration,
        farewell: Duration,
    ) -> io::Result<Self> {
        let (queue, spans) = sync_channel(QUEUE);
        let (running, end) = sync_channel::<()>(0);
        let (sent, failed) = (counts.with_label_values(&["sent"]), counts.with_label_values(&["failed"]));
        let resource = resource(region);
        let work = move || {
            let _running = running;
            let mut outage = Outage::default();
            while let Some(batch) = next_batch(&spans) {
                let size = batch.len() as u64;
                match post(&collector, &document(&batch, &resource), patience) {
                    Ok(()) => {
                        sent.inc_by(size);
                        if outage.ends() {
                            info!(%collector, "spans are sent again");
                        }
                    }
                    Err(error) => {
                        failed.inc_by(size);
                        if outage.begins() {
                            warn!(%error, %collector, "spans can't be sent and are lost; a line will say when they are sent again");
                        }
                        debug!(%error, spans = size, "spans were not sent");
                    }
                }
            }
        };
        thread::Builder::new().name("traces".to_owned()).spawn(work)?;
        Ok(Self { queue: Some(queue), end, farewell, dropped: counts.with_label_values(&["dropped"]) })
    }

    /// Waits for nothing.
    pub(crate) fn send(&self, span: Span) {
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(span).is_err()) {
            self.dropped.inc();
        }
    }

    #[cfg(test)]
    #[expect(clippy::unwrap_used, reason = "a counter with a good name")]
    pub(crate) fn none() -> Self {
        let (_, end) = sync_channel(0);
        Self { queue: None, end, farewell: FAREWELL, dropped: IntCounter::new("dropped", "dropped").unwrap() }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.queue = None;
        // nothing is ever sent: what ends it is the thread's end
        if self.end.recv_timeout(self.farewell) == Err(RecvTimeoutError::Timeout) {
            warn!("the collector of traces is too slow: what waits for it is lost");
        }
    }
}

/// Whether the collector takes what it gets: one line of the log at each change, however many requests there are.
#[derive(Default)]
struct Outage(bool);

impl Outage {
    /// A request has failed. True: the one before has not.
    fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.0, true)
    }

    /// A request has not failed. True: the one before has.
    fn ends(&mut self) -> bool {
        std::mem::replace(&mut self.0, false)
    }
}

/// None: nobody sends any more.
fn next_batch(spans: &Receiver<Span>) -> Option<Vec<Span>> {
    let mut batch = vec![spans.recv().ok()?];
    let until = Instant::now() + LINGER;
    while batch.len() < BATCH {
        match spans.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(span) => batch.push(span),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(batch)
}

fn resource(region: &str) -> Value {
    let attributes = [("service.name", "sluice"), ("service.version", env!("CARGO_PKG_VERSION")), ("cloud.region", region)];
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| attribute(key, value));
    json!({ "attributes": attributes.collect::<Vec<_>>() })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn document(batch: &[Span], resource: &Value) -> String {
    let spans: Vec<Value> = batch.iter().map(span).collect();
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "scope": { "name": "sluice" }, "spans": spans }] }] }).to_string()
}

/// Ids are hexadecimal and 64-bit numbers are text in OTLP's JSON.
fn span(span: &Span) -> Value {
    let mut attributes =
        vec![attribute("participant", &span.participant), json!({ "key": "conn", "value": { "intValue": span.conn.to_string() } })];
    attributes.extend(span.reason.map(|reason| attribute("reason", reason)));
    let mut value = json!({
        "traceId": hex(&span.trace),
        "spanId": hex(&span.id),
        "name": span.name,
        "kind": if span.parent.is_none() { KIND_SERVER } else { KIND_INTERNAL },
        "startTimeUnixNano": span.began.as_nanos().to_string(),
        "endTimeUnixNano": span.ended.as_nanos().to_string(),
        "attributes": attributes,
        "status": {},
    });
    if let Some(parent) = span.parent {
        value["parentSpanId"] = hex(&parent).into();
    }
    if span.is_failure {
        value["status"] = json!({ "code": STATUS_ERROR, "message": span.reason.unwrap_or_default() });
    }
    value
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn post(collector: &Collector, body: &str, patience: Duration) -> io::Result<()> {
    let Collector { authority, path } = collector;
    let until = Instant::now() + patience;
    let addresses: Vec<SocketAddr> = authority.to_socket_addrs()?.collect();
    let stream = connect(&addresses, until)?;
    let mut stream = Timed { stream: &stream, until };
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    // "HTTP/1.1 2"
    let mut status = [0; 10];
    stream.read_exact(&mut status)?;
    let is_taken = status.starts_with(b"HTTP/1.") && status.ends_with(b" 2");
    if is_taken { Ok(()) } else { Err(io::Error::other("the collector refuses them")) }
}

/// To the first address that answers. One that does not leaves time for those behind it.
fn connect(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (address, untried) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let share = left(until)? / u32::try_from(untried).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A stream that is given up at a time, however little comes or goes at once.
struct Timed<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl io::Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

impl io::Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::BufRead as _;
    use std::net::TcpListener;

    use prometheus::Opts;

    use super::*;

    #[test]
    fn urls_of_collectors() {
        let parsed = |url: &str| url.parse::<Collector>().map(|collector| collector.to_string());
        assert_eq!(parsed("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(parsed("http://[::1]:4318/").unwrap(), "http://[::1]:4318/v1/traces");
        assert_eq!(parsed("http://otel:80/x/v1/traces").unwrap(), "http://otel:80/x/v1/traces");
        for wrong in
            ["", "https://otel:4318", "http://otel", "http://:4318", "http://otel:4318/a b", "http://otel:4318/\r\nX: y", "otel:4318"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_collector_gets_what_was_queued_before_the_end_and_one_that_is_gone_holds_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector: Collector = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let serving = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = io::BufReader::new(stream);
            let mut length = 0;
            for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
                length = line.strip_prefix("Content-Length: ").map_or(length, |length| length.parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()
        });
        let counts = IntCounterVec::new(Opts::new("spans", "spans"), &["result"]).unwrap();
        let exporter = Exporter::start(collector.clone(), "eu", &counts).unwrap();
        let root = a_span();
        exporter.send(Span { id: [2; 8], parent: Some([1; 8]), name: "join", ..root.clone() });
        exporter.send(root.clone());
        drop(exporter);
        let document = serving.join().unwrap();
        let spans = &document["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!((spans[0]["parentSpanId"].as_str(), spans[1].get("parentSpanId")), (Some("0101010101010101"), None));
        assert_eq!(spans[1]["traceId"], "abababababababababababababababab");
        assert_eq!(spans[1]["startTimeUnixNano"], "1700000000000000001");
        assert_eq!(spans[1]["status"], json!({"code": 2, "message": "ice-no-path"}));
        assert_eq!(spans[1]["attributes"][0], json!({"key": "participant", "value": {"stringValue": "PA_x"}}));
        assert_eq!(document["resourceSpans"][0]["resource"]["attributes"][2]["value"]["stringValue"], "eu");
        assert_eq!(counts.with_label_values(&["sent"]).get(), 2);
        // nobody listens there any more
        let exporter = Exporter::start(collector, "", &counts).unwrap();
        exporter.send(root);
        drop(exporter);
        assert_eq!(counts.with_label_values(&["failed"]).get(), 1);
    }

    #[test]
    fn a_collector_that_takes_everything_and_says_nothing_holds_nobody_up_at_the_end() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
        let counts = IntCounterVec::new(Opts::new("spans", "spans"), &["result"]).unwrap();
        // waiting for the thread would take an hour
        let (patience, farewell) = (Duration::from_secs(3600), Duration::from_millis(1));
        let exporter = Exporter::with_patience(collector, "", &counts, patience, farewell).unwrap();
        exporter.send(a_span());
        let (_asking, _) = silent.accept().unwrap();
        drop(exporter);
        assert_eq!((counts.with_label_values(&["sent"]).get(), counts.with_label_values(&["failed"]).get()), (0, 0));
    }

    #[test]
    fn a_request_whose_time_is_over_goes_on_for_no_byte_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        listener.accept().unwrap().0.write_all(b"HTTP/1.1 200 OK").unwrap();
        let (mut byte, now) = ([0], Instant::now());
        let over = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        over(Timed { stream: &stream, until: now }.read_exact(&mut byte));
        over(Timed { stream: &stream, until: now }.write_all(&byte));
        over(connect(&[address], now).map(drop));
        Timed { stream: &stream, until: now + Duration::from_secs(3600) }.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"H");
    }

    #[test]
    fn an_outage_is_told_once_and_its_end_once() {
        let mut outage = Outage::default();
        assert!(!outage.ends());
        assert_eq!([outage.begins(), outage.begins(), outage.begins()], [true, false, false]);
        assert_eq!([outage.ends(), outage.ends()], [true, false]);
        assert!(outage.begins());
    }

    fn a_span() -> Span {
        Span {
            trace: [0xab; 16],
            id: [1; 8],
            parent: None,
            name: "stay",
            began: Duration::from_nanos(1_700_000_000_000_000_001),
            ended: Duration::from_nanos(1_700_000_001_000_000_000),
            participant: "PA_x".to_owned(),
            conn: 7,
            reason: Some("ice-no-path"),
            is_failure: true,
        }
    }
}
