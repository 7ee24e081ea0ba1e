//! `GET /settings/regions`: where a client with this token can go on, best first, as protobuf's JSON of `RegionSettings`.
//!
//! SDKs ask it with the token in the `Authorization` header when a server can't be reached. What the operator lists is
//! answered as it stands; without a list this server names itself, under the address by which the client found it.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use livekit_protocol::{RegionInfo, RegionSettings};
use signaling_api::ErrorCode;

use super::problem::Refused;
use super::{App, access};
use crate::net::TcpPeer;

/// `GET /settings/regions`.
pub(crate) async fn list(State(app): State<Arc<App>>, Extension(peer): Extension<TcpPeer>, headers: HeaderMap) -> Response {
    match regions(&app, peer, &headers).await {
        Ok(regions) => {
            // clients ask again after this time
            let headers = [
                (header::CACHE_CONTROL, "private, max-age=60"),
                // what one token may know is not for the next
                (header::VARY, "authorization"),
                (header::CONTENT_TYPE, "application/json"),
            ];
            match serde_json::to_string(&RegionSettings { regions }) {
                Ok(body) => (headers, body).into_response(),
                Err(_) => Refused::new(ErrorCode::Unavailable, "the regions have no JSON form").into_text(),
            }
        }
        Err(refused) => refused.into_text(),
    }
}

async fn regions(app: &App, peer: TcpPeer, headers: &HeaderMap) -> Result<Vec<RegionInfo>, Refused> {
    access::good(app, peer, headers).await?;
    let signaling = &app.config.signaling;
    if !signaling.regions.is_empty() {
        return Ok(signaling.region_infos());
    }
    let is_proxied = app.config.trusted_proxies.iter().any(|prefix| prefix.contains(peer.address.ip()));
    let own = own_url(headers, peer.is_tls, is_proxied).map(|url| RegionInfo { region: signaling.region.clone(), url, distance: 0 });
    Ok(own.into_iter().collect())
}

/// The address that the client used; None if it names none. Only a trusted proxy is believed that TLS ends there and not here.
fn own_url(headers: &HeaderMap, is_tls: bool, is_proxied: bool) -> Option<String> {
    let host: Authority = headers.get(header::HOST)?.to_str().ok()?.parse().ok()?;
    let said = headers.get("x-forwarded-proto").filter(|_| is_proxied);
    let is_secure = is_tls || said.is_some_and(|scheme| scheme == "https" || scheme == "wss");
    // an authority may carry a user name, a host may not
    (!host.as_str().contains('@')).then(|| format!("{}://{host}", if is_secure { "wss" } else { "ws" }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(host: &str, scheme: &str) -> HeaderMap {
        [("host", host), ("x-forwarded-proto", scheme)]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_address_is_the_one_that_the_client_used() {
        assert_eq!(own_url(&headers("call.example.org", ""), false, false).as_deref(), Some("ws://call.example.org"));
        assert_eq!(
            own_url(&headers("[::1]:7880", "https"), false, false).as_deref(),
            Some("ws://[::1]:7880"),
            "said by nobody who is believed"
        );
        assert_eq!(own_url(&headers("call.example.org", "https"), false, true).as_deref(), Some("wss://call.example.org"));
        assert_eq!(own_url(&headers("call.example.org", ""), true, false).as_deref(), Some("wss://call.example.org"));
        for nonsense in ["", "a b", "user@host", "/path"] {
            assert_eq!(own_url(&headers(nonsense, ""), false, false), None, "{nonsense}");
        }
        assert_eq!(own_url(&HeaderMap::new(), true, false), None);
    }
}
