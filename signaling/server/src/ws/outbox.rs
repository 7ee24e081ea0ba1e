//! What waits to be written to one client: in the loop's hands one end, in the socket task's the other.
//!
//! Invariant: what waits or is being written has at most `send_queue_bytes`, and beside it there may be one large message, of more
//! than half of that: who joins or resumes is told of all the room at once, and that has a bound of its own (`max_profile_bytes` of
//! `signaling_core`). A client for which there is no room is too slow, and is closed. All of such messages together have a bound too
//! (`holdings`); whose message would be beyond it is closed as well, and comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::{CloseFrame, close_code};
use signaling_core::CloseReason;
use tokio::sync::{Notify, mpsc};

use crate::codec::Response;
use crate::config::ServerLimits;
use crate::holdings::{Held, Holding, LARGE_BYTES};

/// The loop's end of a connection.
pub(crate) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    backlog: Arc<Backlog>,
    all_large: Holding,
    is_dropped: Arc<Notify>,
}

/// The socket task's end.
pub(crate) struct Queue {
    pub(crate) messages: mpsc::Receiver<Outgoing>,
    backlog: Arc<Backlog>,
    /// The client is too slow: nothing more is to be written.
    pub(crate) is_dropped: Arc<Notify>,
    small_bytes_in_hand: usize,
    large_in_hand: usize,
    held_in_hand: Vec<Held>,
}

/// What is not written yet.
struct Backlog {
    small_bytes: AtomicUsize,
    large: AtomicUsize,
    max_bytes: usize,
}

/// To a socket task.
pub(crate) enum Outgoing {
    /// To be written; a large one is held until it is.
    Message(Arc<Response>, Option<Held>),
    /// Write what came before, then close.
    Close(SocketEnd),
}

impl Outbox {
    /// Both ends of a queue with these bounds, and that of all large messages.
    pub(crate) fn open(limits: &ServerLimits, all_large: Holding) -> (Self, Queue) {
        let (queue, messages) = mpsc::channel(limits.send_queue_messages.max(1));
        let (small_bytes, large) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let backlog = Arc::new(Backlog { small_bytes, large, max_bytes: limits.send_queue_bytes });
        let is_dropped = Arc::new(Notify::new());
        let outbox = Self { queue, backlog: Arc::clone(&backlog), all_large, is_dropped: Arc::clone(&is_dropped) };
        (outbox, Queue { messages, backlog, is_dropped, small_bytes_in_hand: 0, large_in_hand: 0, held_in_hand: Vec::new() })
    }

    /// Queues a message.
    ///
    /// # Errors
    /// There is no room for it: why the connection is over.
    pub(crate) fn push(&self, response: &Arc<Response>) -> Result<(), SocketEnd> {
        if !self.backlog.takes(response.size()) {
            return Err(SocketEnd::Slow);
        }
        let held = match response.size() {
            ..=LARGE_BYTES => None,
            large => Some(self.all_large.take(large).ok_or(SocketEnd::Overloaded)?),
        };
        self.queue.try_send(Outgoing::Message(Arc::clone(response), held)).map_err(|_| SocketEnd::Slow)
    }

    /// Ends the connection after what is queued, or at once if the queue is full.
    pub(crate) fn close(self, end: SocketEnd) {
        if self.queue.try_send(Outgoing::Close(end)).is_err() {
            self.is_dropped.notify_one();
        }
    }

    /// Ends the connection at once.
    pub(crate) fn drop_slow(self) {
        self.is_dropped.notify_one();
    }
}

impl Queue {
    /// A message of so many bytes is being written.
    pub(crate) fn begin(&mut self, size: usize, held: Option<Held>) {
        self.held_in_hand.extend(held);
        if self.backlog.is_large(size) {
            self.large_in_hand += 1;
        } else {
            self.small_bytes_in_hand += size;
        }
    }

    /// Everything that was begun is written.
    pub(crate) fn written(&mut self) {
        self.backlog.small_bytes.fetch_sub(std::mem::take(&mut self.small_bytes_in_hand), Ordering::Relaxed);
        self.backlog.large.fetch_sub(std::mem::take(&mut self.large_in_hand), Ordering::Relaxed);
        self.held_in_hand.clear();
    }
}

impl Backlog {
    fn is_large(&self, size: usize) -> bool {
        size > self.max_bytes / 2
    }

    /// Counts a message, and says whether there is room for it. Once there was none, the connection is over.
    fn takes(&self, size: usize) -> bool {
        if self.is_large(size) {
            self.large.fetch_add(1, Ordering::Relaxed) == 0
        } else {
            self.small_bytes.fetch_add(size, Ordering::Relaxed).saturating_add(size) <= self.max_bytes
        }
    }
}

/// Why a connection ended; the words are metric labels and never change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SocketEnd {
    /// The client closed it.
    Client,
    /// TCP ended without a close frame.
    Lost,
    /// Nothing came for too long.
    Idle,
    /// The client does not read what it is sent.
    Slow,
    /// As much is held for clients as may be.
    Overloaded,
    /// A message above the limit.
    Oversized,
    /// Too many messages that are no signaling messages, or text that is not UTF-8.
    Malformed,
    /// A violation of RFC 6455.
    Protocol,
    /// The rooms decided so.
    Session(CloseReason),
    /// The server goes down.
    Shutdown,
}

impl SocketEnd {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Lost => "lost",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Overloaded => "overloaded",
            Self::Oversized => "oversized",
            Self::Malformed => "malformed",
            Self::Protocol => "protocol",
            Self::Session(reason) => reason.as_str(),
            Self::Shutdown => "shutdown",
        }
    }

    /// None: there is nobody to tell.
    pub(super) fn close_frame(self) -> Option<CloseFrame> {
        // RFC 6455 §7.4.1; any code but 1000 makes clients try to resume
        let code = match self {
            Self::Client | Self::Lost => return None,
            Self::Idle | Self::Shutdown => close_code::AWAY,
            Self::Slow => close_code::POLICY,
            Self::Overloaded => close_code::AGAIN,
            Self::Oversized => close_code::SIZE,
            Self::Malformed => close_code::INVALID,
            Self::Protocol => close_code::PROTOCOL,
            Self::Session(reason) => reason.websocket_code(),
        };
        Some(CloseFrame { code, reason: self.as_str().into() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use livekit_protocol::{SignalResponse, signal_response};

    use super::*;
    use crate::holdings::Holdings;
    use crate::metrics::Metrics;

    fn message(bytes: usize) -> Arc<Response> {
        let message = Some(signal_response::Message::RefreshToken("x".repeat(bytes)));
        Arc::new(Response::new(Box::new(SignalResponse { message })))
    }

    fn opened(send_queue_bytes: usize, all_large_messages_bytes: usize) -> (Outbox, Queue) {
        let limits = ServerLimits { send_queue_bytes, all_large_messages_bytes, ..ServerLimits::default() };
        let holdings = Holdings::new(&limits, &Metrics::register(&prometheus::Registry::new()).unwrap());
        Outbox::open(&limits, holdings.messages)
    }

    fn write_next(queue: &mut Queue) {
        let Ok(Outgoing::Message(next, held)) = queue.messages.try_recv() else { panic!("nothing there") };
        queue.begin(next.size(), held);
    }

    #[test]
    fn all_large_messages_together_have_a_bound_until_they_are_written() {
        let (outbox, mut queue) = opened(usize::MAX, 250_000);
        let large = message(100_000);
        assert_eq!([(); 3].map(|()| outbox.push(&large)), [Ok(()), Ok(()), Err(SocketEnd::Overloaded)]);
        assert_eq!(outbox.push(&message(8)), Ok(()), "of small ones many find room");
        write_next(&mut queue);
        assert_eq!(outbox.push(&large), Err(SocketEnd::Overloaded), "it is not written yet");
        queue.written();
        assert_eq!(outbox.push(&large), Ok(()));
    }

    #[test]
    fn one_message_larger_than_the_queue_finds_place_beside_what_waits() {
        let (outbox, mut queue) = opened(100, usize::MAX);
        assert_eq!([8, 1000, 8].map(|bytes| outbox.push(&message(bytes))), [Ok(()); 3]);
        (0..3).for_each(|_| write_next(&mut queue));
        queue.written();
        assert_eq!(outbox.push(&message(1000)), Ok(()), "the next one, as soon as it is written");
        write_next(&mut queue);
        assert_eq!(outbox.push(&message(1000)), Err(SocketEnd::Slow), "and not before");
    }

    #[test]
    fn small_messages_fill_the_queue_up_to_its_bound() {
        let (outbox, _queue) = opened(100, usize::MAX);
        let pushed = (0..100).take_while(|_| outbox.push(&message(8)).is_ok()).count();
        assert_eq!(pushed, 100 / message(8).size());
    }
}
