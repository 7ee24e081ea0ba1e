//! Routes. Every handler is in the file of its subject; this one says what is where and which headers go with it.

mod assets;
mod demo;
mod health;
pub(crate) mod problem;
mod regions;
mod rtc;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method};
use axum::routing::{any, get, post};
use prometheus::Registry;
use tokio::sync::{mpsc, watch};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::agents;
use crate::config::ServerConfig;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::net::TcpPeer;
use crate::proxy::{client_ip, forwarded_for};
use crate::twirp;
use crate::ws::{Heartbeat, ToLoop};

/// What handlers share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) inbox: mpsc::Sender<ToLoop>,
    pub(crate) sockets: Gate,
    pub(crate) demo_tokens: Gate,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Registry,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) is_stopping: watch::Receiver<bool>,
    pub(crate) next_connection: AtomicU64,
}

impl App {
    pub(crate) fn client_ip(&self, peer: TcpPeer, headers: &HeaderMap) -> IpAddr {
        client_ip(peer.0.ip(), &forwarded_for(headers), &self.config.trusted_proxies)
    }
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
        // errors of these paths are Twirp's
        .route("/twirp/{*path}", any(twirp::serve).layer(DefaultBodyLimit::max(twirp::MAX_BODY_BYTES)))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(cors());

    let mut router = api
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/", get(assets::index))
        .route("/{*path}", get(assets::file));
    if app.config.is_metrics_exposed {
        router = router.route("/metrics", get(health::metrics));
    }
    if app.config.demo.is_some() {
        // outside CORS on purpose: other web pages must not mint tokens
        router = router.route("/demo/token", post(demo::token));
    }
    router
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
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
