//! So many bytes a second, with a burst.

use std::time::{Duration, Instant};

/// A burst lasts so long at the full rate: a key frame of several megabits passes, a flood does not.
const BURST: Duration = Duration::from_millis(500);
/// Smallest burst, so that a low rate still lets whole datagrams through.
const MIN_BURST_BYTES: u64 = 128 * 1024;

/// A token bucket of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: u64,
    capacity: u64,
    level: u64,
    updated_at: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(bytes_per_second: u64, now: Instant) -> Self {
        let burst = u64::try_from(u128::from(bytes_per_second) * BURST.as_millis() / 1000).unwrap_or(u64::MAX);
        let capacity = burst.max(MIN_BURST_BYTES);
        Self { rate: bytes_per_second, capacity, level: capacity, updated_at: now }
    }

    /// Takes bytes out. False: there are not so many, and nothing is taken.
    pub fn take(&mut self, bytes: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.updated_at);
        // too short a time would be rounded to nothing: it is counted with the next
        let gained = u128::from(self.rate) * elapsed.as_micros() / 1_000_000;
        if gained > 0 {
            self.level = u64::try_from(u128::from(self.level) + gained).unwrap_or(u64::MAX).min(self.capacity);
            self.updated_at = now;
        }
        let is_enough = self.level >= bytes;
        if is_enough {
            self.level -= bytes;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_long_term_rate_is_the_configured_one() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1_000_000, start);
        let mut passed: u64 = 0;
        for tick in 0..100_000_u32 {
            let now = start + Duration::from_micros(100) * tick;
            passed += if bucket.take(1_000, now) { 1_000 } else { 0 };
        }
        // ten seconds and the burst
        assert!((10_400_000..10_600_000).contains(&passed), "{passed}");
    }
}
