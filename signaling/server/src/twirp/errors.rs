//! Twirp's errors: a word, a sentence, and the HTTP status that goes with the word.
//!
//! Twirp wire protocol v7, "Error codes". Clients read `code` and `msg`; what is 5xx they may try at another server.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use signaling_api::ErrorCode;
use signaling_core::AdminError;

use super::MAX_BODY_BYTES;
use crate::auth::AuthError;
use crate::gate::Refusal;
use crate::http::body::BodyError;
use crate::http::problem::{challenge, retry_after};

/// An answer that is no result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TwirpError {
    code: Code,
    message: String,
    meta: BTreeMap<&'static str, String>,
    status: StatusCode,
    challenge: Option<&'static str>,
    retry_after: Option<Duration>,
}

/// Twirp's words, as far as they are used here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    Canceled,
    InvalidArgument,
    Malformed,
    NotFound,
    BadRoute,
    Unauthenticated,
    ResourceExhausted,
    FailedPrecondition,
    Unimplemented,
    Internal,
    Unavailable,
}

impl Code {
    const fn word(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::InvalidArgument => "invalid_argument",
            Self::Malformed => "malformed",
            Self::NotFound => "not_found",
            Self::BadRoute => "bad_route",
            Self::Unauthenticated => "unauthenticated",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Canceled => StatusCode::REQUEST_TIMEOUT,
            Self::InvalidArgument | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::BadRoute => StatusCode::NOT_FOUND,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl TwirpError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), meta: BTreeMap::new(), status: code.status(), challenge: None, retry_after: None }
    }

    /// Twirp's word for it, for metrics.
    pub(crate) const fn word(&self) -> &'static str {
        self.code.word()
    }

    /// The path, the method or the type of the body is not one of this service.
    pub(crate) fn bad_route(message: impl Into<String>, method: &str, path: &str) -> Self {
        let mut error = Self::new(Code::BadRoute, message);
        error.meta.insert("twirp_invalid_route", format!("{method} {path}"));
        error
    }

    /// The body can't be decoded.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(Code::Malformed, message)
    }

    /// The body is larger than any request has reason to be. Twirp has no word for it, HTTP has (RFC 9110 §15.5.14).
    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        let message = format!("the request body is larger than {limit_bytes} bytes");
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::new(Code::ResourceExhausted, message) }
    }

    /// There were too many requests; the next one is answered after this time.
    pub(crate) fn too_fast(of_whom: &str, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..Self::new(Code::ResourceExhausted, format!("too many requests {of_whom}")) }
    }

    /// The token is genuine and allows something else. LiveKit's server has the same word for it as for a bad token.
    pub(crate) fn denied() -> Self {
        let challenge = Some(r#"Bearer error="insufficient_scope""#);
        Self { challenge, ..Self::new(Code::Unauthenticated, "permissions denied") }
    }
}

impl From<AuthError> for TwirpError {
    fn from(error: AuthError) -> Self {
        Self { challenge: challenge(error.code()), ..Self::new(Code::Unauthenticated, error.to_string()) }
    }
}

impl From<Refusal> for TwirpError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooFast(wait) => Self::too_fast("from this address", wait),
            Refusal::TooMany => Self::new(Code::ResourceExhausted, "too many requests from this address"),
            Refusal::TableFull => Self::new(Code::Unavailable, "the server is overloaded"),
        }
    }
}

impl From<BodyError> for TwirpError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::too_large(MAX_BODY_BYTES),
            BodyError::NoRoom => Self::new(Code::Unavailable, "the server has too many large requests to answer: try again"),
            BodyError::TooLate => Self::new(Code::Canceled, "the request body did not come in time"),
            BodyError::Malformed(_) => Self::malformed("failed to read request body"),
        }
    }
}

impl From<AdminError> for TwirpError {
    fn from(error: AdminError) -> Self {
        let code = match error.code {
            ErrorCode::BadRequest => Code::InvalidArgument,
            ErrorCode::RoomNotFound | ErrorCode::ParticipantNotFound | ErrorCode::TrackNotFound | ErrorCode::DispatchNotFound => {
                Code::NotFound
            }
            ErrorCode::NotFound | ErrorCode::MethodNotAllowed | ErrorCode::UpgradeRequired => Code::BadRoute,
            ErrorCode::RoomFull
            | ErrorCode::RoomLimit
            | ErrorCode::ParticipantLimit
            | ErrorCode::ProfileLimit
            | ErrorCode::RateLimited
            | ErrorCode::TooLarge => Code::ResourceExhausted,
            ErrorCode::PreconditionFailed => Code::FailedPrecondition,
            ErrorCode::Unimplemented => Code::Unimplemented,
            ErrorCode::Unavailable => Code::Unavailable,
            // LiveKit's word for a call that takes too long
            ErrorCode::Timeout | ErrorCode::RequestTimeout => Code::Canceled,
            ErrorCode::TokenMissing
            | ErrorCode::TokenInvalid
            | ErrorCode::TokenExpired
            | ErrorCode::TokenGrant
            | ErrorCode::TokenRevoked
            | ErrorCode::Forbidden => Code::Unauthenticated,
            _ => Code::Internal,
        };
        Self { challenge: challenge(error.code), ..Self::new(code, error.message) }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    code: &'static str,
    msg: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: &'a BTreeMap<&'static str, String>,
}

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        let document = Document { code: self.word(), msg: &self.message, meta: &self.meta };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let headers = [
            // without parameters: the Node SDK compares the whole value
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut response = (self.status, headers, body).into_response();
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after(wait));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_code_of_ours_has_a_word_and_only_faults_of_the_server_are_internal() {
        for code in ErrorCode::ALL {
            let error = TwirpError::from(AdminError { code, message: "m".to_owned() });
            assert_eq!(error.code == Code::Internal, code == ErrorCode::Internal, "{code}");
        }
    }
}
