//! Accepts TCP connections and speaks HTTP/1.1 on them.
//!
//! In: a listener and the router. Out: requests that carry their [`TcpPeer`].
//! Invariants: at most `max_connections` are open, upgraded ones included, and so many of one address; a client that does not finish
//! its headers, or does not take its answer, in time is closed (bodies: `http/body.rs`); a connection that the server ends early is
//! read to its end first, so that the client gets the last bytes (a close frame, an error) and not a TCP reset.

mod client_stream;
mod places;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tower::ServiceExt as _;
use tracing::{debug, warn};

pub(crate) use self::client_stream::ClientStream;
use self::places::{Place, Places};
use crate::config::ServerLimits;
use crate::metrics::Metrics;
use crate::proxy::IpPrefix;
use crate::shared::{Recognised, SharedPort, recognise};

/// Who is at the other end of the TCP connection; a proxy perhaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpPeer {
    pub(crate) address: SocketAddr,
    /// TLS ends here.
    pub(crate) is_tls: bool,
}

/// A listener's part of the server: what is served there, and for how many.
pub(crate) struct Port {
    router: Router,
    shared: SharedPort,
    places: Places,
    limits: ServerLimits,
    metrics: Metrics,
}

impl Port {
    pub(crate) fn new(router: Router, shared: SharedPort, limits: ServerLimits, trusted: Vec<IpPrefix>, metrics: Metrics) -> Self {
        let places = Places::new(&limits, trusted);
        Self { router, shared, places, limits, metrics }
    }

    /// Runs until `is_stopping` turns true; connections that are open then end with the request they are serving.
    pub(crate) async fn accept_loop(self, listener: TcpListener, mut is_stopping: watch::Receiver<bool>) {
        let port = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopping(&mut is_stopping) => return,
            };
            match accepted {
                Ok((stream, peer)) => match port.places.take(peer.ip()) {
                    Ok(place) => {
                        let (port, is_stopping) = (Arc::clone(&port), is_stopping.clone());
                        tokio::spawn(async move { port.serve_stream(stream, place, peer, is_stopping).await });
                    }
                    Err(taken) => {
                        port.metrics.connection_refused(taken.as_str());
                        debug!(%peer, reason = taken.as_str(), "a connection found no place");
                    }
                },
                // the client is gone already, or the process is out of descriptors: the latter needs a pause
                Err(error) => {
                    warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A connection on a port that may not be only ours.
    async fn serve_stream(&self, stream: TcpStream, place: Place, peer: SocketAddr, is_stopping: watch::Receiver<bool>) {
        let stream = ClientStream::new(stream, place, self.limits.write_timeout);
        if !self.shared.is_shared() {
            return self.serve_connection(stream, TcpPeer { address: peer, is_tls: false }, is_stopping).await;
        }
        match recognise(stream, peer, &self.shared, self.limits.header_timeout).await {
            Recognised::Http(stream) => {
                self.serve_connection(stream, TcpPeer { address: peer, is_tls: false }, is_stopping).await;
            }
            Recognised::Https(stream) => {
                self.serve_connection(*stream, TcpPeer { address: peer, is_tls: true }, is_stopping).await;
            }
            Recognised::Done => {}
        }
    }

    async fn serve_connection(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: TcpPeer,
        mut is_stopping: watch::Receiver<bool>,
    ) {
        let service = TowerToHyperService::new(self.router.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            collapse_leading_slashes(request.uri_mut());
            request.map(Body::new)
        }));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.limits.header_timeout).max_buf_size(MAX_HEAD_BYTES);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping(&mut is_stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(peer = %peer.address, %error, "an HTTP connection ended with an error");
        }
    }
}

/// Completes when the server is to stop.
pub(crate) async fn stopping(is_stopping: &mut watch::Receiver<bool>) {
    // an error means that nobody can say so any more; that is a reason to stop as well
    let _ = is_stopping.wait_for(|stopping| *stopping).await;
}

/// A server address that ends with a slash makes some SDKs ask for `//rtc`.
fn collapse_leading_slashes(uri: &mut Uri) {
    let Some(whole) = uri.path_and_query().map(|path| path.as_str()) else { return };
    if whole.starts_with("//")
        && let Ok(collapsed) = format!("/{}", whole.trim_start_matches('/')).parse()
    {
        *uri = collapsed;
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Request line and headers together; an access token with metadata takes a few KiB.
const MAX_HEAD_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_leading_slashes_are_collapsed() {
        for (before, after) in [("//rtc?a=//b", "/rtc?a=//b"), ("///", "/"), ("/a//b", "/a//b"), ("/", "/")] {
            let mut uri: Uri = before.parse().unwrap();
            collapse_leading_slashes(&mut uri);
            assert_eq!(uri.path_and_query().unwrap().as_str(), after, "{before}");
        }
    }
}
