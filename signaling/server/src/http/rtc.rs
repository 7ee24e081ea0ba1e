//! The door: checks the token and the limits, then turns the request into a signaling WebSocket.
//!
//! `/rtc` gives a client two peer connections, `/rtc/v1` one. `/rtc/validate` and `/rtc/v1/validate` run the same checks
//! without opening anything: SDKs ask them why the WebSocket was refused, because a browser does not tell. Refusals are
//! text, which SDKs show to the user, but for a request that no SDK makes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use signaling_api::{ErrorCode, Grants};
use signaling_core::{ConnId, JoinParams};

use super::problem::{self, Refused};
use super::{ANSWER_TIME, App, access};
use crate::auth;
use crate::gate::Pass;
use crate::holdings::Held;
use crate::join_request::{self, JoinRequestError};
use crate::net::TcpPeer;
use crate::query::RtcQuery;
use crate::ws::ToLoop;
use crate::ws::socket::{self, Arrival, SocketLink};

/// By which path a client comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Door {
    /// `/rtc`: everything is in the query.
    V0,
    /// `/rtc/v1`: everything is in one parameter of the query.
    V1,
}

/// Who may come in.
struct Admitted {
    grants: Grants,
    request: JoinParams,
    /// Its place among those of its address.
    pass: Pass,
    /// Room for what it is told first, if that is much.
    reserved: Option<Held>,
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// `GET /rtc`.
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    open(&app, Door::V0, peer, query.as_deref(), &headers, upgrade).await
}

/// `GET /rtc/v1`: one peer connection for both directions, and its first offer may come with the request.
pub(crate) async fn connect_v1(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    open(&app, Door::V1, peer, query.as_deref(), &headers, upgrade).await
}

async fn open(app: &App, door: Door, peer: TcpPeer, query: Option<&str>, headers: &HeaderMap, upgrade: Upgrade) -> Response {
    let Ok(upgrade) = upgrade else { return problem::upgrade_required() };
    let asked_at = Instant::now();
    let query = RtcQuery::parse(query.unwrap_or_default());
    let mut is_resume = query.is_reconnect;
    let remote_ip = app.client_ip(peer, headers);
    let admitted = admit(app, door, query, headers, remote_ip, &mut is_resume).await;
    if !is_resume {
        app.metrics.join_attempts.inc();
        app.metrics.checked(asked_at.elapsed());
    }
    let Admitted { grants, request, pass, reserved } = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            let reason = refused.code.as_str();
            if is_resume {
                app.metrics.resumed(Some(reason));
            } else {
                app.metrics.refused(reason);
            }
            return refusal(refused);
        }
    };

    let limits = &app.config.limits;
    let upgrade = socket::bounded(upgrade, limits);
    let conn = ConnId(app.next_connection.fetch_add(1, Ordering::Relaxed));
    let arrival = Arrival { conn, grants, request, remote_ip, pass, reserved, asked_at };
    let link = SocketLink {
        inbox: app.inbox.clone(),
        intake: app.intake.clone(),
        holdings: app.holdings.clone(),
        limits: limits.clone(),
        metrics: app.metrics.clone(),
    };
    upgrade.on_upgrade(move |socket| socket::serve(socket, arrival, link))
}

/// `GET /rtc/validate`.
pub(crate) async fn validate(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    check(&app, Door::V0, peer, query.as_deref(), &headers).await
}

/// `GET /rtc/v1/validate`.
pub(crate) async fn validate_v1(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    check(&app, Door::V1, peer, query.as_deref(), &headers).await
}

async fn check(app: &App, door: Door, peer: TcpPeer, query: Option<&str>, headers: &HeaderMap) -> Response {
    let query = RtcQuery::parse(query.unwrap_or_default());
    match admit(app, door, query, headers, app.client_ip(peer, headers), &mut false).await {
        Ok(_) => (StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], "success").into_response(),
        Err(refused) => refusal(refused),
    }
}

/// What an SDK should never send is for its developers to read, everything else for its users.
fn refusal(refused: Refused) -> Response {
    if refused.code == ErrorCode::BadRequest { refused.into_problem() } else { refused.into_text() }
}

/// Everything that can be known before there is a connection. `is_resume` is set as soon as it is known.
async fn admit(
    app: &App,
    door: Door,
    query: RtcQuery,
    headers: &HeaderMap,
    remote_ip: IpAddr,
    is_resume: &mut bool,
) -> Result<Admitted, Refused> {
    if *app.is_stopping.borrow() {
        return Err(Refused::new(ErrorCode::Unavailable, "the server is shutting down"));
    }
    let mut grants = access::genuine(app, headers, query.access_token.as_deref())?;
    auth::check_join(&grants, query.room.as_deref())?;
    // Behind the token and the limit of the address: neither strangers nor a crowd make the server decompress anything.
    let pass = app.sockets.enter(remote_ip, Instant::now())?;
    let mut request = match (query.join_request.as_deref(), door) {
        (Some(parameter), _) => {
            let (request, profile) = join_request::decode(parameter)?;
            *is_resume = request.reconnect;
            if !profile.apply(&mut grants) {
                return Err(Refused::new(ErrorCode::TokenGrant, "the access token does not grant canUpdateOwnMetadata"));
            }
            request
        }
        (None, Door::V1) => return Err(JoinRequestError::Missing.into()),
        (None, Door::V0) => query.into_join_params(),
    };

    // Whether it may join does not depend on what it says then, which may be long.
    let messages = std::mem::take(&mut request.messages);
    let (asked_grants, asked) = (grants.clone(), request.clone());
    request.messages = messages;
    match app.ask(ANSWER_TIME, |reply| ToLoop::Check { grants: asked_grants, request: asked, reply }).await? {
        Ok(welcome_bytes) => match app.holdings.messages.share_of(remote_ip).take_large(welcome_bytes) {
            Ok(reserved) => Ok(Admitted { grants, request, pass, reserved }),
            Err(_) => Err(Refused::new(ErrorCode::Unavailable, "too many join large rooms at once: try again")),
        },
        // the words by which livekit-client tells this 404 from that of a server without /rtc/v1
        Err(ErrorCode::RoomNotFound) => Err(Refused::new(ErrorCode::RoomNotFound, "requested room does not exist")),
        Err(code) => Err(Refused::new(code, code.message())),
    }
}
