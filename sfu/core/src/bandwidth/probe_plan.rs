//! When a probe is worth its while, and what it should try.
//!
//! In: what is wanted, what trains of media have shown, what came of probes. Out: the rate of the next one.
//! A probe that shows nothing makes the next one wait longer, unless trains of media show that there is more.

use std::time::{Duration, Instant};

/// Between two probes that may show nothing: this, twice as long after each that did not, up to the last.
const INTERVAL: Duration = Duration::from_millis(2_500);
const MAX_INTERVAL: Duration = Duration::from_secs(20);
/// The same where trains of media show that there is more; twice as long after each result that was wrong, for others use the
/// link as well then.
const SHOWN_INTERVAL: Duration = Duration::from_secs(4);
const MAX_SHOWN_INTERVAL: Duration = Duration::from_secs(60);
/// Between two probes while no queue has ever been seen, of which so many may show nothing: a client that is busy as it begins takes
/// packets late.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
const FIRST_FAILURES: u8 = 3;
/// A queue so soon after a probe's result means that the result was wrong.
const PROBATION: Duration = Duration::from_millis(1_500);
/// A probe tries at most so many times the rate; the first one more, since the first rate is a guess, and those that follow while no
/// queue has been seen (libwebrtc: 3 and 6 times, then 2).
const FACTOR: f64 = 2.0;
const FIRST_FACTOR: f64 = 4.0;
const UNLIMITED_FACTOR: f64 = 3.0;
/// Beyond what is wanted, so that the estimate reaches it.
pub const MARGIN: f64 = 1.2;
/// Trains of media say that there is more, or that there is none.
const MORE: f64 = 1.5;
const NO_MORE: f64 = 1.25;
const NEWS: f64 = 1.4;

/// See the module.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    last: Option<Instant>,
    next: Option<Instant>,
    interval: Duration,
    shown_interval: Duration,
    /// When a probe last raised the rate.
    raised_at: Option<Instant>,
    /// What trains of media arrived at when a queue last built up.
    train_at_queue_bps: Option<f64>,
    has_probed: bool,
    /// Probes in vain that do not count yet; none once a queue was seen.
    free_failures: u8,
    /// Probes in a row that passed and raised nothing.
    passes: u8,
}

impl Default for ProbePlan {
    fn default() -> Self {
        let (interval, shown_interval) = (INTERVAL, SHOWN_INTERVAL);
        Self {
            last: None,
            next: None,
            interval,
            shown_interval,
            raised_at: None,
            train_at_queue_bps: None,
            has_probed: false,
            free_failures: FIRST_FAILURES,
            passes: 0,
        }
    }
}

impl ProbePlan {
    /// Nothing is known of the way but that a first probe was sent, and whether it ever had a limit.
    #[must_use]
    pub fn begun_anew(&self) -> Self {
        Self { has_probed: self.has_probed, free_failures: self.free_failures, ..Self::default() }
    }

    /// The rate that a probe should try now. `train_bps`: what the newest trains of media arrived at, which is the bottleneck's
    /// rate if nobody else uses it; `is_app_limited`: less is sent than might be, so that they say little.
    pub fn take_due(
        &mut self,
        now: Instant,
        target_bps: f64,
        wanted_bps: f64,
        train_bps: Option<f64>,
        is_app_limited: bool,
    ) -> Option<f64> {
        // Who shares the bottleneck sees more in its trains than is left for it; but no more than when it was full.
        let known_bps = self.train_at_queue_bps.map_or(0.0, |bps| bps * NEWS);
        let is_shown = train_bps.is_some_and(|bps| bps > known_bps.max(target_bps * MORE))
            && self.last.is_none_or(|at| now.saturating_duration_since(at) > self.shown_interval);
        if wanted_bps <= target_bps * 1.02 || (self.next.is_some_and(|at| now < at) && !is_shown) {
            return None;
        }
        let factor = match (self.has_probed, self.free_failures) {
            (false, _) => FIRST_FACTOR,
            (true, 1..) => UNLIMITED_FACTOR,
            (true, 0) => FACTOR,
        };
        let mut rate = (wanted_bps * MARGIN).min(target_bps * factor);
        if let Some(train_bps) = train_bps.filter(|_| !is_app_limited) {
            // It is not worth a queue to hear again that there is no more. But jitter makes trains say so as well.
            let is_due = self.last.is_none_or(|at| now.saturating_duration_since(at) > self.interval * 2);
            if train_bps < target_bps * NO_MORE && !is_due {
                self.next = Some(now + Duration::from_millis(300));
                return None;
            }
            rate = rate.min((train_bps * 1.1).max(target_bps * 1.3));
        }
        self.has_probed = true;
        self.last = Some(now);
        // Until its result is known.
        self.next = Some(now + self.interval);
        Some(rate)
    }

    /// Somebody wants more than before: a probe need not wait as long as after one that failed.
    pub fn hurry(&mut self, now: Instant) {
        self.next = self.next.map(|at| at.min(now + INTERVAL));
    }

    /// A probe has raised the rate; `is_full`: it showed what the way carries, and not only that it carries what was tried.
    pub fn succeeded(&mut self, now: Instant, is_full: bool) {
        (self.raised_at, self.passes) = (Some(now), 0);
        self.interval = INTERVAL;
        self.next = Some(match is_full {
            false => now,
            true if self.free_failures > 0 => now + FIRST_INTERVAL,
            true => now + INTERVAL,
        });
    }

    /// A probe has arrived as it was sent, but was no more than what is known to pass. More than a few of these are in vain.
    pub fn passed(&mut self, now: Instant) {
        self.passes = self.passes.saturating_add(1);
        match self.passes {
            1 => self.next = Some(now),
            2 | 3 => self.next = Some(now + FIRST_INTERVAL),
            _ => self.failed(now),
        }
    }

    /// A probe has shown nothing.
    pub fn failed(&mut self, now: Instant) {
        if let Some(left) = self.free_failures.checked_sub(1) {
            (self.free_failures, self.next) = (left, Some(now + FIRST_INTERVAL));
            return;
        }
        self.interval = (self.interval * 2).min(MAX_INTERVAL);
        self.next = Some(now + self.interval);
    }

    /// No limit of the way was ever seen, but by probes.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.free_failures > 0
    }

    /// Less arrives than is sent: the way has a limit.
    pub fn on_limit(&mut self) {
        self.free_failures = 0;
    }

    /// A queue builds up.
    pub fn on_queue(&mut self, now: Instant, train_bps: Option<f64>) {
        self.on_limit();
        self.train_at_queue_bps = train_bps.or(self.train_at_queue_bps);
        let Some(at) = self.raised_at.take() else { return };
        if now.saturating_duration_since(at) < PROBATION {
            self.shown_interval = (self.shown_interval * 2).min(MAX_SHOWN_INTERVAL);
            self.failed(now);
        } else {
            self.shown_interval = SHOWN_INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_fails_is_repeated_ever_more_rarely() {
        let (mut plan, start) = (ProbePlan::default(), Instant::now());
        let probes = (0..1_200).filter(|number| {
            let now = start + Duration::from_millis(100) * *number;
            let is_due = plan.take_due(now, 1e6, 1e7, None, false).is_some();
            if is_due {
                plan.failed(now);
            }
            is_due
        });
        assert!((5..12).contains(&probes.count()), "in two minutes");
    }

    #[test]
    fn one_that_passes_and_raises_nothing_is_not_repeated_for_ever() {
        let (mut plan, start) = (ProbePlan::default(), Instant::now());
        plan.on_limit();
        let probes = (0..600).filter(|number| {
            let now = start + Duration::from_millis(100) * *number;
            let is_due = plan.take_due(now, 1e6, 1e7, None, false).is_some();
            if is_due {
                plan.passed(now);
            }
            is_due
        });
        assert!((4..12).contains(&probes.count()), "in a minute");
    }

    #[test]
    fn a_train_that_shows_more_is_followed_soon() {
        let (mut plan, start) = (ProbePlan::default(), Instant::now());
        assert!(plan.take_due(start, 1e6, 1e7, None, false).is_some());
        (0..6).for_each(|_| plan.failed(start));
        let later = start + Duration::from_secs(5);
        assert_eq!(plan.take_due(later, 1e6, 1e7, Some(1.2e6), false), None);
        let rate_bps = plan.take_due(later, 1e6, 1e7, Some(3e6), false).unwrap_or_default();
        assert!((1.9e6..2.1e6).contains(&rate_bps), "{rate_bps}");
    }

    #[test]
    fn nobody_probes_for_what_nobody_wants() {
        assert_eq!(ProbePlan::default().take_due(Instant::now(), 1e6, 1e6, None, false), None);
    }
}
