//! Time between shown frames, and which of it browsers call a freeze.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Intervals of which browsers take the mean.
const INTERVALS: usize = 30;
/// Intervals that must be known before anything is called a freeze.
const LEAST_INTERVALS: u32 = 5;

/// Intervals between shown frames.
#[derive(Debug, Default)]
pub(super) struct FreezeMeter {
    last: Option<Instant>,
    intervals: VecDeque<Duration>,
}

impl FreezeMeter {
    /// Time since the frame before, and the freeze that it was, if any.
    pub(super) fn show(&mut self, now: Instant) -> (Duration, Option<(Instant, Duration)>) {
        let (interval, freeze) = self.open(now);
        if self.last.replace(now).is_some() {
            self.intervals.push_back(interval);
            if self.intervals.len() > INTERVALS {
                self.intervals.pop_front();
            }
        }
        (interval, freeze)
    }

    /// Like [`Self::show`] while no further frame has come.
    pub(super) fn open(&self, now: Instant) -> (Duration, Option<(Instant, Duration)>) {
        let Some(last) = self.last else { return (Duration::ZERO, None) };
        let interval = now.saturating_duration_since(last);
        (interval, self.is_freeze(interval).then_some((last, interval)))
    }

    /// The time until the next frame does not count.
    pub(super) fn pause(&mut self) {
        self.last = None;
    }

    /// As libwebrtc counts (`video/video_quality_observer2.cc`): more than three times the mean of the last 30 intervals, and
    /// than the mean and 150 ms; five intervals must be known.
    fn is_freeze(&self, interval: Duration) -> bool {
        let Some(count) = u32::try_from(self.intervals.len()).ok().filter(|&count| count >= LEAST_INTERVALS) else { return false };
        let mean = self.intervals.iter().sum::<Duration>() / count;
        interval > (mean * 3).max(mean + Duration::from_millis(150))
    }
}
