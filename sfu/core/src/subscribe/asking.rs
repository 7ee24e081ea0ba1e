//! How often one subscriber may ask a publisher for a keyframe: everybody pays for it with the picture's quality.
//!
//! In: requests (PLI, FIR). Out: whether one is passed on. Several at once are, as after a bad moment on a link; who goes on asking is
//! heard every [`INTERVAL`]. A request that was on its way while a keyframe was sent to its subscriber is answered by that.
//! What the server itself needs a keyframe for is not counted.

use std::time::{Duration, Instant};

/// Requests that may come at once.
const BURST: u32 = 4;
/// Between those that follow. With twice as long a picture behind a link that tears keyframes stands still for twice as long
/// (row 5.6 of the scorecard), and a keyframe a second costs the others a tenth of the bitrate.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asking {
    /// When all that was passed on will be forgotten: as late as [`INTERVAL`] for each of it.
    even_at: Option<Instant>,
}

impl Asking {
    /// True if this request is passed on. `keyframe_at`: when the newest keyframe was sent to the subscriber; `round_trip`: of its
    /// path, if known.
    pub fn may_ask(&mut self, keyframe_at: Option<Instant>, round_trip: Option<Duration>, now: Instant) -> bool {
        let is_answered = keyframe_at.zip(round_trip).is_some_and(|(at, round_trip)| now.saturating_duration_since(at) < round_trip);
        let even_at = self.even_at.map_or(now, |at| at.max(now));
        if is_answered || even_at > now + INTERVAL * (BURST - 1) {
            return false;
        }
        self.even_at = Some(even_at + INTERVAL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_few_requests_are_heard_at_once_and_further_ones_now_and_then() {
        let (start, mut asking) = (Instant::now(), Asking::default());
        let heard: Vec<u32> = (0..100).map(|number| number * 50).filter(|&ms| asking.may_ask(None, None, start + MS * ms)).collect();
        assert_eq!(heard, [0, 50, 100, 150, 1_000, 2_000, 3_000, 4_000]);
        let later = start + MS * 60_000;
        assert_eq!((0..10).filter(|&number| asking.may_ask(None, None, later + MS * number)).count(), 4);
    }

    #[test]
    fn a_request_from_before_a_keyframe_costs_nothing_and_is_not_passed_on() {
        let (start, mut asking) = (Instant::now(), Asking::default());
        let round_trip = Some(MS * 100);
        for ms in 0..100 {
            assert!(!asking.may_ask(Some(start), round_trip, start + MS * ms));
        }
        assert!((100..104).all(|ms| asking.may_ask(Some(start), round_trip, start + MS * ms)));
        assert!(Asking::default().may_ask(Some(start), None, start), "the way's length is not known");
    }
}
