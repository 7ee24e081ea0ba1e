//! Whether a wanted video subscription flows, as its subscriber is told.
//!
//! Causes to pause are reported here by whoever finds them: the review of publishers that ceased to send, and whatever
//! allocates bandwidth. Invariant: a subscriber is told of a change only, and a new subscription counts as flowing.

use std::time::{Duration, Instant};

/// A track of which nothing comes for so long has stopped. Longer than the frame interval of a screen that stands still
/// (Chromium repeats its picture once a second).
pub const STALL: Duration = Duration::from_secs(4);

/// Why nothing flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PauseCause {
    /// The publisher sends nothing of the track.
    Stalled,
    /// The subscriber's bandwidth is needed elsewhere.
    Bandwidth,
}

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamState {
    is_stalled: bool,
    lacks_bandwidth: bool,
    told_paused: bool,
}

impl StreamState {
    /// A cause came or went.
    pub fn set(&mut self, cause: PauseCause, holds: bool) {
        match cause {
            PauseCause::Stalled => self.is_stalled = holds,
            PauseCause::Bandwidth => self.lacks_bandwidth = holds,
        }
    }

    /// This cause holds.
    #[must_use]
    pub fn holds(&self, cause: PauseCause) -> bool {
        match cause {
            PauseCause::Stalled => self.is_stalled,
            PauseCause::Bandwidth => self.lacks_bandwidth,
        }
    }

    /// What the subscriber has to be told, if anything: true for paused.
    pub fn take_change(&mut self) -> Option<bool> {
        let is_paused = self.is_stalled || self.lacks_bandwidth;
        (std::mem::replace(&mut self.told_paused, is_paused) != is_paused).then_some(is_paused)
    }
}

/// Notices that a track has stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct StallDetector {
    quiet_since: Option<Instant>,
    has_stopped: bool,
}

impl StallDetector {
    /// A look at whether anything flows. What subscribers have to be told of: true while the track has stopped, false once
    /// when it flows again.
    pub fn look(&mut self, is_flowing: bool, now: Instant) -> Option<bool> {
        if is_flowing {
            self.quiet_since = None;
            return std::mem::take(&mut self.has_stopped).then_some(false);
        }
        let since = *self.quiet_since.get_or_insert(now);
        let is_stopped = now.saturating_duration_since(since) >= STALL;
        self.has_stopped |= is_stopped;
        is_stopped.then_some(true)
    }

    /// Nothing is expected to flow for now.
    pub fn rest(&mut self) {
        self.quiet_since = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;

    #[test]
    fn only_changes_are_told_and_one_cause_is_enough() {
        let mut state = StreamState::default();
        assert_eq!(state.take_change(), None, "a new subscription counts as flowing");
        state.set(PauseCause::Stalled, true);
        assert_eq!(state.take_change(), Some(true));
        state.set(PauseCause::Bandwidth, true);
        state.set(PauseCause::Stalled, false);
        assert_eq!(state.take_change(), None);
        state.set(PauseCause::Bandwidth, false);
        assert_eq!(state.take_change(), Some(false));
    }

    #[test]
    fn a_track_has_stopped_after_a_while_and_goes_on_at_once() {
        let (start, mut detector) = (Instant::now(), StallDetector::default());
        assert_eq!(detector.look(false, start), None);
        assert_eq!(detector.look(false, start + STALL / 2), None);
        assert_eq!(detector.look(false, start + STALL), Some(true));
        assert_eq!(detector.look(true, start + STALL), Some(false));
        assert_eq!(detector.look(true, start + STALL), None);
        assert_eq!(detector.look(false, start + STALL * 2), None);
    }
}
