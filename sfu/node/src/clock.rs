//! Turns the kernel's receive times, which are wall clock, into the monotonic time of the engine.
//!
//! Invariant: whatever the wall clock does, a time given out lies between the previous batch and this one, so time never goes
//! back from batch to batch. A receive time outside (the clock was set, or the packet waited for more than a batch) counts as the
//! nearer end.

use std::time::{Duration, Instant};

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Monotonic.
    pub(crate) now: Instant,
    /// Since the Unix epoch.
    pub(crate) wall: Duration,
}

/// Maps receive times of one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrivals {
    batch: Moment,
    earliest: Instant,
}

impl Arrivals {
    /// For a batch that is read at `batch`; `previous` is the time of the batch before.
    pub(crate) const fn new(batch: Moment, previous: Instant) -> Self {
        Self { batch, earliest: previous }
    }

    /// How long a packet with this receive time has waited, as far as the wall clock tells.
    pub(crate) fn age_of(&self, received_at: Duration) -> Duration {
        self.batch.wall.saturating_sub(received_at)
    }

    /// When a packet with this receive time came.
    pub(crate) fn time_of(&self, received_at: Option<Duration>) -> Instant {
        let age = received_at.map_or(Duration::ZERO, |at| self.age_of(at));
        self.batch.now.checked_sub(age).map_or(self.earliest, |at| at.max(self.earliest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_packet_is_as_old_as_the_wall_clock_says() {
        let (previous, batch) = batch_after(10 * MS);
        let arrivals = Arrivals::new(batch, previous);
        assert_eq!(arrivals.time_of(Some(batch.wall - 3 * MS)), batch.now - 3 * MS);
        assert_eq!(arrivals.time_of(None), batch.now);
    }

    #[test]
    fn a_wall_clock_that_jumps_does_not_move_time_out_of_the_batch() {
        let (previous, batch) = batch_after(10 * MS);
        let arrivals = Arrivals::new(batch, previous);
        assert_eq!(arrivals.time_of(Some(batch.wall - Duration::from_secs(3_600))), previous);
        assert_eq!(arrivals.time_of(Some(batch.wall + Duration::from_secs(3_600))), batch.now);
        assert_eq!(arrivals.time_of(Some(Duration::ZERO)), previous);
    }

    fn batch_after(pause: Duration) -> (Instant, Moment) {
        let previous = Instant::now();
        (previous, Moment { now: previous + pause, wall: Duration::from_secs(1_700_000_000) })
    }
}
