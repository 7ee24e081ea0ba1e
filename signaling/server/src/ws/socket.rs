//! One client's WebSocket: frames in and out, pings, and every bound that protects the server from this client.
//!
//! In: frames. Out: decoded messages to the signaling loop, one at a time; what the loop queued to the client.
//! Invariants: while the loop has no room for a message, or the client is above its rate, nothing more is read, so the
//! client's own socket fills; a write never lasts longer than `write_timeout`; the loop learns of the end exactly once.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use futures_util::SinkExt;
use livekit_protocol::SignalRequest;
use signaling_api::Grants;
use signaling_core::{ConnId, JoinParams};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::debug;

use super::{Newcomer, Outbox, Outgoing, SocketEnd, ToLoop};
use crate::codec::Encoding;
use crate::config::ServerLimits;
use crate::gate::{Pass, TokenBucket};
use crate::give_way::give_way;
use crate::metrics::Metrics;

/// Who arrived; everything about them is verified.
pub(crate) struct Arrival {
    pub(crate) conn: ConnId,
    pub(crate) grants: Grants,
    pub(crate) request: JoinParams,
    pub(crate) remote_ip: IpAddr,
    pub(crate) pass: Pass,
    /// When its request came.
    pub(crate) asked_at: std::time::Instant,
}

/// What a socket task shares with the rest of the server.
pub(crate) struct SocketLink {
    pub(crate) inbox: mpsc::Sender<ToLoop>,
    pub(crate) limits: ServerLimits,
    pub(crate) metrics: Metrics,
}

/// A request for a WebSocket, with the bounds of this server and buffers for many connections that say little.
pub(crate) fn bounded<F>(upgrade: WebSocketUpgrade<F>, limits: &ServerLimits) -> WebSocketUpgrade<F> {
    upgrade
        .max_message_size(limits.max_message_bytes)
        .max_frame_size(limits.max_message_bytes)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
}

/// Serves a socket until its end.
pub(crate) async fn serve(mut socket: WebSocket, arrival: Arrival, link: SocketLink) {
    let Arrival { conn, grants, request, remote_ip, pass, asked_at } = arrival;
    let SocketLink { inbox, limits, metrics } = link;
    let (queue_in, queue) = mpsc::channel(limits.send_queue_messages.max(1));
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let is_dropped = Arc::new(Notify::new());
    let outbox = Outbox {
        queue: queue_in,
        queued_bytes: Arc::clone(&queued_bytes),
        is_dropped: Arc::clone(&is_dropped),
        max_bytes: limits.send_queue_bytes,
    };
    metrics.connections.inc();
    let newcomer = Box::new(Newcomer { conn, grants, request, remote_ip, outbox, asked_at });
    let end = match inbox.send(ToLoop::Connect(newcomer)).await {
        Ok(()) => {
            let session = Session {
                conn,
                socket: &mut socket,
                inbox: &inbox,
                queue,
                queued_bytes,
                is_dropped,
                encoding: Encoding::Protobuf,
                malformed: 0,
                limits: &limits,
                metrics: &metrics,
            };
            session.run().await
        }
        Err(_) => SocketEnd::Shutdown,
    };
    // the loop may have ended, and then needs no notice
    let _ = inbox.send(ToLoop::Closed { conn }).await;
    metrics.connections.dec();
    metrics.closed(end.as_str());
    debug!(?conn, end = end.as_str(), "signaling connection closed");
    let farewell = async {
        match end.close_frame() {
            Some(frame) => socket.send(Message::Close(Some(frame))).await,
            // writes the answer to the client's close frame
            None => socket.flush().await,
        }
    };
    let _ = timeout(FAREWELL_TIME, farewell).await;
    drop((socket, pass));
}

struct Session<'a> {
    conn: ConnId,
    socket: &'a mut WebSocket,
    inbox: &'a mpsc::Sender<ToLoop>,
    queue: mpsc::Receiver<Outgoing>,
    queued_bytes: Arc<AtomicUsize>,
    is_dropped: Arc<Notify>,
    encoding: Encoding,
    malformed: u32,
    limits: &'a ServerLimits,
    metrics: &'a Metrics,
}

impl Session<'_> {
    async fn run(mut self) -> SocketEnd {
        let mut pings = interval(self.limits.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut bucket = TokenBucket::new(self.limits.requests, heard_at.into_std());
        let mut may_read = false;
        let mut read_at = heard_at;
        let mut pending = None;
        loop {
            if !may_read {
                let now = Instant::now();
                match bucket.take(now.into_std()) {
                    Ok(()) => may_read = true,
                    Err(wait) => read_at = now + wait,
                }
            }
            let is_reading = may_read && pending.is_none();
            let step = tokio::select! {
                () = self.is_dropped.notified() => Err(SocketEnd::Slow),
                outgoing = self.queue.recv() => self.write_queued(outgoing).await,
                place = self.inbox.reserve(), if pending.is_some() => match (place, pending.take()) {
                    (Ok(place), Some(request)) => {
                        place.send(ToLoop::Message { conn: self.conn, request });
                        Ok(())
                    }
                    _ => Err(SocketEnd::Shutdown),
                },
                frame = self.socket.recv(), if is_reading => {
                    heard_at = Instant::now();
                    may_read = false;
                    match frame {
                        Some(Ok(frame)) => self.decode(frame).map(|request| pending = request),
                        Some(Err(error)) => Err(self.end_of(&error)),
                        None => Err(SocketEnd::Lost),
                    }
                },
                () = sleep_until(read_at), if !may_read => Ok(()),
                _ = pings.tick() => {
                    if !is_reading {
                        heard_at = Instant::now();
                    }
                    if heard_at.elapsed() > self.limits.idle_timeout {
                        Err(SocketEnd::Idle)
                    } else {
                        self.write(Message::Ping(Default::default())).await
                    }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// A signaling message, or nothing to do.
    fn decode(&mut self, frame: Message) -> Result<Option<SignalRequest>, SocketEnd> {
        let (encoding, payload) = match &frame {
            Message::Binary(payload) => (Encoding::Protobuf, payload.as_ref()),
            Message::Text(text) => (Encoding::Json, text.as_bytes()),
            Message::Close(_) => return Err(SocketEnd::Client),
            Message::Ping(_) | Message::Pong(_) => return Ok(None),
        };
        match encoding.decode(payload) {
            Some(request) if request.message.is_some() => {
                self.encoding = encoding;
                Ok(Some(request))
            }
            // a kind of message that is newer than this server
            Some(_) => {
                self.metrics.malformed("unknown");
                Ok(None)
            }
            None => {
                self.metrics.malformed(encoding.as_str());
                self.malformed = self.malformed.saturating_add(1);
                if self.malformed > self.limits.malformed_messages { Err(SocketEnd::Malformed) } else { Ok(None) }
            }
        }
    }

    /// Writes what has been queued, `first` of it, in as few system calls as it fits in.
    async fn write_queued(&mut self, first: Option<Outgoing>) -> Result<(), SocketEnd> {
        let mut next = Some(first.ok_or(SocketEnd::Shutdown)?);
        let (mut end, mut written) = (Ok(()), 0);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Message(response) => {
                    self.queued_bytes.fetch_sub(response.size(), Ordering::Relaxed);
                    if let Some(frame) = response.frame(self.encoding) {
                        self.feed(frame).await?;
                    }
                }
                Outgoing::Close(reason) => {
                    end = Err(reason);
                    break;
                }
            }
            written += 1;
            next = if written < MESSAGES_AT_ONCE { self.queue.try_recv().ok() } else { None };
        }
        let flushed = self.flush().await;
        give_way();
        flushed.and(end)
    }

    async fn write(&mut self, frame: Message) -> Result<(), SocketEnd> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Into the buffer; when that is full, to the client.
    async fn feed(&mut self, frame: Message) -> Result<(), SocketEnd> {
        self.in_time(async |socket| socket.feed(frame).await).await
    }

    async fn flush(&mut self) -> Result<(), SocketEnd> {
        self.in_time(async |socket| socket.flush().await).await
    }

    async fn in_time(&mut self, write: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>) -> Result<(), SocketEnd> {
        tokio::select! {
            written = timeout(self.limits.write_timeout, write(self.socket)) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(self.end_of(&error)),
                Err(_) => Err(SocketEnd::Slow),
            },
            () = self.is_dropped.notified() => Err(SocketEnd::Slow),
        }
    }

    fn end_of(&self, error: &axum::Error) -> SocketEnd {
        use tungstenite::Error;
        match error.source().and_then(|source| source.downcast_ref::<Error>()) {
            Some(Error::Capacity(_)) => {
                self.metrics.malformed("oversized");
                SocketEnd::Oversized
            }
            Some(Error::Utf8(_)) => SocketEnd::Malformed,
            // said by the stream; the system's own timeout has a number, and means that the line is dead
            Some(Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() => SocketEnd::Slow,
            Some(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => SocketEnd::Lost,
            Some(Error::Protocol(_)) => SocketEnd::Protocol,
            _ => SocketEnd::Lost,
        }
    }
}

/// Bytes that one read takes. Requests are smaller, but for session descriptions; the library clears its whole buffer for each read.
const READ_BUFFER_BYTES: usize = 1024;
/// Messages that are written before the client is read again.
const MESSAGES_AT_ONCE: usize = 64;
/// Messages that wait are written together up to about so many bytes.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Time for the close frame; a client that does not take it gets none.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
