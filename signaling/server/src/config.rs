//! What an operator can set about the signaling server, as values with units; text formats are the caller's business.
//!
//! Every bound here says what happens at it. Not here: room limits (`signaling_core::SignalingConfig`), which are the
//! same whatever the transport, and TLS, which ends before this server.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use signaling_api::Secret;
use signaling_core::SignalingConfig;

use crate::proxy::IpPrefix;
use crate::shared::SharedPort;
use crate::traces::export::Collector;

/// Everything [`crate::Server::serve`] needs to know.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address of HTTP and WebSocket; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Who may mint access tokens.
    pub keys: ApiKeys,
    /// Reverse proxies whose `X-Forwarded-For` is believed; empty: nobody's.
    pub trusted_proxies: Vec<IpPrefix>,
    /// Bounds of this server.
    pub limits: ServerLimits,
    /// Token endpoint of the web demo. None: it does not exist.
    pub demo: Option<DemoConfig>,
    /// Who may read `/metrics`.
    pub metrics: MetricsAccess,
    /// Memory for quality timelines of all participants together; beyond, the oldest minutes are forgotten. 0: there are none.
    pub timeline_bytes: usize,
    /// Where traces of stays are sent. None: nowhere.
    pub traces: Option<Collector>,
    /// Rooms and sessions.
    pub signaling: SignalingConfig,
    /// What else is served on the port of `listen`.
    pub shared: SharedPort,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7880),
            keys: ApiKeys::default(),
            trusted_proxies: Vec::new(),
            limits: ServerLimits::default(),
            demo: None,
            metrics: MetricsAccess::default(),
            timeline_bytes: 256 * 1024 * 1024,
            traces: None,
            signaling: SignalingConfig::default(),
            shared: SharedPort::default(),
        }
    }
}

/// Where `/metrics` is, and for whom. Numbers of a node tell strangers how it is used and when it is weak.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetricsAccess {
    /// Nowhere.
    Off,
    /// On the address of HTTP, for clients with these addresses; never through a proxy that is not trusted, since everybody comes
    /// from its address.
    Shared(Vec<IpPrefix>),
    /// On an address of its own, for everybody who can reach it.
    Own(SocketAddr),
}

impl Default for MetricsAccess {
    /// For this machine.
    fn default() -> Self {
        Self::Shared(IpPrefix::loopback().to_vec())
    }
}

/// API keys with their secrets. An access token names its key in `iss`.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(BTreeMap<String, Secret>);

impl ApiKeys {
    /// One key, as in development.
    #[must_use]
    pub fn single(key: impl Into<String>, secret: impl Into<String>) -> Self {
        Self(BTreeMap::from([(key.into(), Secret::new(secret))]))
    }

    /// The secret of a key.
    #[must_use]
    pub fn secret(&self, key: &str) -> Option<&Secret> {
        self.0.get(key)
    }

    /// Every key.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The key that this server signs with itself: the first in alphabetical order.
    #[must_use]
    pub fn signing(&self) -> Option<(&str, &Secret)> {
        self.0.iter().next().map(|(key, secret)| (key.as_str(), secret))
    }
}

impl FromIterator<(String, Secret)> for ApiKeys {
    fn from_iter<I: IntoIterator<Item = (String, Secret)>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// So many at once, then so many a second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// Long-term average.
    pub per_second: f64,
    /// What a newcomer may do at once.
    pub burst: u32,
}

impl Rate {
    /// No bound.
    pub(crate) const UNLIMITED: Self = Self { per_second: u32::MAX as f64, burst: u32::MAX };
}

/// Bounds of the server; a client that reaches one gets the refusal named here.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Open TCP connections; more are closed as they are accepted.
    pub max_connections: usize,
    /// Open WebSockets from one address (IPv6: one /64); more get 429 `rate-limited`.
    pub sockets_per_ip: usize,
    /// TCP connections that one address may have beside these, for what is no WebSocket or not yet; more are closed as they are
    /// accepted. Trusted proxies may have as many as there are.
    pub plain_connections_per_ip: usize,
    /// Joins and resumes from one address; more get 429 `rate-limited`.
    pub joins_per_ip: Rate,
    /// Addresses remembered by the limits above; a stranger beyond that gets 503 `unavailable`.
    pub tracked_ips: usize,
    /// Largest WebSocket message; a larger one closes its connection with code 1009.
    pub max_message_bytes: usize,
    /// Undecodable messages that a connection may send; the next one closes it with code 1007.
    pub malformed_messages: u32,
    /// Messages of one connection; more wait in the client's own socket.
    pub requests: Rate,
    /// Messages waiting to be written to one client; at the bound the client is too slow and is closed with code 1008.
    pub send_queue_messages: usize,
    /// Bytes of these messages, with the same consequence. One message of more than half of this has room beside them: what a newcomer
    /// is told of a large room.
    pub send_queue_bytes: usize,
    /// Time that one write may take before the client is too slow: of a signaling message until all of it is written (for each MiB of
    /// a larger one), of any answer until a part of it is.
    pub write_timeout: Duration,
    /// WebSocket pings leave at this pace.
    pub ping_interval: Duration,
    /// A client that sent nothing, not even a pong, for so long is gone.
    pub idle_timeout: Duration,
    /// Time for the headers of an HTTP request, and for saying what a connection is; then it is closed.
    pub header_timeout: Duration,
    /// Time for the body of an HTTP request; then it is refused with 408 `request-timeout`.
    pub body_timeout: Duration,
    /// Messages between all sockets and the signaling loop; at the bound the sockets stop reading.
    pub inbox_messages: usize,
    /// Bytes of these messages on the wire, with the same consequence. Decoded they may take forty times as much.
    pub inbox_bytes: usize,
    /// The same for one connection alone.
    pub inbox_bytes_per_socket: usize,
    /// Bytes of large messages (what newcomers are told of large rooms, large changes of participants) that are not written yet, of all
    /// clients together. A client that comes and would be told more is refused with 503 `unavailable`; the rare one for which room is
    /// found missing only then is closed with code 1013 `overloaded`. What members are told counts once for all of them, and nobody is
    /// closed for it. Here and below one address (IPv6: one /64) has at most a quarter, or one thing however large.
    pub all_large_messages_bytes: usize,
    /// Bytes of frames of more than 4 KiB that wait for their place in the inbox, of all clients together; a client whose frame finds no
    /// room is closed with code 1013 `overloaded`.
    pub all_waiting_frames_bytes: usize,
    /// Bytes of large bodies of requests that are not answered yet, of all together; a further one gets 503 `unavailable`.
    pub all_request_bodies_bytes: usize,
    /// Requests of administrators (Twirp and REST) with one API key; more get 429 `rate-limited`.
    pub api_per_key: Rate,
    /// The same from one address (IPv6: one /64), whatever the token, wrong ones and participants' included.
    pub api_per_ip: Rate,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            sockets_per_ip: 512,
            plain_connections_per_ip: 256,
            joins_per_ip: Rate { per_second: 20.0, burst: 200 },
            tracked_ips: 65_536,
            max_message_bytes: 256 * 1024,
            malformed_messages: 7,
            requests: Rate { per_second: 100.0, burst: 500 },
            send_queue_messages: 1024,
            send_queue_bytes: 4 * 1024 * 1024,
            write_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            inbox_messages: 1024,
            inbox_bytes: 4 * 1024 * 1024,
            inbox_bytes_per_socket: 512 * 1024,
            all_large_messages_bytes: 256 * 1024 * 1024,
            all_waiting_frames_bytes: 64 * 1024 * 1024,
            all_request_bodies_bytes: 64 * 1024 * 1024,
            api_per_key: Rate { per_second: 1_000.0, burst: 5_000 },
            api_per_ip: Rate { per_second: 600.0, burst: 3_000 },
        }
    }
}

/// The demo's token endpoint gives anyone who can reach it a place in any room: for development only.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Life of the tokens.
    pub token_ttl: Duration,
    /// Tokens for one address; more get 429 `rate-limited`.
    pub tokens_per_ip: Rate,
}

impl Default for DemoConfig {
    fn default() -> Self {
        Self { token_ttl: Duration::from_secs(6 * 3600), tokens_per_ip: Rate { per_second: 2.0, burst: 60 } }
    }
}
