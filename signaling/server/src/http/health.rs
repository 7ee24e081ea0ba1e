//! Liveness, readiness and metrics.
//!
//! `/livez` looks at this process's signaling loop and nothing else, so that a fault elsewhere never restarts a healthy
//! server; `/readyz` says whether new sessions are welcome.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder as _, TextEncoder};
use signaling_api::ErrorCode;

use super::App;
use super::problem::Refused;

/// 200 while the signaling loop turns.
pub(crate) async fn live(State(app): State<Arc<App>>) -> Response {
    let age = app.heartbeat.age();
    if age <= STALL_LIMIT {
        return ok();
    }
    Refused::new(ErrorCode::Unavailable, format!("the signaling loop has not turned for {} s", age.as_secs())).into_problem()
}

/// 200 while new sessions are taken.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    if *app.is_stopping.borrow() {
        return Refused::new(ErrorCode::Unavailable, "the server is shutting down").into_problem();
    }
    live(State(app)).await
}

/// Everything in the registry, in Prometheus's text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
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
