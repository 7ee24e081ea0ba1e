//! Chooses which encoding of a simulcast track a subscriber should get: a pure function of wish and offer.

use sfu_api::VideoWish;

/// A layer counts as large enough if it reaches this share of the wished size: nobody sees 10 % of upscaling.
const TOLERANCE_PERCENT: u64 = 90;

/// One encoding as the selector sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offered {
    /// Picture size in pixels, 0 if unknown.
    pub width_px: u32,
    /// See `width_px`.
    pub height_px: u32,
    /// Packets have arrived lately.
    pub is_active: bool,
}

/// Index of the encoding to send (encodings are ordered smallest first); None: send nothing.
///
/// The smallest one that covers the wished size; if it is not flowing, the next smaller one that is, else the next
/// larger one. If nothing flows yet, the one that was wished, so that its keyframe can be asked for.
#[must_use]
pub fn select_encoding(wish: &VideoWish, offered: &[Offered]) -> Option<usize> {
    let wanted = wanted_encoding(wish, offered)?;
    let is_active = |&i: &usize| offered[i].is_active;
    (0..=wanted).rev().find(is_active).or_else(|| (wanted + 1..offered.len()).find(is_active)).or(Some(wanted))
}

/// Index of the encoding that should be sent if all flowed; None: none. It says what a publisher should send.
#[must_use]
pub fn wanted_encoding(wish: &VideoWish, offered: &[Offered]) -> Option<usize> {
    if !wish.enabled || offered.is_empty() {
        return None;
    }
    let top = (offered.len() - 1).min(usize::from(wish.max_spatial));
    Some(offered[..top].iter().position(|o| covers(o, wish)).unwrap_or(top))
}

/// Sizes are compared long side with long side, so that a rotated phone gets the same layer.
fn covers(offered: &Offered, wish: &VideoWish) -> bool {
    if wish.width_px == 0 || wish.height_px == 0 {
        return false;
    }
    let reaches = |have: u32, want: u32| u64::from(have) * 100 >= u64::from(want) * TOLERANCE_PERCENT;
    reaches(offered.width_px.max(offered.height_px), wish.width_px.max(wish.height_px))
        && reaches(offered.width_px.min(offered.height_px), wish.width_px.min(wish.height_px))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(active: [bool; 3]) -> [Offered; 3] {
        let size = |width_px, height_px, is_active| Offered { width_px, height_px, is_active };
        [size(320, 180, active[0]), size(640, 360, active[1]), size(1280, 720, active[2])]
    }

    fn wish(width_px: u32, height_px: u32) -> VideoWish {
        VideoWish { width_px, height_px, ..VideoWish::default() }
    }

    #[test]
    fn the_smallest_layer_that_covers_the_wish_is_chosen() {
        let all = layers([true; 3]);
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
            assert_eq!(select_encoding(&wish(width, height), &all), Some(expected), "{width}x{height}");
        }
    }

    #[test]
    fn a_portrait_tile_gets_the_layer_of_the_same_size() {
        assert_eq!(select_encoding(&wish(360, 640), &layers([true; 3])), Some(1));
    }

    #[test]
    fn no_size_means_no_limit_but_the_named_layer_does() {
        let all = layers([true; 3]);
        assert_eq!(select_encoding(&VideoWish::default(), &all), Some(2));
        assert_eq!(select_encoding(&VideoWish { max_spatial: 0, ..VideoWish::default() }, &all), Some(0));
        assert_eq!(select_encoding(&VideoWish { max_spatial: 1, ..wish(1280, 720) }, &all), Some(1));
    }

    #[test]
    fn a_layer_that_does_not_flow_is_replaced_by_the_next_smaller_then_larger_one() {
        assert_eq!(select_encoding(&wish(1280, 720), &layers([true, true, false])), Some(1));
        assert_eq!(select_encoding(&wish(1280, 720), &layers([true, false, false])), Some(0));
        assert_eq!(select_encoding(&wish(320, 180), &layers([false, true, true])), Some(1));
        assert_eq!(select_encoding(&wish(640, 360), &layers([false; 3])), Some(1));
    }

    #[test]
    fn a_paused_subscription_gets_nothing() {
        assert_eq!(select_encoding(&VideoWish { enabled: false, ..VideoWish::default() }, &layers([true; 3])), None);
    }
}
