//! Chooses what a subscriber should get of a video track: encoding, spatial and temporal layer. A pure function of the
//! wish and of what is offered.
//!
//! The sizes that can be had, smallest first, are rungs of one ladder: the encodings of simulcast, or the spatial layers of
//! one encoding, or both.

use arrayvec::ArrayVec;
use sfu_api::VideoWish;

use crate::allocation::ladder::Place;
use crate::rtp::payload::dependency_descriptor::{Layer, MAX_SPATIAL_LAYERS, MAX_TEMPORAL_LAYERS};

/// A layer counts as large enough if it reaches this share of the wished size: nobody sees 10 % of upscaling.
const TOLERANCE_PERCENT: u64 = 90;
/// A temporal layer counts as slow enough up to this share of the wished rate: 30 fps for a wish of 24 is nearer to it than
/// the 15 fps of the next lower layer.
const RATE_TOLERANCE_PERCENT: u64 = 125;

/// One size of an encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rung {
    /// Picture size in pixels, 0 if unknown.
    pub width_px: u32,
    /// See `width_px`.
    pub height_px: u32,
    /// Packets have arrived lately.
    pub is_active: bool,
}

/// One encoding as the selector sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offered {
    /// Its spatial layers, smallest first; one without SVC.
    pub rungs: ArrayVec<Rung, MAX_SPATIAL_LAYERS>,
    /// Frames per second up to each temporal layer; 0 where it is not known yet.
    pub frame_rates: [u32; MAX_TEMPORAL_LAYERS],
}

/// What a subscriber should get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Index of the encoding.
    pub encoding: usize,
    /// Layers within it, up to which; what the encoding does not have is no limit.
    pub layer: Layer,
    /// What decided.
    pub reason: Reason,
}

impl Target {
    /// Everything of an encoding without layers.
    #[must_use]
    pub const fn whole(encoding: usize) -> Self {
        Self { encoding, layer: Layer { spatial: 0, temporal: 0 }, reason: Reason::Wish }
    }
}

/// Why a target is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is what was wished.
    Wish,
    /// What was wished does not flow: this is next to it.
    NotFlowing,
    /// Bandwidth does not suffice for what was wished.
    Bandwidth,
}

/// How far bandwidth lets a subscription go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cap {
    /// It does not limit it.
    #[default]
    None,
    /// Up to a size, counted over all encodings and their layers, and of that up to a temporal layer. It is above what is wished
    /// where only larger sizes flow.
    UpTo(Place),
    /// Not at all.
    Paused,
}

/// What to send; None: nothing.
///
/// The smallest size that covers the wished one, or the one up to which bandwidth suffices; if it is not flowing, the next
/// smaller one that is, else the next larger one within the bandwidth. If nothing flows yet, the one that was wished, so that
/// its keyframe can be asked for.
#[must_use]
pub fn select(wish: &VideoWish, offered: &[Offered], cap: Cap) -> Option<Target> {
    let rungs = |encoding: &Offered| encoding.rungs.len();
    let count: usize = offered.iter().map(rungs).sum();
    let wished = wanted_rung(wish, offered)?;
    let (most, most_temporal) = match cap {
        Cap::None => (count, (count, u8::MAX)),
        Cap::UpTo(place) => ((place.rung + 1).min(count), (place.rung, place.temporal)),
        Cap::Paused => return None,
    };
    let wanted = wished.min(most.saturating_sub(1));
    let rung = |index: usize| offered.iter().flat_map(|encoding| &encoding.rungs).nth(index);
    let is_active = |&index: &usize| rung(index).is_some_and(|rung| rung.is_active);
    let chosen = (0..=wanted).rev().find(is_active).or_else(|| (wanted + 1..most).find(is_active)).unwrap_or(wanted);
    let mut spatial = chosen;
    let mut encoding = 0;
    while spatial >= rungs(&offered[encoding]) {
        spatial -= rungs(&offered[encoding]);
        encoding += 1;
    }
    let wished_temporal = temporal(wish, &offered[encoding].frame_rates);
    let capped_temporal = if chosen == most_temporal.0 { wished_temporal.min(most_temporal.1) } else { wished_temporal };
    let layer = Layer { spatial: u8::try_from(spatial).unwrap_or(u8::MAX), temporal: capped_temporal };
    let reason = match chosen {
        _ if capped_temporal < wished_temporal => Reason::Bandwidth,
        _ if chosen == wished => Reason::Wish,
        _ if chosen == wanted => Reason::Bandwidth,
        _ => Reason::NotFlowing,
    };
    Some(Target { encoding, layer, reason })
}

/// Which size should be sent if all flowed, counted over all encodings and their layers, smallest first; None: none. It says
/// what a publisher should send.
#[must_use]
pub fn wanted_rung(wish: &VideoWish, offered: &[Offered]) -> Option<usize> {
    let count: usize = offered.iter().map(|encoding| encoding.rungs.len()).sum();
    if !wish.enabled || count == 0 {
        return None;
    }
    let top = (count - 1).min(usize::from(wish.max_spatial));
    let mut rungs = offered.iter().flat_map(|encoding| &encoding.rungs).take(top);
    Some(rungs.position(|rung| covers(rung, wish)).unwrap_or(top))
}

/// The highest temporal layer that is not faster than wished.
#[must_use]
pub fn temporal(wish: &VideoWish, rates: &[u32; MAX_TEMPORAL_LAYERS]) -> u8 {
    let is_fine = |rate: u32| u64::from(rate) * 100 <= u64::from(wish.max_fps) * RATE_TOLERANCE_PERCENT;
    let highest = (0..).zip(rates).filter(|&(_, &rate)| wish.max_fps == 0 || is_fine(rate)).map(|(layer, _)| layer).last();
    highest.unwrap_or(0)
}

/// Sizes are compared long side with long side, so that a rotated phone gets the same layer.
fn covers(offered: &Rung, wish: &VideoWish) -> bool {
    if wish.width_px == 0 || wish.height_px == 0 {
        return false;
    }
    let reaches = |have: u32, want: u32| u64::from(have) * 100 >= u64::from(want) * TOLERANCE_PERCENT;
    reaches(offered.width_px.max(offered.height_px), wish.width_px.max(wish.height_px))
        && reaches(offered.width_px.min(offered.height_px), wish.width_px.min(wish.height_px))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const RATES: [u32; MAX_TEMPORAL_LAYERS] = [8, 15, 30, 30, 30, 30, 30, 30];

    fn rungs(active: [bool; 3]) -> [Rung; 3] {
        let size = |width_px, height_px, is_active| Rung { width_px, height_px, is_active };
        [size(320, 180, active[0]), size(640, 360, active[1]), size(1280, 720, active[2])]
    }

    fn simulcast(active: [bool; 3]) -> Vec<Offered> {
        rungs(active).map(|rung| Offered { rungs: ArrayVec::from_iter([rung]), frame_rates: RATES }).to_vec()
    }

    fn svc(active: [bool; 3]) -> Vec<Offered> {
        vec![Offered { rungs: rungs(active).into_iter().collect(), frame_rates: RATES }]
    }

    fn wish(width_px: u32, height_px: u32) -> VideoWish {
        VideoWish { width_px, height_px, ..VideoWish::default() }
    }

    /// The rung that is chosen, the same for simulcast and SVC.
    fn rung(wish: &VideoWish, active: [bool; 3]) -> Option<usize> {
        let (by_encoding, by_layer) = (select(wish, &simulcast(active), Cap::None), select(wish, &svc(active), Cap::None));
        assert_eq!(by_encoding.map(|t| t.encoding), by_layer.map(|t| t.layer.spatial.into()));
        assert!(by_encoding.is_none_or(|t| t.layer.spatial == 0) && by_layer.is_none_or(|t| t.encoding == 0));
        by_encoding.map(|target| target.encoding)
    }

    #[test]
    fn the_smallest_layer_that_covers_the_wish_is_chosen() {
        let cases = [
            ((320, 180), 0),
            ((100, 100), 0),
            ((350, 200), 0),
            ((360, 203), 1),
            ((640, 360), 1),
            ((700, 394), 1),
            ((1280, 720), 2),
            ((3840, 2160), 2),
        ];
        for ((width, height), expected) in cases {
            assert_eq!(rung(&wish(width, height), [true; 3]), Some(expected), "{width}x{height}");
        }
    }

    #[test]
    fn a_portrait_tile_gets_the_layer_of_the_same_size() {
        assert_eq!(rung(&wish(360, 640), [true; 3]), Some(1));
    }

    #[test]
    fn no_size_means_no_limit_but_the_named_layer_does() {
        let all = [true; 3];
        assert_eq!(rung(&VideoWish::default(), all), Some(2));
        assert_eq!(rung(&VideoWish { max_spatial: 0, ..VideoWish::default() }, all), Some(0));
        assert_eq!(rung(&VideoWish { max_spatial: 1, ..wish(1280, 720) }, all), Some(1));
    }

    #[test]
    fn a_layer_that_does_not_flow_is_replaced_by_the_next_smaller_then_larger_one() {
        assert_eq!(rung(&wish(1280, 720), [true, true, false]), Some(1));
        assert_eq!(rung(&wish(1280, 720), [true, false, false]), Some(0));
        assert_eq!(rung(&wish(320, 180), [false, true, true]), Some(1));
        assert_eq!(rung(&wish(640, 360), [false; 3]), Some(1));
        assert_eq!(select(&wish(1280, 720), &svc([true, true, false]), Cap::None).unwrap().reason, Reason::NotFlowing);
        assert_eq!(select(&wish(640, 360), &svc([true, true, false]), Cap::None).unwrap().reason, Reason::Wish);
    }

    #[test]
    fn a_paused_subscription_gets_nothing() {
        assert_eq!(rung(&VideoWish { enabled: false, ..VideoWish::default() }, [true; 3]), None);
    }

    #[test]
    fn bandwidth_caps_the_size_and_the_frame_rate_of_the_largest_size() {
        let (all, full) = ([true; 3], VideoWish::default());
        let up_to = |rung, temporal| Cap::UpTo(Place { rung, temporal });
        let chosen = |wish: &VideoWish, active, cap| {
            select(wish, &simulcast(active), cap).map(|target| (target.encoding, target.layer.temporal, target.reason))
        };
        assert_eq!(chosen(&full, all, up_to(1, 0)), Some((1, 0, Reason::Bandwidth)));
        assert_eq!(chosen(&full, all, up_to(1, u8::MAX)), Some((1, 7, Reason::Bandwidth)));
        assert_eq!(chosen(&full, all, up_to(2, 1)), Some((2, 1, Reason::Bandwidth)));
        assert_eq!(chosen(&full, all, up_to(2, u8::MAX)), Some((2, 7, Reason::Wish)));
        assert_eq!(chosen(&full, all, up_to(9, 0)), Some((2, 7, Reason::Wish)), "the ladder was longer a moment ago");
        assert_eq!(chosen(&full, [true, false, true], up_to(1, 0)), Some((0, 7, Reason::NotFlowing)));
        assert_eq!(chosen(&wish(320, 180), all, up_to(1, 0)), Some((0, 7, Reason::Wish)));
        assert_eq!(chosen(&full, all, Cap::Paused), None);
    }

    #[test]
    fn a_larger_size_that_alone_flows_is_taken_only_within_the_bandwidth() {
        let (alone, small) = ([false, false, true], wish(320, 180));
        let cap = |rung| Cap::UpTo(Place { rung, temporal: u8::MAX });
        assert_eq!(select(&small, &simulcast(alone), cap(2)).unwrap().encoding, 2);
        assert_eq!(select(&small, &simulcast(alone), cap(1)).unwrap().encoding, 0);
    }

    #[test]
    fn the_highest_temporal_layer_within_the_wished_rate_is_chosen() {
        for (max_fps, layer) in [(0, 7), (60, 7), (30, 7), (24, 7), (20, 1), (15, 1), (10, 0), (5, 0), (1, 0)] {
            let wish = VideoWish { max_fps, ..VideoWish::default() };
            assert_eq!(select(&wish, &svc([true; 3]), Cap::None).unwrap().layer.temporal, layer, "{max_fps} fps");
        }
    }
}
