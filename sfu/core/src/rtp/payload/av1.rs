//! AV1 payload (AV1 RTP specification sections 4.4 and 4.5): keyframe starts, and what the first units say.
//!
//! Only the aggregation header is clear when frames are encrypted end to end; the layer and the picture size come from OBUs
//! and are absent then. Layers of scalable streams are in the dependency descriptor ([`super::dependency_descriptor`]).

use super::bits::BitReader;

/// OBU types (AV1 section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;

/// What is readable of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Av1Payload {
    /// N: first packet of a coded video sequence, which starts with a key frame.
    pub starts_keyframe: bool,
    /// Z: the first element continues one of the packet before.
    pub continues_unit: bool,
    /// Y: the last element goes on in the next packet.
    pub is_continued: bool,
    /// Temporal and spatial id of the first OBU that has an extension header.
    pub layer: Option<Av1Layer>,
    /// Largest frame width and height in pixels of the sequence header, if the packet begins with one.
    pub max_frame_size: Option<(u32, u32)>,
}

/// Layer in an OBU extension header (AV1 section 5.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Av1Layer {
    /// `temporal_id`, 0-7.
    pub temporal: u8,
    /// `spatial_id`, 0-3.
    pub spatial: u8,
}

/// Reads the aggregation header and the OBU headers; None if there is no element, or N contradicts Z.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<Av1Payload> {
    let (&aggregation, rest) = payload.split_first()?;
    let has = |bit: u8| aggregation & bit != 0;
    let (continues_unit, is_continued, starts_keyframe) = (has(0x80), has(0x40), has(0x08));
    // Section 4.4: if N equals 1 then Z must equal 0.
    if rest.is_empty() || (starts_keyframe && continues_unit) {
        return None;
    }
    let mut info = Av1Payload { starts_keyframe, continues_unit, is_continued, ..Av1Payload::default() };
    let count = (aggregation >> 4) & 0x03;
    for (index, element) in elements(rest, count).enumerate() {
        if index == 0 && continues_unit {
            continue;
        }
        let Some(unit) = Unit::parse(element) else { break };
        if index == 0 && unit.kind == SEQUENCE_HEADER {
            info.max_frame_size = max_frame_size(unit.body);
        }
        if unit.layer.is_some() {
            info.layer = unit.layer;
            break;
        }
    }
    Some(info)
}

/// Elements of a packet: each behind its size, except the last of `count` ones; `count` 0 means that all have a size.
/// Ends at an element that reaches beyond the packet.
fn elements(mut rest: &[u8], count: u8) -> impl Iterator<Item = &[u8]> {
    let mut index = 0;
    std::iter::from_fn(move || {
        index += 1;
        if rest.is_empty() || (count > 0 && index > u32::from(count)) {
            return None;
        }
        if index == u32::from(count) {
            return Some(std::mem::take(&mut rest));
        }
        let (size, tail) = leb128(rest)?;
        let (element, tail) = tail.split_at_checked(size)?;
        rest = tail;
        Some(element)
    })
}

/// Little-endian base 128 (AV1 section 4.10.5): at most eight bytes, at most 32 bits.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value: u64 = 0;
    for (index, &byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((usize::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}

struct Unit<'a> {
    kind: u8,
    layer: Option<Av1Layer>,
    body: &'a [u8],
}

impl<'a> Unit<'a> {
    /// OBU header (AV1 section 5.3): forbidden bit, type (4 bits), extension flag, size flag, reserved bit.
    fn parse(element: &'a [u8]) -> Option<Self> {
        let (&header, mut body) = element.split_first()?;
        if header & 0x80 != 0 {
            return None;
        }
        let mut layer = None;
        if header & 0x04 != 0 {
            let (&extension, rest) = body.split_first()?;
            layer = Some(Av1Layer { temporal: extension >> 5, spatial: (extension >> 3) & 0x03 });
            body = rest;
        }
        if header & 0x02 != 0 {
            (_, body) = leb128(body)?;
        }
        Some(Self { kind: (header >> 3) & 0x0f, layer, body })
    }
}

/// `max_frame_width_minus_1` and `max_frame_height_minus_1`, plus one, of a sequence header OBU (AV1 section 5.5).
fn max_frame_size(sequence_header: &[u8]) -> Option<(u32, u32)> {
    let mut bits = BitReader::new(sequence_header);
    bits.skip(3)?; // seq_profile
    let is_still_picture = bits.flag()?;
    let is_reduced = bits.flag()?;
    if is_reduced {
        // Section 6.4.1: a reduced header belongs to a still picture.
        if !is_still_picture {
            return None;
        }
        bits.skip(5)?; // seq_level_idx[0]
    } else {
        skip_operating_points(&mut bits)?;
    }
    let width_bits = usize::from(bits.small(4)?) + 1;
    let height_bits = usize::from(bits.small(4)?) + 1;
    Some((bits.read(width_bits)? + 1, bits.read(height_bits)? + 1))
}

/// From `timing_info_present_flag` to the last operating point.
fn skip_operating_points(bits: &mut BitReader<'_>) -> Option<()> {
    let has_timing_info = bits.flag()?;
    let mut decoder_delay_bits = None;
    if has_timing_info {
        bits.skip(64)?; // num_units_in_display_tick, time_scale
        let has_equal_picture_interval = bits.flag()?;
        if has_equal_picture_interval {
            skip_uvlc(bits)?;
        }
        let has_decoder_model = bits.flag()?;
        if has_decoder_model {
            decoder_delay_bits = Some(usize::from(bits.small(5)?) + 1);
            bits.skip(32 + 5 + 5)?; // num_units_in_decoding_tick, two lengths
        }
    }
    let has_initial_display_delay = bits.flag()?;
    let operating_points = bits.small(5)? + 1;
    for _ in 0..operating_points {
        bits.skip(12)?; // operating_point_idc
        let level = bits.small(5)?;
        // Section 5.5.1: levels above 3.3 have a tier.
        if level > 7 {
            bits.skip(1)?;
        }
        if let Some(delay_bits) = decoder_delay_bits {
            let has_parameters = bits.flag()?;
            if has_parameters {
                bits.skip(2 * delay_bits + 1)?;
            }
        }
        if has_initial_display_delay {
            let is_present = bits.flag()?;
            if is_present {
                bits.skip(4)?;
            }
        }
    }
    Some(())
}

/// Variable length number (AV1 section 4.10.3): leading zeros, a one, as many bits.
fn skip_uvlc(bits: &mut BitReader<'_>) -> Option<()> {
    let mut leading_zeros = 0;
    while !bits.flag()? {
        leading_zeros += 1;
    }
    // 32 or more zeros stand for the largest value, without further bits.
    if leading_zeros < 32 { bits.skip(leading_zeros) } else { Some(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::rtp::payload::bits::BitWriter;

    /// Sequence header of 640x360 without timing information and with one operating point of profile 0:
    /// level 8 (4.0), tier 0, 10 and 9 bits for the size.
    fn sequence_header(width: u32, height: u32) -> Vec<u8> {
        let mut out = [0; 16];
        let mut bits = BitWriter::new(&mut out);
        bits.write(3 + 1 + 1 + 1 + 1 + 5, 0);
        bits.write(12, 0);
        bits.write(5, 8);
        bits.write(1, 0);
        bits.write(4, 9);
        bits.write(4, 8);
        bits.write(10, width - 1);
        bits.write(9, height - 1);
        bits.write(16, 0x1234);
        let len = bits.finish().unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn the_first_packet_of_a_sequence_starts_a_keyframe_and_tells_its_size() {
        let header = sequence_header(640, 360);
        // N, W=2: sequence header without size field behind its length, then a frame OBU with extension T0 S1.
        let size = u8::try_from(header.len() + 1).unwrap();
        let payload = [&[0x28, size, 0x08][..], &header, &[0x34, 0x08, 0xaa, 0xbb]].concat();
        let info = parse(&payload).unwrap();
        assert!(info.starts_keyframe && !info.continues_unit && !info.is_continued);
        assert_eq!(info.max_frame_size, Some((640, 360)));
        assert_eq!(info.layer, Some(Av1Layer { temporal: 0, spatial: 1 }));
    }

    #[test]
    fn a_sequence_header_of_libaom_is_understood() {
        // OBU with a size field, 640x360, written by libaom in real-time mode.
        let payload = [0x18, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x0c, 0xc4, 0xff, 0x67, 0x36, 0xbe, 0x40, 0x10];
        assert_eq!(parse(&payload).unwrap().max_frame_size, Some((640, 360)));
    }

    #[test]
    fn other_packets_start_nothing() {
        assert!(!parse(&[0x10, 0x30, 0xaa]).unwrap().starts_keyframe, "inter frame");
        let continued = parse(&[0xd0, 0x0a, 0xaa]).unwrap();
        assert!(continued.continues_unit && continued.is_continued);
        assert_eq!((continued.max_frame_size, continued.layer), (None, None), "a fragment has no header");
    }

    #[test]
    fn a_contradiction_or_an_empty_packet_is_refused() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0x18]), None);
        assert_eq!(parse(&[0x98, 0x0a, 0x00]), None, "N and Z");
    }

    #[test]
    fn encrypted_units_leave_the_aggregation_header_readable() {
        assert!(parse(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).unwrap().starts_keyframe);
        assert!(parse(&[0x18, 0xff]).unwrap().starts_keyframe, "forbidden bit set");
    }

    #[test]
    fn elements_are_split_by_their_sizes() {
        let split = |bytes: &'static [u8], count| elements(bytes, count).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(split(&[1, 7, 2, 8, 9], 0), [vec![7], vec![8, 9]]);
        assert_eq!(split(&[1, 7, 2, 8, 9], 2), [vec![7], vec![2, 8, 9]]);
        assert_eq!(split(&[0x81, 0x00, 7, 8], 2), [vec![7], vec![8]], "a size of two bytes");
        assert_eq!(split(&[5, 7], 0), Vec::<Vec<u8>>::new(), "beyond the packet");
        assert_eq!(split(&[0xff; 12], 0), Vec::<Vec<u8>>::new(), "a size without end");
    }

    #[test]
    fn the_size_is_found_behind_timing_and_operating_points() {
        let mut out = [0; 64];
        let mut bits = BitWriter::new(&mut out);
        bits.write(5, 0);
        bits.write(1, 1); // timing info
        bits.write(32, 1);
        bits.write(32, 30);
        bits.write(1, 1); // equal picture interval
        bits.write(5, 0b00110); // uvlc: two zeros, a one, two bits
        bits.write(1, 1); // decoder model
        bits.write(5, 9); // ten bits of delay
        bits.write(32, 7);
        bits.write(10, 0);
        bits.write(1, 1); // initial display delay
        bits.write(5, 1); // two operating points
        bits.write(12, 0x103);
        bits.write(5, 8);
        bits.write(1, 1);
        bits.write(1, 1);
        bits.write(21, 5);
        bits.write(1, 1);
        bits.write(4, 3);
        bits.write(12, 0x101);
        bits.write(5, 7);
        bits.write(2, 0);
        bits.write(8, 0xff); // 16 bits each
        bits.write(16, 65_535);
        bits.write(16, 0);
        let len = bits.finish().unwrap();
        assert_eq!(max_frame_size(&out[..len]), Some((65_536, 1)));
        for shorter in 0..len {
            assert_eq!(max_frame_size(&out[..shorter]), None, "{shorter} bytes");
        }
    }

    #[test]
    fn a_reduced_header_belongs_to_a_still_picture() {
        // profile 0, still and reduced; level; 1 bit each; size 2x1.
        let bytes = [0b0001_1000, 0b0000_0000, 0b0010_0000];
        assert_eq!(max_frame_size(&bytes), Some((2, 1)));
        assert_eq!(max_frame_size(&[0b0000_1000, 0, 0b0010_0000]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = parse(&payload);
            let _ = max_frame_size(&payload);
        }
    }
}
