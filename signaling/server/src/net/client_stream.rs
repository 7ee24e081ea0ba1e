//! The TCP connection of a client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::debug;

/// A TCP stream that, when dropped, still reads what the client is sending, for a short while and unheard.
///
/// Closing a socket with unread bytes makes the kernel send a reset, and a reset makes the client's kernel throw away
/// what we sent last (RFC 9112 §9.6).
pub(crate) struct LingeringStream {
    open: Option<(TcpStream, OwnedSemaphorePermit)>,
}

impl LingeringStream {
    pub(crate) fn new(stream: TcpStream, place: OwnedSemaphorePermit) -> Self {
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

const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;
