//! Keeps one track from going up and down: down at once, up after a while.
//!
//! A track that lost a step to a lack of bandwidth waits for [`HOLDS`] before it goes up again, longer each time that going up
//! turned out wrong within [`CALM`], and from then on it pauses between two steps up. What was right for [`PROVEN`] and is lost then
//! was not wrong: the way has changed. It has also changed if more is lost than was gained. Where there is plenty, and much more than
//! when it failed, it need not wait for longer than the first hold. A track that has lost nothing does not wait: a call begins at the
//! rate at which the estimate grows.

use std::time::{Duration, Instant};

use super::ladder::Place;

/// Time from the last step down to the first one up: after the first failure, the second, and further ones.
const HOLDS: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(15), Duration::from_secs(45)];
/// The same for one that has nothing at all: a picture that stands still is worse than one that changes.
const PAUSE_HOLDS: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(12), Duration::from_secs(40)];
/// After so long without a step down, earlier failures are forgotten.
const CALM: Duration = Duration::from_secs(60);
/// A step up that was kept for so long was right, if the last loss was so long ago: or somebody goes up and down all the time.
const PROVEN: Duration = Duration::from_secs(15);
const RARE: Duration = Duration::from_secs(45);
const AT_ONCE: Duration = Duration::from_secs(5);
/// Not so soon after each other.
const CHANGED: Duration = Duration::from_secs(15);
/// More than this percentage of what there was when it last failed is evidence that it would not fail again.
const NEWS_PERCENT: u64 = 150;
/// For so long it does not go up early again after that was wrong.
const MISLED: Duration = Duration::from_secs(120);
/// So long there has to be enough for the step up.
const ENOUGH_FOR: Duration = Duration::from_millis(500);
/// Between two steps up, after a failure.
const PAUSE: Duration = Duration::from_secs(4);
/// What a step up has to leave free, in percent of what it costs: publishers don't keep to their rates.
const MARGIN_PERCENT: u64 = 8;

/// What is remembered of a track between two allocations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// What it was granted; None: nothing yet, or it is paused.
    pub place: Option<Place>,
    /// When it lost a step last.
    pub lowered_at: Option<Instant>,
    /// The same before that; what is lost at about the same time is one loss.
    lowered_before: Option<Instant>,
    /// When it has gone up since, and what it had before.
    risen_at: Option<Instant>,
    risen_from: Option<Place>,
    /// What there was when it last lost a step.
    failed_bps: u64,
    /// Failures so far: 0 to 3.
    failures: u8,
    /// It went up before its time, and when that was wrong.
    is_hurried: bool,
    misled_at: Option<Instant>,
    /// Since when there has been enough for more.
    enough_since: Option<Instant>,
}

impl Memory {
    /// Of a track that has something and never lost any of it.
    #[must_use]
    pub fn at(place: Option<Place>) -> Self {
        Self { place, ..Self::default() }
    }

    /// The subscriber wants something else: what was learned from the old wish does not count.
    pub fn renew(&mut self) {
        *self = Self::at(self.place);
    }

    /// When it may go up; None: at once.
    #[must_use]
    pub fn hold_until(&self) -> Option<Instant> {
        let lowered_at = self.lowered_at?;
        let holds = if self.place.is_some() { HOLDS } else { PAUSE_HOLDS };
        let hold = holds.get(usize::from(self.failures).saturating_sub(1)).or(holds.last())?;
        let paused_until = self.risen_at.map_or(lowered_at, |risen_at| risen_at + PAUSE);
        Some(paused_until.max(lowered_at + *hold))
    }

    /// It may be considered for more: nothing but bandwidth keeps it where it is.
    #[must_use]
    pub fn is_free(&self, now: Instant) -> bool {
        self.hold_until().is_none_or(|until| until <= now)
    }

    /// It may be considered for more by the time that it is known whether there is enough.
    #[must_use]
    pub fn is_nearly_free(&self, now: Instant) -> bool {
        self.is_free(now + ENOUGH_FOR)
    }

    /// It may go up before its time where there is plenty: it is some time since it lost a step, that was the only one lately or there
    /// is much more than then, and the last time that it went up early was not wrong. A policer lets a short probe pass and not what
    /// follows it.
    #[must_use]
    pub fn may_hurry(&self, budget_bps: u64, now: Instant) -> bool {
        self.hurries_with(now).is_some_and(|bps| budget_bps >= bps)
    }

    /// What there has to be for [`Self::may_hurry`]; None: nothing would do.
    #[must_use]
    pub fn hurries_with(&self, now: Instant) -> Option<u64> {
        let is_past = |at: Option<Instant>, time: Duration| at.is_none_or(|at| now.saturating_duration_since(at) >= time);
        let needed_bps = if is_past(self.lowered_before, CALM) { 0 } else { self.failed_bps.saturating_mul(NEWS_PERCENT) / 100 };
        (is_past(self.lowered_at, HOLDS[0]) && is_past(self.misled_at, MISLED)).then_some(needed_bps)
    }

    /// It may go up now, if there is enough. `is_enough`: there is, were nobody held; `is_plenty`: so much that nobody has to be held.
    pub fn may_rise(&mut self, is_enough: bool, is_plenty: bool, now: Instant) -> bool {
        if !is_enough {
            self.enough_since = None;
            return false;
        }
        let since = *self.enough_since.get_or_insert(now);
        (is_plenty || self.is_free(now)) && (self.lowered_at.is_none() || now.saturating_duration_since(since) >= ENOUGH_FOR)
    }

    /// When time alone may let it go up.
    #[must_use]
    pub fn next_rise(&self, now: Instant) -> Option<Instant> {
        let enough_at = self.enough_since? + ENOUGH_FOR;
        Some(self.hold_until().map_or(enough_at, |until| until.max(enough_at))).filter(|&at| at > now)
    }

    /// What a step up has to fit with.
    #[must_use]
    pub const fn charge(bps: u64) -> u64 {
        bps.saturating_add(bps / 100 * MARGIN_PERCENT)
    }

    /// Takes note of the outcome. `before` and `after` are steps of the same ladder, `bps` is what there is.
    pub fn settle(&mut self, before: Option<usize>, after: Option<usize>, place: Option<Place>, bps: u64, now: Instant) {
        let had = std::mem::replace(&mut self.place, place);
        if after > before {
            self.is_hurried = !self.is_free(now);
            if self.risen_at.replace(now).is_none() {
                self.risen_from = had;
            }
            self.enough_since = None;
        } else if after < before {
            let is_calm = self.lowered_at.is_none_or(|at| now.saturating_duration_since(at) >= CALM);
            if is_calm {
                self.failures = 0;
            }
            let was_right = self.risen_at.is_some_and(|at| now.saturating_duration_since(at) >= PROVEN);
            let lasted = |time| self.lowered_at.is_none_or(|at| now.saturating_duration_since(at) >= time);
            // Without the step up it would be lost as well.
            let has_changed = self.risen_at.is_some() && place < self.risen_from && lasted(CHANGED);
            if self.is_hurried && !was_right && !has_changed {
                self.misled_at = Some(now);
            }
            if was_right && lasted(RARE) {
                self.failures = 1;
            } else if has_changed && self.failures > 0 {
                // As many as before.
            } else if self.risen_at.is_some() || self.failures == 0 {
                self.failures = (self.failures + 1).min(3);
            }
            self.risen_at = None;
            if self.lowered_at.is_some_and(|at| now.saturating_duration_since(at) >= AT_ONCE) {
                self.lowered_before = self.lowered_at;
            }
            (self.lowered_at, self.failed_bps) = (Some(now), bps);
            self.enough_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// When a track goes up that loses its step again at once each time.
    #[test]
    fn every_failure_makes_it_wait_longer() {
        let start = Instant::now();
        let mut memory = Memory { place: Some(Place::default()), ..Memory::default() };
        memory.settle(Some(1), Some(0), Some(Place::default()), 1_000_000, start);
        let mut rises = Vec::new();
        for tenth in 0..1_200_u32 {
            let now = start + SECOND / 10 * tenth;
            if memory.may_rise(true, false, now) {
                rises.push(tenth / 10);
                memory.settle(Some(0), Some(1), Some(Place::default()), 1_000_000, now);
                memory.settle(Some(1), Some(0), Some(Place::default()), 1_000_000, now);
            }
        }
        assert_eq!(rises, [3, 18, 63, 108]);
    }

    #[test]
    fn several_steps_down_are_one_failure_and_calm_forgives() {
        let (start, place) = (Instant::now(), Some(Place::default()));
        let mut memory = Memory { place, ..Memory::default() };
        memory.settle(Some(3), Some(2), place, 1_000_000, start);
        memory.settle(Some(2), Some(0), place, 1_000_000, start + SECOND);
        memory.settle(Some(0), None, None, 1_000_000, start + SECOND * 2);
        assert_eq!(memory.hold_until(), Some(start + SECOND * 2 + PAUSE_HOLDS[0]));
        memory.settle(None, Some(1), place, 1_000_000, start + SECOND * 6);
        memory.settle(Some(1), Some(0), place, 1_000_000, start + SECOND * 90);
        assert_eq!(memory.hold_until(), Some(start + SECOND * 90 + HOLDS[0]));
    }

    #[test]
    fn a_step_that_was_right_for_a_while_is_no_failure_once_in_a_while() {
        let (start, place) = (Instant::now(), Some(Place::default()));
        let mut memory = Memory { place, ..Memory::default() };
        let mut holds = Vec::new();
        let mut now = start;
        for kept in [RARE, PROVEN, PROVEN, PROVEN] {
            memory.settle(Some(1), Some(0), place, 1_000_000, now);
            let until = memory.hold_until().unwrap_or(now);
            holds.push((until - now).as_secs());
            memory.settle(Some(0), Some(1), place, 1_000_000, until);
            now = until + kept;
        }
        assert_eq!(holds, [3, 3, 15, 45]);
    }

    #[test]
    fn where_there_is_plenty_it_goes_up_early_unless_that_was_wrong() {
        let (start, place) = (Instant::now(), Some(Place::default()));
        let mut memory = Memory { place, ..Memory::default() };
        memory.settle(Some(1), Some(0), place, 1_000_000, start);
        memory.settle(Some(0), Some(1), place, 1_000_000, start + SECOND * 3);
        memory.settle(Some(1), Some(0), place, 1_000_000, start + SECOND * 4);
        let early = start + SECOND * 4 + HOLDS[0];
        assert!(!memory.may_hurry(1_000_000, early - SECOND) && memory.may_hurry(1_000_000, early) && !memory.is_free(early));
        assert!(!memory.may_rise(true, true, early) && memory.may_rise(true, true, early + ENOUGH_FOR));
        memory.settle(Some(0), Some(1), place, 1_000_000, early + ENOUGH_FOR);
        memory.settle(Some(1), Some(0), place, 1_000_000, early + SECOND * 2);
        assert!(!memory.may_hurry(1_000_000, early + SECOND * 60) && memory.may_hurry(1_000_000, early + MISLED + SECOND * 2));
    }

    #[test]
    fn much_more_than_when_it_failed_is_reason_to_go_up_early() {
        let (start, place) = (Instant::now(), Some(Place::default()));
        let mut memory = Memory { place, ..Memory::default() };
        for (lowered, risen) in [(0, 8), (10, 26)] {
            memory.settle(Some(1), Some(0), place, 1_000_000, start + SECOND * lowered);
            memory.settle(Some(0), Some(1), place, 1_000_000, start + SECOND * risen);
        }
        memory.settle(Some(1), Some(0), place, 800_000, start + SECOND * 28);
        let early = start + SECOND * 28 + HOLDS[0];
        assert_eq!(memory.hurries_with(early), Some(1_200_000));
        assert!(!memory.may_hurry(1_100_000, early) && memory.may_hurry(1_200_000, early));
    }

    #[test]
    fn what_a_step_up_had_no_part_in_is_not_held_against_it() {
        let (start, place) = (Instant::now(), |rung| Some(Place { rung, temporal: 0 }));
        let mut holds = [0, 1].map(|lost_to| {
            let mut memory = Memory { place: place(2), ..Memory::default() };
            memory.settle(Some(2), Some(1), place(1), 1_000_000, start);
            memory.settle(Some(1), Some(2), place(2), 1_000_000, start + SECOND * 16);
            let later = start + SECOND * 18;
            memory.settle(Some(2), Some(lost_to), place(lost_to), 1_000_000, later);
            memory.hold_until().map_or(Duration::ZERO, |until| until - later)
        });
        holds.sort();
        assert_eq!(holds, [HOLDS[0], HOLDS[1]]);
    }

    #[test]
    fn who_never_had_anything_does_not_wait() {
        let now = Instant::now();
        let mut memory = Memory::default();
        memory.settle(None, None, None, 1_000_000, now);
        assert!(memory.may_rise(true, false, now + SECOND / 10));
        memory.settle(None, Some(0), Some(Place::default()), 1_000_000, now);
        assert!(memory.may_rise(true, false, now));
    }

    #[test]
    fn a_moment_of_enough_is_not_enough() {
        let now = Instant::now();
        let mut memory = Memory { place: Some(Place::default()), ..Memory::default() };
        memory.settle(Some(1), Some(0), Some(Place::default()), 1_000_000, now);
        let later = now + HOLDS[0] * 2;
        assert!(!memory.may_rise(true, false, later));
        assert!(!memory.may_rise(false, false, later + ENOUGH_FOR / 2));
        assert!(!memory.may_rise(true, false, later + ENOUGH_FOR));
        assert!(memory.may_rise(true, false, later + ENOUGH_FOR * 2));
    }
}
