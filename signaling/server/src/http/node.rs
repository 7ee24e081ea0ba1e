//! This node for its operators: `GET /v1/nodes/self`, `POST /v1/nodes/self:drain`, `POST /v1/nodes/self:undrain`.
//!
//! A token with `roomCreate` and `roomList` may do so: the rights that a server's own services have, and no participant.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use signaling_api::ErrorCode;
use tokio::time::timeout;

use super::problem::Refused;
use super::{ANSWER_TIME, App, MAX_BODY_BYTES, NoAnswer, access, body};
use crate::drain::DrainRequest;
use crate::net::TcpPeer;
use crate::ws::ToLoop;

/// Calls may go on for so long if nothing is said.
const DEFAULT_DEADLINE_S: u64 = 3600;
/// Longest deadline: a drain that is forgotten ends some day.
const MAX_DEADLINE_S: u64 = 7 * 86_400;

/// `GET /v1/nodes/self`.
pub(crate) async fn read(State(app): State<Arc<App>>, Extension(peer): Extension<TcpPeer>, headers: HeaderMap) -> Response {
    match check(&app, peer, &headers).await {
        Ok(()) => status(&app),
        Err(refused) => refused.into_problem(),
    }
}

/// Body of `POST /v1/nodes/self:drain`; may be empty.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    /// Seconds.
    deadline_s: Option<u64>,
}

/// `POST /v1/nodes/self:drain`.
pub(crate) async fn drain(State(app): State<Arc<App>>, Extension(peer): Extension<TcpPeer>, request: Request) -> Response {
    let asked = async {
        check(&app, peer, request.headers()).await?;
        let deadline = deadline(&body::read(request, &app, MAX_BODY_BYTES).await?)?;
        Ok(DrainRequest::Begin { deadline })
    };
    ask(&app, asked.await).await
}

/// `POST /v1/nodes/self:undrain`.
pub(crate) async fn undrain(State(app): State<Arc<App>>, Extension(peer): Extension<TcpPeer>, headers: HeaderMap) -> Response {
    ask(&app, check(&app, peer, &headers).await.map(|()| DrainRequest::Undo)).await
}

async fn ask(app: &App, request: Result<DrainRequest, Refused>) -> Response {
    let request = match request {
        Ok(request) => request,
        Err(refused) => return refused.into_problem(),
    };
    let asked = async {
        let told = timeout(ANSWER_TIME, app.inbox.send(ToLoop::Drain(request))).await.map_err(|_| NoAnswer::Late)?;
        told.map_err(|_| NoAnswer::Stopping)?;
        // not for the status that was asked for: somebody else may have asked for another by then
        app.ask(ANSWER_TIME, ToLoop::Barrier).await
    };
    match asked.await {
        Ok(()) if request == DrainRequest::Undo && app.drain.borrow().stopping => {
            let detail = "the process is about to stop, and what has asked for that would kill it: SIGUSR2 lets it serve on all the same";
            Refused::new(ErrorCode::PreconditionFailed, detail).into_problem()
        }
        Ok(()) => status(app),
        Err(error) => Refused::from(error).into_problem(),
    }
}

async fn check(app: &App, peer: TcpPeer, headers: &HeaderMap) -> Result<(), Refused> {
    let grants = access::counted(app, peer, headers).await?;
    let is_operator = grants.room_create && grants.room_list;
    if is_operator {
        Ok(())
    } else {
        Err(Refused::new(ErrorCode::TokenGrant, "the access token does not grant both roomCreate and roomList"))
    }
}

fn deadline(body: &[u8]) -> Result<Duration, Refused> {
    let bad = |detail: String| Refused::new(ErrorCode::BadRequest, detail);
    let body: Body = if body.is_empty() {
        Body::default()
    } else {
        serde_json::from_slice(body).map_err(|error| bad(format!("not a drain: {error}")))?
    };
    match body.deadline_s.unwrap_or(DEFAULT_DEADLINE_S) {
        seconds if seconds <= MAX_DEADLINE_S => Ok(Duration::from_secs(seconds)),
        _ => Err(bad(format!("`deadlineS` is at most {MAX_DEADLINE_S}"))),
    }
}

fn status(app: &App) -> Response {
    let signaling = &app.config.signaling;
    let document = json!({
        "id": signaling.node_id,
        "region": signaling.region,
        "version": signaling.version,
        "ready": !*app.is_stopping.borrow() && !app.drain.borrow().is_draining(),
        "drain": *app.drain.borrow(),
    });
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::OK, headers, document.to_string()).into_response()
}
