//! Extends 16-bit sequence numbers so that they never wrap.

/// Half of the 16-bit space: a jump of less is forward, of more is backward.
const HALF: u16 = 0x8000;

/// The extended number with the low bits `wire` that is nearest to `reference`; never below zero.
#[must_use]
pub fn nearest(wire: u16, reference: u64) -> u64 {
    let ahead = wire.wrapping_sub(low16(reference));
    if ahead < HALF { reference + u64::from(ahead) } else { reference.saturating_sub(u64::from(ahead.wrapping_neg())) }
}

/// An extended number as it goes on the wire.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the number on the wire")]
pub fn low16(extended: u64) -> u16 {
    extended as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [u64; 6] = [0, 1, 32_767, 32_768, 65_534, 65_535];

    #[test]
    fn the_nearest_number_is_found_on_both_sides_of_every_edge() {
        for edge in EDGES {
            let reference = (3 << 16) + edge;
            for distance in [0, 1, 5, 1000, 32_767] {
                assert_eq!(nearest(low16(reference + distance), reference), reference + distance);
                assert_eq!(nearest(low16(reference - distance), reference), reference - distance);
            }
        }
    }

    #[test]
    fn there_is_nothing_below_zero() {
        assert_eq!(nearest(65_535, 0), 0);
    }
}
