//! One client's WebSocket: frames in and out, pings, and every bound that protects the server from this client.
//!
//! In: frames. Out: decoded messages to the signaling loop, one at a time; what the loop queued to the client.
//! Invariants: while there is no place for a message (`intake`), or the client is above its rate, nothing more is read, so the
//! client's own socket fills; a frame is decoded when it has its place, and large ones of all clients that wait have a bound
//! (`holdings`); a write of up to a megabyte to a client that takes nothing never lasts longer than `write_timeout`, and a frame's turn
//! is not kept meanwhile; the loop learns of the end exactly once.

use std::error::Error as _;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use futures_util::SinkExt;
use signaling_api::Grants;
use signaling_core::{ConnId, JoinParams};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tracing::debug;

use super::intake::{Door, Intake, Place};
use super::outbox::{Outbox, Outgoing, Queue, SocketEnd};
use super::{Newcomer, ToLoop};
use crate::codec::Encoding;
use crate::config::ServerLimits;
use crate::gate::{Pass, TokenBucket};
use crate::give_way::give_way;
use crate::holdings::{Held, Holdings, LARGE_FRAME_BYTES, Share};
use crate::metrics::Metrics;

/// Who arrived; everything about them is verified.
pub(crate) struct Arrival {
    pub(crate) conn: ConnId,
    pub(crate) grants: Grants,
    pub(crate) request: JoinParams,
    pub(crate) remote_ip: IpAddr,
    pub(crate) pass: Pass,
    /// Room for what it will be told first.
    pub(crate) reserved: Option<Held>,
    /// When its request came.
    pub(crate) asked_at: std::time::Instant,
}

/// What a socket task shares with the rest of the server.
pub(crate) struct SocketLink {
    pub(crate) inbox: mpsc::Sender<ToLoop>,
    pub(crate) intake: Intake,
    pub(crate) holdings: Holdings,
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
    let Arrival { conn, grants, request, remote_ip, pass, reserved, asked_at } = arrival;
    let SocketLink { inbox, intake, holdings, limits, metrics } = link;
    let (outbox, queue) = Outbox::open(&limits, holdings.messages.share_of(remote_ip), reserved);
    metrics.connections.inc();
    let newcomer = Box::new(Newcomer { conn, grants, request, remote_ip, outbox, asked_at });
    let end = match inbox.send(ToLoop::Connect(newcomer)).await {
        Ok(()) => {
            let session = Session {
                conn,
                socket: &mut socket,
                door: intake.door(),
                waiting_frames: holdings.frames.share_of(remote_ip),
                queue,
                encoding: Encoding::Protobuf,
                malformed: 0,
                unflushed_bytes: 0,
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
    door: Door,
    waiting_frames: Share,
    queue: Queue,
    encoding: Encoding,
    malformed: u32,
    /// In the buffer, and not yet with the client as far as is known here.
    unflushed_bytes: usize,
    limits: &'a ServerLimits,
    metrics: &'a Metrics,
}

/// A frame that waits for its place.
struct Waiting {
    encoding: Encoding,
    payload: Bytes,
    /// If it is large.
    _held: Option<Held>,
    /// Its turn in the queue for a place; none while the socket is stuck in a write, so that no place is kept from others.
    place: Option<Pin<Box<dyn Future<Output = Option<Place>> + Send>>>,
}

impl Session<'_> {
    async fn run(mut self) -> SocketEnd {
        // Not at once: a client that just came is there, and each ping is a system call here and two wake-ups there.
        let mut pings = interval_at(Instant::now() + self.limits.ping_interval, self.limits.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut bucket = TokenBucket::new(self.limits.requests, heard_at.into_std());
        let mut may_read = false;
        let mut read_at = heard_at;
        let mut waiting = None;
        loop {
            if !may_read {
                let now = Instant::now();
                match bucket.take(now.into_std()) {
                    Ok(()) => may_read = true,
                    Err(wait) => read_at = now + wait,
                }
            }
            let is_reading = may_read && waiting.is_none();
            let step = tokio::select! {
                () = self.queue.is_dropped.notified() => Err(SocketEnd::Slow),
                outgoing = self.queue.messages.recv() => beside(self.write_queued(outgoing), &mut waiting).await,
                place = place_of(&mut waiting, &self.door) => match (place, waiting.take()) {
                    (Some(place), Some(Waiting { encoding, payload, .. })) => self.deliver(encoding, &payload, place),
                    _ => Err(SocketEnd::Shutdown),
                },
                frame = self.socket.recv(), if is_reading => {
                    heard_at = Instant::now();
                    may_read = false;
                    match frame {
                        Some(Ok(frame)) => self.sort(frame).map(|message| waiting = message),
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
                        beside(self.write(Message::Ping(Default::default())), &mut waiting).await
                    }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// A frame with a message, or nothing to do.
    fn sort(&self, frame: Message) -> Result<Option<Waiting>, SocketEnd> {
        let encoding = match &frame {
            Message::Binary(_) => Encoding::Protobuf,
            Message::Text(_) => Encoding::Json,
            Message::Close(_) => return Err(SocketEnd::Client),
            Message::Ping(_) | Message::Pong(_) => return Ok(None),
        };
        let payload = frame.into_data();
        let held = match payload.len() {
            // whoever says little goes on whatever others do
            ..=LARGE_FRAME_BYTES => None,
            large => Some(self.waiting_frames.take(large).ok_or(SocketEnd::Overloaded)?),
        };
        Ok(Some(Waiting { encoding, payload, _held: held, place: None }))
    }

    /// Decodes a frame that has its place, and gives it to the loop if it is a signaling message.
    fn deliver(&mut self, encoding: Encoding, payload: &[u8], place: Place) -> Result<(), SocketEnd> {
        match encoding.decode(payload) {
            Some(request) if request.message.is_some() => {
                self.encoding = encoding;
                let conn = self.conn;
                place.send(|weight| ToLoop::Message { conn, request, weight });
                Ok(())
            }
            // a kind of message that is newer than this server
            Some(_) => {
                self.metrics.malformed("unknown");
                Ok(())
            }
            None => {
                self.metrics.malformed(encoding.as_str());
                self.malformed = self.malformed.saturating_add(1);
                if self.malformed > self.limits.malformed_messages { Err(SocketEnd::Malformed) } else { Ok(()) }
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
                    self.queue.begin(&response);
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
            next = if written < MESSAGES_AT_ONCE { self.queue.messages.try_recv().ok() } else { None };
        }
        let flushed = self.flush().await;
        give_way();
        flushed?;
        self.queue.written();
        end
    }

    async fn write(&mut self, frame: Message) -> Result<(), SocketEnd> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Into the buffer; when that is full, to the client.
    async fn feed(&mut self, frame: Message) -> Result<(), SocketEnd> {
        self.unflushed_bytes += match &frame {
            Message::Binary(payload) => payload.len(),
            Message::Text(text) => text.len(),
            _ => 0,
        };
        self.in_time(async |socket| socket.feed(frame).await).await
    }

    async fn flush(&mut self) -> Result<(), SocketEnd> {
        self.in_time(async |socket| socket.flush().await).await?;
        self.unflushed_bytes = 0;
        Ok(())
    }

    async fn in_time(&mut self, write: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>) -> Result<(), SocketEnd> {
        // What a large room is in one message takes its time on a narrow line.
        let parts = u32::try_from(self.unflushed_bytes / WRITE_PART_BYTES).unwrap_or(u32::MAX).saturating_add(1);
        let limit = self.limits.write_timeout.saturating_mul(parts);
        tokio::select! {
            written = timeout(limit, write(self.socket)) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(self.end_of(&error)),
                Err(_) => Err(SocketEnd::Slow),
            },
            () = self.queue.is_dropped.notified() => Err(SocketEnd::Slow),
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

/// Never, if there is nothing that waits. Dropped and called again, it goes on where it was.
async fn place_of(waiting: &mut Option<Waiting>, door: &Door) -> Option<Place> {
    match waiting {
        Some(Waiting { payload, place, .. }) => place.get_or_insert_with(|| Box::pin(door.place(payload.len()))).as_mut().await,
        None => pending().await,
    }
}

/// A write, during which nobody asks whether a frame that waits has its place. One that takes long gives the turn up: a place that
/// is granted and not taken is kept from everybody else.
async fn beside<T>(write: impl Future<Output = T>, waiting: &mut Option<Waiting>) -> T {
    let mut write = std::pin::pin!(write);
    if let Ok(written) = timeout(SHORT_WRITE, &mut write).await {
        return written;
    }
    if let Some(waiting) = waiting {
        waiting.place = None;
    }
    write.await
}

/// Writes that take no longer keep a frame's turn.
const SHORT_WRITE: Duration = Duration::from_millis(50);
/// Bytes that one read takes: requests are smaller, and a session description is one of few parts. The library clears its whole buffer
/// for each read, and each connection keeps one.
const READ_BUFFER_BYTES: usize = 2048;
/// Messages that are written before the client is read again.
const MESSAGES_AT_ONCE: usize = 64;
/// Messages that wait are written together up to about so many bytes.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Each further part of so many bytes has a `write_timeout` of its own.
const WRITE_PART_BYTES: usize = 1 << 20;
/// Time for the close frame; a client that does not take it gets none.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::ready;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const BYTES: usize = 1_000;

    /// Room for one message, which is taken; two clients with a frame each, the first of which has its turn next.
    struct Crowd {
        taken: Option<Place>,
        doors: [Door; 2],
        waiting: [Option<Waiting>; 2],
        _inbox: mpsc::Receiver<ToLoop>,
    }

    impl Crowd {
        fn new() -> Self {
            let (sender, inbox) = mpsc::channel(8);
            let limits = ServerLimits { inbox_bytes: BYTES, inbox_bytes_per_socket: 10 * BYTES, ..ServerLimits::default() };
            let intake = Intake::new(sender, &limits);
            let frame = || Waiting { encoding: Encoding::Protobuf, payload: Bytes::from_static(&[0; BYTES]), _held: None, place: None };
            let (doors, mut waiting) = ([intake.door(), intake.door()], [Some(frame()), Some(frame())]);
            let taken = is_ready(&mut Some(frame()), &doors[0]);
            assert!(taken.is_some());
            for (waiting, door) in waiting.iter_mut().zip(&doors) {
                assert!(is_ready(waiting, door).is_none(), "they queue up");
            }
            Self { taken, doors, waiting, _inbox: inbox }
        }

        /// The place is free: who has it?
        fn places(&mut self) -> [bool; 2] {
            self.taken = None;
            let Self { doors, waiting, .. } = self;
            // the second one is asked first: a place that is granted to the first is kept for it
            let [second, first] = [1, 0].map(|client| is_ready(&mut waiting[client], &doors[client]));
            [first.is_some(), second.is_some()]
        }
    }

    /// A place, if a frame has it.
    fn is_ready(waiting: &mut Option<Waiting>, door: &Door) -> Option<Place> {
        match std::pin::pin!(place_of(waiting, door)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => place,
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_write_that_takes_long_gives_up_the_turn_of_the_frame_that_waits() {
        let mut crowd = Crowd::new();
        crowd.taken = None;
        let [first, second] = &mut crowd.waiting;
        // the place is kept for the first, whose write ends when the second one has it
        let place = timeout(Duration::from_secs(10), beside(place_of(second, &crowd.doors[1]), first)).await;
        assert!(place.expect("a client that does not read keeps nobody waiting").is_some());
    }

    #[tokio::test]
    async fn a_short_write_keeps_it() {
        let mut crowd = Crowd::new();
        beside(ready(()), &mut crowd.waiting[0]).await;
        assert_eq!(crowd.places(), [true, false]);
    }
}
