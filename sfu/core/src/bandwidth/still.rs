//! Whether what is taken for a queue can be one: a queue of ours becomes shorter when half as much is sent.
//!
//! In: the queue's length and what arrives, with every report. A way that has become longer while packets are lost looks like
//! a queue that overflows; but its length stays what it is whatever is sent.

use std::time::{Duration, Instant};

/// A queue that changes by less stays the same.
const STEADY: Duration = Duration::from_millis(6);
/// Shorter ones do no harm.
const LEAST: Duration = Duration::from_millis(12);
/// Less has to arrive for so long.
const LOW_FOR: Duration = Duration::from_millis(600);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Still(Option<Span>);

#[derive(Clone, Copy, Debug)]
struct Span {
    shortest: Duration,
    longest: Duration,
    most_bps: f64,
    low_since: Option<Instant>,
}

impl Still {
    /// A report. What arrived before, if what is taken for a queue is none.
    pub fn add(&mut self, queue: Duration, acked_bps: f64, now: Instant) -> Option<f64> {
        let span = self.0.get_or_insert(Span { shortest: queue, longest: queue, most_bps: acked_bps, low_since: None });
        (span.shortest, span.longest) = (span.shortest.min(queue), span.longest.max(queue));
        if span.longest - span.shortest > STEADY || span.shortest < LEAST {
            self.0 = None;
            return None;
        }
        span.most_bps = span.most_bps.max(acked_bps);
        span.low_since = if acked_bps < span.most_bps / 2.0 { span.low_since.or(Some(now)) } else { None };
        let before_bps = span.most_bps;
        span.low_since.filter(|&since| now.saturating_duration_since(since) >= LOW_FOR)?;
        self.0 = None;
        Some(before_bps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports each 50 ms of a queue (ms) and a rate; what is found.
    fn run(still: &mut Still, start: Instant, from: u32, reports: &[(u64, f64)]) -> Vec<f64> {
        let at = |number| start + Duration::from_millis(50) * number;
        (from..).zip(reports).filter_map(|(number, &(ms, bps))| still.add(Duration::from_millis(ms), bps, at(number))).collect()
    }

    #[test]
    fn what_stays_while_half_as_much_arrives_is_no_queue() {
        let (mut still, now) = (Still::default(), Instant::now());
        assert_eq!(run(&mut still, now, 0, &[(30, 6e5); 40]), [0.0; 0], "as much arrives as ever");
        assert_eq!(run(&mut still, now, 40, &[(32, 1e5); 20]), [6e5]);
    }

    #[test]
    fn a_queue_that_changes_or_is_not_there_says_nothing() {
        let (mut still, now) = (Still::default(), Instant::now());
        let empties: Vec<(u64, f64)> = (0..60).map(|number| (100 - number, 1e6 / (1.0 + number as f64))).collect();
        assert_eq!(run(&mut still, now, 0, &empties), [0.0; 0]);
        let reports = [[(5, 1e6); 20], [(5, 1e5); 20]].concat();
        assert_eq!(run(&mut Still::default(), now, 0, &reports), [0.0; 0]);
    }
}
