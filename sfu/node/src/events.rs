//! The way of events out of a shard's thread, which must never wait for whoever takes them.
//!
//! Invariants: order is kept; nothing blocks. While the channel is full, events that say what is (answers, states, tracks) wait
//! here, as does reliable data up to a bound in bytes; those that are worth something only at once (lossy data, speakers)
//! are dropped and counted.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use sfu_api::{Delivery, Event, ParticipantId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, WeakSender};

/// Events that wait for room in the channel; more than that means that nobody has read for minutes.
const MAX_WAITING: usize = 16_384;

/// Bytes of reliable data among them: a few seconds of what a client can send. What comes beyond that is lost.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

pub(crate) struct EventQueue {
    channel: Sender<Event>,
    waiting: VecDeque<Event>,
    waiting_bytes: usize,
    dropped: u64,
}

impl EventQueue {
    pub(crate) const fn new(channel: Sender<Event>) -> Self {
        Self { channel, waiting: VecDeque::new(), waiting_bytes: 0, dropped: 0 }
    }

    /// Sends an event, behind those that wait.
    pub(crate) fn push(&mut self, event: Event) {
        self.retry();
        if self.waiting.is_empty() {
            match self.channel.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => self.hold(event),
                Err(TrySendError::Closed(_)) => self.dropped += 1,
            }
        } else {
            self.hold(event);
        }
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn retry(&mut self) {
        while !self.waiting.is_empty() {
            let Ok(permit) = self.channel.try_reserve() else { return };
            if let Some(event) = self.waiting.pop_front() {
                self.waiting_bytes -= payload_len(&event);
                permit.send(event);
            }
        }
    }

    /// True if [`Self::retry`] should be called soon.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() && !self.channel.is_closed()
    }

    /// Events that were lost.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn hold(&mut self, event: Event) {
        let is_fleeting = matches!(event, Event::Data { delivery: Delivery::Lossy, .. } | Event::Speakers { .. } | Event::Samples(_));
        let bytes = payload_len(&event);
        if is_fleeting || self.waiting.len() >= MAX_WAITING || (bytes > 0 && self.waiting_bytes + bytes > MAX_WAITING_BYTES) {
            self.dropped += 1;
        } else {
            self.waiting_bytes += bytes;
            self.waiting.push_back(event);
        }
    }
}

/// The way of the one event that does not come from a shard: a move that no shard was given.
///
/// Invariant: it is lost only with its reader. It finds its place in the channel at once or is handed out by a shard later.
pub(crate) struct Refusals {
    /// Weak: the receiver hears of the end of the shards.
    channel: WeakSender<Event>,
    /// At most everybody who is in a room.
    waiting: Mutex<BTreeSet<ParticipantId>>,
}

impl Refusals {
    pub(crate) fn new(channel: &Sender<Event>) -> Self {
        Self { channel: channel.downgrade(), waiting: Mutex::default() }
    }

    /// Says that a participant is where it was. Never waits.
    pub(crate) fn refuse_move(&self, participant: ParticipantId) {
        let Some(channel) = self.channel.upgrade() else { return };
        if let Err(TrySendError::Full(_)) = channel.try_send(Event::MoveRefused { participant }) {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(participant);
        }
    }

    /// Gives what found no room to a shard's queue, which keeps it.
    pub(crate) fn hand_over(&self, queue: &mut EventQueue) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for participant in waiting {
            queue.push(Event::MoveRefused { participant });
        }
    }
}

fn payload_len(event: &Event) -> usize {
    if let Event::Data { payload, .. } = event { payload.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sfu_api::{ParticipantId, RoomId, TrackId};
    use tokio::sync::mpsc::channel;

    use super::*;

    #[test]
    fn events_that_find_no_room_wait_in_order() {
        let (sender, mut receiver) = channel(2);
        let mut queue = EventQueue::new(sender);
        for n in 1..=4 {
            queue.push(ended(n));
        }
        assert!(queue.has_waiting());
        assert_eq!((receiver.try_recv().unwrap(), receiver.try_recv().unwrap()), (ended(1), ended(2)));
        queue.push(ended(5));
        assert_eq!((receiver.try_recv().unwrap(), receiver.try_recv().unwrap()), (ended(3), ended(4)));
        queue.retry();
        assert_eq!(receiver.try_recv().unwrap(), ended(5));
        assert!(!queue.has_waiting());
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn fleeting_events_do_not_wait() {
        let (sender, mut receiver) = channel(1);
        let mut queue = EventQueue::new(sender);
        queue.push(ended(1));
        queue.push(Event::Speakers { room: RoomId(1), speakers: Vec::new() });
        assert!(!queue.has_waiting());
        assert_eq!(queue.dropped(), 1);
        assert_eq!(receiver.try_recv().unwrap(), ended(1));
    }

    #[test]
    fn a_reader_that_is_gone_costs_no_memory() {
        let (sender, receiver) = channel(1);
        let mut queue = EventQueue::new(sender);
        queue.push(ended(1));
        queue.push(ended(2));
        drop(receiver);
        for n in 3..100 {
            queue.push(ended(n));
        }
        assert!(!queue.has_waiting() && queue.waiting.len() <= 98);
    }

    #[test]
    fn a_refused_move_that_finds_no_room_is_handed_out_later() {
        let (sender, mut receiver) = channel(1);
        let refusals = Refusals::new(&sender);
        let mut queue = EventQueue::new(sender);
        queue.push(ended(1));
        refusals.refuse_move(ParticipantId(7));
        refusals.hand_over(&mut queue);
        assert_eq!(receiver.try_recv().unwrap(), ended(1));
        queue.retry();
        assert_eq!(receiver.try_recv().unwrap(), Event::MoveRefused { participant: ParticipantId(7) });
        refusals.hand_over(&mut queue);
        assert!(receiver.try_recv().is_err(), "once");
        assert_eq!(queue.dropped(), 0);
    }

    fn ended(n: u64) -> Event {
        Event::TrackEnded { participant: ParticipantId(n), track: TrackId(n) }
    }
}
