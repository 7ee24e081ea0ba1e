//! Routes. Every handler is in the file of its subject; this one says what is where and which headers go with it.

pub(crate) mod access;
mod assets;
pub(crate) mod body;
mod demo;
mod health;
mod node;
mod params;
pub(crate) mod problem;
mod quality;
mod regions;
mod rtc;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::agents;
use crate::config::{MetricsAccess, ServerConfig};
use crate::drain::DrainStatus;
use crate::gate::Gate;
use crate::holdings::Holdings;
use crate::media::Pulse;
use crate::metrics::Metrics;
use crate::net::TcpPeer;
use crate::proxy::{client_ip, forwarded_for};
use crate::quota::Quota;
use crate::timelines::Timelines;
use crate::twirp;
use crate::ws::intake::Intake;
use crate::ws::{Heartbeat, ToLoop};

/// What handlers share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) inbox: mpsc::Sender<ToLoop>,
    /// The same for messages of clients.
    pub(crate) intake: Intake,
    pub(crate) holdings: Holdings,
    pub(crate) quota: Quota,
    pub(crate) sockets: Gate,
    pub(crate) demo_tokens: Gate,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Registry,
    pub(crate) timelines: Arc<Mutex<Timelines>>,
    pub(crate) drain: watch::Receiver<DrainStatus>,
    pub(crate) heartbeat: Heartbeat,
    /// Of the media node.
    pub(crate) pulse: Pulse,
    pub(crate) is_stopping: watch::Receiver<bool>,
    pub(crate) next_connection: AtomicU64,
}

impl App {
    pub(crate) fn timelines(&self) -> MutexGuard<'_, Timelines> {
        self.timelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the signaling loop.
    pub(crate) async fn ask<T>(&self, limit: Duration, question: impl FnOnce(oneshot::Sender<T>) -> ToLoop) -> Result<T, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.inbox.send(question(reply)).await.ok()?;
            answer.await.ok()
        };
        match timeout(limit, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(NoAnswer::Stopping),
            Err(_) => Err(NoAnswer::Late),
        }
    }

    pub(crate) fn client_ip(&self, peer: TcpPeer, headers: &HeaderMap) -> IpAddr {
        client_ip(peer.address.ip(), &forwarded_for(headers), &self.config.trusted_proxies)
    }
}

/// Why the signaling loop has not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the server is shutting down")]
    Stopping,
    #[error("the server is overloaded")]
    Late,
}

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    // for any web page, as LiveKit's server does: what protects these paths is the token, not the origin
    let api = Router::new()
        .route("/rtc", get(rtc::connect))
        .route("/rtc/validate", get(rtc::validate))
        // newer SDKs try these first, and take 404 as "use /rtc"
        .route("/rtc/v1", get(rtc::connect_v1))
        .route("/rtc/v1/validate", get(rtc::validate_v1))
        .route("/settings/regions", get(regions::list))
        .route("/agent", get(agents::connect))
        .route("/v1/rooms/{room}/participants/{id}/quality", get(quality::read))
        .route("/v1/rooms/{room}/participants/{id}/stats", post(quality::report))
        .route("/v1/nodes/self", get(node::read))
        .route("/v1/nodes/self:drain", post(node::drain))
        .route("/v1/nodes/self:undrain", post(node::undrain))
        // errors of these paths are Twirp's
        .route("/twirp/{*path}", any(twirp::serve))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(cors());

    let mut router = api
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/startupz", get(health::started))
        .route("/", get(assets::index))
        .route("/{*path}", get(assets::file));
    if matches!(app.config.metrics, MetricsAccess::Shared(_)) {
        router = router.route("/metrics", get(health::metrics));
    }
    if app.config.demo.is_some() {
        // outside CORS on purpose: other web pages must not mint tokens
        router = router.route("/demo/token", post(demo::token));
    }
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), measure))
        .with_state(app)
}

/// The page of metrics on an address of its own, beside what orchestrators ask.
pub(crate) fn metrics_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(health::metrics_for_all))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/startupz", get(health::started))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(app)
}

/// Times every answer. A path that is none of the router's is `other`: labels are of a closed list.
async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    app.metrics.request(route.as_deref().unwrap_or("other"), status, started.elapsed());
    response
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS])
        // a wildcard would not cover Authorization (Fetch standard, "CORS non-wildcard request-header name")
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
        .max_age(Duration::from_secs(86_400))
}

const MAX_BODY_BYTES: usize = 64 * 1024;
/// Time in which the signaling loop answers what it knows; SDKs wait 5 s for the whole connection.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(3);
