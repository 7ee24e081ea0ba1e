//! A client that estimates its downlink by itself and names the result in REMB, as browsers did before transport-wide feedback.
//!
//! In: arrivals with their absolute send times. Out: what a REMB says, and when. Simplified from what libwebrtc's
//! `remote_bitrate_estimator` does: a queue lowers the estimate to 85 % of what arrives, at once told; without one it grows by
//! 8 % a second, but not beyond one and a half times what arrives. So it says nothing of what would fit beyond that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What an estimate follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RembStyle {
    /// It stays where it is while little arrives, as libwebrtc's does.
    Keeping,
    /// It is never more than what arrives.
    Following,
}

/// See the module.
#[derive(Debug)]
pub(super) struct RembEstimator {
    style: RembStyle,
    /// Send time of the newest packet, and the same unwrapped.
    last_sent: Option<(u32, i64)>,
    started: Option<Instant>,
    /// Least difference of arrival and send time.
    least_us: Option<i64>,
    queue: Duration,
    /// Since when it is long.
    over_since: Option<Instant>,
    arrivals: VecDeque<(Instant, usize)>,
    first_arrival: Option<Instant>,
    bps: Option<u64>,
    told: Option<(Instant, u64)>,
    grown_at: Option<Instant>,
}

const WINDOW: Duration = Duration::from_secs(1);
/// Without anything wrong there is an estimate only after this.
const FIRST_WORD: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_secs(1);
const OVERUSE: Duration = Duration::from_millis(50);
const OVERUSE_FOR: Duration = Duration::from_millis(150);
const NORMAL: Duration = Duration::from_millis(15);
/// Units of the extension in a second: 6.18 bits, fixed point.
const UNITS_PER_SECOND: i64 = 1 << 18;

impl RembEstimator {
    pub(super) fn new(style: RembStyle) -> Self {
        Self {
            style,
            last_sent: None,
            started: None,
            least_us: None,
            queue: Duration::ZERO,
            over_since: None,
            arrivals: VecDeque::new(),
            first_arrival: None,
            bps: None,
            told: None,
            grown_at: None,
        }
    }

    /// A packet came; `sent` is its absolute send time.
    pub(super) fn on_packet(&mut self, now: Instant, sent: [u8; 3], bytes: usize) {
        let units = u32::from_be_bytes([0, sent[0], sent[1], sent[2]]);
        let total = self.last_sent.map_or(0, |(last, total)| {
            // Shifted to the top of the word it wraps where the word does.
            total + i64::from((units.wrapping_sub(last) << 8).cast_signed() >> 8)
        });
        self.last_sent = Some((units, total));
        let started = *self.started.get_or_insert(now);
        let arrival_us = i64::try_from((now - started).as_micros()).unwrap_or(i64::MAX);
        let delay_us = arrival_us - total * 1_000_000 / UNITS_PER_SECOND;
        let least_us = self.least_us.map_or(delay_us, |least| least.min(delay_us));
        self.least_us = Some(least_us);
        self.queue = Duration::from_micros(u64::try_from(delay_us - least_us).unwrap_or(0));
        self.over_since = if self.queue > OVERUSE { self.over_since.or(Some(now)) } else { None };
        self.first_arrival.get_or_insert(now);
        self.arrivals.push_back((now, bytes));
    }

    /// What is to be said now, if anything.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        while self.arrivals.front().is_some_and(|&(at, _)| now - at > WINDOW) {
            self.arrivals.pop_front();
        }
        let first = self.first_arrival?;
        // Nothing comes, and nothing is said about it.
        let (oldest, _) = *self.arrivals.front()?;
        let bits: u64 = self.arrivals.iter().map(|&(_, bytes)| bytes as u64 * 8).sum();
        let span_ms = u64::try_from((now - oldest).max(WINDOW / 4).as_millis()).unwrap_or(1);
        let incoming_bps = bits * 1_000 / span_ms;
        // A keyframe passes.
        let is_over = self.over_since.is_some_and(|since| now - since >= OVERUSE_FOR);
        let grown_at = *self.grown_at.get_or_insert(now);
        if is_over {
            let lowered = incoming_bps * 85 / 100;
            self.bps = Some(self.bps.map_or(lowered, |bps| bps.min(lowered)));
            self.grown_at = Some(now);
        } else if let Some(bps) = self.bps {
            if self.queue < NORMAL && now - grown_at >= INTERVAL / 5 {
                self.grown_at = Some(now);
                let most = incoming_bps * 3 / 2 + 10_000;
                // 8 % a second.
                self.bps = Some((bps + bps * 8 / 500 + 200).min(most).max(bps));
            }
        } else if now - first >= FIRST_WORD {
            self.bps = Some(incoming_bps);
        }
        if self.style == RembStyle::Following {
            self.bps = self.bps.map(|bps| if is_over { bps.min(incoming_bps) } else { incoming_bps });
        }
        let bps = self.bps?;
        let is_due = self.told.is_none_or(|(at, told)| now - at >= INTERVAL || bps < told - told * 3 / 100);
        if !is_due {
            return None;
        }
        self.told = Some((now, bps));
        Some(bps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Packets of 1250 bytes (100 a second are a Mbit/s) that wait for `queue_ms(number)`; returns what was said, in kbit/s.
    fn run(estimator: &mut RembEstimator, start: Instant, seconds: u32, queue_ms: impl Fn(u32) -> u32) -> Vec<u64> {
        let mut said = Vec::new();
        for number in 0..seconds * 100 {
            let sent_at = MS * 10 * number;
            let units = u32::try_from(sent_at.as_millis() * 262_144 / 1_000).unwrap_or(0);
            let [_, high, middle, low] = units.to_be_bytes();
            let now = start + sent_at + MS * queue_ms(number);
            estimator.on_packet(now, [high, middle, low], 1_250);
            said.extend(estimator.due(now).map(|bps| bps / 1_000));
        }
        said
    }

    #[test]
    fn it_grows_to_one_and_a_half_times_what_arrives_and_falls_with_a_queue() {
        let (start, mut estimator) = (Instant::now(), RembEstimator::new(RembStyle::Keeping));
        let said = run(&mut estimator, start, 100, |number| if number < 9_000 { 0 } else { (number - 9_000).min(100) });
        assert!(said[0].abs_diff(1_000) <= 20, "{said:?}");
        assert!(said.iter().max().is_some_and(|&most| (1_490..=1_530).contains(&most)), "{said:?}");
        assert!(said.last().is_some_and(|&last| (760..=860).contains(&last)), "{said:?}");
    }

    #[test]
    fn one_that_follows_says_what_arrives() {
        let (start, mut estimator) = (Instant::now(), RembEstimator::new(RembStyle::Following));
        let said = run(&mut estimator, start, 100, |_| 0);
        assert!(said.iter().all(|bps| bps.abs_diff(1_000) <= 10), "{said:?}");
    }
}
