//! A way on which packets are dropped without having waited: a policer lets pass for a moment what it does not let pass for long.
//!
//! In: loss that came without a queue and lowered the rate. Out: how far a short probe is believed, and when a long one is to be tried,
//! which does not fit into a policer's bucket.

use std::time::{Duration, Instant};

use super::control::START_BPS;

/// A probe is believed up to this multiple of what arrived when a policer was met, for so long; then a long one with this multiple of the
/// rate has to pass, or it is the same for twice as long.
const PROBE: f64 = 1.2;
pub(super) const HOLDS_FOR: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(120);
pub(super) const LONG_PROBE: f64 = 1.5;
/// It is the same one if what it lets pass differs by no more.
const SAME: f64 = 0.75;
/// If at least this share of the loss stays although less is sent, it was none.
const INHERENT: f64 = 0.5;

/// See the module.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Policed {
    /// What arrived then.
    bps: f64,
    /// Share that was lost.
    loss: f64,
    at: Instant,
    /// So long that counts.
    lasts: Duration,
}

impl Policed {
    /// Of so much this share was lost, and nothing waited. `known`: what was met before.
    #[must_use]
    pub fn met(known: Option<Self>, bps: f64, loss: f64, now: Instant) -> Self {
        let same = known.filter(|known| (SAME..1.0 / SAME).contains(&(bps / known.bps)));
        let lasts = same.map_or(HOLDS_FOR, |known| (known.lasts * 2).min(LONGEST));
        Self { bps, loss, at: now, lasts }
    }

    /// Nothing that passes for a moment only says anything.
    #[must_use]
    pub fn holds(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < self.lasts
    }

    /// What is believed of a short probe; None: anything.
    #[must_use]
    pub fn most_bps(&self, now: Instant) -> Option<f64> {
        self.holds(now).then_some((self.bps * PROBE).max(START_BPS))
    }

    /// As much is lost of less: that is the link's own.
    #[must_use]
    pub fn is_refuted(&self, inherent_loss: f64) -> bool {
        inherent_loss > self.loss * INHERENT
    }

    /// What is left of it after a long probe.
    #[must_use]
    pub fn after_long_probe(self, passed_bps: Option<f64>, now: Instant) -> Option<Self> {
        match passed_bps {
            Some(bps) if bps > self.bps * PROBE => None,
            // No more was tried.
            Some(bps) => Some(Self { bps: bps.max(self.bps), at: now, ..self }),
            None => Some(Self { at: now, lasts: (self.lasts * 2).min(LONGEST), ..self }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_met_again_holds_for_longer_and_another_one_does_not() {
        let now = Instant::now();
        let first = Policed::met(None, 1e6, 0.2, now);
        let again = Policed::met(Some(first), 1.1e6, 0.2, now);
        assert!(first.holds(now + HOLDS_FOR - HOLDS_FOR / 8) && !first.holds(now + HOLDS_FOR) && again.holds(now + HOLDS_FOR));
        assert!(!Policed::met(Some(again), 3e6, 0.2, now).holds(now + HOLDS_FOR));
    }

    #[test]
    fn loss_that_stays_refutes_it_and_so_does_a_long_probe_that_passes() {
        let now = Instant::now();
        let policed = Policed::met(None, 1e6, 0.2, now);
        assert!(policed.is_refuted(0.15) && !policed.is_refuted(0.05));
        assert_eq!(policed.after_long_probe(Some(1.5e6), now), None);
        assert!(policed.after_long_probe(None, now).is_some_and(|policed| policed.holds(now + HOLDS_FOR)));
        let little = policed.after_long_probe(Some(1.1e6), now);
        assert!(little.is_some_and(|policed| !policed.holds(now + HOLDS_FOR) && policed.bps > 1e6), "no more was tried: {little:?}");
        assert_eq!((policed.most_bps(now), policed.most_bps(now + HOLDS_FOR)), (Some(1e6 * PROBE), None));
    }
}
