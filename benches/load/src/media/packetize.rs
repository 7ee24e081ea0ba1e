//! Frames as RTP payloads, shaped as browsers shape them, and back: RFC 7741 (VP8), RFC 6184 mode 1 (H.264), RFC 7587 (Opus).
//!
//! A frame is cut into packets of about the same size, the last ones a byte wider (libwebrtc, `rtp_format.cc`). In every packet that
//! carries picture data the codec's headers are followed by a body of at least [`stamp::LEN`] bytes. Pictures there are none.

use sfu_core::media::Codec;

use super::stamp;

/// Largest payload: what libwebrtc leaves of its 1,200 bytes behind the header and its extensions.
pub const MAX_PAYLOAD: usize = 1_170;

/// What a packet's payload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parsed<'a> {
    /// The stamped body; `None` for parameter sets.
    pub body: Option<&'a [u8]>,
    /// It begins a keyframe.
    pub starts_keyframe: bool,
}

/// One payload of a frame, for its sender to stamp.
#[derive(Debug)]
pub struct Payload<'a> {
    /// The payload.
    pub bytes: &'a mut Vec<u8>,
    /// Where the body starts; `None` for parameter sets.
    pub body_at: Option<usize>,
    /// Last packet of the frame.
    pub is_last: bool,
}

/// A frame to cut up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Needs no other frame.
    pub is_keyframe: bool,
    /// Counts the frames of the encoding; becomes the picture id.
    pub number: u32,
    /// Counts keyframes.
    pub key_index: u8,
    /// Size of the picture.
    pub size_px: (u16, u16),
}

/// Cuts a frame into so many payloads. `total` counts the bytes of all bodies; each is at least [`stamp::LEN`].
pub fn cut(codec: Codec, frame: Frame, total: usize, packets: usize, scratch: &mut Vec<u8>, mut emit: impl FnMut(Payload<'_>)) {
    let packets = packets.max(1);
    let total = total.max(packets * stamp::LEN);
    if codec == Codec::H264 && frame.is_keyframe {
        scratch.clear();
        scratch.push(NAL_REF_IDC | STAP_A);
        for unit in [SPS.as_slice(), PPS.as_slice()] {
            scratch.extend([0, u8::try_from(unit.len()).unwrap_or(0)]);
            scratch.extend_from_slice(unit);
        }
        emit(Payload { bytes: scratch, body_at: None, is_last: false });
    }
    let (base, wider) = (total / packets, total % packets);
    for index in 0..packets {
        let (is_first, is_last) = (index == 0, index + 1 == packets);
        scratch.clear();
        match codec {
            Codec::Vp8 => vp8_headers(frame, is_first, scratch),
            Codec::H264 => h264_headers(frame, is_first, is_last, packets, scratch),
            _ => {}
        }
        let body_at = scratch.len();
        scratch.resize(body_at + base + usize::from(index >= packets - wider), FILLING);
        emit(Payload { bytes: scratch, body_at: Some(body_at), is_last });
    }
}

/// Packets that a frame of so many bytes takes.
#[must_use]
pub fn packets_of(frame_bytes: usize) -> usize {
    frame_bytes.div_ceil(MAX_PAYLOAD - MAX_HEADERS).max(1)
}

/// Takes a payload apart; `None` if it is not one of [`cut`].
#[must_use]
pub fn parse(codec: Codec, payload: &[u8]) -> Option<Parsed<'_>> {
    match codec {
        Codec::Vp8 => parse_vp8(payload),
        Codec::H264 => parse_h264(payload),
        _ => Some(Parsed { body: Some(payload), starts_keyframe: false }),
    }
}

/// Every byte of a body behind the stamp.
const FILLING: u8 = 0x5a;
/// The longest headers in front of a body: VP8 descriptor and keyframe header.
const MAX_HEADERS: usize = 16;

fn vp8_headers(frame: Frame, is_first: bool, out: &mut Vec<u8>) {
    let [.., a, b] = (frame.number & 0x7fff | 0x8000).to_be_bytes();
    let [.., tl0_index] = frame.number.to_be_bytes();
    // X and, in the first packet of a frame, S; then I, L, T, K: 15-bit picture id, TL0PICIDX, TID 0 with KEYIDX.
    out.extend([0x80 | u8::from(is_first) << 4, 0xf0, a, b, tl0_index, frame.key_index & 0x1f]);
    if is_first {
        // RFC 6386 section 9.1: frame tag with show_frame, and of a keyframe the start code and the size.
        out.extend([0x10 | u8::from(!frame.is_keyframe), 0, 0]);
        if frame.is_keyframe {
            out.extend([0x9d, 0x01, 0x2a]);
            out.extend(frame.size_px.0.to_le_bytes());
            out.extend(frame.size_px.1.to_le_bytes());
        }
    }
}

fn parse_vp8(payload: &[u8]) -> Option<Parsed<'_>> {
    // Picture id, TL0PICIDX and TID may come in another form from a server that rewrites them.
    let parsed = sfu_sim::packetize::read_vp8(payload)?;
    if !parsed.starts_frame {
        return Some(Parsed { body: Some(parsed.data), starts_keyframe: false });
    }
    let starts_keyframe = parsed.data.first()? & 1 == 0;
    let header = if starts_keyframe { 10 } else { 3 };
    Some(Parsed { body: Some(parsed.data.get(header..)?), starts_keyframe })
}

const NAL_REF_IDC: u8 = 0x60;
const INTER_SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// `first_mb_in_slice` 0 and a slice type, as far as anybody looks.
const SLICE_HEADER: u8 = 0x88;
/// Baseline 3.1, 1280x720.
const SPS: [u8; 10] = [0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x68, 0x05, 0x00, 0x5b, 0xa1];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

fn h264_headers(frame: Frame, is_first: bool, is_last: bool, packets: usize, out: &mut Vec<u8>) {
    let unit_type = if frame.is_keyframe { IDR_SLICE } else { INTER_SLICE };
    if packets == 1 {
        out.push(NAL_REF_IDC | unit_type);
    } else {
        out.extend([NAL_REF_IDC | FU_A, u8::from(is_first) << 7 | u8::from(is_last) << 6 | unit_type]);
    }
    if is_first {
        out.push(SLICE_HEADER);
    }
}

fn parse_h264(payload: &[u8]) -> Option<Parsed<'_>> {
    let (&head, rest) = payload.split_first()?;
    let with_slice = |rest: &[u8]| rest.first() == Some(&SLICE_HEADER);
    match head & 0x1f {
        STAP_A => Some(Parsed { body: None, starts_keyframe: true }),
        FU_A => {
            let (&unit, rest) = rest.split_first()?;
            let is_first = unit & 0x80 != 0;
            (!is_first || with_slice(rest))
                .then(|| Parsed { body: rest.get(usize::from(is_first)..), starts_keyframe: is_first && unit & 0x1f == IDR_SLICE })
        }
        unit @ (INTER_SLICE | IDR_SLICE) if with_slice(rest) => Some(Parsed { body: rest.get(1..), starts_keyframe: unit == IDR_SLICE }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn packets(codec: Codec, is_keyframe: bool, total: usize, packets: usize) -> Vec<(Vec<u8>, Option<usize>, bool)> {
        let frame = Frame { is_keyframe, number: 70_000, key_index: 33, size_px: (1280, 720) };
        let (mut scratch, mut cut_up) = (Vec::new(), Vec::new());
        cut(codec, frame, total, packets, &mut scratch, |payload| {
            cut_up.push((payload.bytes.clone(), payload.body_at, payload.is_last));
        });
        cut_up
    }

    #[test]
    fn bodies_are_found_where_they_were_put() {
        for codec in [Codec::Opus, Codec::Vp8, Codec::H264] {
            for is_keyframe in [true, false] {
                for count in [1, 2, 8] {
                    for (bytes, body_at, _) in packets(codec, is_keyframe, 3_001, count) {
                        let parsed = parse(codec, &bytes).unwrap();
                        assert_eq!(parsed.body, body_at.map(|at| &bytes[at..]), "{codec:?} {is_keyframe} {count}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_first_picture_packet_and_the_parameter_sets_start_a_keyframe() {
        for codec in [Codec::Vp8, Codec::H264] {
            let starts = |is_keyframe| -> Vec<bool> {
                let cut_up = packets(codec, is_keyframe, 3_000, 3);
                cut_up.iter().map(|(bytes, ..)| parse(codec, bytes).unwrap().starts_keyframe).collect()
            };
            let with_sets = codec == Codec::H264;
            assert_eq!(starts(true), if with_sets { vec![true, true, false, false] } else { vec![true, false, false] });
            assert_eq!(starts(false), [false; 3]);
        }
    }

    #[test]
    fn the_engine_and_the_simulation_read_the_same() {
        use sfu_core::rtp::payload;
        for codec in [Codec::Vp8, Codec::H264] {
            for is_keyframe in [true, false] {
                let cut_up = packets(codec, is_keyframe, 3_000, 3);
                assert_eq!(payload::read(codec, &cut_up[0].0).0.starts_keyframe, is_keyframe, "{codec:?}");
            }
        }
        let vp8 = packets(Codec::Vp8, true, 3_000, 2);
        assert_eq!(sfu_sim::packetize::read_vp8(&vp8[0].0).unwrap().descriptor.unwrap().picture_id, 4_464, "15 bits of 70,000");
    }

    #[test]
    fn a_frame_is_cut_evenly_with_the_wider_packets_last() {
        let bodies: Vec<usize> = packets(Codec::Vp8, false, 3_002, 4).iter().map(|(bytes, at, _)| bytes.len() - at.unwrap()).collect();
        assert_eq!(bodies, [750, 750, 751, 751]);
        let last: Vec<bool> = packets(Codec::H264, true, 3_002, 2).iter().map(|(.., is_last)| *is_last).collect();
        assert_eq!(last, [false, false, true]);
    }

    #[test]
    fn no_payload_is_too_large_and_no_body_too_small_for_a_stamp() {
        for total in [0, 1, 100, 1_154, 1_155, 20_000] {
            for (bytes, at, _) in packets(Codec::Vp8, true, total, packets_of(total)) {
                assert!(bytes.len() <= MAX_PAYLOAD && bytes.len() - at.unwrap() >= stamp::LEN, "{total}");
            }
        }
    }
}
