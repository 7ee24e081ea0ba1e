//! Every option of the `sluice` binary: its name, type, default and description.
//!
//! One struct per section of the TOML file. Relations between options are in `check`, reading them in `load`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use signaling_api::Secret;
use signaling_server::{ServerConfig, ServerLimits, SignalingConfig};

use super::advertise::Advertise;
use super::section::section;
use super::units::{ByteSize, Span};

section! {
    /// HTTP and WebSocket.
    Server {
        /// Address of HTTP and WebSocket. Browsers give camera and microphone to HTTPS pages only (and to loopback), so
        /// a TLS proxy stands in front of a public server. Port 0: the system chooses one.
        listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7880),
        /// Serve everything on the TCP port of `listen`, behind one firewall rule: HTTP, ICE over TCP and TURN, and with a certificate
        /// (section tls) HTTPS and TURN in TLS instead of HTTP in the clear. Usually with port 443.
        one_port: bool = false,
        /// Addresses or blocks ("10.0.0.0/8") of reverse proxies whose X-Forwarded-For header is believed.
        trusted_proxies: Vec<String> = Vec::new(),
        /// Region of this node, shown to clients. May be empty.
        region: String = String::new(),
        /// Where clients can go on, best first, as "name=wss://host". None: this server names itself, by the address that the
        /// client used.
        regions: Vec<String> = Vec::new(),
        /// Time for calls to end by themselves after SIGTERM or SIGINT, while new rooms are refused; a second signal ends it. Those who are
        /// left are asked to join again, which leads elsewhere or to the server's successor. Whatever stops this process has to wait
        /// longer, or it is killed without a goodbye: systemd's TimeoutStopSec, Docker's stop_grace_period, Kubernetes'
        /// terminationGracePeriodSeconds.
        drain_timeout: Span = Span::secs(0),
    }
}

section! {
    /// Metrics for Prometheus and quality timelines (/v1/rooms/ROOM/participants/ID/quality).
    Metrics {
        /// Serve /metrics.
        enabled: bool = true,
        /// Address of its own for /metrics (with /livez, /readyz and /startupz), readable by everybody who reaches it, for
        /// example "10.0.0.4:9090". Empty: it is on the address of HTTP, for clients in `allow` only.
        listen: String = String::new(),
        /// Addresses or blocks that may read /metrics on the address of HTTP. Requests with a header of a proxy (X-Forwarded-For, Forwarded,
        /// X-Real-IP, Via) are refused unless one of server.trusted_proxies says in X-Forwarded-For whose they are. A proxy on this machine
        /// that adds no header looks like this machine: then use `listen`, or let it pass on other paths only.
        allow: Vec<String> = vec!["127.0.0.0/8".to_owned(), "::1".to_owned()],
        /// More certificates that clients meet (PEM files of a TLS proxy) beside that of [tls], whose end is exported and checked.
        certificates: Vec<PathBuf> = Vec::new(),
        /// Memory for the quality timelines of all participants: a second of a track takes 3 to 20 bytes. Beyond it the oldest minutes
        /// are forgotten. "0 B": there are none.
        timelines: ByteSize = ByteSize(ServerConfig::default().timeline_bytes),
    }
}

section! {
    /// API keys: who may sign access tokens.
    Auth {
        /// File with one "key: secret" a line; empty lines and lines that begin with # are skipped.
        keys_file: PathBuf = PathBuf::new(),
        /// The same as text, several separated by commas. From the environment only; replaces the file.
        keys: Secret = Secret::default(),
    }
}

section! {
    /// Rooms and the sessions in them.
    Rooms {
        /// A join opens a room that does not exist.
        auto_create: bool = signaling_defaults().auto_create_rooms,
        /// Participants in one room; a token can say less. 0: no limit but that of the server.
        max_participants: u32 = signaling_defaults().max_participants,
        /// Time until a room that nobody joined closes.
        empty_timeout: Span = Span(signaling_defaults().empty_timeout),
        /// Time until a room closes after the last participant left.
        departure_timeout: Span = Span(signaling_defaults().departure_timeout),
        /// Time that a participant stays after losing the connection, to come back without others noticing.
        resume_grace: Span = Span(signaling_defaults().resume_grace),
        /// Time that a participant may take from the join until media is connected.
        join_timeout: Span = Span(signaling_defaults().join_timeout),
        /// Server SDKs may unmute a participant's track that is muted.
        enable_remote_unmute: bool = signaling_defaults().remote_unmute,
        /// A participant that is removed can't come back with a token that was minted before, or within this time after.
        revocation_leeway: Span = Span(signaling_defaults().revocation_leeway),
        /// Settings that tokens and requests for rooms may name, one table each: [rooms.presets.NAME] with empty_timeout,
        /// departure_timeout, max_participants, metadata, min_playout_delay, max_playout_delay, sync_streams, agents, tags.
        presets: BTreeMap<String, Preset> = BTreeMap::new(),
    }
}

/// Settings of a room under a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Preset {
    pub(crate) empty_timeout: Span,
    pub(crate) departure_timeout: Span,
    pub(crate) max_participants: u32,
    pub(crate) metadata: String,
    pub(crate) min_playout_delay: Span,
    pub(crate) max_playout_delay: Span,
    pub(crate) sync_streams: bool,
    pub(crate) agents: Vec<PresetAgent>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// An agent that is called into rooms of a preset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PresetAgent {
    pub(crate) agent_name: String,
    pub(crate) metadata: String,
    pub(crate) deployment: String,
    pub(crate) attributes: BTreeMap<String, String>,
}

section! {
    /// Bounds of this server: beyond them clients are refused, those inside are unaffected.
    Limits {
        /// Rooms.
        max_rooms: usize = signaling_defaults().max_rooms,
        /// Participants in all rooms together.
        max_participants: usize = signaling_defaults().max_total_participants,
        /// Open TCP connections.
        max_connections: usize = ServerLimits::default().max_connections,
        /// Open WebSockets from one address (IPv6: one /64). TCP connections of all kinds: 256 more. Trusted proxies have no such bound.
        sockets_per_ip: usize = ServerLimits::default().sockets_per_ip,
        /// Joins and resumes from one address: so many at once, then so many a second.
        joins_per_ip_burst: u32 = ServerLimits::default().joins_per_ip.burst,
        /// See joins_per_ip_burst.
        joins_per_ip_per_second: f64 = ServerLimits::default().joins_per_ip.per_second,
        /// Requests of administrators (Twirp and REST) with one API key: so many at once, then so many a second. Beyond: 429 with Retry-After.
        api_per_key_burst: u32 = ServerLimits::default().api_per_key.burst,
        /// See api_per_key_burst.
        api_per_key_per_second: f64 = ServerLimits::default().api_per_key.per_second,
        /// The same from one address, whatever the token; participants' reports of their statistics count too.
        api_per_ip_burst: u32 = ServerLimits::default().api_per_ip.burst,
        /// See api_per_ip_burst.
        api_per_ip_per_second: f64 = ServerLimits::default().api_per_ip.per_second,
        /// What the participants of one room tell others of themselves (metadata, attributes, names, tracks), beyond 4 KiB of each: beyond it
        /// joins are refused with profile-limit, changes and tracks with LIMIT_EXCEEDED. Each newcomer is sent all of it.
        room_profiles: ByteSize = ByteSize(signaling_defaults().max_profile_bytes),
        /// Largest WebSocket message.
        max_message: ByteSize = ByteSize(ServerLimits::default().max_message_bytes),
        /// Messages waiting for one client; a client that reads too slowly for it is closed. What it is told of a large room has room beside.
        send_queue: ByteSize = ByteSize(ServerLimits::default().send_queue_bytes),
        /// Messages above 64 KiB that wait for all clients together: what newcomers are told of large rooms, and large changes of participants.
        /// Beyond it, or beyond a quarter of it for one address, joins of large rooms and resumes are refused (503, unavailable). Members are not.
        all_large_messages: ByteSize = ByteSize(ServerLimits::default().all_large_messages_bytes),
        /// Messages above 4 KiB of all clients together that wait to be taken; of one address a quarter of it. A client for whose message there
        /// is no room is closed (1013, overloaded), and resumes.
        all_waiting_messages: ByteSize = ByteSize(ServerLimits::default().all_waiting_frames_bytes),
        /// Bodies above 64 KiB of administrators' requests that are not answered yet, of all together; of one address a quarter of it, or one
        /// request. Beyond: 503.
        all_request_bodies: ByteSize = ByteSize(ServerLimits::default().all_request_bodies_bytes),
        /// A client that sent nothing, not even a pong, for so long is gone. It is asked three times within it, at least every 10 s.
        idle_timeout: Span = Span(ServerLimits::default().idle_timeout),
    }
}

section! {
    /// The web demo.
    Demo {
        /// Give an access token to whoever asks: for development only. Without it the page needs one in its address: /?token=...
        tokens: bool = false,
        /// Life of these tokens.
        token_ttl: Span = Span::secs(6 * 3600),
    }
}

section! {
    /// Audio, video and data between clients and this node.
    Media {
        /// UDP port of the first shard; each further shard takes the next one. Port 0: the system chooses.
        udp_port: u16 = 7882,
        /// Port for ICE over TCP, for clients without UDP. Port 0: the system chooses.
        tcp_port: u16 = 7881,
        /// Offer ICE over TCP.
        tcp: bool = true,
        /// Threads that carry media. 0: one per core.
        shards: u16 = 0,
        /// Participants of one room on one shard; further ones are placed on other shards, which then share the room.
        shard_participants: u32 = 250,
        /// Addresses to bind. None: all of the machine's.
        listen: Vec<IpAddr> = Vec::new(),
        /// Addresses that clients are told to send to, best first, for example the public one of a NAT; "203.0.113.9=>10.0.0.4"
        /// also says to which of this machine's addresses the NAT translates it. None: those that are bound.
        advertise: Vec<Advertise> = Vec::new(),
        /// STUN server ("stun:host:port") to ask at the start for this machine's public address, which clients are then told
        /// beside those that are bound. For one-to-one NATs whose address changes. Empty: none is asked.
        detect_address_with: String = String::new(),
        /// Tell clients the loopback address too: for development.
        loopback: bool = false,
    }
}

section! {
    /// The embedded TURN server, for clients that reach this one by no other way. Participants get credentials when they join.
    Turn {
        /// Serve TURN.
        enabled: bool = true,
        /// Port for datagrams. Port 0: the system chooses.
        udp_port: u16 = 3478,
        /// Port for TCP, likewise.
        tcp_port: u16 = 3478,
        /// Port for TLS, likewise; served when there is a certificate (see section tls).
        tls_port: u16 = 5349,
        /// Name that clients are told instead of addresses. For TLS it must be one of the certificate's.
        domain: String = String::new(),
        /// Ports of relayed addresses. Nobody outside sends to them unless `allow` lets peers other than this server in.
        relay_ports: String = "49152-65535".to_owned(),
        /// File with the secret that passwords follow from (one line). None: it follows from the first API key.
        secret_file: PathBuf = PathBuf::new(),
        /// The same as text. From the environment only; replaces the file.
        secret: Secret = Secret::default(),
        /// TURN servers elsewhere (sluice-turn, coturn with use-auth-secret), which participants are told of behind this one, as
        /// "turn:turn.example.org:3478?transport=udp". They need the same secret, in `secret_file` here.
        servers: Vec<String> = Vec::new(),
        /// Life of the credentials that participants get. They end earlier when the participant leaves or is removed.
        credential_ttl: Span = Span::secs(12 * 3600),
        /// To whom is relayed beside this server's own media ports: addresses or blocks, with ports if only those
        /// ("203.0.113.0/24", "203.0.113.7:7882", "[2001:db8::/32]:1024-65535"). Private, loopback and other special networks are
        /// relayed to only if a rule names them or a part of them; "0.0.0.0/0" does not.
        allow: Vec<String> = Vec::new(),
        /// Addresses or blocks that are denied whatever `allow` says.
        deny: Vec<String> = Vec::new(),
        /// Allocations in all; a further one gets error 508.
        max_allocations: usize = turn_limits().allocations,
        /// Allocations of one participant; a further one gets error 486.
        max_allocations_per_user: usize = turn_limits().allocations_per_user,
        /// Allocations from one address (IPv6: one /64); a further one gets error 486.
        max_allocations_per_address: usize = turn_limits().allocations_per_address,
        /// Bytes a second that one allocation may relay in each direction; more is dropped. 0: no limit.
        max_rate: ByteSize = ByteSize(0),
        /// Bytes a second of all allocations together, likewise.
        max_total_rate: ByteSize = ByteSize(0),
    }
}

section! {
    /// Certificate of this server, for TURN in TLS and, with `server.one_port`, for HTTPS. The files are read again when they change.
    Tls {
        /// Certificate chain, PEM.
        certificate: PathBuf = PathBuf::new(),
        /// Its key, PEM.
        key: PathBuf = PathBuf::new(),
    }
}

section! {
    /// Logs on standard error. RUST_LOG, if set, replaces the level.
    Log {
        /// "error", "warn", "info", "debug", "trace", or by module: "info,sfu_node=debug".
        level: String = "info".to_owned(),
        /// "text" or "json".
        format: LogFormat = LogFormat::Text,
    }
}

section! {
    /// Traces for OpenTelemetry.
    Telemetry {
        /// Collector that gets a trace of each participant's stay (OTLP over HTTP), for example "http://127.0.0.1:4318". Its spans have the
        /// attribute `participant`, as the lines of the log have. Empty: there are none.
        otlp: String = String::new(),
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// All sections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) metrics: Metrics,
    pub(crate) auth: Auth,
    pub(crate) media: Media,
    pub(crate) rooms: Rooms,
    pub(crate) limits: Limits,
    pub(crate) demo: Demo,
    pub(crate) turn: Turn,
    pub(crate) tls: Tls,
    pub(crate) log: Log,
    pub(crate) telemetry: Telemetry,
}

/// A section as `config print` shows it.
pub(crate) struct Section {
    /// Name in the TOML file.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) about: &'static [&'static str],
    /// Options in order, each with the lines of its description.
    pub(crate) options: &'static [(&'static str, &'static [&'static str])],
}

/// The sections in the order of the file.
pub(crate) const SECTIONS: &[Section] = &[
    Section { name: "server", about: Server::ABOUT, options: Server::OPTIONS },
    Section { name: "metrics", about: Metrics::ABOUT, options: Metrics::OPTIONS },
    Section { name: "auth", about: Auth::ABOUT, options: Auth::OPTIONS },
    Section { name: "media", about: Media::ABOUT, options: Media::OPTIONS },
    Section { name: "rooms", about: Rooms::ABOUT, options: Rooms::OPTIONS },
    Section { name: "limits", about: Limits::ABOUT, options: Limits::OPTIONS },
    Section { name: "demo", about: Demo::ABOUT, options: Demo::OPTIONS },
    Section { name: "turn", about: Turn::ABOUT, options: Turn::OPTIONS },
    Section { name: "tls", about: Tls::ABOUT, options: Tls::OPTIONS },
    Section { name: "log", about: Log::ABOUT, options: Log::OPTIONS },
    Section { name: "telemetry", about: Telemetry::ABOUT, options: Telemetry::OPTIONS },
];

/// Options whose value may not stand in the configuration file.
pub(crate) const ENVIRONMENT_ONLY: &[&str] = &["auth.keys", "turn.secret"];

/// API key of `sluice dev`.
pub(crate) const DEVELOPMENT_KEY: &str = "devkey";
/// Secret of that key; everybody knows it.
pub(crate) const DEVELOPMENT_SECRET: &str = "secret";

impl Config {
    /// What `sluice dev` begins with: loopback, a known key, tokens for everybody.
    pub(crate) fn development() -> Self {
        let mut config = Self::default();
        config.auth.keys = Secret::new(format!("{DEVELOPMENT_KEY}: {DEVELOPMENT_SECRET}"));
        config.demo.tokens = true;
        config.media.loopback = true;
        config
    }

    /// Files of all certificates that clients meet, as far as this server knows of them.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = &Path> {
        let own = Some(self.tls.certificate.as_path()).filter(|path| !path.as_os_str().is_empty());
        own.into_iter().chain(self.metrics.certificates.iter().map(PathBuf::as_path))
    }
}

/// The parts of the server know their defaults best; here they only get names.
fn signaling_defaults() -> SignalingConfig {
    SignalingConfig::default()
}

fn turn_limits() -> turn_server::Limits {
    turn_server::Limits::default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_option_of_the_types_is_listed_in_a_section() {
        let table = toml::Table::try_from(Config::default()).unwrap();
        let typed: Vec<String> =
            table.iter().flat_map(|(section, value)| value.as_table().unwrap().keys().map(move |key| format!("{section}.{key}"))).collect();
        let mut listed: Vec<String> = SECTIONS.iter().flat_map(|s| s.options.iter().map(|(key, _)| format!("{}.{key}", s.name))).collect();
        listed.sort();
        let mut typed_sorted = typed;
        typed_sorted.sort();
        assert_eq!(typed_sorted, listed);
    }
}
