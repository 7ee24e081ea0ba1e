//! The ladder of a published track: in which steps it can be had, with what each costs.
//!
//! What does not flow can be had too, if the publisher leaves it out only because nobody asked for it. What should come and does
//! not for [`GIVE_UP`] is the publisher's own limit: nothing is set aside for it, so that others get its share.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sfu_api::VideoWish;

use super::encoding::Encoding;
use super::{MAX_RUNGS, UpTrack};
use crate::allocation::ladder::{Size, Steps, steps, usual_bps};
use crate::limits::MAX_ENCODINGS;
use crate::rtp::payload::dependency_descriptor::{Layer, MAX_TEMPORAL_LAYERS};
use crate::subscribe::selector::{temporal, wanted_rung};

/// A keyframe request, an encoder that starts, and a way there and back.
const GIVE_UP: Duration = Duration::from_secs(3);

impl UpTrack {
    /// A look at which sizes come, every 100 ms. `most_asked`: the largest one that the publisher was told to send; None: none,
    /// [`usize::MAX`]: it was told nothing and sends everything.
    pub fn review_sizes(&mut self, most_asked: Option<usize>, now: Instant) {
        let offered = self.offered(now);
        let is_active: ArrayVec<bool, MAX_RUNGS> = offered.iter().flat_map(|encoding| &encoding.rungs).map(|rung| rung.is_active).collect();
        let count: usize = self.ladder(now).iter().map(|encoding| encoding.rungs.len()).sum();
        self.absent_since.truncate(count);
        while self.absent_since.len() < count.min(MAX_RUNGS) {
            self.absent_since.push(None);
        }
        for (rung, absent_since) in self.absent_since.iter_mut().enumerate() {
            let comes = is_active.get(rung).copied().unwrap_or(false);
            let is_expected = Some(rung) <= most_asked && !self.is_muted;
            *absent_since = if comes || !is_expected { None } else { absent_since.or(Some(now)) };
        }
        for encoding in &mut self.encodings {
            encoding.rates.review(now);
        }
    }

    /// The publisher should send this size and does not.
    #[must_use]
    pub fn is_missing(&self, rung: usize, now: Instant) -> bool {
        let since = self.absent_since.get(rung).copied().flatten();
        since.is_some_and(|since| now.saturating_duration_since(since) >= GIVE_UP)
    }

    /// What is wished, were everything there: the size, and of each encoding the highest temporal layer; None: nothing.
    #[must_use]
    pub fn wanted_place(&self, wish: &VideoWish, now: Instant) -> Option<(usize, ArrayVec<u8, MAX_ENCODINGS>)> {
        let rung = wanted_rung(wish, &self.ladder(now))?;
        Some((rung, self.encodings.iter().map(|encoding| temporal(wish, &encoding.layers.frame_rates())).collect()))
    }

    /// The steps up to what is wished.
    #[must_use]
    pub fn steps(&self, wish: &VideoWish, now: Instant) -> Steps {
        let ladder = self.ladder(now);
        let Some(wished) = wanted_rung(wish, &ladder) else { return Steps::new() };
        let mut most_temporal = 0;
        let mut sizes: ArrayVec<Size, MAX_RUNGS> = ArrayVec::new();
        let (mut only_larger, mut rung) = (None, 0);
        for (encoding, offered) in self.encodings.iter().zip(&ladder) {
            let rates = encoding.layers.frame_rates();
            most_temporal = most_temporal.max(temporal(wish, &rates));
            for (spatial, size) in offered.rungs.iter().enumerate() {
                let flows = encoding.is_flowing(now) && size.is_active;
                if rung <= wished && !self.is_missing(rung, now) {
                    sizes.push(encoding.size_at(rung, spatial, (size.width_px, size.height_px), flows));
                } else if rung > wished && flows && only_larger.is_none() {
                    only_larger = Some(encoding.size_at(rung, spatial, (size.width_px, size.height_px), flows));
                }
                rung += 1;
            }
        }
        if sizes.is_empty() {
            sizes.extend(only_larger);
        }
        steps(&sizes, self.is_screen, most_temporal)
    }
}

impl Encoding {
    /// One of its sizes as the ladder sees it.
    fn size_at(&self, rung: usize, spatial: usize, (width_px, height_px): (u32, u32), flows: bool) -> Size {
        let layer = |temporal| Layer { spatial: u8::try_from(spatial).unwrap_or(u8::MAX), temporal };
        let cost = |temporal| self.rates.of(if self.layers.is_layered() { self.layers.target_for(layer(temporal)).0 } else { u32::MAX });
        let announced = self.announced_bps.get(spatial).map(|&bps| u64::from(bps)).filter(|&bps| bps > 0);
        // Of a stream without layers everything is known, even if it has stopped.
        let seen = if self.layers.is_layered() && !flows { None } else { cost(u8::MAX) };
        let assumed_bps = seen.or(announced).unwrap_or_else(|| usual_bps(width_px, height_px));
        let rates = self.layers.frame_rates();
        let mut temporal: ArrayVec<(u32, Option<u64>), MAX_TEMPORAL_LAYERS> = ArrayVec::new();
        // Of what has just begun its layers are not known yet: it is had as a whole.
        if flows && !(self.layers.is_layered() && rates[0] == 0) {
            let layers = (0..MAX_TEMPORAL_LAYERS).rev().find(|&t| t > 0 && rates[t] > rates[t - 1]).map_or(1, |highest| highest + 1);
            let is_layered = self.layers.is_layered();
            temporal.extend((0..if is_layered { layers } else { 1 }).map(|t| (rates[t], cost(u8::try_from(t).unwrap_or(u8::MAX)))));
        }
        Size { rung, temporal, assumed_bps }
    }
}
