//! Parameters of a path, for handlers whose refusals are problem documents.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;
use signaling_api::ErrorCode;

use super::problem::Refused;

/// As [`Path`], which refuses in plain text: percent-encoded bytes may be no UTF-8.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(params)) => Ok(Self(params)),
            Err(refused) => Err(Refused::new(ErrorCode::BadRequest, refused.body_text()).into_problem()),
        }
    }
}
