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

use crate::{data::Audience, limits};

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
    audience: Audience,
    payload: Vec<u8>,
}

/// Who resumes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver<'a> {
    pub(crate) id: ParticipantId,
    pub(crate) identity: &'a str,
    pub(crate) sid: &'a str,
    pub(crate) sees_metrics: bool,
    /// What was said before was not for it.
    pub(crate) entered_at: Instant,
}

impl ReliableLog {
    pub(crate) fn record(&mut self, sender: ParticipantId, sequence: u32, audience: &Audience, payload: &[u8], now: Instant) {
        self.prune(sender, now);
        let size = payload.len();
        if size > limits::RELIABLE_LOG_BYTES_PER_SENDER {
            return;
        }
        let log = self.by_sender.entry(sender).or_default();
        log.messages.push_back(Message { at: now, sequence, audience: audience.clone(), payload: payload.to_vec() });
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
    pub(crate) fn missed(
        &mut self,
        receiver: Receiver<'_>,
        heard: &BTreeMap<ParticipantId, u32>,
        now: Instant,
    ) -> impl Iterator<Item = &[u8]> {
        self.prune_all(now);
        let senders = self.by_sender.iter().filter(move |(sender, _)| **sender != receiver.id);
        senders.flat_map(move |(sender, log)| {
            let heard_up_to = heard.get(sender).copied().unwrap_or(0);
            log.messages
                .iter()
                .filter(move |message| message.sequence > heard_up_to && message.at >= receiver.entered_at)
                .filter(move |message| message.audience.includes(receiver.identity, receiver.sid, receiver.sees_metrics))
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
        let size = self.messages.pop_front().map_or(0, |message| message.payload.len());
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

    fn bob(entered_at: Instant) -> Receiver<'static> {
        Receiver { id: BOB, identity: "bob", sid: "PA_bob", sees_metrics: false, entered_at }
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
            log.record(ALICE, number, &Audience::Others, &[u8::try_from(number).unwrap_or(0)], start);
        }
        log.record(BOB, 9, &Audience::Others, b"own", start);
        assert_eq!(missed(&mut log, 3, start, start), [[4], [5]]);
        assert_eq!(missed(&mut log, 5, start, start), [[0; 0]; 0]);
    }

    #[test]
    fn what_was_for_others_or_before_its_time_is_not_told() {
        let (start, mut log) = (crate::tests::start(), ReliableLog::default());
        let carol = Audience::Named { identities: vec!["carol".to_owned()], sids: Vec::new() };
        log.record(ALICE, 1, &Audience::Others, b"early", start);
        let entered = start + Duration::from_secs(1);
        log.record(ALICE, 2, &carol, b"secret", entered);
        log.record(ALICE, 3, &Audience::Others, b"late", entered);
        assert_eq!(missed(&mut log, 0, entered, entered), [b"late"]);
    }

    #[test]
    fn memory_is_bounded_in_age_bytes_and_number_and_one_sender_pushes_out_only_itself() {
        let (start, mut log) = (crate::tests::start(), ReliableLog::default());
        log.record(BOB, 1, &Audience::Others, b"quiet", start);
        for number in 1..=40 {
            log.record(ALICE, number, &Audience::Others, &vec![0; 100_000], start);
        }
        assert!(log.bytes <= limits::RELIABLE_LOG_BYTES_PER_SENDER + 5);
        for number in 41..=9000 {
            log.record(ALICE, number, &Audience::Others, b"", start);
        }
        assert!(log.by_sender.values().map(|log| log.messages.len()).sum::<usize>() <= limits::RELIABLE_LOG_MESSAGES_PER_SENDER + 1);
        let carol = Receiver { id: ParticipantId(3), identity: "carol", ..bob(start) };
        assert!(log.missed(carol, &BTreeMap::new(), start).any(|payload| payload == b"quiet"));
        for sender in 10..200 {
            log.record(ParticipantId(sender), 1, &Audience::Others, &vec![0; 200_000], start);
        }
        assert!(log.bytes <= limits::RELIABLE_LOG_BYTES_PER_ROOM);
        log.prune_all(start + limits::RELIABLE_LOG_AGE + Duration::from_millis(1));
        assert_eq!((log.bytes, log.by_sender.len()), (0, 0));
    }
}
