//! Merges and throttles keyframe requests of all subscribers to one encoding.

use std::time::{Duration, Instant};

/// Shortest time between two requests: an encoder that makes keyframes faster ruins the picture for everyone.
/// LiveKit throttles by 500 ms on its smallest layer; loopback and LAN calls profit from a bit less.
const MIN_INTERVAL: Duration = Duration::from_millis(300);

/// Asks for a keyframe until one arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyframeRequester {
    is_wanted: bool,
    /// Nobody has a use for it before.
    not_before: Option<Instant>,
    last_request: Option<Instant>,
    requests: u64,
}

impl KeyframeRequester {
    /// Somebody needs a keyframe.
    pub fn want(&mut self) {
        (self.is_wanted, self.not_before) = (true, None);
    }

    /// Somebody needs a keyframe, but not before `at`.
    pub fn want_from(&mut self, at: Instant) {
        self.not_before = if self.is_wanted { self.not_before.map(|known| known.min(at)) } else { Some(at) };
        self.is_wanted = true;
    }

    /// A keyframe has begun to arrive.
    pub fn satisfy(&mut self) {
        self.is_wanted = false;
    }

    /// True if a request should be sent now; counts it as sent. Repeats until [`Self::satisfy`].
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_early = self.not_before.is_some_and(|at| now < at);
        let is_due = self.next_timeout().is_some_and(|due| due <= now) || (self.is_wanted && self.last_request.is_none());
        if is_due && !is_early {
            self.not_before = None;
            self.last_request = Some(now);
            self.requests += 1;
        }
        is_due && !is_early
    }

    /// When the next request is due, if one is wanted and one was sent before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.last_request.filter(|_| self.is_wanted).map(|last| last + MIN_INTERVAL)
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// A keyframe is being waited for.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_become_one_request() {
        let now = Instant::now();
        let mut requester = KeyframeRequester::default();
        requester.want();
        assert!(requester.take_due(now));
        requester.want();
        assert!(!requester.take_due(now));
        assert!(!requester.take_due(now + MIN_INTERVAL / 2));
    }

    #[test]
    fn a_lost_request_is_repeated_until_the_keyframe_arrives() {
        let now = Instant::now();
        let mut requester = KeyframeRequester::default();
        requester.want();
        assert!(requester.take_due(now));
        assert!(requester.take_due(now + MIN_INTERVAL));
        requester.satisfy();
        assert!(!requester.take_due(now + MIN_INTERVAL * 2));
    }

    #[test]
    fn a_wish_for_later_waits_unless_somebody_else_has_one() {
        let now = Instant::now();
        let mut requester = KeyframeRequester::default();
        requester.want_from(now + MIN_INTERVAL / 4);
        assert!(!requester.take_due(now) && requester.is_wanted());
        assert!(requester.clone().take_due(now + MIN_INTERVAL / 4));
        requester.want();
        requester.want_from(now + MIN_INTERVAL / 4);
        assert!(requester.take_due(now));
    }

    #[test]
    fn a_wish_right_after_a_keyframe_waits_for_the_interval() {
        let now = Instant::now();
        let mut requester = KeyframeRequester::default();
        requester.want();
        assert!(requester.take_due(now));
        requester.satisfy();
        requester.want();
        assert!(!requester.take_due(now + MIN_INTERVAL / 2));
        assert!(requester.take_due(now + MIN_INTERVAL));
    }
}
