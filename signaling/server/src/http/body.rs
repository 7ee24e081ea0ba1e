//! Bodies of requests, each read when it is known that its sender may ask: within the size of its route and `body_timeout`.
//!
//! Handlers read bodies by this alone: axum's extractors wait for as long as the client likes.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use signaling_api::ErrorCode;
use tokio::time::timeout;

use super::problem::Refused;
use crate::config::ServerLimits;

/// Why there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BodyError {
    /// Larger than the route takes (`DefaultBodyLimit`).
    TooLarge,
    /// Not here in time.
    TooLate,
    /// Not what it should be, with words for people.
    Malformed(String),
}

/// As it is.
pub(crate) async fn read(request: Request, limits: &ServerLimits) -> Result<Bytes, BodyError> {
    match timeout(limits.body_timeout, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(refused)) => Err(BodyError::of(refused.status(), refused.body_text())),
        Err(_) => Err(BodyError::TooLate),
    }
}

/// JSON that says so in its `Content-Type`: forms of other sites can't.
pub(crate) async fn read_json<T: DeserializeOwned>(request: Request, limits: &ServerLimits) -> Result<T, BodyError> {
    match timeout(limits.body_timeout, Json::from_request(request, &())).await {
        Ok(Ok(Json(body))) => Ok(body),
        Ok(Err(refused)) => Err(BodyError::of(refused.status(), refused.body_text())),
        Err(_) => Err(BodyError::TooLate),
    }
}

impl BodyError {
    fn of(status: StatusCode, words: String) -> Self {
        if status == StatusCode::PAYLOAD_TOO_LARGE { Self::TooLarge } else { Self::Malformed(words) }
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::plain(ErrorCode::TooLarge),
            BodyError::TooLate => Self::plain(ErrorCode::RequestTimeout),
            BodyError::Malformed(words) => Self::new(ErrorCode::BadRequest, words),
        }
    }
}
