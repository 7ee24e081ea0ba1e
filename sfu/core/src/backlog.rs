//! Tells a queue that stands from one that passes, and says what of it is too late to be forwarded.
//!
//! In: how long each datagram has waited for the shard, in the order in which they are taken. Out: whether its media is dropped.
//! A burst, or a pause of the machine, makes a queue that goes away as soon as it is worked off: nothing is dropped for it. When
//! all that is taken has waited for more than [`FRESH`], and that for [`PATIENCE`] without a break, more comes than the shard can
//! send, and whatever comes next would be as late: media is dropped until what is taken is fresh again. The idea is that of CoDel
//! (RFC 8289 §3): the smallest wait within an interval tells a good queue from a bad one.
//! Invariants: however much comes, what is forwarded has waited for little more than [`PATIENCE`]; and nothing is forwarded that has
//! waited for [`HOPELESS`], whatever the reason.

use std::time::{Duration, Instant};

/// A datagram that has waited for less was waited for: the longest turn of a shard at full load is of this size (1,000 copies).
pub const FRESH: Duration = Duration::from_millis(20);
/// How long a queue may stand. Longer than the pauses that a busy virtual machine makes, shorter than what people notice in a talk
/// (ITU-T G.114: 400 ms one way).
pub const PATIENCE: Duration = Duration::from_millis(200);

/// No receiver's jitter buffer waits for so long (libwebrtc's hold up to 500 ms of video and 2 s of audio, and then skip).
pub const HOPELESS: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Since when nothing fresh was taken.
    standing_since: Option<Instant>,
    is_shedding: bool,
}

impl Backlog {
    /// The next datagram is taken at `now` and has waited for `waited`. True if its media is too late.
    pub fn is_late(&mut self, now: Instant, waited: Duration) -> bool {
        if waited <= FRESH {
            self.standing_since = None;
            self.is_shedding = false;
            return false;
        }
        let since = *self.standing_since.get_or_insert(now);
        self.is_shedding |= now.saturating_duration_since(since) >= PATIENCE;
        self.is_shedding || waited >= HOPELESS
    }

    /// A queue stands: nothing fresh was taken last. Whoever can wait should.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        self.standing_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// Messages taken in one turn.
    const BATCH: usize = 32;

    /// What became of the packets that came.
    struct Outcome {
        forwarded: u64,
        dropped: u64,
        longest_wait: Duration,
    }

    /// A shard that gets a packet every `interval`, for 20 s, and works on each for `cost`; it does nothing for `pause` once.
    fn shard(interval: Duration, cost: Duration, pause: Duration) -> Outcome {
        let start = Instant::now();
        let end = start + Duration::from_secs(20);
        let (mut now, mut next) = (start, start);
        let mut has_paused = false;
        let mut backlog = Backlog::default();
        let mut outcome = Outcome { forwarded: 0, dropped: 0, longest_wait: Duration::ZERO };
        while now < end {
            if !has_paused && now > start + Duration::from_secs(10) {
                has_paused = true;
                now += pause;
            }
            now = now.max(next);
            let batch = now;
            for _ in 0..BATCH {
                if next > batch {
                    break;
                }
                let waited = batch - next;
                next += interval;
                if backlog.is_late(batch, waited) {
                    outcome.dropped += 1;
                } else {
                    outcome.forwarded += 1;
                    outcome.longest_wait = outcome.longest_wait.max(waited);
                    now += cost;
                }
            }
            now += MS / 100;
        }
        outcome
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_the_rest_is_not_late() {
        for (interval_us, cost_us) in [(2_000, 3_300), (2_000, 2_100), (100, 1_000), (20, 30)] {
            let (interval, cost) = (Duration::from_micros(interval_us), Duration::from_micros(cost_us));
            let outcome = shard(interval, cost, Duration::ZERO);
            assert!(outcome.longest_wait < PATIENCE + 3 * FRESH, "{:?} at {interval_us}/{cost_us}", outcome.longest_wait);
            let work = cost * u32::try_from(outcome.forwarded).unwrap_or(u32::MAX);
            assert!(work > Duration::from_secs(17), "it works on all that it can: {work:?} at {interval_us}/{cost_us}");
            assert!(outcome.dropped > 0);
        }
    }

    #[test]
    fn what_fits_is_forwarded_however_it_comes() {
        for (interval_us, cost_us, pause) in [(2_000, 1_900, 0), (100, 60, 150), (2_000, 1_000, 180), (2_000, 200, 200)] {
            let outcome = shard(Duration::from_micros(interval_us), Duration::from_micros(cost_us), pause * MS);
            assert_eq!(outcome.dropped, 0, "{interval_us}/{cost_us} with a pause of {pause} ms");
        }
    }

    #[test]
    fn a_long_pause_is_made_up_for_and_then_nothing_is_dropped() {
        let outcome = shard(2 * MS, MS, Duration::from_secs(3));
        assert!(outcome.longest_wait < HOPELESS, "{:?}", outcome.longest_wait);
        assert!((1_000..1_500).contains(&outcome.dropped), "what came in the pause: {}", outcome.dropped);
    }
}
