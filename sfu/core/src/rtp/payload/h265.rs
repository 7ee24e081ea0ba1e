//! H.265 payload (RFC 7798): where a keyframe starts, and temporal layers.
//!
//! Without `sprop-max-don-diff` (browsers never send it) packets carry no decoding order numbers, which is assumed here.

use super::aggregation::aggregated_units;

/// NAL unit types (ITU-T H.265 table 7-1, RFC 7798 section 4.4).
const BLA_W_LP: u8 = 16;
const RSV_IRAP_VCL23: u8 = 23;
const VPS: u8 = 32;
const SPS: u8 = 33;
const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;

/// Bytes of a NAL unit header and of a payload header.
const HEADER_LEN: usize = 2;

/// What is readable of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct H265Payload {
    /// First packet of a frame that needs no other frame: its parameter sets, or the first slice of an IRAP picture from
    /// an encoder that sends parameter sets out of band. Picture parameter sets follow the others and start nothing.
    pub starts_keyframe: bool,
    /// `TID` - 1, 0-6.
    pub temporal: u8,
}

/// Reads the payload header and what follows it; None if it is cut short or its TID is the forbidden 0.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<H265Payload> {
    let (header, rest) = payload.split_first_chunk::<HEADER_LEN>()?;
    // RFC 7798 section 1.1.4: a TID of 0 is illegal, so that start codes can't occur in a header.
    let temporal = (header[1] & 0x07).checked_sub(1)?;
    let starts_keyframe = match unit_type(header[0]) {
        AGGREGATION => aggregated_units(rest).any(starts_keyframe_unit),
        FRAGMENTATION => {
            let (&fragment, slice) = rest.split_first()?;
            let is_start = fragment & 0x80 != 0;
            is_start && is_keyframe_type(fragment & 0x3f, slice.first())
        }
        kind => is_keyframe_type(kind, rest.first()),
    };
    Some(H265Payload { starts_keyframe, temporal })
}

/// Type in the first header byte: F (1 bit), type (6 bits), first bit of the layer id.
const fn unit_type(first: u8) -> u8 {
    (first >> 1) & 0x3f
}

fn starts_keyframe_unit(unit: &[u8]) -> bool {
    unit.first().is_some_and(|&first| is_keyframe_type(unit_type(first), unit.get(HEADER_LEN)))
}

/// `first_slice_segment_in_pic_flag` is the first bit of a slice segment header (H.265 section 7.3.6.1).
fn is_keyframe_type(kind: u8, slice_header: Option<&u8>) -> bool {
    match kind {
        VPS | SPS => true,
        BLA_W_LP..=RSV_IRAP_VCL23 => slice_header.is_some_and(|byte| byte & 0x80 != 0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const IDR_W_RADL: u8 = 19;
    const CRA: u8 = 21;
    const TRAIL_R: u8 = 1;
    const PPS: u8 = 34;

    fn header(kind: u8, temporal: u8) -> [u8; 2] {
        [kind << 1, temporal + 1]
    }

    fn packet(kind: u8, temporal: u8, rest: &[u8]) -> Vec<u8> {
        [&header(kind, temporal), rest].concat()
    }

    fn starts(payload: &[u8]) -> bool {
        parse(payload).unwrap().starts_keyframe
    }

    #[test]
    fn a_parameter_set_or_the_first_slice_of_an_irap_picture_starts_a_keyframe() {
        assert!(starts(&[0x40, 0x01, 0x0c, 0x01, 0xff, 0xff]), "VPS as encoders write it");
        assert!(starts(&[0x42, 0x01, 0x01, 0x01, 0x60]), "SPS");
        for kind in [16, IDR_W_RADL, 20, CRA, 23] {
            assert!(starts(&packet(kind, 0, &[0xaf])), "type {kind}");
            assert!(!starts(&packet(kind, 0, &[0x2f])), "later slice of type {kind}");
            assert!(!starts(&packet(kind, 0, &[])), "nothing of type {kind}");
        }
    }

    #[test]
    fn other_units_do_not() {
        for kind in [0, TRAIL_R, 9, 15, 24, 31, PPS, 35, 39, 50, 63] {
            assert!(!starts(&packet(kind, 0, &[0xaf])), "type {kind}");
        }
    }

    #[test]
    fn aggregated_parameter_sets_start_a_keyframe() {
        let sets = [&header(AGGREGATION, 0)[..], &[0, 3, 0x40, 1, 0x0c], &[0, 3, 0x42, 1, 1], &[0, 3, 0x44, 1, 0xc1]].concat();
        assert!(starts(&sets));
        let pps_then_idr = [&header(AGGREGATION, 0)[..], &[0, 3, 0x44, 1, 0xc1], &[0, 3, IDR_W_RADL << 1, 1, 0xaf]].concat();
        assert!(starts(&pps_then_idr));
        let size_beyond_the_packet = [&header(AGGREGATION, 0)[..], &[0xff, 0xff, 0x40, 1, 0x0c]].concat();
        assert!(!starts(&size_beyond_the_packet));
        let empty_units = [&header(AGGREGATION, 0)[..], &[0, 0, 0, 0, 0, 1, 0x02]].concat();
        assert!(!starts(&empty_units));
    }

    #[test]
    fn the_first_fragment_of_an_irap_picture_starts_a_keyframe() {
        assert!(starts(&packet(FRAGMENTATION, 0, &[0x80 | IDR_W_RADL, 0xaf])));
        assert!(!starts(&packet(FRAGMENTATION, 0, &[IDR_W_RADL, 0xaf])), "middle");
        assert!(!starts(&packet(FRAGMENTATION, 0, &[0x40 | IDR_W_RADL, 0xaf])), "end");
        assert!(!starts(&packet(FRAGMENTATION, 0, &[0x80 | IDR_W_RADL, 0x2f])), "second slice");
        assert!(!starts(&packet(FRAGMENTATION, 0, &[0x80 | TRAIL_R, 0xaf])), "inter");
        assert_eq!(parse(&header(FRAGMENTATION, 0)), None, "no fragment header");
    }

    #[test]
    fn the_temporal_layer_is_one_below_the_field() {
        for temporal in 0..7 {
            assert_eq!(parse(&packet(TRAIL_R, temporal, &[0xaf])).unwrap().temporal, temporal);
        }
        assert_eq!(parse(&[0x02, 0x00, 0xaf]), None, "TID 0 is forbidden");
    }

    #[test]
    fn fewer_than_two_bytes_are_nothing() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0x40]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&payload);
        }
    }
}
