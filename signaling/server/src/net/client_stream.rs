//! The TCP connection of a client, with the server's patience for it.
//!
//! In and out: bytes. Invariants: it holds its place until the socket is closed; a write that makes no way for `write_timeout` is an
//! error, so that nobody holds memory by not reading; one that was written to is read for a short while, unheard, before it is closed.
//! Closing a socket with unread bytes makes the kernel send a reset, and a reset makes the client's kernel throw away what we sent last
//! (RFC 9112 §9.6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tracing::debug;

use super::places::Place;

/// See the module.
pub(crate) struct ClientStream {
    open: Option<(TcpStream, Place)>,
    write_timeout: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    has_written: bool,
}

impl ClientStream {
    pub(crate) fn new(stream: TcpStream, place: Place, write_timeout: Duration) -> Self {
        // signaling messages are small and wait for answers: Nagle's algorithm would delay them
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY was refused");
        }
        Self { open: Some((stream, place)), write_timeout, stalled: None, has_written: false }
    }

    /// What comes next, without taking it.
    pub(crate) async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let (stream, _) = self.open.as_ref().expect("taken only at the end");
        stream.peek(bytes).await
    }

    /// For somebody else, who has bounds of its own: the place is free again.
    pub(crate) fn into_std(mut self) -> io::Result<std::net::TcpStream> {
        let (stream, _place) = self.open.take().expect("taken only at the end");
        stream.into_std()
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        let (stream, _) = self.open.as_mut().expect("taken only at the end");
        Pin::new(stream)
    }

    /// The outcome of a write, or an error once writes have waited for too long.
    fn patiently<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            self.has_written = true;
            return written;
        }
        let limit = self.write_timeout;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if let (Some((stream, place)), true, Ok(runtime)) = (self.open.take(), self.has_written, tokio::runtime::Handle::try_current()) {
            runtime.spawn(linger(stream, place));
        }
    }
}

/// The place is free again only when the socket is.
async fn linger(mut stream: TcpStream, _place: Place) {
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

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(cx, buf);
        self.patiently(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(cx, bufs);
        self.patiently(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.open.as_ref().is_some_and(|(stream, _)| stream.is_write_vectored())
    }
}

const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;
