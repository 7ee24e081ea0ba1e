//! How much of something a participant may do: a burst, then a steady rate.

use std::time::{Duration, Instant};

/// Token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u32,
    burst: u32,
    time_per_unit: Duration,
    filled_at: Instant,
}

impl Budget {
    /// Full. `per_second` of 0 counts as 1.
    pub(crate) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { left: burst, burst, time_per_unit: Duration::from_secs(1) / per_second.max(1), filled_at: now }
    }

    /// Pays; false if there is not enough, and then nothing is paid. What costs more than the whole burst costs the burst.
    pub(crate) fn take(&mut self, cost: u32, now: Instant) -> bool {
        self.refill(now);
        match self.left.checked_sub(cost.min(self.burst)) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Pays for what happens in any case.
    pub(crate) fn charge(&mut self, cost: u32, now: Instant) {
        self.refill(now);
        self.left = self.left.saturating_sub(cost);
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at);
        let earned = u32::try_from(passed.as_nanos() / self.time_per_unit.as_nanos()).unwrap_or(u32::MAX);
        if earned >= self.burst - self.left {
            (self.left, self.filled_at) = (self.burst, now);
        } else {
            self.left += earned;
            // A part of a unit that has been earned stays so.
            self.filled_at += self.time_per_unit * earned;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_steady_rate() {
        let start = crate::tests::start();
        let mut budget = Budget::new(100, 10, start);
        assert!((0..100).all(|_| budget.take(1, start)));
        assert!(!budget.take(1, start + Duration::from_millis(99)));
        assert!(budget.take(1, start + Duration::from_millis(100)));
        assert!(!budget.take(1, start + Duration::from_millis(199)));
        assert!(budget.take(1, start + Duration::from_millis(200)));
    }

    #[test]
    fn what_costs_more_waits_longer() {
        let start = crate::tests::start();
        let mut budget = Budget::new(10, 1, start);
        budget.charge(1000, start);
        assert!(!budget.take(5, start + Duration::from_secs(4)));
        assert!(budget.take(5, start + Duration::from_secs(5)));
        assert!(budget.take(1000, start + Duration::from_secs(3600)), "never dearer than the burst");
    }
}
