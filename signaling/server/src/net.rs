//! Accepts TCP connections and speaks HTTP/1.1 on them.
//!
//! In: a listener and the router. Out: requests that carry their [`TcpPeer`].
//! Invariants: at most `max_connections` are open, upgraded ones included; a client that does not finish its headers in
//! time is closed; a connection that the server ends early is read to its end first, so that the client gets the last
//! bytes (a close frame, an error) and not a TCP reset.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::config::ServerLimits;
use crate::shared::{Recognised, SharedPort, recognise};

/// Who is at the other end of the TCP connection; a proxy perhaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpPeer(pub(crate) SocketAddr);

/// Runs until `is_stopping` turns true; connections that are open then end with the request they are serving.
pub(crate) async fn accept_loop(
    listener: TcpListener,
    router: Router,
    shared: SharedPort,
    limits: ServerLimits,
    mut is_stopping: watch::Receiver<bool>,
) {
    let shared = Arc::new(shared);
    let places = Arc::new(Semaphore::new(limits.max_connections));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping(&mut is_stopping) => return,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (router, shared, is_stopping) = (router.clone(), Arc::clone(&shared), is_stopping.clone());
                    tokio::spawn(serve_stream(stream, place, peer, router, shared, limits.header_timeout, is_stopping));
                }
                Err(_) => debug!(%peer, "all connections are in use"),
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
async fn serve_stream(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    peer: SocketAddr,
    router: Router,
    shared: Arc<SharedPort>,
    header_timeout: Duration,
    is_stopping: watch::Receiver<bool>,
) {
    let stream = if shared.is_shared() {
        match recognise(stream, peer, &shared, header_timeout).await {
            Recognised::Http(stream) => stream,
            Recognised::Https(io) => {
                serve_connection(*io, peer, router, header_timeout, is_stopping).await;
                return drop(place);
            }
            Recognised::Done => return,
        }
    } else {
        stream
    };
    serve_connection(LingeringStream::new(stream, place), peer, router, header_timeout, is_stopping).await;
}

async fn serve_connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    header_timeout: Duration,
    mut is_stopping: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(TcpPeer(peer));
        collapse_leading_slashes(request.uri_mut());
        request.map(Body::new)
    }));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(MAX_HEAD_BYTES);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping(&mut is_stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "an HTTP connection ended with an error");
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

/// A TCP stream that, when dropped, still reads what the client is sending, for a short while and unheard.
///
/// Closing a socket with unread bytes makes the kernel send a reset, and a reset makes the client's kernel throw away
/// what we sent last (RFC 9112 §9.6).
struct LingeringStream {
    open: Option<(TcpStream, OwnedSemaphorePermit)>,
}

impl LingeringStream {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
        // signaling messages are small and wait for answers: Nagle's algorithm would delay them
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY was refused");
        }
        Self { open: Some((stream, place)) }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        let (stream, _) = self.open.as_mut().expect("taken only by drop");
        Pin::new(stream)
    }
}

impl Drop for LingeringStream {
    fn drop(&mut self) {
        if let (Some((stream, place)), Ok(runtime)) = (self.open.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(linger(stream, place));
        }
    }
}

/// The place is free again only when the socket is.
async fn linger(mut stream: TcpStream, _place: OwnedSemaphorePermit) {
    let read_out = async {
        let _ = stream.shutdown().await;
        let mut unheard = [0; 4096];
        let mut budget = LINGER_BYTES;
        while let Ok(read @ 1..) = stream.read(&mut unheard).await {
            budget = budget.saturating_sub(read);
            if budget == 0 {
                return;
            }
        }
    };
    let _ = timeout(LINGER_TIME, read_out).await;
}

impl AsyncRead for LingeringStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for LingeringStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.open.as_ref().is_some_and(|(stream, _)| stream.is_write_vectored())
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Request line and headers together; an access token with metadata takes a few KiB.
const MAX_HEAD_BYTES: usize = 128 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

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
