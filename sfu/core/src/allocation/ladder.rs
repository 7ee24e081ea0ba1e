//! The steps in which a track can be had, from the least to what is wished, with what each costs.
//!
//! A step is a size and a frame rate: an encoding of simulcast or a spatial layer of SVC, up to a temporal layer. Costs are
//! measured ([`LayerRates`](crate::publish::rates::LayerRates)); of what does not flow they are assumed from what was seen,
//! announced or is usual. Invariant: every step costs more than the one below it; what would cost less than something worse
//! replaces that.

use arrayvec::ArrayVec;

use crate::limits::MAX_ENCODINGS;
use crate::rtp::payload::dependency_descriptor::{MAX_SPATIAL_LAYERS, MAX_TEMPORAL_LAYERS};

/// Most steps of a ladder. Of more, those are left out without which the rest is most even: the least and the last stay.
pub const MAX_STEPS: usize = MAX_ENCODINGS * MAX_SPATIAL_LAYERS + MAX_TEMPORAL_LAYERS;
/// A larger picture with fewer frames per second than this is not better than the smaller one with all its frames.
const FLUENT_FPS: u32 = 14;
/// Bits per second of a pixel of 30 fps video, where nothing better is known: 1.5 Mbit/s for 720p.
const USUAL_BPS_PER_PIXEL: f64 = 1.6;
/// What a picture of unknown size costs.
const UNKNOWN_SIZE_BPS: u64 = 300_000;

/// Place on the ladder of all sizes of a track.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    /// Size, counted over all encodings and their spatial layers, smallest first.
    pub rung: usize,
    /// Highest temporal layer; [`u8::MAX`]: all there are.
    pub temporal: u8,
}

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What it is.
    pub place: Place,
    /// Bits per second of datagrams.
    pub bps: u64,
}

/// The steps of a track, the least first.
pub type Steps = ArrayVec<Step, MAX_STEPS>;

/// A size as the ladder sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Size {
    /// Which.
    pub rung: usize,
    /// Frames per second and measured bits per second up to each temporal layer; None: not measured. One for a stream that does
    /// not name any.
    pub temporal: ArrayVec<(u32, Option<u64>), MAX_TEMPORAL_LAYERS>,
    /// What is assumed where nothing was measured.
    pub assumed_bps: u64,
}

/// What a picture of this size is likely to cost; 0: the size is not known.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a guess of a bitrate")]
pub fn usual_bps(width_px: u32, height_px: u32) -> u64 {
    match u64::from(width_px) * u64::from(height_px) {
        0 => UNKNOWN_SIZE_BPS,
        pixels => (pixels as f64 * USUAL_BPS_PER_PIXEL) as u64,
    }
}

/// The steps of a track whose sizes, smallest first, are those. Of a shared screen (`keeps_size`) any frame rate of a larger
/// size is better than a smaller one. `most_temporal`: the highest temporal layer that is wished.
#[must_use]
pub fn steps(sizes: &[Size], keeps_size: bool, most_temporal: u8) -> Steps {
    let mut all: Vec<Step> = Vec::with_capacity(MAX_STEPS);
    for (index, size) in sizes.iter().enumerate() {
        let wished = size.temporal.len().min(usize::from(most_temporal) + 1);
        for (temporal, &(fps, measured)) in size.temporal.iter().take(wished).enumerate() {
            let is_all = temporal + 1 == wished;
            let is_slow = fps < FLUENT_FPS && index > 0 && !keeps_size;
            if is_slow && !is_all {
                continue;
            }
            let name = if temporal + 1 == size.temporal.len() { u8::MAX } else { u8::try_from(temporal).unwrap_or(u8::MAX) };
            all.push(Step { place: Place { rung: size.rung, temporal: name }, bps: measured.unwrap_or(size.assumed_bps).max(1) });
        }
        if size.temporal.is_empty() {
            all.push(Step { place: Place { rung: size.rung, temporal: u8::MAX }, bps: size.assumed_bps.max(1) });
        }
    }
    let mut least = u64::MAX;
    let mut rising: Vec<Step> = Vec::with_capacity(all.len());
    for step in all.into_iter().rev() {
        if step.bps < least {
            least = step.bps;
            rising.push(step);
        }
    }
    rising.reverse();
    while rising.len() > MAX_STEPS {
        rising.remove(most_dispensable(&rising));
    }
    rising.into_iter().collect()
}

/// The step between whose neighbours the cost grows the least; neither the first nor the last one.
fn most_dispensable(steps: &[Step]) -> usize {
    let growth = |window: &[Step]| match window {
        [below, _, above] => u128::from(above.bps) * 1_000 / u128::from(below.bps.max(1)),
        _ => u128::MAX,
    };
    steps.windows(3).enumerate().min_by_key(|(_, window)| growth(window)).map_or(1, |(place, _)| place + 1)
}

/// Which step of a ladder is at a place or next below it; None if all are above. Of a size whose layers are not known yet, or not any more,
/// it is the least that there is of that size.
#[must_use]
pub fn at_or_below(steps: &Steps, place: Place) -> Option<usize> {
    let below = steps.iter().rposition(|step| step.place <= place);
    let is_size = |number: usize| steps[number].place.rung == place.rung;
    match below {
        Some(number) if is_size(number) => below,
        _ => steps.iter().position(|step| step.place.rung == place.rung).or(below),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three sizes with temporal layers of 8, 15 and 30 fps.
    fn sizes() -> [Size; 3] {
        [150, 500, 1_700].map(|kbps| kbps * 1_000).into_iter().enumerate().map(size).collect::<Vec<_>>().try_into().expect("three sizes")
    }

    fn size((rung, bps): (usize, u64)) -> Size {
        let temporal = [(8, Some(bps * 4 / 10)), (15, Some(bps * 6 / 10)), (30, Some(bps))].into_iter().collect();
        Size { rung, temporal, assumed_bps: 0 }
    }

    fn places(steps: &Steps) -> Vec<(usize, u8)> {
        steps.iter().map(|step| (step.place.rung, step.place.temporal)).collect()
    }

    #[test]
    fn the_frame_rate_of_a_camera_goes_before_its_size_and_the_size_of_a_screen_before_its_frame_rate() {
        const ALL: u8 = u8::MAX;
        assert_eq!(places(&steps(&sizes(), false, ALL)), [(0, 0), (0, 1), (0, ALL), (1, 1), (1, ALL), (2, 1), (2, ALL)]);
        let screen = steps(&sizes(), true, ALL);
        assert_eq!(places(&screen), [(0, 0), (0, 1), (0, ALL), (1, 0), (1, 1), (1, ALL), (2, 0), (2, 1), (2, ALL)]);
    }

    #[test]
    fn a_wished_frame_rate_is_the_end_of_each_size() {
        assert_eq!(places(&steps(&sizes(), false, 1)), [(0, 0), (0, 1), (1, 1), (2, 1)]);
        assert_eq!(places(&steps(&sizes(), false, 0)), [(0, 0), (1, 0), (2, 0)], "slow, but it is what is wished");
    }

    #[test]
    fn what_is_better_and_costs_less_replaces_what_is_worse() {
        let cheap = Size { rung: 1, temporal: [(30, Some(100_000))].into_iter().collect(), assumed_bps: 0 };
        let steps = steps(&[size((0, 150_000)), cheap], false, u8::MAX);
        assert_eq!(places(&steps), [(0, 0), (0, 1), (1, u8::MAX)]);
        assert!(steps.is_sorted_by(|a, b| a.bps < b.bps));
    }

    #[test]
    fn what_does_not_flow_costs_what_is_assumed() {
        let unknown = Size { rung: 0, temporal: ArrayVec::new(), assumed_bps: usual_bps(1280, 720) };
        assert_eq!(steps(&[unknown], false, u8::MAX)[0].bps, 1_474_560);
        assert_eq!(usual_bps(0, 720), UNKNOWN_SIZE_BPS);
    }

    #[test]
    fn of_many_layers_the_least_and_the_last_step_stay_and_none_is_far_from_the_next() {
        let size = |rung: usize| {
            let bps = 60_000 * 3_u64.pow(u32::try_from(rung).unwrap_or(0));
            let temporal =
                (1..=MAX_TEMPORAL_LAYERS as u64).map(|layer| (15 + u32::try_from(layer).unwrap_or(0), Some(bps * (8 + layer) / 16)));
            Size { rung, temporal: temporal.collect(), assumed_bps: 0 }
        };
        let steps = steps(&[0, 1, 2, 3].map(size), false, u8::MAX);
        assert_eq!(steps.len(), MAX_STEPS);
        let (least, last) = (steps[0].place, steps[MAX_STEPS - 1].place);
        assert_eq!((least, last), (Place { rung: 0, temporal: 0 }, Place { rung: 3, temporal: u8::MAX }));
        assert!(steps.windows(2).all(|pair| pair[0].bps < pair[1].bps && pair[1].bps <= pair[0].bps * 2), "{steps:?}");
    }

    #[test]
    fn a_place_is_found_again_in_another_ladder() {
        let steps = steps(&sizes(), false, u8::MAX);
        assert_eq!(at_or_below(&steps, Place { rung: 2, temporal: 0 }), Some(5), "the least of its size");
        assert_eq!(at_or_below(&steps[..5].iter().copied().collect(), Place { rung: 2, temporal: 0 }), Some(4), "that is not there");
        assert_eq!(at_or_below(&steps, Place { rung: 0, temporal: u8::MAX }), Some(2));
        assert_eq!(at_or_below(&Steps::new(), Place::default()), None);
    }
}
