//! How fast something arrives or is sent, over a window that ends with the newest report.

use super::WINDOW_REPORTS;

/// Packets overtake each other by less.
const MAX_BACK_US: i64 = 500_000;

/// Cumulative bytes at points in time.
#[derive(Clone, Debug)]
pub struct RateMeter {
    /// Oldest first: microseconds, bytes so far.
    points: [(i64, u64); WINDOW_REPORTS],
    len: usize,
    total_bytes: u64,
}

impl Default for RateMeter {
    fn default() -> Self {
        Self { points: [(0, 0); WINDOW_REPORTS], len: 0, total_bytes: 0 }
    }
}

impl RateMeter {
    /// So much more has come up to this point in time. Points in time that go back are taken for the newest.
    pub fn add(&mut self, at_us: i64, bytes: u64) {
        self.total_bytes += bytes;
        match self.points[..self.len].last_mut() {
            // A clock that goes back far is another one.
            Some((newest_us, _)) if *newest_us - at_us > MAX_BACK_US => {
                self.points[0] = (at_us, self.total_bytes);
                self.len = 1;
            }
            Some((newest_us, total)) if *newest_us >= at_us => *total = self.total_bytes,
            _ => {
                if self.len == WINDOW_REPORTS {
                    self.points.rotate_left(1);
                    self.len -= 1;
                }
                self.points[self.len] = (at_us, self.total_bytes);
                self.len += 1;
            }
        }
    }

    /// Nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bits per second over at least `window_us`, if that much is known; over all that is known if it is a fifth of that.
    #[must_use]
    pub fn bps(&self, window_us: i64) -> Option<f64> {
        let (&(end_us, end_bytes), earlier) = self.points[..self.len].split_last()?;
        let start = earlier.iter().rev().find(|(at_us, _)| end_us - at_us >= window_us).or(earlier.first())?;
        let span_us = end_us - start.0;
        (span_us * 5 >= window_us).then(|| bits(end_bytes - start.1) * 1e6 / micros(span_us))
    }

    /// Forgets what came before the newest point.
    pub fn restart(&mut self) {
        if let Some(newest) = self.len.checked_sub(1) {
            self.points[0] = self.points[newest];
            self.len = 1;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^52")]
pub(super) fn bits(bytes: u64) -> f64 {
    bytes as f64 * 8.0
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^52")]
pub(super) fn micros(us: i64) -> f64 {
    us as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive and far below 2^53")]
pub(super) fn whole(bps: f64) -> u64 {
    bps as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_at_the_start_of_the_window_do_not_count() {
        let mut meter = RateMeter::default();
        assert_eq!(meter.bps(100_000), None);
        meter.add(0, 1_000_000);
        for report in 1..=10 {
            meter.add(report * 50_000, 6_250);
        }
        assert_eq!(meter.bps(250_000), Some(1e6));
        assert_eq!(meter.bps(500_000), Some(1e6));
    }

    #[test]
    fn the_window_moves_on_and_is_bounded() {
        let mut meter = RateMeter::default();
        for report in 0..1_000 {
            meter.add(report * 50_000, if report < 900 { 6_250 } else { 12_500 });
        }
        assert_eq!(meter.bps(250_000), Some(2e6));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_make_a_rate_grow_for_ever() {
        let mut meter = RateMeter::default();
        for report in 0..1_000 {
            meter.add(-report * 1_000_000, 125_000);
        }
        assert_eq!(meter.bps(250_000), None);
    }

    #[test]
    fn what_comes_out_of_order_is_counted() {
        let mut meter = RateMeter::default();
        meter.add(0, 0);
        meter.add(100_000, 6_250);
        meter.add(90_000, 6_250);
        assert_eq!(meter.bps(100_000), Some(1e6));
    }
}
