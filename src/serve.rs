//! `sluice serve`, and what it shares with `sluice dev`: wires the media node and the signaling server together, and stops them.
//!
//! Commands go from the signaling loop to the node, events back through a channel; both are plain values of `sfu-api`.
//! Nothing is decided here: options become the parts' own settings, and their errors become messages that name options.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use prometheus::Registry;
use sfu_api::Command;
use sfu_node::{Advertised, CommandError, Node, NodeConfig, NodeError, NodeHandle, Sharing};
use signaling_api::{AgentConfig, RoomConfig};
use signaling_server::{
    ApiKeys, DemoConfig, DrainControl, DrainEnd, DrainRequest, IceTcp, MediaLink, MetricsAccess, Rate, Region, ServeError, Server,
    ServerConfig, ServerLimits, SharedPort, SignalingConfig, participant_sid,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing::{debug, error, info, warn};
use turn_server::Certificates;

use crate::boot;
use crate::certificates::CertificateFiles;
use crate::config::Config;
use crate::config::advertise::Advertise;
use crate::config::check::region_of;
use crate::config::model::{Limits, Media, Metrics, Preset, PresetAgent, Rooms};
use crate::config::units::Span;
use crate::logging;
use crate::sources::{Checked, Sources, checked};
use crate::turn::{self, Embedded, forget_at};

/// Where the configuration comes from.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    sources: Sources,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    start(&checked(args.sources.load()?)?, |_, _| Ok(()))
}

/// Runs until a signal ends it. `announce` is called once clients may come, with the address of HTTP.
pub(crate) fn start(checked: &Checked, announce: impl FnOnce(SocketAddr, &NodeHandle) -> anyhow::Result<()>) -> anyhow::Result<()> {
    logging::init(&checked.config.log)?;
    for finding in &checked.warnings {
        warn!("{}", finding.message);
    }
    for (option, line, winner) in &checked.replaced {
        info!(option, %line, by = %winner, "a line of the configuration file has no effect");
    }
    let mut server_config = server_config(checked)?;
    let drain_timeout = checked.config.server.drain_timeout.0;
    let (node, events) = Node::start(&node_config(checked)).map_err(explain_node_error)?;
    let turn = turn::start(&checked.config, &checked.keys, &node.udp_addresses())?;
    server_config.signaling.relays = turn::relays(&checked.config, &checked.keys, turn.as_ref())?;
    boot::report(checked, &node);
    let registry = registry(&checked.config.server.region)?;
    let files = checked.config.certificates().map(Path::to_path_buf).collect();
    let expiries = CertificateFiles::new(files)?;
    registry.register(Box::new(expiries)).context("the certificates' metrics can't be registered")?;
    sfu_node::metrics::register(&registry, node.clone()).context("the node's metrics can't be registered")?;
    if let Some(turn) = &turn {
        turn_server::metrics::register(&registry, turn.server.clone()).context("the TURN server's metrics can't be registered")?;
    }
    let relays = turn.as_ref().map(|turn| (turn.server.clone(), checked.config.turn.credential_ttl.0));
    let mut unwatched = None;
    if checked.config.server.one_port {
        server_config.shared = shared_port(&checked.config, &node, turn.as_ref(), &mut unwatched)?;
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(give_way)
        .build()
        .context("the runtime can't be started")?;
    let commands = node.clone();
    let relay = turn.as_ref().map(|turn| turn.server.clone());
    let served = runtime.block_on(async {
        let (stopping, mut is_stopping) = watch::channel(false);
        let signals = Signals::new()?;
        if let Some(certificates) = unwatched {
            tokio::spawn(watch(certificates));
        }
        let media = MediaLink::new(
            move |together| {
                for command in together.drain(..) {
                    let is_data = matches!(command, Command::SendData { .. });
                    if let (Some((turn, ttl)), Command::Leave { participant }) = (&relays, &command) {
                        turn.revoke(&participant_sid(*participant), forget_at(*ttl));
                    }
                    match commands.post(command) {
                        Ok(()) => {}
                        // one line per message of a flood would be a flood of its own
                        Err(error) if is_data => debug!(%error, "data was not delivered"),
                        Err(error @ CommandError::OtherShard) => info!(%error, "a participant that is moved joins anew"),
                        Err(error) => warn!(%error, "a command was not delivered"),
                    }
                }
                commands.wake();
            },
            events,
        );
        let watched = node.clone();
        let media = media.with_pulse(move || watched.is_live(Instant::now()));
        let relay_failed = Arc::new(Notify::new());
        if let Some(relay) = &relay {
            let failed = Arc::clone(&relay_failed);
            relay.when_failed(move || failed.notify_one());
        }
        let shutdown = async move { until_shutdown(&mut is_stopping, &relay_failed).await };
        let server = Server::serve(server_config, media, registry, shutdown).await.map_err(explain_serve_error)?;
        announce(server.local_addr(), &node)?;
        tokio::spawn(signals.watch(stopping.clone(), server.drain(), drain_timeout));
        if let Some(relay) = relay {
            tokio::spawn(turn::drain_along(server.drain(), relay));
        }
        server.stopped().await;
        outcome(&stopping)
    });
    node.shutdown();
    if let Some(turn) = turn {
        turn.server.shutdown();
    }
    info!("stopped");
    served
}

/// Until somebody stops the server, or it is of no use any more.
async fn until_shutdown(is_stopping: &mut watch::Receiver<bool>, relay_failed: &Notify) {
    tokio::select! {
        // an error means that nobody can stop it any more, and then it stops
        _ = is_stopping.wait_for(|stopping| *stopping) => {}
        // clients that need the relay would connect to nothing: they are asked to come again, and the process ends as failed
        () = relay_failed.notified() => {}
    }
}

/// What the process ends with once the server has ended: whoever supervises it starts what failed again.
fn outcome(stopping: &watch::Sender<bool>) -> anyhow::Result<()> {
    if *stopping.borrow() { Ok(()) } else { Err(anyhow!("the server has failed: see the log")) }
}

/// Lets the threads of media go first where they share a core with those of signaling: what waits for a join is one person, what waits
/// for a packet is a room. A thread may always lower its own priority; where it can't, things are as without.
fn give_way() {
    if let Err(error) = rustix::process::nice(SIGNALING_NICENESS) {
        debug!(%error, "signaling has the priority of media");
    }
}

/// A third of the weight of a thread of media (`sched_prio_to_weight`, kernel/sched/core.c: 335 of 1,024): enough that joins go on
/// beside a shard that is busy all the time.
const SIGNALING_NICENESS: i32 = 5;

/// Every sample says in which region it was taken, if the operator has named one.
fn registry(region: &str) -> anyhow::Result<Registry> {
    let labels = (!region.is_empty()).then(|| HashMap::from([("region".to_owned(), region.to_owned())]));
    Registry::new_custom(None, labels).context("the metrics can't be labelled")
}

/// Ctrl-C and the service manager's SIGTERM stop; SIGUSR1 drains and SIGUSR2 undoes it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    drain: Signal,
    undrain: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals can't be received");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            drain: listen(SignalKind::user_defined1())?,
            undrain: listen(SignalKind::user_defined2())?,
        })
    }

    /// One that is to end this process. Those about draining are done on the way.
    async fn next(&mut self, drain: &DrainControl) -> &'static str {
        loop {
            let request = tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.drain.recv() => DrainRequest::Begin { deadline: SIGNALLED_DRAIN },
                _ = self.undrain.recv() => DrainRequest::ServeOn,
            };
            // the rooms may be too busy to answer: that is no time to be deaf
            tokio::select! {
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.terminate.recv() => return "SIGTERM",
                () = drain.ask(request) => {}
            }
        }
    }

    /// The first signal stops in order, after a drain if there is to be one, the next at once. A server that ends by itself has as
    /// long for the rest of the process as one that is stopped.
    async fn watch(mut self, stopping: watch::Sender<bool>, drain: DrainControl, drain_timeout: Duration) {
        if let Some(signal) = self.until_stop(&drain, drain_timeout).await {
            info!(signal, "stopping; once more stops at once");
            stopping.send_replace(true);
        }
        tokio::select! {
            signal = self.next(&drain) => warn!(signal, "stopping at once"),
            () = tokio::time::sleep(STOP_LIMIT) => error!(limit_s = STOP_LIMIT.as_secs(), "something does not end: stopping at once"),
        }
        std::process::exit(1);
    }

    /// The signal by which the server is to stop. None: it has ended by itself.
    async fn until_stop(&mut self, drain: &DrainControl, drain_timeout: Duration) -> Option<&'static str> {
        loop {
            let signal = tokio::select! {
                signal = self.next(drain) => signal,
                () = drain.gone() => return None,
            };
            if drain_timeout.is_zero() {
                return Some(signal);
            }
            info!(signal, timeout_s = drain_timeout.as_secs(), "draining, then stopping; once more stops now");
            let mut status = drain.clone();
            let emptied = async {
                drain.ask(DrainRequest::Stop { deadline: drain_timeout }).await;
                status.drained().await
            };
            let end = tokio::select! {
                end = emptied => end,
                // a bit more than the deadline, so that those who were asked to go can
                () = tokio::time::sleep(drain_timeout + DRAIN_GRACE) => DrainEnd::Drained,
                _ = self.next(drain) => DrainEnd::Drained,
            };
            if end != DrainEnd::Undone {
                return Some(signal);
            }
            info!("serving on");
        }
    }
}

/// Calls may go on for so long after SIGUSR1; the REST API takes another deadline.
const SIGNALLED_DRAIN: Duration = Duration::from_secs(3600);
/// Between the deadline of a drain and the stop.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// For goodbyes and all threads, which take up to some seconds each. Whatever waits for this process to end can so be patient: a
/// drain may take long, what hangs does not.
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn node_config(checked: &Checked) -> NodeConfig {
    let Media { udp_port, tcp_port, tcp, shards: _, shard_participants, listen, advertise, detect_address_with, loopback } =
        &checked.config.media;
    let defaults = NodeConfig::default();
    NodeConfig {
        shards: Some(usize::from(checked.shards)),
        udp_port: *udp_port,
        tcp_port: tcp.then_some(*tcp_port),
        shared_tcp_port: (*tcp && checked.config.server.one_port).then_some(checked.config.server.listen.port()),
        bind: if listen.is_empty() { defaults.bind.clone() } else { listen.clone() },
        advertised: if advertise.is_empty() {
            Advertised::Detected {
                include_loopback: *loopback || listen.iter().any(IpAddr::is_loopback),
                stun_server: Some(detect_address_with.clone()).filter(|server| !server.is_empty()),
            }
        } else {
            Advertised::Configured(advertise.iter().map(|Advertise(address)| *address).collect())
        },
        sharing: Sharing { participants: usize::try_from(*shard_participants).unwrap_or(usize::MAX).max(1), ..defaults.sharing },
        ..defaults
    }
}

/// Reads a certificate again when its files change. The TURN server does so itself.
async fn watch(certificates: Arc<Certificates>) {
    let mut looks = tokio::time::interval(Duration::from_secs(5));
    loop {
        looks.tick().await;
        certificates.reload_if_changed();
    }
}

/// Everything that the port of HTTP serves beside HTTP. `unwatched`: a certificate that nobody looks after yet.
fn shared_port(
    config: &Config,
    node: &NodeHandle,
    turn: Option<&Embedded>,
    unwatched: &mut Option<Arc<Certificates>>,
) -> anyhow::Result<SharedPort> {
    let tls = match turn.and_then(|turn| turn.certificates.clone()) {
        Some(certificates) => Some(certificates),
        // without TURN nobody has read it yet
        None => {
            *unwatched = turn::certificates(config)?;
            unwatched.clone()
        }
    };
    let node = node.clone();
    let ice_tcp: IceTcp = Arc::new(move |stream, begun| node.adopt_tcp(stream, &begun));
    let turn = turn.map(|turn| turn.server.clone());
    Ok(SharedPort {
        tls: tls.map(|certificates| certificates.server_config(&[b"http/1.1", turn_server::ALPN_TURN, turn_server::ALPN_STUN])),
        ice_tcp: config.media.tcp.then_some(ice_tcp),
        turn: turn.map(|turn| -> signaling_server::Turn { Arc::new(move |stream, tls, begun| turn.adopt(stream, tls, begun)) }),
    })
}

fn server_config(checked: &Checked) -> anyhow::Result<ServerConfig> {
    let config = &checked.config;
    let proxies = config.server.trusted_proxies.iter().map(|proxy| proxy.parse()).collect::<Result<_, _>>();
    Ok(ServerConfig {
        listen: config.server.listen,
        keys: checked.keys.iter().map(|key| (key.name.clone(), key.secret.clone())).collect::<ApiKeys>(),
        trusted_proxies: proxies.context("`server.trusted_proxies`")?,
        limits: server_limits(&config.limits),
        demo: config.demo.tokens.then(|| DemoConfig { token_ttl: config.demo.token_ttl.0, ..DemoConfig::default() }),
        metrics: metrics_access(&config.metrics)?,
        timeline_bytes: config.metrics.timelines.0,
        traces: Some(&config.telemetry.otlp)
            .filter(|url| !url.is_empty())
            .map(|url| url.parse())
            .transpose()
            .map_err(|e: String| anyhow!("`telemetry.otlp`: {e}"))?,
        signaling: signaling_config(&config.rooms, &config.limits, &config.server),
        shared: SharedPort::default(),
    })
}

fn metrics_access(metrics: &Metrics) -> anyhow::Result<MetricsAccess> {
    if !metrics.enabled {
        return Ok(MetricsAccess::Off);
    }
    if !metrics.listen.is_empty() {
        return Ok(MetricsAccess::Own(metrics.listen.parse().context("`metrics.listen`")?));
    }
    let allowed = metrics.allow.iter().map(|block| block.parse()).collect::<Result<_, _>>();
    Ok(MetricsAccess::Shared(allowed.context("`metrics.allow`")?))
}

fn server_limits(limits: &Limits) -> ServerLimits {
    let defaults = ServerLimits::default();
    ServerLimits {
        max_connections: limits.max_connections,
        sockets_per_ip: limits.sockets_per_ip,
        joins_per_ip: Rate { per_second: limits.joins_per_ip_per_second, burst: limits.joins_per_ip_burst },
        api_per_key: Rate { per_second: limits.api_per_key_per_second, burst: limits.api_per_key_burst },
        api_per_ip: Rate { per_second: limits.api_per_ip_per_second, burst: limits.api_per_ip_burst },
        max_message_bytes: limits.max_message.0,
        send_queue_bytes: limits.send_queue.0,
        all_large_messages_bytes: limits.all_large_messages.0,
        all_waiting_frames_bytes: limits.all_waiting_messages.0,
        all_request_bodies_bytes: limits.all_request_bodies.0,
        idle_timeout: limits.idle_timeout.0,
        // three times within it: one answer that is late ends nobody
        ping_interval: defaults.ping_interval.min(limits.idle_timeout.0 / 3),
        ..defaults
    }
}

fn signaling_config(rooms: &Rooms, limits: &Limits, server: &crate::config::model::Server) -> SignalingConfig {
    SignalingConfig {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        region: server.region.clone(),
        regions: server
            .regions
            .iter()
            .filter_map(|entry| region_of(entry))
            .map(|(name, url)| Region { name: name.to_owned(), url: url.to_owned() })
            .collect(),
        resume_grace: rooms.resume_grace.0,
        join_timeout: rooms.join_timeout.0,
        empty_timeout: rooms.empty_timeout.0,
        departure_timeout: rooms.departure_timeout.0,
        max_participants: rooms.max_participants,
        auto_create_rooms: rooms.auto_create,
        remote_unmute: rooms.enable_remote_unmute,
        revocation_leeway: rooms.revocation_leeway.0,
        presets: rooms.presets.iter().map(|(name, preset)| (name.clone(), room_config(preset))).collect(),
        max_total_participants: limits.max_participants,
        max_profile_bytes: limits.room_profiles.0,
        max_rooms: limits.max_rooms,
        ..SignalingConfig::default()
    }
}

fn room_config(preset: &Preset) -> RoomConfig {
    let seconds = |span: Span| u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX);
    let millis = |span: Span| u32::try_from(span.0.as_millis()).unwrap_or(u32::MAX);
    let agent = |agent: &PresetAgent| AgentConfig {
        agent_name: agent.agent_name.clone(),
        metadata: agent.metadata.clone(),
        deployment: agent.deployment.clone(),
        attributes: agent.attributes.clone(),
    };
    RoomConfig {
        empty_timeout: seconds(preset.empty_timeout),
        departure_timeout: seconds(preset.departure_timeout),
        max_participants: preset.max_participants,
        metadata: preset.metadata.clone(),
        min_playout_delay: millis(preset.min_playout_delay),
        max_playout_delay: millis(preset.max_playout_delay),
        sync_streams: preset.sync_streams,
        agents: preset.agents.iter().map(agent).collect(),
        tags: preset.tags.clone(),
    }
}

fn explain_serve_error(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::Listen { address, source } => explain_bind("tcp", address, &source, "server.listen"),
        ServeError::ListenMetrics { address, source } => explain_bind("tcp", address, &source, "metrics.listen"),
        other => other.into(),
    }
}

pub(crate) fn explain_node_error(error: NodeError) -> anyhow::Error {
    match error {
        NodeError::Bind { protocol, address, source } => {
            let option = if protocol == "udp" { "media.udp_port" } else { "media.tcp_port" };
            explain_bind(protocol, address, &source, option)
        }
        NodeError::NoAddress => anyhow!("{error}: see `media.listen`"),
        NodeError::NotLocal(_) => anyhow!("{error}, but `media.advertise` says that packets arrive there"),
        NodeError::Reflexive(_) => anyhow!("{error}: see `media.detect_address_with`"),
        NodeError::NothingAdvertised => anyhow!("{error}: `media.advertise`, or `media.loopback` on a machine without a network"),
        NodeError::Shards(..) => anyhow!("{error}: see `media.shards` and `media.udp_port`"),
        other => other.into(),
    }
}

/// Names the option to change; an address that is not the machine's is another option's fault than a port that is taken.
fn explain_bind(protocol: &str, address: SocketAddr, source: &std::io::Error, option: &str) -> anyhow::Error {
    let variable = format!("SLUICE_{}", option.replace('.', "__").to_uppercase());
    let address_option = if option.ends_with(".listen") { option } else { "media.listen" };
    match source.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "port {} ({protocol}) is in use on {}: stop what listens there, or change `{option}` (environment {variable})",
            address.port(),
            address.ip()
        ),
        ErrorKind::AddrNotAvailable => anyhow!("{} is not an address of this machine: change `{address_option}`", address.ip()),
        ErrorKind::PermissionDenied => anyhow!("port {} ({protocol}) needs more rights: change `{option}`", address.port()),
        _ => anyhow!("can't listen on {protocol} {address} (`{option}`): {source}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;

    use super::*;
    use crate::config::Loader;

    #[tokio::test]
    async fn a_relay_that_fails_ends_the_process_as_failed_and_a_signal_does_not() {
        let (stopping, mut is_stopping) = watch::channel(false);
        let relay_failed = Notify::new();
        // before anybody waits for it
        relay_failed.notify_one();
        until_shutdown(&mut is_stopping, &relay_failed).await;
        assert!(outcome(&stopping).is_err());
        stopping.send_replace(true);
        until_shutdown(&mut is_stopping, &relay_failed).await;
        assert!(outcome(&stopping).is_ok());
    }

    #[test]
    fn a_taken_port_names_the_port_and_the_option() {
        let source = io::Error::from(ErrorKind::AddrInUse);
        let error = explain_node_error(NodeError::Bind { protocol: "udp", address: "0.0.0.0:7882".parse().unwrap(), source });
        assert_eq!(
            error.to_string(),
            "port 7882 (udp) is in use on 0.0.0.0: stop what listens there, or change `media.udp_port` (environment SLUICE_MEDIA__UDP_PORT)"
        );
        let source = io::Error::from(ErrorKind::AddrInUse);
        let error = explain_serve_error(ServeError::Listen { address: "127.0.0.1:7880".parse().unwrap(), source });
        assert!(error.to_string().contains("port 7880 (tcp)") && error.to_string().contains("`server.listen`"), "{error}");
    }

    #[test]
    fn a_taken_address_of_metrics_names_its_own_option() {
        for (kind, expected) in [
            (
                ErrorKind::AddrInUse,
                "port 9464 (tcp) is in use on 10.0.0.4: stop what listens there, or change `metrics.listen` (environment SLUICE_METRICS__LISTEN)",
            ),
            (ErrorKind::AddrNotAvailable, "10.0.0.4 is not an address of this machine: change `metrics.listen`"),
        ] {
            let error = ServeError::ListenMetrics { address: "10.0.0.4:9464".parse().unwrap(), source: io::Error::from(kind) };
            assert_eq!(explain_serve_error(error).to_string(), expected);
        }
    }

    #[test]
    fn a_foreign_address_names_the_option_that_holds_it() {
        let source = io::Error::from(ErrorKind::AddrNotAvailable);
        let error = explain_node_error(NodeError::Bind { protocol: "tcp", address: "203.0.113.1:7881".parse().unwrap(), source });
        assert_eq!(error.to_string(), "203.0.113.1 is not an address of this machine: change `media.listen`");
    }

    #[test]
    fn defaults_of_the_options_are_the_defaults_of_the_parts() {
        let loaded = Loader::new().finish().unwrap();
        let checked = Checked { config: loaded.config, keys: Vec::new(), shards: 2, warnings: Vec::new(), replaced: Vec::new() };
        assert_eq!(node_config(&checked), NodeConfig { shards: Some(2), ..NodeConfig::default() });
        let server = server_config(&checked).unwrap();
        assert_eq!(format!("{:?}", server.limits), format!("{:?}", ServerLimits::default()));
        assert_eq!(server.listen, ServerConfig::default().listen);
        let expected = SignalingConfig { version: server.signaling.version.clone(), ..SignalingConfig::default() };
        assert_eq!(server.signaling, expected);
        assert!(server.demo.is_none());
    }

    #[test]
    fn a_client_is_asked_three_times_before_it_is_gone() {
        let limits = |idle_s| server_limits(&Limits { idle_timeout: Span::secs(idle_s), ..Limits::default() });
        for (idle_s, ping_s) in [(3, 1), (6, 2), (30, 10), (3600, 10)] {
            assert_eq!(limits(idle_s).ping_interval, Duration::from_secs(ping_s), "{idle_s}");
        }
    }

    #[test]
    fn a_preset_of_the_file_is_one_of_the_rooms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sluice.toml");
        let text = "[rooms]\nenable_remote_unmute = true\n[rooms.presets.small]\nmax_participants = 3\nempty_timeout = \"2m\"\n\
                    min_playout_delay = \"200ms\"\n[[rooms.presets.small.agents]]\nagent_name = \"echo\"\nattributes = { k = \"v\" }\n";
        std::fs::write(&path, text).unwrap();
        let loaded = Loader::new().file(&path).finish().unwrap();
        let signaling = signaling_config(&loaded.config.rooms, &loaded.config.limits, &loaded.config.server);
        let small = &signaling.presets["small"];
        assert_eq!((small.max_participants, small.empty_timeout, small.min_playout_delay), (3, 120, 200));
        assert_eq!((small.agents[0].agent_name.as_str(), small.agents[0].attributes["k"].as_str()), ("echo", "v"));
        assert!(signaling.remote_unmute);
        std::fs::write(&path, "[rooms.presets.small]\nmax_guests = 3\n").unwrap();
        assert!(Loader::new().file(&path).finish().unwrap_err().to_string().contains("max_guests"));
    }

    #[test]
    fn development_tells_clients_loopback_and_interface_addresses() {
        let loaded = Loader::development().finish().unwrap();
        let checked = Checked { config: loaded.config, keys: Vec::new(), shards: 1, warnings: Vec::new(), replaced: Vec::new() };
        assert_eq!(node_config(&checked).advertised, Advertised::Detected { include_loopback: true, stun_server: None });
    }
}
