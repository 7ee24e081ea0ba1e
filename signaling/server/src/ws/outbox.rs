//! What waits to be written to one client: in the loop's hands one end, in the socket task's the other.
//!
//! Invariant: what waits or is being written has at most `send_queue_bytes`, and beside it there may be one large message, of more
//! than half of that: who joins or resumes is told of all the room at once, and that has a bound of its own (`max_profile_bytes` of
//! `signaling_core`). A client for which there is no room is too slow, and is closed. What is large and for one that comes has a
//! bound for all together too (`holdings`): who comes is asked for it at the door, where it can be refused with words that clients
//! understand; whoever finds none later is closed. Members are not: what they are told counts, once for all who are told it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, close_code};
use signaling_core::CloseReason;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use crate::codec::Response;
use crate::config::ServerLimits;
use crate::holdings::{Held, LARGE_BYTES, Share};

/// The loop's end of a connection.
pub(crate) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    backlog: Arc<Backlog>,
    share: Share,
    /// Room for what it is told first, found at the door.
    reserved: Option<Held>,
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
    held_in_hand: Vec<Arc<Held>>,
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
    /// Both ends of a queue with these bounds, and what the client may have of all large messages.
    pub(crate) fn open(limits: &ServerLimits, share: Share, reserved: Option<Held>) -> (Self, Queue) {
        let (queue, messages) = mpsc::channel(limits.send_queue_messages.max(1));
        let (small_bytes, large) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let backlog = Arc::new(Backlog { small_bytes, large, max_bytes: limits.send_queue_bytes });
        let is_dropped = Arc::new(Notify::new());
        let outbox = Self { queue, backlog: Arc::clone(&backlog), share, reserved, is_dropped: Arc::clone(&is_dropped) };
        (outbox, Queue { messages, backlog, is_dropped, small_bytes_in_hand: 0, large_in_hand: 0, held_in_hand: Vec::new() })
    }

    /// Counts a message to a client that comes, if it is large.
    ///
    /// # Errors
    /// As much is held already as may be: why the connection is over.
    pub(crate) fn count(&mut self, response: &mut Response) -> Result<(), SocketEnd> {
        let bytes = response.size();
        let held = match self.reserved.take_if(|_| bytes > LARGE_BYTES) {
            Some(mut held) => Some(held.resize(bytes).then_some(held).ok_or(SocketEnd::Overloaded)?),
            None => self.share.take_large(bytes).map_err(|_| SocketEnd::Overloaded)?,
        };
        if let Some(held) = held {
            response.count(held);
        }
        Ok(())
    }

    /// It has been told what it is told first.
    pub(crate) fn let_go(&mut self) {
        self.reserved = None;
    }

    /// Queues a message.
    ///
    /// # Errors
    /// There is no room for it: why the connection is over.
    pub(crate) fn push(&self, response: &Arc<Response>) -> Result<(), SocketEnd> {
        if !self.backlog.takes(response.size()) {
            return Err(SocketEnd::Slow);
        }
        self.queue.try_send(Outgoing::Message(Arc::clone(response))).map_err(|_| SocketEnd::Slow)
    }

    /// Ends the connection after what is queued, or at once if the queue is full.
    pub(crate) fn close(self, end: SocketEnd) {
        if self.queue.try_send(Outgoing::Close(end)).is_err() {
            self.is_dropped.notify_one();
        }
    }

    /// Ends a connection that has a successor after what is queued, but soon: what waits for it is of use to nobody.
    pub(crate) fn close_soon(self, end: SocketEnd) {
        let is_dropped = Arc::clone(&self.is_dropped);
        self.close(end);
        tokio::spawn(async move {
            sleep(SUCCEEDED_TIME).await;
            // nobody listens any more, as a rule
            is_dropped.notify_one();
        });
    }

    /// Ends the connection at once.
    pub(crate) fn drop_slow(self) {
        self.is_dropped.notify_one();
    }
}

impl Queue {
    /// A message is being written.
    pub(crate) fn begin(&mut self, response: &Response) {
        self.held_in_hand.extend(response.held());
        if self.backlog.is_large(response.size()) {
            self.large_in_hand += 1;
        } else {
            self.small_bytes_in_hand += response.size();
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

/// For the last messages to a connection that has a successor.
const SUCCEEDED_TIME: Duration = Duration::from_secs(1);

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
    use std::net::IpAddr;

    use livekit_protocol::{SignalResponse, signal_response};

    use super::*;
    use crate::holdings::{Holding, Holdings};
    use crate::metrics::Metrics;

    fn message(bytes: usize) -> Response {
        let message = Some(signal_response::Message::RefreshToken("x".repeat(bytes)));
        Response::new(Box::new(SignalResponse { message }))
    }

    fn holding(all_large_messages_bytes: usize) -> Holding {
        let limits = ServerLimits { all_large_messages_bytes, ..ServerLimits::default() };
        Holdings::new(&limits, &Metrics::register(&prometheus::Registry::new()).unwrap()).messages
    }

    fn opened(send_queue_bytes: usize, large: &Holding, client: u8) -> (Outbox, Queue) {
        let limits = ServerLimits { send_queue_bytes, ..ServerLimits::default() };
        Outbox::open(&limits, large.share_of(IpAddr::from([192, 0, 2, client])), None)
    }

    /// To this client alone.
    fn tell(outbox: &mut Outbox, bytes: usize) -> Result<(), SocketEnd> {
        let mut response = message(bytes);
        outbox.count(&mut response)?;
        outbox.push(&Arc::new(response))
    }

    fn write_next(queue: &mut Queue) {
        let Ok(Outgoing::Message(next)) = queue.messages.try_recv() else { panic!("nothing there") };
        queue.begin(&next);
    }

    #[test]
    fn large_messages_to_clients_have_a_bound_together_until_they_are_written() {
        let all = holding(250_000);
        let ((mut one, mut queue), (mut other, _other_queue)) = (opened(usize::MAX, &all, 1), opened(usize::MAX, &all, 2));
        assert_eq!([tell(&mut one, 150_000), tell(&mut other, 150_000)], [Ok(()), Err(SocketEnd::Overloaded)]);
        assert_eq!(tell(&mut other, 8), Ok(()), "of small ones many find room");
        write_next(&mut queue);
        assert_eq!(tell(&mut other, 150_000), Err(SocketEnd::Overloaded), "it is not written yet");
        queue.written();
        assert_eq!(tell(&mut other, 150_000), Ok(()));
    }

    #[test]
    fn what_was_found_at_the_door_is_for_the_first_large_message() {
        let all = holding(250_000);
        let (mut newcomer, mut queue) = opened(usize::MAX, &all, 1);
        newcomer.reserved = all.share_of(IpAddr::from([192, 0, 2, 1])).take(100_000);
        let (mut other, _other_queue) = opened(usize::MAX, &all, 2);
        assert_eq!(tell(&mut other, 200_000), Err(SocketEnd::Overloaded));
        assert_eq!([tell(&mut newcomer, 8), tell(&mut newcomer, 150_000)], [Ok(()); 2], "it may have become more");
        assert_eq!(tell(&mut other, 200_000), Err(SocketEnd::Overloaded));
        (0..2).for_each(|_| write_next(&mut queue));
        queue.written();
        assert_eq!(tell(&mut other, 200_000), Ok(()));
    }

    #[test]
    fn what_is_told_to_many_is_held_once_until_all_have_it() {
        let all = holding(250_000);
        let mut crowd: Vec<_> = (1..=50).map(|client| opened(usize::MAX, &all, client)).collect();
        let mut response = message(100_000);
        response.count(all.keep(response.size()));
        let response = Arc::new(response);
        assert!(crowd.iter().all(|(outbox, _)| outbox.push(&response) == Ok(())), "nobody is closed for it");
        drop(response);
        let (mut newcomer, _queue) = opened(usize::MAX, &all, 99);
        for (_, queue) in &mut crowd {
            assert_eq!(tell(&mut newcomer, 200_000), Err(SocketEnd::Overloaded), "it counts");
            write_next(queue);
            queue.written();
        }
        assert_eq!(tell(&mut newcomer, 200_000), Ok(()));
    }

    /// With everything that is for many: it has no bound but the queue's.
    fn open_alone(send_queue_bytes: usize) -> (Outbox, Queue) {
        opened(send_queue_bytes, &holding(0), 1)
    }

    #[test]
    fn one_message_larger_than_the_queue_finds_place_beside_what_waits() {
        let (outbox, mut queue) = open_alone(100);
        assert_eq!([8, 1000, 8].map(|bytes| outbox.push(&Arc::new(message(bytes)))), [Ok(()); 3]);
        (0..3).for_each(|_| write_next(&mut queue));
        queue.written();
        assert_eq!(outbox.push(&Arc::new(message(1000))), Ok(()), "the next one, as soon as it is written");
        write_next(&mut queue);
        assert_eq!(outbox.push(&Arc::new(message(1000))), Err(SocketEnd::Slow), "and not before");
    }

    #[test]
    fn small_messages_fill_the_queue_up_to_its_bound() {
        let (outbox, _queue) = open_alone(100);
        let pushed = (0..100).take_while(|_| outbox.push(&Arc::new(message(8))).is_ok()).count();
        assert_eq!(pushed, 100 / message(8).size());
    }
}
