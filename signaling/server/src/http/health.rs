//! Liveness, readiness and metrics.
//!
//! `/livez` looks at the loops of this process, that of signaling and those of the media node's shards, and at nothing else, so that a
//! fault elsewhere never restarts a healthy server; `/readyz` says whether new sessions are welcome: not while the server drains or goes down; `/startupz` whether it has
//! begun, which it has as soon as it answers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder as _, TextEncoder};
use signaling_api::ErrorCode;

use super::App;
use super::problem::{self, Refused};
use crate::config::MetricsAccess;
use crate::net::TcpPeer;
use crate::proxy::IpPrefix;

/// 200 while the signaling loop and all shards turn.
pub(crate) async fn live(State(app): State<Arc<App>>) -> Response {
    let age = app.heartbeat.age();
    if age > STALL_LIMIT {
        return Refused::new(ErrorCode::Unavailable, format!("the signaling loop has not turned for {} s", age.as_secs())).into_problem();
    }
    // While the server goes down, shards that are told to stop do.
    if !*app.is_stopping.borrow() && !(app.pulse)() {
        return Refused::new(ErrorCode::Unavailable, "a shard of the media node has not turned for some seconds").into_problem();
    }
    ok()
}

/// 200 while new sessions are taken.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    if *app.is_stopping.borrow() {
        return Refused::new(ErrorCode::Unavailable, "the server is shutting down").into_problem();
    }
    if app.drain.borrow().is_draining() {
        return Refused::new(ErrorCode::Unavailable, "the server is being drained: it takes no new rooms").into_problem();
    }
    live(State(app)).await
}

/// 200 from the first moment: sockets are open and the loop runs before anything is answered.
pub(crate) async fn started() -> Response {
    ok()
}

/// The metrics, for those who may read them.
pub(crate) async fn metrics(State(app): State<Arc<App>>, Extension(peer): Extension<TcpPeer>, headers: HeaderMap) -> Response {
    let MetricsAccess::Shared(allowed) = &app.config.metrics else { return problem::not_found().await };
    if is_allowed(&app, allowed, peer, &headers) { metrics_for_all(State(app)).await } else { problem::forbidden() }
}

/// Behind a proxy everybody would have its address: one must be trusted, and say whose request it is. A proxy that adds no header
/// at all can't be told from a client on its machine.
fn is_allowed(app: &App, allowed: &[IpPrefix], peer: TcpPeer, headers: &HeaderMap) -> bool {
    let is_trusted = app.config.trusted_proxies.iter().any(|proxy| proxy.contains(peer.address.ip()));
    let is_proxied = FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name));
    let ip = app.client_ip(peer, headers);
    let is_named = is_trusted && !app.config.trusted_proxies.iter().any(|proxy| proxy.contains(ip));
    if is_proxied && !is_named {
        return false;
    }
    allowed.iter().any(|prefix| prefix.contains(ip))
}

/// What reverse proxies add (RFC 7239, RFC 9110 section 7.6.3, and custom).
const FORWARDING_HEADERS: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Everything in the registry, in Prometheus's text format.
pub(crate) async fn metrics_for_all(State(app): State<Arc<App>>) -> Response {
    let mut body = Vec::new();
    match TextEncoder::new().encode(&app.registry.gather(), &mut body) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], body).into_response(),
        Err(error) => Refused::new(ErrorCode::Internal, format!("metrics can't be encoded: {error}")).into_problem(),
    }
}

fn ok() -> Response {
    (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// The loop turns at least once a second; five seconds of silence are a fault and not a busy moment.
const STALL_LIMIT: Duration = Duration::from_secs(5);
