//! Bodies of requests, each read when it is known that its sender may ask: within the size of its route, `body_timeout`, and what all of
//! them together, and those of its address, may have (`holdings`).
//!
//! Handlers read bodies by this alone: axum's extractors wait for as long as the client likes.

use std::net::{IpAddr, Ipv4Addr};

use axum::Json;
use axum::extract::Request;
use axum::http::header;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use signaling_api::ErrorCode;
use tokio::time::timeout;

use super::App;
use super::problem::Refused;
use crate::holdings::{Held, LARGE_BYTES, Share};
use crate::net::TcpPeer;

/// What was sent. A large one counts until this is dropped: when what was made of it is done with.
#[derive(Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    held: Option<Held>,
}

impl std::ops::Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BodyError {
    /// Larger than the route takes.
    TooLarge,
    /// Not here in time.
    TooLate,
    /// As much is held of others as may be.
    NoRoom,
    /// Not what it should be, with words for people.
    Malformed(String),
}

/// As it is, of at most so many bytes.
pub(crate) async fn read(request: Request, app: &App, max_bytes: usize) -> Result<Body, BodyError> {
    timeout(app.config.limits.body_timeout, collect(request, app, max_bytes)).await.unwrap_or(Err(BodyError::TooLate))
}

/// JSON that says so in its `Content-Type`: forms of other sites can't.
pub(crate) async fn read_json<T: DeserializeOwned>(request: Request, app: &App, max_bytes: usize) -> Result<T, BodyError> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(BodyError::Malformed("the body has to be JSON, with `Content-Type: application/json`".to_owned()));
    }
    let body = read(request, app, max_bytes).await?;
    Json::from_bytes(&body).map(|Json(value)| value).map_err(|rejected| BodyError::Malformed(rejected.body_text()))
}

async fn collect(request: Request, app: &App, max_bytes: usize) -> Result<Body, BodyError> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|bytes| bytes > max_bytes) {
        return Err(BodyError::TooLarge);
    }
    let peer = request.extensions().get::<TcpPeer>();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| app.client_ip(*peer, request.headers()));
    let share = app.holdings.bodies.share_of(address);
    let (mut body, mut chunks) = (Body::default(), request.into_body().into_data_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| BodyError::Malformed(error.to_string()))?;
        if body.bytes.len() + chunk.len() > max_bytes {
            return Err(BodyError::TooLarge);
        }
        // Counted as it comes: a length that is only declared costs nothing.
        body.count(chunk.len(), &share)?;
        body.bytes.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Body {
    fn count(&mut self, more: usize, share: &Share) -> Result<(), BodyError> {
        let is_counted = match &mut self.held {
            Some(held) => held.grow(more),
            None if self.bytes.len() + more <= LARGE_BYTES => true,
            None => {
                self.held = share.take(self.bytes.len() + more);
                self.held.is_some()
            }
        };
        if is_counted { Ok(()) } else { Err(BodyError::NoRoom) }
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::plain(ErrorCode::TooLarge),
            BodyError::TooLate => Self::plain(ErrorCode::RequestTimeout),
            BodyError::NoRoom => Self::new(ErrorCode::Unavailable, "the server has too many large requests to answer: try again"),
            BodyError::Malformed(words) => Self::new(ErrorCode::BadRequest, words),
        }
    }
}
