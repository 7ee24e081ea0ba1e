//! Finds out what is missing of a received stream and when to ask for it (RFC 4585 section 6.2.1).
//!
//! In: sequence numbers as they arrive. Out: those to ask for, now. Invariants: a number is asked for a bounded number of
//! times, and only while the ring could still take it; the missing set is bounded, a larger gap is given up as a whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits::MAX_NACKS;

/// A packet may be this late by reordering alone before it is asked for.
const REORDER_GRACE: Duration = Duration::from_millis(10);
/// Interval between two requests for one packet when the round trip time is not known.
const DEFAULT_RETRY: Duration = Duration::from_millis(50);
/// Bounds of that interval when it is.
const RETRY_RANGE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(400));
/// Requests for one packet.
const MAX_TRIES: u8 = 10;
/// A packet this old is of no use to anybody: decoders wait less.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Packets that can be missing at once; a larger gap is an outage, and a keyframe is cheaper.
const MAX_MISSING: usize = MAX_NACKS;

#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Instant,
    first_request: Option<Instant>,
    last_request: Option<Instant>,
    tries: u8,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct NackGenerator {
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
    /// Where the newest keyframe begins; decoders need nothing before it.
    keyframe: Option<u64>,
    /// Time from a request to its answer, smoothed.
    answer_time: Option<Duration>,
    /// Requested packets so far.
    pub requested: u64,
    /// Packets that were never recovered.
    pub given_up: u64,
}

/// What to do now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// Ask for these, in ascending order.
    pub sequences: Vec<u64>,
    /// A packet behind the newest keyframe was given up: the picture will stay broken until the next one.
    pub gave_up: bool,
}

impl NackGenerator {
    /// A packet arrived in the stream itself. True if the gap in front of it is too large to be repaired.
    #[must_use = "a gap that can't be repaired needs a keyframe"]
    pub fn on_packet(&mut self, sequence: u64, now: Instant) -> bool {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return false;
        };
        if sequence <= highest {
            self.missing.remove(&sequence);
            return false;
        }
        self.highest = Some(sequence);
        let gap = sequence - highest - 1;
        if usize::try_from(gap).map_or(true, |gap| gap + self.missing.len() > MAX_MISSING) {
            self.given_up += gap + self.missing.len() as u64;
            self.missing.clear();
            return true;
        }
        let missing = Missing { since: now, first_request: None, last_request: None, tries: 0 };
        self.missing.extend((highest + 1..sequence).map(|sequence| (sequence, missing)));
        false
    }

    /// A packet was recovered by RTX. If it was asked for once, that tells the round trip time of publishers who tell it in no
    /// other way. Of several requests nobody knows which one was answered (as Karn and Partridge found for TCP): the first one
    /// counts, while nothing better is known, so that further packets are asked for once.
    pub fn on_recovered(&mut self, sequence: u64, now: Instant) {
        let Some(Missing { tries, first_request: Some(asked_at), .. }) = self.missing.remove(&sequence) else { return };
        let sample = now.saturating_duration_since(asked_at);
        self.answer_time = match self.answer_time {
            None => Some(sample),
            Some(known) if tries == 1 => Some((known * 7 + sample) / 8),
            known => known,
        };
    }

    /// A keyframe begins with this packet. What is missing before it is asked for as before, so that nothing stutters, but
    /// is not worth another keyframe.
    pub fn on_keyframe(&mut self, sequence: u64) {
        self.keyframe = self.keyframe.max(Some(sequence));
    }

    /// What to ask for now, at most [`MAX_NACKS`] packets; counts it as asked. `rtt`: of the publisher, if it is known.
    pub fn due(&mut self, now: Instant, rtt: Option<Duration>) -> Due {
        let mut due = Due::default();
        if self.missing.is_empty() {
            return due;
        }
        let retry = rtt.or(self.answer_time).map_or(DEFAULT_RETRY, |rtt| (rtt + rtt / 4).clamp(RETRY_RANGE.0, RETRY_RANGE.1));
        let (given_up, keyframe) = (&mut self.given_up, self.keyframe);
        self.missing.retain(|&sequence, missing| {
            let age = now.saturating_duration_since(missing.since);
            let is_time = match missing.last_request {
                None => age >= REORDER_GRACE,
                Some(last) => now.saturating_duration_since(last) >= retry,
            };
            if age >= MAX_AGE || (is_time && missing.tries >= MAX_TRIES) {
                *given_up += 1;
                due.gave_up |= keyframe.is_none_or(|keyframe| sequence > keyframe);
                return false;
            }
            if is_time {
                missing.first_request.get_or_insert(now);
                missing.last_request = Some(now);
                missing.tries += 1;
                due.sequences.push(sequence);
            }
            true
        });
        self.requested += due.sequences.len() as u64;
        due
    }

    /// Packets that are missing now.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const EDGES: [u64; 7] = [0, 1, 32_767, 32_768, 65_534, 65_535, 65_536];

    #[test]
    fn a_gap_is_asked_for_after_the_grace_at_every_edge() {
        let now = Instant::now();
        for edge in EDGES {
            let mut nack = received(&[edge, edge + 3], now);
            assert_eq!(nack.due(at(now, 9), None), Due::default());
            assert_eq!(nack.due(at(now, 10), None).sequences, [edge + 1, edge + 2]);
        }
    }

    #[test]
    fn a_reordered_packet_is_not_asked_for() {
        let now = Instant::now();
        let mut nack = received(&[10, 12, 11, 13], now);
        assert_eq!(nack.due(at(now, 50), None), Due::default());
    }

    #[test]
    fn the_time_to_an_answer_spaces_the_requests_if_nothing_else_is_known() {
        let start = Instant::now();
        let mut nack = received(&[10, 12, 14], start);
        assert_eq!(nack.due(at(start, 10), None).sequences, [11, 13]);
        nack.on_recovered(11, at(start, 210));
        // 200 ms and a quarter.
        assert_eq!(nack.due(at(start, 250), None), Due::default());
        assert_eq!(nack.due(at(start, 260), None).sequences, [13]);
        nack.on_recovered(13, at(start, 270));
        assert_eq!(nack.answer_time, Some(Duration::from_millis(200)), "nobody knows which request was answered");
    }

    #[test]
    fn what_came_before_the_first_packet_is_not_missing() {
        let now = Instant::now();
        let mut nack = received(&[10, 7, 11], now);
        assert_eq!(nack.due(at(now, 50), None), Due::default());
    }

    #[test]
    fn a_packet_is_asked_for_again_after_a_round_trip_and_a_quarter() {
        let now = Instant::now();
        for (rtt_ms, retry_ms) in [(Some(80), 100), (None, 50), (Some(1), 20), (Some(3_000), 400)] {
            let mut nack = received(&[1, 3], now);
            let rtt = rtt_ms.map(Duration::from_millis);
            assert_eq!(nack.due(at(now, 10), rtt).sequences, [2]);
            assert!(nack.due(at(now, 9 + retry_ms), rtt).sequences.is_empty(), "{rtt_ms:?}");
            assert_eq!(nack.due(at(now, 10 + retry_ms), rtt).sequences, [2], "{rtt_ms:?}");
        }
    }

    #[test]
    fn a_recovered_packet_is_not_asked_for_again() {
        let now = Instant::now();
        let mut nack = received(&[1, 4], now);
        assert_eq!(nack.due(at(now, 10), None).sequences, [2, 3]);
        nack.on_recovered(2, at(now, 30));
        assert!(!nack.on_packet(3, at(now, 20)));
        assert_eq!(nack.due(at(now, 500), None), Due::default());
    }

    #[test]
    fn a_packet_that_never_comes_is_given_up_after_ten_requests_or_a_second() {
        let now = Instant::now();
        for (rtt_ms, requests) in [(20, MAX_TRIES), (280, 3)] {
            let mut nack = received(&[1, 3], now);
            let rtt = Some(Duration::from_millis(rtt_ms));
            let dues: Vec<Due> = (0..=100).map(|step| nack.due(at(now, step * 10), rtt)).collect();
            assert_eq!(dues.iter().filter(|due| !due.sequences.is_empty()).count(), usize::from(requests));
            assert_eq!(dues.iter().filter(|due| due.gave_up).count(), 1);
            assert_eq!((nack.missing(), nack.given_up, nack.requested), (0, 1, u64::from(requests)));
        }
    }

    #[test]
    fn a_packet_before_the_newest_keyframe_is_given_up_quietly() {
        let now = Instant::now();
        for (keyframe, is_needed) in [(3, false), (1, true)] {
            let mut nack = received(&[1, 3], now);
            nack.on_keyframe(keyframe);
            nack.on_keyframe(0);
            assert_eq!(nack.due(at(now, 10), None).sequences, [2]);
            assert_eq!(nack.due(at(now, 1_000), None).gave_up, is_needed);
        }
    }

    #[test]
    fn the_largest_gap_is_asked_for_and_one_more_needs_a_keyframe() {
        let now = Instant::now();
        let largest = MAX_MISSING as u64;
        for edge in EDGES {
            let mut nack = received(&[edge, edge + largest + 1], now);
            assert_eq!(nack.due(at(now, 10), None).sequences.len(), MAX_MISSING);

            let mut nack = received(&[edge], now);
            assert!(nack.on_packet(edge + largest + 2, now));
            assert_eq!((nack.missing(), nack.given_up), (0, largest + 1));
            assert!(!nack.on_packet(edge + largest + 4, now));
            assert_eq!(nack.due(at(now, 10), None).sequences, [edge + largest + 3]);
        }
    }

    #[test]
    fn over_a_lossy_link_everything_that_can_come_in_time_is_recovered() {
        for seed in 0..20 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let start = Instant::now();
            let (loss, rtt_ms) = (rng.random_range(0.01..0.2), rng.random_range(5..150_u64));
            let mut nack = NackGenerator::default();
            // (arrival in ms, sequence, is a retransmission)
            let (mut in_flight, mut received, mut asked) = (BTreeSet::new(), BTreeSet::new(), 0);
            for ms in 0..6_000_u64 {
                if ms < 5_000 && (ms == 0 || !rng.random_bool(loss)) {
                    in_flight.insert((ms + rng.random_range(0..4), 65_000 + ms, false));
                }
                while let Some(&(arrival, sequence, is_repair)) = in_flight.first().filter(|packet| packet.0 <= ms) {
                    in_flight.remove(&(arrival, sequence, is_repair));
                    received.insert(sequence);
                    if is_repair {
                        nack.on_recovered(sequence, at(start, ms));
                    } else {
                        assert!(!nack.on_packet(sequence, at(start, ms)));
                    }
                }
                if ms % 20 == 0 {
                    let due = nack.due(at(start, ms), Some(Duration::from_millis(rtt_ms)));
                    assert!(!due.gave_up, "seed {seed}");
                    asked += due.sequences.len();
                    in_flight.extend(due.sequences.iter().filter(|_| !rng.random_bool(loss)).map(|&asked| (ms + rtt_ms, asked, true)));
                }
            }
            // The last ones may be lost without anything behind them to show it.
            let unrecovered = (65_000..69_990).filter(|sequence| !received.contains(sequence)).count();
            assert_eq!((unrecovered, nack.missing(), nack.given_up), (0, 0, 0), "seed {seed}");
            assert!(asked < 5_000 * 2 / 5, "seed {seed}: {asked} requests");
        }
    }

    proptest! {
        #[test]
        fn what_is_missing_stays_bounded_and_is_asked_for_in_order(steps in proptest::collection::vec((0_u64..700, 0_u64..60, any::<bool>()), 1..300)) {
            let (mut nack, mut now, mut sequence) = (NackGenerator::default(), Instant::now(), 0);
            for (step, ms, is_back) in steps {
                now += Duration::from_millis(ms);
                sequence = if is_back { u64::saturating_sub(sequence, step) } else { sequence + step / 20 };
                let _ = nack.on_packet(sequence, now);
                prop_assert!(nack.missing() <= MAX_MISSING);
                let due = nack.due(now, None);
                prop_assert!(due.sequences.is_sorted() && due.sequences.len() <= MAX_NACKS);
                prop_assert!(!due.sequences.contains(&sequence));
            }
        }
    }

    fn received(sequences: &[u64], now: Instant) -> NackGenerator {
        let mut nack = NackGenerator::default();
        assert!(!sequences.iter().any(|&sequence| nack.on_packet(sequence, now)), "no keyframe is needed");
        nack
    }

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }
}
