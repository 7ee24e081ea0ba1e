//! Reliable messages of the last seconds, for clients that resume and did not get all of them.
//!
//! In: every numbered message that was passed on. Out: for a client that says how far it heard each sender, what came after.
//! Clients drop what they know by its number, so a message that reaches one in both ways is seen once.
//! Invariants: a sender's messages are in order; what one sender says can't push out another's; all bounds are in `limits`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use sfu_api::ParticipantId;

use crate::{data::Recipients, limits};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ReliableLog {
    by_sender: BTreeMap<ParticipantId, SenderLog>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct SenderLog {
    messages: VecDeque<Message>,
    bytes: usize,
}

#[derive(Debug)]
struct Message {
    at: Instant,
    sequence: u32,
    recipients: Recipients,
    payload: Vec<u8>,
}

impl Message {
    /// Memory, all of it: a message without content may have a thousand addressees.
    const fn bytes(&self) -> usize {
        size_of::<Self>() + self.recipients.heap_bytes() + self.payload.len()
    }
}

/// Who resumes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver {
    pub(crate) id: ParticipantId,
    pub(crate) sees_metrics: bool,
    /// What was said before was not for it.
    pub(crate) entered_at: Instant,
}

impl ReliableLog {
    pub(crate) fn record(&mut self, sender: ParticipantId, sequence: u32, recipients: Recipients, payload: &[u8], now: Instant) {
        self.prune(sender, now);
        let message = Message { at: now, sequence, recipients, payload: payload.to_vec() };
        let size = message.bytes();
        if size > limits::RELIABLE_LOG_BYTES_PER_SENDER {
            return;
        }
        let log = self.by_sender.entry(sender).or_default();
        log.messages.push_back(message);
        log.bytes += size;
        self.bytes += size;
        while log.bytes > limits::RELIABLE_LOG_BYTES_PER_SENDER || log.messages.len() > limits::RELIABLE_LOG_MESSAGES_PER_SENDER {
            self.bytes -= log.pop();
        }
        while self.bytes > limits::RELIABLE_LOG_BYTES_PER_ROOM {
            let Some(longest) = self.by_sender.values_mut().max_by_key(|log| log.bytes) else { return };
            self.bytes -= longest.pop();
        }
    }

    /// A sender is gone; what it said stays for those who missed it. Forgets what is too old.
    pub(crate) fn prune_all(&mut self, now: Instant) {
        let senders: Vec<_> = self.by_sender.keys().copied().collect();
        for sender in senders {
            self.prune(sender, now);
        }
        self.by_sender.retain(|_, log| !log.messages.is_empty());
    }

    /// What a client has not heard that heard each sender up to the number given for it, or nothing of it.
    pub(crate) fn missed(&mut self, receiver: Receiver, heard: &BTreeMap<ParticipantId, u32>, now: Instant) -> impl Iterator<Item = &[u8]> {
        self.prune_all(now);
        let senders = self.by_sender.iter().filter(move |(sender, _)| **sender != receiver.id);
        senders.flat_map(move |(sender, log)| {
            let heard_up_to = heard.get(sender).copied().unwrap_or(0);
            log.messages
                .iter()
                .filter(move |message| message.sequence > heard_up_to && message.at >= receiver.entered_at)
                .filter(move |message| message.recipients.includes(receiver.id, receiver.sees_metrics))
                .map(|message| message.payload.as_slice())
        })
    }

    fn prune(&mut self, sender: ParticipantId, now: Instant) {
        let Some(log) = self.by_sender.get_mut(&sender) else { return };
        while log.messages.front().is_some_and(|message| now.saturating_duration_since(message.at) > limits::RELIABLE_LOG_AGE) {
            self.bytes -= log.pop();
        }
    }
}

impl SenderLog {
    /// Drops the oldest message; returns its size.
    fn pop(&mut self) -> usize {
        let size = self.messages.pop_front().map_or(0, |message| message.bytes());
        self.bytes -= size;
        size
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALICE: ParticipantId = ParticipantId(1);
    const BOB: ParticipantId = ParticipantId(2);

    fn bob(entered_at: Instant) -> Receiver {
        Receiver { id: BOB, sees_metrics: false, entered_at }
    }

    fn heard(up_to: u32) -> BTreeMap<ParticipantId, u32> {
        BTreeMap::from([(ALICE, up_to)])
    }

    fn missed(log: &mut ReliableLog, up_to: u32, now: Instant, entered_at: Instant) -> Vec<Vec<u8>> {
        log.missed(bob(entered_at), &heard(up_to), now).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn what_came_after_the_last_known_number_is_told_in_order() {
        let (start, mut log) = (crate::tests::start(), ReliableLog::default());
        for number in 1..=5 {
            log.record(ALICE, number, Recipients::Others, &[u8::try_from(number).unwrap_or(0)], start);
        }
        log.record(BOB, 9, Recipients::Others, b"own", start);
        assert_eq!(missed(&mut log, 3, start, start), [[4], [5]]);
        assert_eq!(missed(&mut log, 5, start, start), [[0; 0]; 0]);
    }

    #[test]
    fn what_was_for_others_or_before_its_time_is_not_told() {
        let (start, mut log) = (crate::tests::start(), ReliableLog::default());
        let carol = Recipients::Listed(vec![ParticipantId(3)]);
        log.record(ALICE, 1, Recipients::Others, b"early", start);
        let entered = start + Duration::from_secs(1);
        log.record(ALICE, 2, carol, b"secret", entered);
        log.record(ALICE, 3, Recipients::Others, b"late", entered);
        assert_eq!(missed(&mut log, 0, entered, entered), [b"late"]);
    }

    #[test]
    fn addressees_are_memory_too() {
        let (start, mut log) = (crate::tests::start(), ReliableLog::default());
        let many = Recipients::Listed((0..1024).map(ParticipantId).collect());
        for number in 1..=4000 {
            log.record(ALICE, number, many.clone(), b"", start);
        }
        let kept = log.by_sender.values().map(|log| log.messages.len()).sum::<usize>();
        assert!(kept * 1024 * size_of::<ParticipantId>() <= limits::RELIABLE_LOG_BYTES_PER_SENDER, "{kept} messages");
        assert!(kept > 0);
        log.prune_all(start + limits::RELIABLE_LOG_AGE + Duration::from_millis(1));
        assert_eq!(log.bytes, 0);
    }

    #[test]
    fn memory_is_bounded_in_age_bytes_and_number_and_one_sender_pushes_out_only_itself() {
        let (start, mut log) = (crate::tests::start(), ReliableLog::default());
        log.record(BOB, 1, Recipients::Others, b"quiet", start);
        for number in 1..=40 {
            log.record(ALICE, number, Recipients::Others, &vec![0; 100_000], start);
        }
        assert!(log.bytes <= limits::RELIABLE_LOG_BYTES_PER_SENDER + 200);
        for number in 41..=9000 {
            log.record(ALICE, number, Recipients::Others, b"", start);
        }
        assert!(log.by_sender.values().map(|log| log.messages.len()).sum::<usize>() <= limits::RELIABLE_LOG_MESSAGES_PER_SENDER + 1);
        let carol = Receiver { id: ParticipantId(3), ..bob(start) };
        assert!(log.missed(carol, &BTreeMap::new(), start).any(|payload| payload == b"quiet"));
        for sender in 10..200 {
            log.record(ParticipantId(sender), 1, Recipients::Others, &vec![0; 200_000], start);
        }
        assert!(log.bytes <= limits::RELIABLE_LOG_BYTES_PER_ROOM);
        log.prune_all(start + limits::RELIABLE_LOG_AGE + Duration::from_millis(1));
        assert_eq!((log.bytes, log.by_sender.len()), (0, 0));
    }
}
