//! Whether a way carries what is sent on it: nothing is divided before something shows that it does not.
//!
//! In: the estimate, what was granted, and whether everybody has what they want. Out: a [`Verdict`]. A queue or a loss of which
//! nearly everything arrives all the same may be a client or a machine that was busy for a moment; it has to last for
//! [`CONFIRM`] before anybody loses anything. What arrives tells the other case at once.
//! Invariant: on a way that never had a queue or a loss, the verdict is always [`Verdict::Free`].

use std::time::{Duration, Instant};

use crate::bandwidth::{Estimate, Limit};

/// A queue or loss of which most arrives is believed after this.
const CONFIRM: Duration = Duration::from_millis(800);
/// A queue longer than this is there; a shorter one is as good as gone.
const QUEUE: Duration = Duration::from_millis(30);
/// A cut this long ago says nothing of now.
const RECENT: Duration = Duration::from_millis(400);
/// If less than these shares of what is sent pass in a quarter and in a tenth of a second, there is no doubt, once the tenth lies
/// behind the beginning: a way that becomes longer has a gap then.
const CLEAR_PERCENT: [u64; 2] = [85, 70];
const CLEAR_AFTER: Duration = Duration::from_millis(100);
/// After everybody has had everything for so long without a queue or loss, nothing is held against a way.
const FORGIVE: Duration = Duration::from_secs(30);

/// What may be done with a way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing has shown that it does not carry everything.
    Free,
    /// It did not carry everything; the estimate says what is known to fit, and there may be more. Nobody loses anything.
    Open,
    /// The estimate is all there is.
    Full,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alarm {
    /// It has been shown that not everything fits.
    is_scarce: bool,
    /// Since when something says that less passes than is sent.
    rings_since: Option<Instant>,
    /// Since when everybody has everything, and nothing speaks against it.
    content_since: Option<Instant>,
}

impl Alarm {
    /// What an estimate means. `granted_bps`: what is sent if publishers keep to their rates; `has_everything`: nobody wants more.
    pub fn judge(&mut self, estimate: &Estimate, granted_bps: u64, has_everything: bool, now: Instant) -> Verdict {
        let rings = match estimate.limit {
            Limit::Delay | Limit::Loss => {
                let is_recent = estimate.cut_at.is_some_and(|at| now.saturating_duration_since(at) < RECENT);
                is_recent || estimate.queue >= QUEUE
            }
            // What such a client says grows with what it gets.
            Limit::Client => estimate.target_bps < granted_bps,
            Limit::Start | Limit::None | Limit::Silence => false,
        };
        self.rings_since = if rings { self.rings_since.or(Some(now)) } else { None };
        self.content_since = if rings || !has_everything { None } else { self.content_since.or(Some(now)) };
        let rings_for = self.rings_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let passes_bps = estimate.arrives_bps.unwrap_or([estimate.target_bps; 2]);
        let is_low = passes_bps.into_iter().zip(CLEAR_PERCENT).all(|(bps, percent)| bps < granted_bps / 100 * percent);
        if rings_for >= CONFIRM || (rings_for >= CLEAR_AFTER && is_low) {
            self.is_scarce = true;
            return Verdict::Full;
        }
        if self.content_since.is_some_and(|since| now.saturating_duration_since(since) >= FORGIVE) {
            self.is_scarce = false;
        }
        match (self.is_scarce, rings) {
            (false, _) => Verdict::Free,
            (true, true) => Verdict::Open,
            // Of a queue that was there a moment ago it is known what passed.
            (true, false) if matches!(estimate.limit, Limit::Delay | Limit::Loss) && !estimate.is_app_limited => Verdict::Full,
            (true, false) => Verdict::Open,
        }
    }

    /// When time alone changes the verdict.
    #[must_use]
    pub fn again_at(&self, now: Instant) -> Option<Instant> {
        let since = self.rings_since?;
        [since + CLEAR_AFTER, since + CONFIRM].into_iter().find(|&at| at > now)
    }

    /// It has not gone away for a while.
    #[must_use]
    pub fn has_lasted(&self, now: Instant) -> bool {
        self.rings_since.is_some_and(|since| now.saturating_duration_since(since) >= CONFIRM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANTED: u64 = 1_800_000;
    const STEP: Duration = Duration::from_millis(100);

    fn estimate(limit: Limit, queue_ms: u64, arrives_bps: u64, now: Instant) -> Estimate {
        Estimate {
            target_bps: arrives_bps,
            link_capacity_bps: Some(arrives_bps),
            overhead_bps: 0,
            is_app_limited: false,
            limit,
            since: now,
            queue: Duration::from_millis(queue_ms),
            cut_at: None,
            arrives_bps: Some([arrives_bps; 2]),
        }
    }

    #[test]
    fn a_low_estimate_alone_divides_nothing() {
        let (mut alarm, now) = (Alarm::default(), Instant::now());
        for limit in [Limit::Start, Limit::None, Limit::Silence] {
            assert_eq!(alarm.judge(&estimate(limit, 0, 40_000, now), GRANTED, true, now), Verdict::Free);
        }
    }

    #[test]
    fn much_less_arriving_is_believed_soon_and_a_gap_is_not_less() {
        let (mut alarm, now) = (Alarm::default(), Instant::now());
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 60, 900_000, now), GRANTED, true, now), Verdict::Free);
        let later = now + CLEAR_AFTER;
        let after_gap = Estimate { arrives_bps: Some([900_000, GRANTED]), ..estimate(Limit::Delay, 400, GRANTED, later) };
        assert_eq!(alarm.judge(&after_gap, GRANTED, true, later), Verdict::Free);
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 60, 900_000, later), GRANTED, true, later), Verdict::Full);
    }

    #[test]
    fn a_queue_that_passes_is_nobodys_loss_and_one_that_stays_is() {
        let (mut alarm, mut now) = (Alarm::default(), Instant::now());
        for _ in 0..7 {
            assert_eq!(alarm.judge(&estimate(Limit::Delay, 60, GRANTED, now), GRANTED, true, now), Verdict::Free);
            now += STEP;
        }
        assert!(alarm.again_at(now).is_some());
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 5, GRANTED, now), GRANTED, true, now), Verdict::Free);
        assert_eq!(alarm.again_at(now), None);
        for _ in 0..9 {
            now += STEP;
            alarm.judge(&estimate(Limit::Delay, 60, GRANTED, now), GRANTED, true, now);
        }
        assert!(alarm.is_scarce && alarm.has_lasted(now));
        now += STEP;
        assert_eq!(alarm.judge(&estimate(Limit::Delay, 5, GRANTED, now), GRANTED, false, now), Verdict::Full, "it is known what passed");
        now += STEP;
        assert_eq!(alarm.judge(&estimate(Limit::None, 5, GRANTED, now), GRANTED, false, now), Verdict::Open);
    }

    #[test]
    fn who_has_had_everything_for_a_while_is_trusted_again() {
        let (mut alarm, mut now) = (Alarm::default(), Instant::now());
        alarm.judge(&estimate(Limit::Delay, 60, 900_000, now), GRANTED, true, now);
        now += CLEAR_AFTER;
        alarm.judge(&estimate(Limit::Delay, 60, 900_000, now), GRANTED, true, now);
        for _ in 0..100 {
            now += FORGIVE;
            assert_eq!(alarm.judge(&estimate(Limit::None, 0, GRANTED, now), GRANTED, false, now), Verdict::Open, "somebody wants more");
        }
        assert_eq!(alarm.judge(&estimate(Limit::None, 0, GRANTED, now), GRANTED, true, now), Verdict::Open);
        now += FORGIVE;
        assert_eq!(alarm.judge(&estimate(Limit::None, 0, GRANTED, now), GRANTED, true, now), Verdict::Free);
    }

    #[test]
    fn a_client_that_names_less_than_it_gets_is_believed_if_it_goes_on() {
        let (mut alarm, mut now) = (Alarm::default(), Instant::now());
        assert_eq!(alarm.judge(&estimate(Limit::Client, 0, GRANTED, now), GRANTED, true, now), Verdict::Free);
        assert_eq!(alarm.judge(&estimate(Limit::Client, 0, GRANTED - 1, now), GRANTED, true, now), Verdict::Free);
        now += CONFIRM;
        assert_eq!(alarm.judge(&estimate(Limit::Client, 0, GRANTED - 1, now), GRANTED, true, now), Verdict::Full);
    }
}
