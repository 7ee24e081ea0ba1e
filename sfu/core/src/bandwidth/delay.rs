//! How long packets wait in the bottleneck's queue: one-way delay less the smallest of the last minute.
//!
//! Clocks of the two ends differ by anything, so only differences of delays mean something. The smallest delay of a tenth
//! of a second is taken: a frame's packets queue behind each other, and jitter only ever adds to a delay.

/// Base delays are remembered for so many spans of [`SPAN_US`].
const SPANS: usize = 6;
const SPAN_US: i64 = 10_000_000;
/// What the newest delay is the smallest of.
const WINDOW_US: i64 = 100_000;
/// Reports in that window that are kept; with more, the oldest are merged.
const REPORTS: usize = 8;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct QueueMeter {
    /// Smallest delay of each span, newest last.
    bases: [Option<i64>; SPANS],
    span_started_us: Option<i64>,
    /// Arrival of its last packet and smallest delay of each report, newest last.
    reports: [Option<(i64, i64)>; REPORTS],
    current: Option<(i64, i64)>,
}

impl QueueMeter {
    /// A packet arrived at this time by the client's clock after so long a way, which has an unknown constant in it.
    pub fn on_packet(&mut self, arrival_us: i64, delay_us: i64) {
        self.current = Some(match self.current {
            None => (arrival_us, delay_us),
            Some((newest_us, smallest_us)) => (newest_us.max(arrival_us), smallest_us.min(delay_us)),
        });
    }

    /// End of a report; returns how long its packets waited in a queue (microseconds).
    pub fn end_report(&mut self) -> Option<i64> {
        let report = self.current.take()?;
        let started_us = *self.span_started_us.get_or_insert(report.0);
        if report.0 - started_us >= SPAN_US {
            self.bases.rotate_left(1);
            self.bases[SPANS - 1] = None;
            self.span_started_us = Some(report.0);
        }
        let newest = &mut self.bases[SPANS - 1];
        *newest = Some(newest.map_or(report.1, |known| known.min(report.1)));
        self.reports.rotate_left(1);
        self.reports[REPORTS - 1] = Some(report);
        Some(self.smallest()? - self.base()?)
    }

    /// The way has become another one: what packets take is all its own.
    pub fn rebase(&mut self) {
        self.bases = [None; SPANS];
        self.bases[SPANS - 1] = self.smallest();
    }

    /// Smallest delay of the newest tenth of a second.
    fn smallest(&self) -> Option<i64> {
        let (newest_us, _) = self.reports[REPORTS - 1]?;
        self.reports.iter().flatten().filter(|(at_us, _)| newest_us - at_us < WINDOW_US).map(|&(_, delay_us)| delay_us).min()
    }

    /// The least delay, with the unknown constant in it.
    #[must_use]
    pub fn base(&self) -> Option<i64> {
        self.bases.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a report each 50 ms with these delays (ms); returns the queue's delays.
    fn run(meter: &mut QueueMeter, from: i64, delays_ms: &[i64]) -> Vec<i64> {
        let reports = (from..).zip(delays_ms);
        reports
            .filter_map(|(number, delay_ms)| {
                meter.on_packet(number * 50_000, delay_ms * 1_000);
                meter.end_report()
            })
            .collect()
    }

    #[test]
    fn only_what_is_added_to_the_smallest_delay_counts() {
        let mut meter = QueueMeter::default();
        assert_eq!(run(&mut meter, 0, &[-70_000, -70_000, -69_900, -69_900, -69_900]), [0, 0, 0, 100_000, 100_000]);
    }

    #[test]
    fn jitter_is_no_queue() {
        let mut meter = QueueMeter::default();
        let queues = run(&mut meter, 0, &[0, 40, 0, 40, 0, 40, 0, 40]);
        assert!(queues.iter().all(|&queue| queue == 0), "{queues:?}");
    }

    #[test]
    fn another_way_is_taken_for_granted_at_once() {
        let mut meter = QueueMeter::default();
        run(&mut meter, 0, &[0, 0, 80, 80, 80]);
        meter.rebase();
        assert_eq!(run(&mut meter, 5, &[80, 90, 90, 90]), [0, 0, 10_000, 10_000]);
    }

    #[test]
    fn a_longer_way_is_taken_for_granted_after_a_minute() {
        let mut meter = QueueMeter::default();
        run(&mut meter, 0, &[0; 20]);
        let queues = run(&mut meter, 20, &[80; 1_400]);
        assert_eq!((queues[1], queues[queues.len() - 1]), (80_000, 0));
    }
}
