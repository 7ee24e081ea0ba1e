//! Gives the web demo a token, on development servers only.
//!
//! Anyone who reaches this endpoint gets into any room. So it exists only when `demo` is configured, answers only pages
//! of this server itself, grants only a plain join of the one room asked for, and is rate limited.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use rand::RngExt as _;
use signaling_api::{DemoTokenRequest, DemoTokenResponse, ErrorCode, VideoGrant};

use super::problem::Refused;
use super::{App, MAX_BODY_BYTES, body};
use crate::auth::{self, TokenOptions};
use crate::net::TcpPeer;
use crate::unix_now;

/// `POST /demo/token`.
pub(crate) async fn token(State(app): State<Arc<App>>, Extension(peer): Extension<TcpPeer>, request: Request) -> Response {
    let minted = async {
        admit(&app, peer, request.headers())?;
        mint(&app, body::read_json(request, &app, MAX_BODY_BYTES).await?)
    };
    match minted.await {
        Ok(token) => {
            let mut response = Json(token).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(refused) => refused.into_problem(),
    }
}

fn admit(app: &App, peer: TcpPeer, headers: &HeaderMap) -> Result<(), Refused> {
    if !is_same_origin(headers) {
        return Err(Refused::new(ErrorCode::TokenGrant, "only pages of this server get demo tokens"));
    }
    app.demo_tokens.enter(app.client_ip(peer, headers), Instant::now())?;
    Ok(())
}

fn mint(app: &App, request: DemoTokenRequest) -> Result<DemoTokenResponse, Refused> {
    let demo = app.config.demo.as_ref().ok_or_else(|| Refused::new(ErrorCode::Unavailable, "the demo is off"))?;
    let room = checked("room", request.room)?;
    let name = request.name.map(|name| checked("name", name)).transpose()?;
    let identity = match request.identity {
        Some(identity) => checked("identity", identity)?,
        None => invented_identity(name.as_deref().unwrap_or("guest")),
    };
    let name = name.unwrap_or_else(|| identity.clone());

    let (key, secret) = app.config.keys.signing().ok_or_else(|| Refused::new(ErrorCode::Unavailable, "this server has no API key"))?;
    let now = unix_now();
    let options = TokenOptions {
        name: name.clone(),
        ttl: demo.token_ttl,
        grants: VideoGrant {
            room_join: true,
            can_publish: Some(true),
            can_subscribe: Some(true),
            can_publish_data: Some(true),
            can_update_own_metadata: Some(true),
            ..VideoGrant::default()
        },
        ..TokenOptions::join(identity.clone(), room.clone())
    };
    let token = auth::mint(key, secret, &options, now).map_err(|error| Refused::new(ErrorCode::Internal, error.to_string()))?;
    Ok(DemoTokenResponse { token, room, identity, name, expires_at: now.saturating_add(demo.token_ttl).as_secs() })
}

/// Browsers say where a request comes from and scripts can't change it (Fetch Metadata, `Sec-Fetch-Site`); where they
/// don't (plain HTTP beyond loopback), `Origin` must name the host that was asked. Tools send neither.
fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some((_, origin_host)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(origin_host))
}

fn checked(field: &str, text: String) -> Result<String, Refused> {
    let text = text.trim().to_owned();
    let is_good = !text.is_empty() && text.chars().count() <= MAX_NAME_CHARS && !text.chars().any(char::is_control);
    if is_good {
        return Ok(text);
    }
    Err(Refused::new(ErrorCode::BadRequest, format!("{field} must have 1 to {MAX_NAME_CHARS} characters and no control characters")))
}

/// The name with a random tail, so that two guests of one name are two participants.
fn invented_identity(name: &str) -> String {
    let head: String = name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).take(20).collect();
    let head = if head.is_empty() { "guest".to_owned() } else { head };
    let tail: u32 = rand::rng().random();
    format!("{head}-{tail:08x}")
}

const MAX_NAME_CHARS: usize = 100;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_page_of_this_server_is_of_the_same_origin() {
        assert!(is_same_origin(&headers(&[("host", "127.0.0.1:7880"), ("origin", "http://127.0.0.1:7880")])));
        assert!(is_same_origin(&headers(&[("host", "127.0.0.1:7880")])));
        let proxied = [("host", "127.0.0.1:7880"), ("origin", "http://127.0.0.1:5173")];
        assert!(is_same_origin(&headers(&[proxied[0], proxied[1], ("sec-fetch-site", "same-origin")])));
        assert!(!is_same_origin(&headers(&[proxied[0], ("sec-fetch-site", "cross-site")])));
        assert!(!is_same_origin(&headers(&[proxied[0], ("sec-fetch-site", "same-site")])));
        for origin in ["https://evil.example", "null", "http://127.0.0.1:7881", ""] {
            assert!(!is_same_origin(&headers(&[("host", "127.0.0.1:7880"), ("origin", origin)])), "{origin}");
        }
    }

    #[test]
    fn two_guests_of_one_name_are_two_participants() {
        let (one, two) = (invented_identity("Ada Lovelace!"), invented_identity("Ada Lovelace!"));
        assert!(one.starts_with("adalovelace-") && one != two);
        assert!(invented_identity("日本").starts_with("guest-"));
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(checked("room", " r ".into()).unwrap(), "r");
        for bad in [String::new(), "  ".into(), "a\nb".into(), "x".repeat(101)] {
            assert!(checked("room", bad).is_err());
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }
}
