//! Measured bitrates of an encoding, by what a subscriber may choose of it.
//!
//! In: every stored packet with the decode targets that need it ([`FrameInfo::targets`](super::layers::FrameInfo)). Out: how
//! many bits per second one target takes, smoothed, as datagrams of a subscriber have them. Frames of one kind have one set
//! of targets, so a stream has a handful of these, and what a target costs is the sum over the sets that it is in: right for
//! dependent layers as well as for those that only keyframes tie together.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::rtp::header::FIXED_LEN;

/// Sets of targets that are told apart; frames of further ones count for the last. L3T3 has nine.
const MAX_SETS: usize = 12;
/// A measurement spans so much: a keyframe of four times the mean size raises it by a fifth.
pub const WINDOW: Duration = Duration::from_millis(500);
/// SRTP tag of the profile that is preferred (RFC 7714 section 13.2: 16 bytes).
const TAG_LEN: usize = 16;
/// What is slower has ended.
const LEAST_BPS: u64 = 500;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct LayerRates {
    sets: ArrayVec<Set, MAX_SETS>,
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Set {
    targets: u32,
    bytes: u64,
    rate_bps: Option<u64>,
}

impl LayerRates {
    /// A packet of a frame that these targets need, with so many bytes behind its fixed header.
    pub fn count(&mut self, targets: u32, bytes: usize, now: Instant) {
        self.since.get_or_insert(now);
        let bytes = (FIXED_LEN + bytes + TAG_LEN) as u64;
        let known = self.sets.iter_mut().find(|set| set.targets == targets);
        match known {
            Some(set) => set.bytes += bytes,
            None => {
                let set = Set { targets, bytes, rate_bps: None };
                if let Err(full) = self.sets.try_push(set)
                    && let Some(last) = self.sets.last_mut()
                {
                    last.bytes += full.element().bytes;
                }
            }
        }
    }

    /// Ends the measurement if it spans enough; to be called every 100 ms or so. A stream without packets keeps its rates:
    /// they are what it is likely to have when it comes back.
    pub fn review(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let span = now.saturating_duration_since(since);
        if span < WINDOW {
            return;
        }
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        for set in &mut self.sets {
            let seen_bps = std::mem::take(&mut set.bytes).saturating_mul(8_000) / span_ms;
            set.rate_bps = Some(match set.rate_bps {
                None => seen_bps,
                // More has to be believed sooner than less: too little of the link is better than too much.
                Some(known) if seen_bps > known => known.midpoint(seen_bps),
                Some(known) => (known * 3 + seen_bps) / 4,
            });
        }
        self.sets.retain(|set| set.rate_bps.is_some_and(|rate_bps| rate_bps >= LEAST_BPS));
        self.since = None;
    }

    /// Bits per second of what these targets need, with RTP header and SRTP tag; None: nothing was measured yet.
    #[must_use]
    pub fn of(&self, targets: u32) -> Option<u64> {
        let rates = self.sets.iter().filter(|set| set.targets & targets != 0).filter_map(|set| set.rate_bps);
        rates.reduce(u64::saturating_add)
    }

    /// Another stream begins.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u32 = 0b11;
    const TOP: u32 = 0b10;

    /// So many packets of a base and a top layer in each half second.
    fn feed(rates: &mut LayerRates, start: Instant, base: u64, top: u64) -> Instant {
        for number in 0..base.max(top) {
            let at = start + WINDOW * u32::try_from(number).unwrap_or(0) / 1_000;
            if number < base {
                rates.count(BASE, 1_000 - FIXED_LEN - TAG_LEN, at);
            }
            if number < top {
                rates.count(TOP, 1_000 - FIXED_LEN - TAG_LEN, at);
            }
        }
        rates.review(start + WINDOW);
        start + WINDOW
    }

    #[test]
    fn a_target_costs_what_the_frames_cost_that_it_needs() {
        let (now, mut rates) = (Instant::now(), LayerRates::default());
        assert_eq!(rates.of(1), None);
        feed(&mut rates, now, 10, 30);
        assert_eq!((rates.of(0b01), rates.of(0b10), rates.of(u32::MAX)), (Some(160_000), Some(640_000), Some(640_000)));
    }

    #[test]
    fn more_is_believed_sooner_than_less() {
        let (mut now, mut rates) = (Instant::now(), LayerRates::default());
        now = feed(&mut rates, now, 10, 0);
        now = feed(&mut rates, now, 20, 0);
        assert_eq!(rates.of(1), Some(240_000));
        feed(&mut rates, now, 10, 0);
        assert_eq!(rates.of(1), Some(220_000));
    }

    #[test]
    fn a_stream_that_stops_keeps_its_rate_and_a_layer_that_ends_loses_it() {
        let (mut now, mut rates) = (Instant::now(), LayerRates::default());
        now = feed(&mut rates, now, 10, 10);
        rates.review(now + WINDOW * 20);
        assert_eq!(rates.of(TOP), Some(320_000));
        for _ in 0..30 {
            now = feed(&mut rates, now, 10, 0);
        }
        assert_eq!(rates.of(TOP), Some(160_000));
    }

    #[test]
    fn the_sets_are_bounded() {
        let (now, mut rates) = (Instant::now(), LayerRates::default());
        for targets in 1..100 {
            rates.count(targets, 972, now);
        }
        rates.review(now + WINDOW);
        assert!(rates.sets.len() <= MAX_SETS);
        assert_eq!(rates.of(u32::MAX), Some(99 * 16_000));
    }
}
