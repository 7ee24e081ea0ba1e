//! What waits to be written to one client: in the loop's hands one end, in the socket task's the other.
//!
//! Invariant: what waits or is being written has at most `send_queue_bytes`, and beside it there may be one large message, of more
//! than half of that: who joins or resumes is told of all the room at once, and that has a bound of its own (`max_profile_bytes` of
//! `signaling_core`). A client for which there is no room is too slow, and is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::{CloseFrame, close_code};
use signaling_core::CloseReason;
use tokio::sync::{Notify, mpsc};

use crate::codec::Response;
use crate::config::ServerLimits;

/// The loop's end of a connection.
pub(crate) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    backlog: Arc<Backlog>,
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
}

/// What is not written yet.
struct Backlog {
    small_bytes: AtomicUsize,
    large: AtomicUsize,
    max_bytes: usize,
}

/// To a socket task.
pub(crate) enum Outgoing {
    /// To be written.
    Message(Arc<Response>),
    /// Write what came before, then close.
    Close(SocketEnd),
}

impl Outbox {
    /// Both ends of a queue with these bounds.
    pub(crate) fn open(limits: &ServerLimits) -> (Self, Queue) {
        let (queue, messages) = mpsc::channel(limits.send_queue_messages.max(1));
        let (small_bytes, large) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let backlog = Arc::new(Backlog { small_bytes, large, max_bytes: limits.send_queue_bytes });
        let is_dropped = Arc::new(Notify::new());
        let outbox = Self { queue, backlog: Arc::clone(&backlog), is_dropped: Arc::clone(&is_dropped) };
        (outbox, Queue { messages, backlog, is_dropped, small_bytes_in_hand: 0, large_in_hand: 0 })
    }

    /// False: the client is too slow.
    pub(crate) fn push(&self, response: &Arc<Response>) -> bool {
        self.backlog.takes(response.size()) && self.queue.try_send(Outgoing::Message(Arc::clone(response))).is_ok()
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
    pub(crate) fn begin(&mut self, size: usize) {
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

    fn message(bytes: usize) -> Arc<Response> {
        let message = Some(signal_response::Message::RefreshToken("x".repeat(bytes)));
        Arc::new(Response::new(Box::new(SignalResponse { message })))
    }

    fn opened(send_queue_bytes: usize) -> (Outbox, Queue) {
        Outbox::open(&ServerLimits { send_queue_bytes, ..ServerLimits::default() })
    }

    #[test]
    fn one_message_larger_than_the_queue_finds_place_beside_what_waits() {
        let (outbox, mut queue) = opened(100);
        assert!(outbox.push(&message(8)) && outbox.push(&message(1000)) && outbox.push(&message(8)));
        for _ in 0..3 {
            let Ok(Outgoing::Message(next)) = queue.messages.try_recv() else { panic!("nothing there") };
            queue.begin(next.size());
        }
        queue.written();
        assert!(outbox.push(&message(1000)), "the next one, as soon as it is written");
        let Ok(Outgoing::Message(next)) = queue.messages.try_recv() else { panic!("nothing there") };
        queue.begin(next.size());
        assert!(!outbox.push(&message(1000)), "and not before");
    }

    #[test]
    fn small_messages_fill_the_queue_up_to_its_bound() {
        let (outbox, _queue) = opened(100);
        let pushed = (0..100).take_while(|_| outbox.push(&message(8))).count();
        assert_eq!(pushed, 100 / message(8).size());
    }
}
