//! The way of messages from sockets to the loop of all rooms, and how much may be on it.
//!
//! In: the size of a frame that came. Out: a place for it, which it keeps until the loop is done with it.
//! Invariant: messages that are decoded and wait have at most `inbox_bytes` on the wire together, and those of one connection
//! `inbox_bytes_per_socket`. Decoded, a message may take forty times what it took on the wire; a frame that has no place yet waits as
//! it came, and nothing more is read from its client.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::ToLoop;
use crate::config::ServerLimits;

/// Shared by all sockets.
#[derive(Clone)]
pub(crate) struct Intake {
    inbox: mpsc::Sender<ToLoop>,
    all: Bytes,
    per_socket: usize,
}

/// That of one connection.
pub(crate) struct Door {
    intake: Intake,
    own: Bytes,
}

/// Bytes that may wait.
#[derive(Clone)]
struct Bytes {
    free: Arc<Semaphore>,
    capacity: u32,
}

/// For one message.
pub(crate) struct Place {
    slot: mpsc::OwnedPermit<ToLoop>,
    weight: Weight,
}

/// What a message counts while it waits; let go when it is handled.
pub(crate) struct Weight {
    _permits: [OwnedSemaphorePermit; 2],
}

impl Intake {
    pub(crate) fn new(inbox: mpsc::Sender<ToLoop>, limits: &ServerLimits) -> Self {
        Self { inbox, all: Bytes::new(limits.inbox_bytes), per_socket: limits.inbox_bytes_per_socket }
    }

    /// For a new connection.
    pub(crate) fn door(&self) -> Door {
        Door { intake: self.clone(), own: Bytes::new(self.per_socket) }
    }
}

impl Door {
    /// Waits for a place for a message of so many bytes. None: the loop is gone.
    pub(crate) fn place(&self, bytes: usize) -> impl Future<Output = Option<Place>> + Send + 'static {
        let (own, all, inbox) = (self.own.clone(), self.intake.all.clone(), self.intake.inbox.clone());
        async move {
            // Its own first: who sends much waits for itself before it keeps others waiting.
            let permits = [own.take(bytes).await?, all.take(bytes).await?];
            let slot = inbox.reserve_owned().await.ok()?;
            Some(Place { slot, weight: Weight { _permits: permits } })
        }
    }
}

impl Place {
    /// Gives the message to the loop.
    pub(crate) fn send(self, message: impl FnOnce(Weight) -> ToLoop) {
        self.slot.send(message(self.weight));
    }
}

impl Bytes {
    fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { free: Arc::new(Semaphore::new(capacity)), capacity: u32::try_from(capacity).unwrap_or(u32::MAX) }
    }

    /// One that is larger than all there is waits until it is alone.
    async fn take(self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let weight = u32::try_from(bytes.saturating_add(MESSAGE_BYTES)).unwrap_or(u32::MAX).min(self.capacity);
        self.free.acquire_many_owned(weight).await.ok()
    }
}

/// What a message takes however short it is.
const MESSAGE_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use livekit_protocol::SignalRequest;
    use signaling_core::ConnId;

    use super::*;

    const WIRE: usize = 1000;
    const COUNTED: usize = WIRE + MESSAGE_BYTES;

    fn intake(all: usize, per_socket: usize) -> (Intake, mpsc::Receiver<ToLoop>) {
        let (inbox, messages) = mpsc::channel(64);
        let limits = ServerLimits { inbox_bytes: all * COUNTED, inbox_bytes_per_socket: per_socket * COUNTED, ..ServerLimits::default() };
        (Intake::new(inbox, &limits), messages)
    }

    /// A place if there is one at once.
    fn now(door: &Door, bytes: usize) -> Option<Place> {
        match pin!(door.place(bytes)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place.unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_connection_has_its_bound_and_all_together_have_theirs() {
        let (intake, _messages) = intake(5, 3);
        let (one, other) = (intake.door(), intake.door());
        let of_one: Vec<_> = std::iter::from_fn(|| now(&one, WIRE)).collect();
        let of_other: Vec<_> = std::iter::from_fn(|| now(&other, WIRE)).collect();
        assert_eq!((of_one.len(), of_other.len()), (3, 2));
    }

    #[test]
    fn a_message_keeps_its_place_until_the_loop_is_done_with_it() {
        let (intake, mut messages) = intake(1, 1);
        let door = intake.door();
        now(&door, WIRE).unwrap().send(|weight| ToLoop::Message { conn: ConnId(1), request: SignalRequest::default(), weight });
        assert!(now(&door, WIRE).is_none());
        let message = messages.try_recv().unwrap();
        assert!(now(&door, WIRE).is_none(), "the loop has it in hand");
        drop(message);
        assert!(now(&door, WIRE).is_some());
    }

    #[test]
    fn one_that_is_larger_than_the_bound_waits_until_it_is_alone() {
        let (intake, _messages) = intake(2, 2);
        let door = intake.door();
        let small = now(&door, WIRE).unwrap();
        assert!(now(&door, 10 * WIRE).is_none());
        drop(small);
        assert!(now(&door, 10 * WIRE).is_some());
    }
}
