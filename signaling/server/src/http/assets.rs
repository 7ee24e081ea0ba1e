//! The web demo's files: read from `web-demo/dist` in debug builds, part of the binary in release builds.
//!
//! Vite puts a hash of the content into the names below `assets/`, so these may be kept for good; everything else is
//! asked for again each time and answered with 304 when unchanged. Without a built demo a page says how to build it.

use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{Embed, EmbeddedFile};

use super::problem;

#[derive(Embed)]
#[folder = "../../web-demo/dist"]
#[allow_missing = true]
struct WebDemo;

/// The start page.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    match WebDemo::get(INDEX) {
        Some(file) => respond(INDEX, file, &headers),
        None => {
            let headers = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CACHE_CONTROL, "no-store"),
                (header::CONTENT_SECURITY_POLICY, MISSING_DEMO_POLICY),
            ];
            (headers, include_str!("missing_demo.html")).into_response()
        }
    }
}

/// Any other file.
pub(crate) async fn file(path: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    let Ok(Path(path)) = path else { return problem::not_found().await };
    // in debug builds the name reaches the file system: only plain names go through
    let is_plain = path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0', ':']));
    let file = if is_plain { WebDemo::get(&path) } else { None };
    match file {
        Some(file) => respond(&path, file, &headers),
        None => problem::not_found().await,
    }
}

fn respond(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let etag = etag(&file);
    let is_known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|known| known.contains(&etag));
    let mut response = if is_known { StatusCode::NOT_MODIFIED.into_response() } else { Body::from(file.data).into_response() };

    let caching = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let kind = if kind.type_() == mime_guess::mime::TEXT { format!("{kind}; charset=utf-8") } else { kind.to_string() };
    for (name, value) in [
        (header::CONTENT_TYPE, kind.as_str()),
        (header::CACHE_CONTROL, caching),
        (header::ETAG, etag.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, DEMO_POLICY),
        // a join link may carry a token in its query: other sites must not learn it
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn etag(file: &EmbeddedFile) -> String {
    let digest = file.metadata.sha256_hash();
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

const INDEX: &str = "index.html";

/// Scripts and styles are files of this server. A join link may name another server to call, so sockets, and the requests
/// with which livekit-client asks why a socket was refused, may go anywhere. Nobody else may frame the page: a click in it
/// starts the camera.
const DEMO_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss: http: https:; img-src 'self' blob: data:; \
    media-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; \
    frame-ancestors 'self'";

/// Its only style is in the page itself.
const MISSING_DEMO_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
