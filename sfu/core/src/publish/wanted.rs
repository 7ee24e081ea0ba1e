//! What subscribers want of a video track: per codec the highest layer, so that its publisher may leave out the rest.
//!
//! In: what is wanted now, looked at every 100 ms and whenever it may have grown. Out: what the publisher is to be told.
//! More is told at once, because somebody waits for it; less after a while, because wishes come back.

use std::time::{Duration, Instant};

use sfu_api::WantedCodec;

/// How long less has to be wanted before the publisher hears of it.
const SETTLE: Duration = Duration::from_millis(500);
/// How often a publisher that does not send what is wanted is told again. A client that has just published a track drops
/// what it hears of it before it has the answer to its own offer.
const REPEAT: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What the publisher was told; None: nothing yet, it sends everything.
    told: Option<Vec<WantedCodec>>,
    told_at: Option<Instant>,
    less_since: Option<Instant>,
}

impl Wanted {
    /// The largest size of a codec that the publisher was told to send, as [`UpTrack::review_sizes`](super::UpTrack::review_sizes)
    /// takes it.
    #[must_use]
    pub fn most_asked(&self, mime: &str) -> Option<usize> {
        match &self.told {
            None => Some(usize::MAX),
            Some(told) => told.iter().find(|codec| codec.mime == mime).and_then(|codec| codec.max_spatial).map(usize::from),
        }
    }

    /// What is wanted now, for every codec of the track in a steady order; returns what to tell. `is_awaited`: a codec is wanted
    /// that the publisher does not send.
    pub fn update(&mut self, current: Vec<WantedCodec>, is_awaited: bool, now: Instant) -> Option<Vec<WantedCodec>> {
        let told = self.told.as_deref().unwrap_or_default();
        if self.told.is_some() && *told == current[..] {
            self.less_since = None;
            let is_overdue = self.told_at.is_some_and(|at| now.saturating_duration_since(at) >= REPEAT);
            if !is_awaited || !is_overdue {
                return None;
            }
        }
        let before = |mime: &str| told.iter().find(|codec| codec.mime == mime).and_then(|codec| codec.max_spatial);
        let is_more = current.iter().any(|codec| codec.max_spatial > before(&codec.mime));
        let since = *self.less_since.get_or_insert(now);
        if !is_more && *told != current[..] && now.saturating_duration_since(since) < SETTLE {
            return None;
        }
        (self.less_since, self.told_at) = (None, Some(now));
        self.told = Some(current.clone());
        Some(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(vp9: Option<u8>, vp8: Option<u8>) -> Vec<WantedCodec> {
        let codec = |mime: &str, max_spatial| WantedCodec { mime: mime.to_owned(), max_spatial };
        vec![codec("video/VP9", vp9), codec("video/VP8", vp8)]
    }

    #[test]
    fn more_is_told_at_once_and_less_after_half_a_second() {
        let (start, mut wanted) = (Instant::now(), Wanted::default());
        let mut at = |ms, current| wanted.update(current, false, start + Duration::from_millis(ms));
        assert_eq!(at(0, wants(Some(1), None)), Some(wants(Some(1), None)));
        assert_eq!(at(100, wants(Some(1), None)), None);
        assert_eq!(at(200, wants(Some(2), None)), Some(wants(Some(2), None)));
        assert_eq!(at(300, wants(Some(0), None)), None);
        assert_eq!(at(700, wants(Some(2), None)), None, "it is wanted again");
        assert_eq!(at(800, wants(Some(0), None)), None);
        assert_eq!(at(1_299, wants(None, None)), None);
        assert_eq!(at(1_300, wants(None, None)), Some(wants(None, None)));
        assert_eq!(at(1_301, wants(None, Some(0))), Some(wants(None, Some(0))));
    }

    #[test]
    fn a_codec_that_is_left_for_another_is_told_together_with_it() {
        let (now, mut wanted) = (Instant::now(), Wanted::default());
        wanted.update(wants(Some(2), None), false, now);
        assert_eq!(wanted.update(wants(None, Some(2)), false, now), Some(wants(None, Some(2))));
    }

    #[test]
    fn a_track_that_nobody_wants_is_told_so_after_a_while_and_once() {
        let (now, mut wanted) = (Instant::now(), Wanted::default());
        assert_eq!(wanted.update(wants(None, None), false, now), None);
        assert_eq!(wanted.update(wants(None, None), false, now + SETTLE), Some(wants(None, None)));
        assert_eq!(wanted.update(wants(None, None), false, now + SETTLE * 60), None);
    }

    #[test]
    fn a_codec_that_does_not_come_is_asked_for_again() {
        let (now, mut wanted) = (Instant::now(), Wanted::default());
        let asked: Vec<u64> = (0..50_u64)
            .map(|tick| tick * 100)
            .filter(|&ms| wanted.update(wants(None, Some(2)), ms < 4_500, now + Duration::from_millis(ms)).is_some())
            .collect();
        assert_eq!(asked, [0, 2_000, 4_000]);
    }
}
