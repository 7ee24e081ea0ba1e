//! HTTP and WebSocket around the signaling core: tokens, limits, health, metrics and the web demo's files.
//!
//! In: a [`ServerConfig`] and a [`MediaLink`]. Out: a running [`Server`]. It names no media engine: commands and events
//! are the plain values of `sfu-api`, so the node may be in this process or on another machine.

mod agents;
pub mod auth;
mod codec;
pub mod config;
mod drain;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod give_way;
mod holdings;
mod http;
mod join_request;
mod media;
mod metrics;
mod net;
pub mod probe;
mod proxy;
mod query;
mod quota;
mod shared;
mod timelines;
mod traces;
mod twirp;
mod ws;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::Registry;
use rand::rngs::StdRng;
use signaling_core::Signaling;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

pub use config::{ApiKeys, DemoConfig, MetricsAccess, Rate, ServerConfig, ServerLimits};
pub use drain::{DrainControl, DrainEnd, DrainRequest, DrainStatus};
pub use media::MediaLink;
pub use proxy::{InvalidPrefix, IpPrefix};
pub use shared::{IceTcp, SharedPort, Turn};
pub use signaling_core::limits::FREE_PROFILE_BYTES;
pub use signaling_core::{PARTICIPANT_PREFIX, Region, Relays, SignalingConfig, participant_sid};
pub use traces::export::Collector;
pub use twirp::MAX_BODY_BYTES as MAX_REQUEST_BODY_BYTES;

use gate::Gate;
use holdings::Holdings;
use http::App;
use metrics::Metrics;
use net::Port;
use quota::Quota;
use timelines::Timelines;
use traces::Traces;
use traces::export::Exporter;
use ws::intake::Intake;
use ws::{Heartbeat, Shared, SignalingLoop};

/// A server that accepts connections.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    drain: DrainControl,
    accepting: JoinHandle<()>,
    signaling: JoinHandle<()>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken or not of this machine.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Likewise, of the address that metrics have to themselves.
    #[error("can't serve metrics on {address}: {source}")]
    ListenMetrics {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// There are too many threads.
    #[error("traces can't be sent: {0}")]
    Traces(io::Error),
    /// Another server uses the same registry.
    #[error("metrics can't be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Server {
    /// Starts a server on the current Tokio runtime. It runs until `shutdown` completes, or until there is no media node any more;
    /// clients are then told to come back later, and [`Server::stopped`] returns.
    ///
    /// # Errors
    /// The address or the metrics can't be had.
    pub async fn serve(
        config: ServerConfig,
        media: MediaLink,
        registry: Registry,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, ServeError> {
        let listen_error = |source| ServeError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        let metrics_listener = match config.metrics {
            MetricsAccess::Own(address) => {
                let error = |source| ServeError::ListenMetrics { address, source };
                Some(TcpListener::bind(address).await.map_err(error)?)
            }
            _ => None,
        };
        let metrics_addr = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let metrics = Metrics::register(&registry)?;
        let exporter = config.traces.clone().map(|collector| Exporter::start(collector, &config.signaling.region, &metrics.spans));
        let traces = exporter.transpose().map_err(ServeError::Traces)?.map(Traces::new);

        let (stop, is_stopping) = watch::channel(false);
        let failed = Arc::new(Notify::new());
        let failure = Arc::clone(&failed);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown => {}
                () = failure.notified() => {}
            }
            stop.send_replace(true);
            // the receivers see an error once the sender is gone: keep it as long as one of them lives
            stop.closed().await;
        });

        let (limits, shared_port, trusted) = (config.limits.clone(), config.shared.clone(), config.trusted_proxies.clone());
        let heartbeat = Heartbeat::new();
        let (inbox_in, inbox) = mpsc::channel(limits.inbox_messages.max(1));
        let timelines = Arc::new(Mutex::new(Timelines::new(config.timeline_bytes)));
        let (drain_status, drain) = watch::channel(DrainStatus::default());
        let drain_control = DrainControl::new(inbox_in.clone(), drain.clone());
        let holdings = Holdings::new(&limits, &metrics);
        let shared = Shared {
            metrics: metrics.clone(),
            heartbeat: heartbeat.clone(),
            timelines: Arc::clone(&timelines),
            drain: drain_status,
            traces,
            failed,
            large_messages: holdings.messages.clone(),
        };
        let pulse = Arc::clone(&media.pulse);
        let signaling =
            SignalingLoop::new(Signaling::new(config.signaling.clone()), media, config.keys.clone(), rand::make_rng::<StdRng>(), shared);
        let signaling = tokio::spawn(signaling.run(inbox, is_stopping.clone()));

        let demo_rate = config.demo.as_ref().map_or(Rate { per_second: 0.0, burst: 0 }, |demo| demo.tokens_per_ip);
        let app = Arc::new(App {
            sockets: Gate::new(limits.sockets_per_ip, limits.joins_per_ip, limits.tracked_ips),
            demo_tokens: Gate::new(usize::MAX, demo_rate, limits.tracked_ips),
            quota: Quota::new(&config.keys, &limits),
            intake: Intake::new(inbox_in.clone(), &limits),
            holdings,
            config,
            inbox: inbox_in,
            metrics,
            registry,
            timelines,
            drain,
            heartbeat,
            pulse,
            is_stopping: is_stopping.clone(),
            next_connection: AtomicU64::new(1),
        });
        if let Some(listener) = metrics_listener {
            let router = http::metrics_router(Arc::clone(&app));
            let port = Port::new(router, SharedPort::default(), limits.clone(), trusted.clone(), app.metrics.clone());
            tokio::spawn(port.accept_loop(listener, is_stopping.clone()));
        }
        let metrics = app.metrics.clone();
        let port = Port::new(http::router(app), shared_port, limits, trusted, metrics);
        let accepting = tokio::spawn(port.accept_loop(listener, is_stopping));
        info!(%local_addr, "signaling server is listening");
        Ok(Self { local_addr, metrics_addr, drain: drain_control, accepting, signaling })
    }

    /// Where it listens; with port 0 in the config, the port that the system chose.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where metrics are, if they have an address of their own.
    #[must_use]
    pub const fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// To empty this server before it goes.
    #[must_use]
    pub fn drain(&self) -> DrainControl {
        self.drain.clone()
    }

    /// Returns when the server has stopped: after `shutdown`, or when it can't go on, which is a bug in it or in the media node.
    pub async fn stopped(self) {
        // the signaling loop outlives the connections, so nothing is left to accept for when it ends
        if let Err(error) = self.signaling.await {
            error!(%error, "the signaling loop died");
        }
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

/// Every metric of this server, as one without clients has them: for documentation.
///
/// # Errors
/// None that a test would not find.
pub fn metrics_catalogue() -> Result<Vec<prometheus::proto::MetricFamily>, prometheus::Error> {
    let registry = Registry::new();
    let _metrics = Metrics::register(&registry)?;
    Ok(registry.gather())
}

/// Time since the Unix epoch; zero on a machine whose clock is before it.
#[must_use]
pub fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
