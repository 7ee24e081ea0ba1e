//! Whether much more is on its way than passes: the queue that what is sent now will meet, before any packet has met it.
//!
//! In: arrivals, and with every report how much is still on its way. Out: an [`Overrun`] when a way has become so narrow that a queue
//! builds up faster than reports can tell its length. [`super::delay`] names the shortest wait of a tenth of a second and
//! [`super::rate`] what arrived in it; half of that tenth may lie before the fall. Here only packets count that waited already: they
//! arrive at the rate of the bottleneck, and what was sent after them arrives behind them.
//! Jitter makes packets late, but not each later than the one before, and what was held back at once comes with delays that shrink.

use std::time::Duration;

use super::rate::{bits, micros};

/// Arrivals that are looked at.
const ARRIVALS: usize = 48;
/// They are no older than this.
const WINDOW_US: i64 = 120_000;
/// A packet that is later than the least by so much has waited.
const WAITED_US: i64 = 15_000;
/// The last ones have waited for so long, and for so much longer than the first ones.
const LATE_US: i64 = 40_000;
const GROWN_US: i64 = 30_000;
/// A rate needs so many packets over so long a time.
const MIN_PACKETS: usize = 5;
const MIN_SPAN_US: i64 = 30_000;
/// What is sent now waits for so much longer than what arrived last.
const MORE_US: i64 = 80_000;
/// Nothing waits longer in a queue that anybody wants.
const LONGEST_US: i64 = 2_000_000;

/// See the module.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Overrun {
    /// What the bottleneck carries.
    pub rate_bps: f64,
    /// How long a packet waits that is sent now, if the queue is long enough.
    pub queue: Duration,
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    at_us: i64,
    /// Of its way, with an unknown constant in it.
    delay_us: i64,
    bytes: u64,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct OverrunMeter {
    /// A ring; `next` is the oldest one.
    arrivals: [Arrival; ARRIVALS],
    next: usize,
    len: usize,
}

impl Default for OverrunMeter {
    fn default() -> Self {
        Self { arrivals: [Arrival::default(); ARRIVALS], next: 0, len: 0 }
    }
}

impl OverrunMeter {
    /// A packet arrived, by the client's clock, in the order in which they were sent.
    pub fn on_packet(&mut self, at_us: i64, delay_us: i64, bytes: u64) {
        self.arrivals[self.next] = Arrival { at_us, delay_us, bytes };
        self.next = (self.next + 1) % ARRIVALS;
        self.len = (self.len + 1).min(ARRIVALS);
    }

    /// End of a report. `least_us`: delay without a queue; `on_way_bytes`: sent after what arrived last, which was `age_us` ago.
    #[must_use]
    pub fn end_report(&self, least_us: i64, on_way_bytes: u64, age_us: i64) -> Option<Overrun> {
        let newest = |back: usize| self.arrivals[(self.next + ARRIVALS - 1 - back) % ARRIVALS];
        let last = (0..self.len).map(newest).next()?;
        let has_waited = |arrival: &Arrival| arrival.delay_us - least_us >= WAITED_US && last.at_us - arrival.at_us < WINDOW_US;
        let count = (0..self.len).map(newest).take_while(has_waited).count();
        let first = newest(count.checked_sub(1)?);
        let span_us = last.at_us - first.at_us;
        if count < MIN_PACKETS || span_us < MIN_SPAN_US {
            return None;
        }
        // A reordered one, or one after a pause, says less.
        let shortest = |range: std::ops::Range<usize>| range.map(|back| newest(back).delay_us).min();
        let (late_us, early_us) = (shortest(0..2)?, shortest(count - 2..count)?);
        if late_us - least_us < LATE_US || late_us - early_us < GROWN_US {
            return None;
        }
        let arrived: u64 = (0..count - 1).map(|back| newest(back).bytes).sum();
        let rate_bps = bits(arrived) * 1e6 / micros(span_us);
        #[expect(clippy::cast_possible_truncation, reason = "bounded below")]
        let passing_us = (bits(on_way_bytes) * 1e6 / rate_bps.max(1.0)).min(micros(LONGEST_US)) as i64;
        let more_us = passing_us - age_us;
        let queue_us = (late_us - least_us + more_us).min(LONGEST_US);
        (more_us >= MORE_US).then(|| Overrun { rate_bps, queue: Duration::from_micros(u64::try_from(queue_us).unwrap_or(0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 1_200;
    const WAY_US: i64 = 25_000;

    /// Sends packets of [`BYTES`] at one rate for so long over a bottleneck of another, which begins to be one in the middle; what is
    /// found by a report at the end. `jitter_us`: by the number of the packet.
    fn run(sent_bps: f64, rate_bps: f64, ms: i64, jitter_us: impl Fn(i64) -> i64) -> Option<Overrun> {
        let mut meter = OverrunMeter::default();
        let (every_us, each_us) = (BYTES as f64 * 8e6 / sent_bps, BYTES as f64 * 8e6 / rate_bps);
        let end_us = 200_000 + ms * 1_000;
        let (mut free_us, mut on_way, mut newest_us) = (0.0_f64, 0, 0);
        for number in 0..(end_us as f64 / every_us) as i64 {
            let sent_us = number as f64 * every_us;
            let is_narrow = sent_us >= 200_000.0;
            free_us = if is_narrow { free_us.max(sent_us) + each_us } else { sent_us };
            let arrival_us = free_us as i64 + WAY_US + jitter_us(number);
            // The report takes its time as well.
            if arrival_us + WAY_US <= end_us {
                meter.on_packet(arrival_us, arrival_us - sent_us as i64, BYTES);
                (on_way, newest_us) = (0, sent_us as i64);
            } else {
                on_way += BYTES;
            }
        }
        meter.end_report(WAY_US, on_way, end_us - newest_us)
    }

    #[test]
    fn a_way_that_becomes_much_narrower_is_seen_with_its_rate_and_the_queue_to_come() {
        let found = run(4e6, 1e6, 140, |_| 0).unwrap_or_else(|| panic!("nothing"));
        assert!((0.9e6..1.1e6).contains(&found.rate_bps), "{found:?}");
        // 140 ms of 4 Mbit/s are 560 ms of 1 Mbit/s.
        assert!((380..460).contains(&found.queue.as_millis()), "{found:?}");
    }

    #[test]
    fn a_way_that_becomes_a_little_narrower_or_is_wide_is_none() {
        assert_eq!(run(1e6, 0.8e6, 300, |_| 0), None);
        assert_eq!(run(4e6, 20e6, 300, |_| 0), None);
    }

    #[test]
    fn jitter_and_a_burst_that_was_held_back_are_none() {
        assert_eq!(run(4e6, 20e6, 300, |number| number * 7_919 % 40_000), None);
        // What was sent in 150 ms comes at once.
        let held = |number: i64| (480_000 - number * 2_400).clamp(0, 150_000);
        assert_eq!(run(4e6, 20e6, 300, held), None);
    }

    #[test]
    fn nothing_follows_from_nothing() {
        assert_eq!(OverrunMeter::default().end_report(0, 1_000_000, 0), None);
    }
}
