//! H.264 payload (RFC 6184): where a keyframe starts.

use super::aggregation::aggregated_units;

/// NAL unit types (ITU-T H.264 table 7-1, RFC 6184 table 1).
const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// True for the packet with which a keyframe begins: its sequence parameter set, or the first slice of an IDR picture
/// from an encoder that sends parameter sets out of band. Encoders of the browsers put SPS and PPS before every IDR.
#[must_use]
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else { return false };
    match first & 0x1f {
        SPS => true,
        IDR_SLICE => is_first_slice(payload.get(1)),
        STAP_A => aggregated_units(&payload[1..]).any(|unit| matches!(unit.first().map(|b| b & 0x1f), Some(SPS | IDR_SLICE))),
        FU_A => payload.get(1).is_some_and(|&fu| fu & 0x80 != 0 && fu & 0x1f == IDR_SLICE) && is_first_slice(payload.get(2)),
        _ => false,
    }
}

/// `first_mb_in_slice` is an Exp-Golomb number: zero is coded as a single 1 bit (H.264 sections 7.3.3, 9.1).
fn is_first_slice(slice_header: Option<&u8>) -> bool {
    slice_header.is_some_and(|byte| byte & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parameter_set_or_an_idr_start_begins_a_keyframe() {
        assert!(starts_keyframe(&[0x67, 0x42, 0xe0, 0x1f]), "SPS");
        assert!(starts_keyframe(&[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce]), "STAP-A of SPS and PPS");
        assert!(starts_keyframe(&[0x65, 0x88]), "IDR slice");
        assert!(starts_keyframe(&[0x7c, 0x85, 0x88]), "first fragment of an IDR slice");
    }

    #[test]
    fn other_packets_do_not() {
        assert!(!starts_keyframe(&[0x68, 0xce]), "PPS");
        assert!(!starts_keyframe(&[0x41, 0x9a]), "inter slice");
        assert!(!starts_keyframe(&[0x7c, 0x05, 0x88]), "later fragment");
        assert!(!starts_keyframe(&[0x65, 0x08]), "second slice of an IDR picture");
        assert!(!starts_keyframe(&[]), "nothing");
    }

    #[test]
    fn a_packet_that_is_cut_short_starts_nothing_beyond_what_it_holds() {
        assert!(!starts_keyframe(&[0x78]), "aggregation of nothing");
        assert!(!starts_keyframe(&[0x78, 0, 2, 0x67]), "unit beyond the packet");
        assert!(!starts_keyframe(&[0x78, 0xff, 0xff, 0x67, 0x42]), "size beyond the packet");
        assert!(!starts_keyframe(&[0x78, 0, 0, 0, 0]), "empty units");
        assert!(starts_keyframe(&[0x78, 0, 1, 0x67, 0, 9, 0x68]), "a whole unit in front of one that is cut");
        assert!(!starts_keyframe(&[0x7c]), "no fragment header");
        assert!(!starts_keyframe(&[0x7c, 0x85]), "no slice header");
        assert!(!starts_keyframe(&[0x65]), "no slice header");
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = starts_keyframe(&payload);
        }
    }
}
