//! Refusals over HTTP: problem+json for machines, plain text for LiveKit's SDKs, which show the body to the user.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use signaling_api::{ErrorCode, PROBLEM_CONTENT_TYPE, Problem};

use super::NoAnswer;
use crate::auth::AuthError;
use crate::gate::Refusal;
use crate::join_request::JoinRequestError;

/// A refusal, before its form is chosen.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    detail: String,
    retry_after: Option<Duration>,
}

impl Refused {
    /// With what is wrong this time.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: None }
    }

    /// There is no more to say than what the code says.
    pub(crate) fn plain(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }

    /// The same may work after this time.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// `code: detail` as text, for SDKs. livekit-client shows the text of 401 and 403 only, and takes neither as a reason
    /// to try again (`SignalClient.ts`, handleConnectionError), so a full room is answered with 403 here.
    pub(crate) fn into_text(self) -> Response {
        let status = if matches!(self.code, ErrorCode::RoomFull | ErrorCode::ProfileLimit) { StatusCode::FORBIDDEN } else { self.status() };
        let body = format!("{}: {}", self.code, self.detail);
        self.with_headers((status, body).into_response())
    }

    /// As a problem document.
    pub(crate) fn into_problem(self) -> Response {
        let problem = Problem {
            retry_after_ms: self.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            ..Problem::new(self.code, self.detail.clone())
        };
        self.with_headers(problem_response(self.status(), &problem))
    }

    fn with_headers(&self, mut response: Response) -> Response {
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after(wait));
        }
        if let Some(challenge) = challenge(self.code) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// RFC 9110 §10.2.3: whole seconds, so it is rounded up.
pub(crate) fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)))
}

/// What a 401 has to say (RFC 9110 §15.5.2), in the words of RFC 6750 §3.
pub(crate) const fn challenge(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::TokenMissing => Some("Bearer"),
        ErrorCode::TokenInvalid | ErrorCode::TokenExpired | ErrorCode::TokenRevoked => Some(r#"Bearer error="invalid_token""#),
        _ => None,
    }
}

impl From<AuthError> for Refused {
    fn from(error: AuthError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooMany => Self::new(ErrorCode::RateLimited, "too many connections from this address"),
            Refusal::TooFast(wait) => Self::new(ErrorCode::RateLimited, "too many requests from this address").retry_after(wait),
            Refusal::TableFull => Self::new(ErrorCode::Unavailable, "the server is overloaded"),
        }
    }
}

impl From<NoAnswer> for Refused {
    fn from(error: NoAnswer) -> Self {
        Self::new(ErrorCode::Unavailable, error.to_string())
    }
}

impl From<JoinRequestError> for Refused {
    fn from(error: JoinRequestError) -> Self {
        Self::new(ErrorCode::BadRequest, error.to_string())
    }
}

/// No such path.
pub(crate) async fn not_found() -> Response {
    Refused::plain(ErrorCode::NotFound).into_problem()
}

/// The path exists, but not for this address.
pub(crate) fn forbidden() -> Response {
    let detail = "the operator has not allowed this address to read it: `metrics.allow`, `metrics.listen`";
    Refused::new(ErrorCode::Forbidden, detail).into_problem()
}

/// The path exists, but not for this method.
pub(crate) async fn method_not_allowed() -> Response {
    Refused::plain(ErrorCode::MethodNotAllowed).into_problem()
}

/// The path is a WebSocket's.
pub(crate) fn upgrade_required() -> Response {
    let mut response = Refused::plain(ErrorCode::UpgradeRequired).into_problem();
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}

fn problem_response(status: StatusCode, problem: &Problem) -> Response {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, PROBLEM_CONTENT_TYPE)], body).into_response()
}
