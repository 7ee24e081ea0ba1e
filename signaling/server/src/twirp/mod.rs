//! LiveKit's server API: Twirp (POST of protobuf or JSON to `/twirp/package.Service/Method`) over the functions of
//! `signaling_core::AdminRequest`.
//!
//! In: requests of server SDKs, with a token in `Authorization`. Out: results, or Twirp's errors.
//! Invariants: nothing of a body is read before its token is verified and found to be for some method; a body is at most [`MAX_BODY_BYTES`].
//! Not here: what the functions do. Our own API (problem documents, resources) will be another face of the same functions.

mod agent_dispatch;
pub(crate) mod codec;
mod errors;
mod fields;
mod room_service;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use signaling_api::Grants;
use signaling_core::{AdminRequest, AdminResponse};

use self::agent_dispatch::AgentDispatchService;
use self::codec::{Form, Named};
use self::errors::{Code, TwirpError};
use self::room_service::RoomService;
use crate::http::body::{self, Body};
use crate::http::{App, access};
use crate::net::TcpPeer;
use crate::ws::ToLoop;

/// A service by its full name.
trait Service {
    const NAME: &'static str;

    /// None: it has no such method.
    async fn call(method: &str, call: &Call<'_>) -> Option<Result<Response, TwirpError>>;
}

/// A request whose token is genuine.
struct Call<'a> {
    app: &'a App,
    grants: &'a Grants,
    form: Form,
    /// Kept until the answer: so long what was made of it is there.
    body: Body,
}

impl Call<'_> {
    fn decode<M: prost::Message + Default + DeserializeOwned>(&self) -> Result<M, TwirpError> {
        self.form.decode(&self.body)
    }

    fn answer<M: prost::Message + Serialize + Named>(&self, message: &M) -> Response {
        self.form.encode(message)
    }

    /// Asks the rooms.
    async fn ask(&self, request: AdminRequest) -> Result<AdminResponse, TwirpError> {
        let (grants, request) = (Box::new(self.grants.clone()), Box::new(request));
        let answer = self.app.ask(ANSWER_TIME, |reply| ToLoop::Admin { grants, request, reply }).await;
        Ok((*answer.map_err(|error| TwirpError::new(Code::Unavailable, error.to_string()))?)?)
    }
}

/// `/twirp/...`, whatever the method.
pub(crate) async fn serve(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<TcpPeer>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // what is no text is no method either
    let path = path.map(|Path(path)| path).unwrap_or_default();
    let answered = answer(&app, peer, &path, request).await;
    let asked = path.split('/').next().unwrap_or_default();
    let service = [RoomService::NAME, AgentDispatchService::NAME].into_iter().find(|name| *name == asked);
    app.metrics.api_request(service.unwrap_or("other"), answered.as_ref().err().map_or("ok", TwirpError::word));
    answered.unwrap_or_else(|error| error.into_response())
}

async fn answer(app: &App, peer: TcpPeer, path: &str, request: Request) -> Result<Response, TwirpError> {
    let (method, whole_path) = (request.method().clone(), request.uri().path().to_owned());
    let bad_route = |message: String| TwirpError::bad_route(message, method.as_str(), &whole_path);
    let no_handler = || bad_route(format!("no handler for path {whole_path:?}"));
    if method != Method::POST {
        return Err(bad_route(format!("unsupported method {:?} (only POST is allowed)", method.as_str())));
    }
    let (service, function) = path.split_once('/').ok_or_else(no_handler)?;
    if let Some(message) = missing(service) {
        return Err(TwirpError::new(Code::Unimplemented, message));
    }
    if ![RoomService::NAME, AgentDispatchService::NAME].contains(&service) {
        return Err(no_handler());
    }
    app.quota.address(app.client_ip(peer, request.headers()), Instant::now())?;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = Form::of(content_type).ok_or_else(|| bad_route(format!("unexpected Content-Type: {content_type:?}")))?;
    let in_query = access::token_in(request.uri().query());
    let grants = access::genuine(app, request.headers(), in_query.as_deref())?;
    if !(grants.room_create || grants.room_list || grants.room_admin) {
        // a participant's token: it has nothing to ask here, however large
        return Err(TwirpError::denied());
    }
    app.quota.key(&grants, Instant::now()).map_err(|wait| TwirpError::too_fast("with this API key", wait))?;
    let body = body::read(request, app, MAX_BODY_BYTES).await?;
    let call = Call { app, grants: &grants, form, body };
    let answered = if service == RoomService::NAME {
        RoomService::call(function, &call).await
    } else {
        AgentDispatchService::call(function, &call).await
    };
    answered.ok_or_else(no_handler)?
}

/// Services of LiveKit that this server does not have.
fn missing(service: &str) -> Option<&'static str> {
    match service {
        "livekit.Egress" => Some("this server can't record or stream rooms out"),
        "livekit.Ingress" => Some("this server can't take streams in"),
        "livekit.SIP" => Some("this server has no telephony"),
        "livekit.Connector" => Some("this server has no connectors"),
        _ => None,
    }
}

/// The largest request: metadata of a room and of all its agents (LiveKit: `max_api_request_body_size`).
pub const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;
/// Longer than any call to a participant may take.
const ANSWER_TIME: Duration = Duration::from_secs(90);
