//! The door: checks the token and the limits, then turns the request into a signaling WebSocket.
//!
//! `/rtc/validate` runs the same checks without opening anything: SDKs ask it why the WebSocket was refused, because a
//! browser does not tell them. Answers of both are text; SDKs show it to the user.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use signaling_api::{ErrorCode, Grants};
use signaling_core::{ConnId, JoinParams};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::App;
use super::problem::{self, Refused};
use crate::auth;
use crate::gate::{Pass, Refusal};
use crate::net::TcpPeer;
use crate::query::RtcQuery;
use crate::unix_now;
use crate::ws::ToLoop;
use crate::ws::socket::{self, Arrival, SocketLink};

/// `GET /rtc`.
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else { return problem::upgrade_required() };
    let query = RtcQuery::parse(query.as_deref().unwrap_or_default());
    if !query.is_reconnect {
        app.metrics.join_attempts.inc();
    }
    let is_resume = query.is_reconnect;
    let remote_ip = app.client_ip(peer, &headers);
    let admitted = admit(&app, query, &headers).await.and_then(|admitted| Ok((admitted, enter(&app, remote_ip)?)));
    let ((grants, request), pass) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            app.metrics.attempt(is_resume, Some(refused.code.as_str()));
            return refused.into_text();
        }
    };

    let limits = &app.config.limits;
    let upgrade = upgrade.max_message_size(limits.max_message_bytes).max_frame_size(limits.max_message_bytes);
    let conn = ConnId(app.next_connection.fetch_add(1, Ordering::Relaxed));
    let arrival = Arrival { conn, grants, request, remote_ip, pass };
    let link = SocketLink { inbox: app.inbox.clone(), limits: limits.clone(), metrics: app.metrics.clone() };
    upgrade.on_upgrade(move |socket| socket::serve(socket, arrival, link))
}

/// `GET /rtc/validate`.
pub(crate) async fn validate(State(app): State<Arc<App>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = RtcQuery::parse(query.as_deref().unwrap_or_default());
    match admit(&app, query, &headers).await {
        Ok(_) => (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], "success").into_response(),
        Err(refused) => refused.into_text(),
    }
}

/// `/rtc/v1`: the 404 that sends SDKs to `/rtc`. The body must not be that of LiveKit's "requested room does not exist",
/// which `livekit-client` would take as final.
pub(crate) async fn no_single_peer_connection() -> Response {
    problem::not_found().await
}

/// Everything that can be known before there is a connection.
async fn admit(app: &App, query: RtcQuery, headers: &HeaderMap) -> Result<(Grants, JoinParams), Refused> {
    if *app.is_stopping.borrow() {
        return Err(Refused::new(ErrorCode::Unavailable, "the server is shutting down"));
    }
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    let token = auth::find_token(authorization, query.access_token.as_deref())?;
    let grants = auth::verify(&app.config.keys, token, unix_now())?;
    auth::check_join(&grants, query.room.as_deref())?;
    let request = query.into_join_params();

    let (reply, answer) = oneshot::channel();
    let check = ToLoop::Check { grants: grants.clone(), request: request.clone(), reply };
    let checked = async {
        app.inbox.send(check).await.ok()?;
        answer.await.ok()
    };
    match timeout(CHECK_TIME, checked).await {
        Ok(Some(Ok(()))) => Ok((grants, request)),
        // the words by which livekit-client tells this 404 from that of a server without /rtc/v1
        Ok(Some(Err(ErrorCode::RoomNotFound))) => Err(Refused::new(ErrorCode::RoomNotFound, "requested room does not exist")),
        Ok(Some(Err(code))) => Err(Refused::new(code, code.message())),
        Ok(None) => Err(Refused::new(ErrorCode::Unavailable, "the server is shutting down")),
        Err(_) => Err(Refused::new(ErrorCode::Unavailable, "the server is overloaded")),
    }
}

fn enter(app: &App, remote_ip: IpAddr) -> Result<Pass, Refused> {
    app.sockets.enter(remote_ip, Instant::now()).map_err(|refusal| match refusal {
        Refusal::TooMany => Refused::new(ErrorCode::RateLimited, "too many connections from this address"),
        Refusal::TooFast(wait) => Refused::new(ErrorCode::RateLimited, "too many joins from this address").retry_after(wait),
        Refusal::TableFull => Refused::new(ErrorCode::Unavailable, "the server is overloaded"),
    })
}

/// Time in which the signaling loop must answer; SDKs wait 5 s for the whole connection.
const CHECK_TIME: Duration = Duration::from_secs(3);
