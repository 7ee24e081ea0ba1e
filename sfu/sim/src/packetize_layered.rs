//! RTP payloads of VP9 (RFC 9628), AV1 (AV1 RTP specification section 4) and H.265 (RFC 7798) around symbolic frames.
//!
//! Written independently of the engine's own payload parsers, so that a shared mistake can't hide. One payload carries a
//! part of one frame, and a frame is one layer of a picture.

/// What the VP9 descriptor of a frame's packets says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vp9Descriptor {
    /// 15 bits, always written long.
    pub picture_id: u16,
    /// `TL0PICIDX`.
    pub tl0_picture_index: u8,
    /// `TID`.
    pub temporal: u8,
    /// `SID`.
    pub spatial: u8,
    /// `P`.
    pub is_inter_predicted: bool,
    /// `D`.
    pub is_inter_layer_predicted: bool,
    /// `Z`.
    pub is_not_reference_above: bool,
}

/// A payload taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'a> {
    /// First packet of its frame.
    pub starts: bool,
    /// Last packet of its frame.
    pub ends: bool,
    /// VP9 only.
    pub vp9: Option<Vp9Descriptor>,
    /// Part of the symbolic frame.
    pub data: &'a [u8],
}

/// Payloads of a VP9 frame. `sizes` of all spatial layers go into the first packet of a keyframe.
#[must_use]
pub fn vp9(frame: &[u8], descriptor: Vp9Descriptor, sizes: &[(u16, u16)], max_payload: usize) -> Vec<Vec<u8>> {
    let chunks: Vec<&[u8]> = frame.chunks(max_payload.saturating_sub(5 + 1 + 4 * sizes.len()).max(1)).collect();
    let last = chunks.len().saturating_sub(1);
    let packet = |(index, data): (usize, &&[u8])| {
        let has_sizes = index == 0 && !sizes.is_empty();
        // I P L F B E V Z
        let first = 0x80
            | (u8::from(descriptor.is_inter_predicted) << 6)
            | 0x20
            | (u8::from(index == 0) << 3)
            | (u8::from(index == last) << 2)
            | (u8::from(has_sizes) << 1)
            | u8::from(descriptor.is_not_reference_above);
        let [id_high, id_low] = (descriptor.picture_id | 0x8000).to_be_bytes();
        // Every frame is a switching up point in the pattern of temporal layers.
        let layer = (descriptor.temporal << 5) | 0x10 | (descriptor.spatial << 1) | u8::from(descriptor.is_inter_layer_predicted);
        let mut payload = vec![first, id_high, id_low, layer, descriptor.tl0_picture_index];
        if has_sizes {
            payload.push((u8::try_from(sizes.len() - 1).expect("few layers") << 5) | 0x10);
            for (width, height) in sizes {
                payload.extend_from_slice(&width.to_be_bytes());
                payload.extend_from_slice(&height.to_be_bytes());
            }
        }
        payload.extend_from_slice(data);
        payload
    };
    chunks.iter().enumerate().map(packet).collect()
}

/// Takes a payload of [`vp9`] apart.
#[must_use]
pub fn read_vp9(payload: &[u8]) -> Option<Part<'_>> {
    let &[first, id_high, id_low, layer, tl0_picture_index, ref rest @ ..] = payload else { return None };
    if first & 0xb0 != 0xa0 || id_high & 0x80 == 0 {
        return None;
    }
    let mut data = rest;
    if first & 0x02 != 0 {
        let (&head, tail) = data.split_first()?;
        data = tail.get(4 * (usize::from(head >> 5) + 1)..)?;
    }
    let descriptor = Vp9Descriptor {
        picture_id: u16::from_be_bytes([id_high & 0x7f, id_low]),
        tl0_picture_index,
        temporal: layer >> 5,
        spatial: (layer >> 1) & 7,
        is_inter_predicted: first & 0x40 != 0,
        is_inter_layer_predicted: layer & 1 != 0,
        is_not_reference_above: first & 1 != 0,
    };
    Some(Part { starts: first & 8 != 0, ends: first & 4 != 0, vp9: Some(descriptor), data })
}

/// An OBU of type frame without size, as the only element of each packet.
const OBU_FRAME: u8 = 0x30;

/// Payloads of an AV1 frame; `starts_sequence` for the base layer of a keyframe.
#[must_use]
pub fn av1(frame: &[u8], starts_sequence: bool, max_payload: usize) -> Vec<Vec<u8>> {
    let body: Vec<u8> = [[OBU_FRAME].as_slice(), frame].concat();
    let chunks: Vec<&[u8]> = body.chunks(max_payload.saturating_sub(1).max(2)).collect();
    let last = chunks.len() - 1;
    let packet = |(index, data): (usize, &&[u8])| {
        // Z Y W W N
        let head = (u8::from(index > 0) << 7) | (u8::from(index < last) << 6) | 0x10 | (u8::from(starts_sequence && index == 0) << 3);
        [[head].as_slice(), data].concat()
    };
    chunks.iter().enumerate().map(packet).collect()
}

/// Takes a payload of [`av1`] apart.
#[must_use]
pub fn read_av1(payload: &[u8]) -> Option<Part<'_>> {
    let (&head, data) = payload.split_first()?;
    let (starts, ends) = (head & 0x80 == 0, head & 0x40 == 0);
    let data = if starts { data.strip_prefix(&[OBU_FRAME])? } else { data };
    (head & 0x30 == 0x10).then_some(Part { starts, ends, vp9: None, data })
}

const IDR_W_RADL: u8 = 19;
const TRAIL_R: u8 = 1;
const FRAGMENTATION: u8 = 49;
/// `first_slice_segment_in_pic_flag`, as far as the engine looks.
const SLICE_HEADER: u8 = 0x80;

/// Payloads of an H.265 picture of one slice, always as fragments. Parameter sets go out of band here.
#[must_use]
pub fn h265(frame: &[u8], is_keyframe: bool, max_payload: usize) -> Vec<Vec<u8>> {
    let kind = if is_keyframe { IDR_W_RADL } else { TRAIL_R };
    let body: Vec<u8> = [[SLICE_HEADER].as_slice(), frame].concat();
    let mut chunks: Vec<&[u8]> = body.chunks(max_payload.saturating_sub(3).max(2)).collect();
    // A fragment must not be the first and the last one (RFC 7798 section 4.4.3).
    if let [only] = chunks[..] {
        let (first, second) = only.split_at(only.len() / 2);
        chunks = vec![first, second];
    }
    let last = chunks.len() - 1;
    let packet = |(index, data): (usize, &&[u8])| {
        let fragment = (u8::from(index == 0) << 7) | (u8::from(index == last) << 6) | kind;
        [[FRAGMENTATION << 1, 1, fragment].as_slice(), data].concat()
    };
    chunks.iter().enumerate().map(packet).collect()
}

/// Takes a payload of [`h265`] apart.
#[must_use]
pub fn read_h265(payload: &[u8]) -> Option<Part<'_>> {
    let &[first, _, fragment, ref data @ ..] = payload else { return None };
    let (starts, ends) = (fragment & 0x80 != 0, fragment & 0x40 != 0);
    let data = if starts { data.strip_prefix(&[SLICE_HEADER])? } else { data };
    (first >> 1 == FRAGMENTATION).then_some(Part { starts, ends, vp9: None, data })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sfu_core::media::Codec;
    use sfu_core::rtp::payload;

    use super::*;

    const DESCRIPTOR: Vp9Descriptor = Vp9Descriptor {
        picture_id: 0x7fff,
        tl0_picture_index: 200,
        temporal: 2,
        spatial: 1,
        is_inter_predicted: true,
        is_inter_layer_predicted: true,
        is_not_reference_above: false,
    };

    #[test]
    fn frames_survive_packetization() {
        let frame: Vec<u8> = (0..=255).cycle().take(3000).collect();
        type Read = fn(&[u8]) -> Option<Part<'_>>;
        let all: [(Vec<Vec<u8>>, Read); 3] = [
            (vp9(&frame, DESCRIPTOR, &[(320, 180), (640, 360)], 1100), read_vp9),
            (av1(&frame, true, 1100), read_av1),
            (h265(&frame, true, 1100), read_h265),
        ];
        for (payloads, read) in all {
            assert!(payloads.iter().all(|payload| payload.len() <= 1100));
            let parts: Vec<Part<'_>> = payloads.iter().map(|payload| read(payload).unwrap()).collect();
            assert_eq!(
                parts.iter().map(|part| (part.starts, part.ends)).collect::<Vec<_>>(),
                [(true, false), (false, false), (false, true)]
            );
            assert_eq!(parts.iter().flat_map(|part| part.data).copied().collect::<Vec<u8>>(), frame);
            assert!(parts.iter().all(|part| part.vp9.is_none_or(|own| own == DESCRIPTOR)));
        }
    }

    #[test]
    fn the_engine_sees_the_same_keyframes() {
        let base = Vp9Descriptor { spatial: 0, is_inter_layer_predicted: false, ..DESCRIPTOR };
        for is_key in [true, false] {
            for (codec, payloads) in [
                (Codec::Vp9, vp9(&[1; 3000], Vp9Descriptor { is_inter_predicted: !is_key, ..base }, &[], 1100)),
                (Codec::Av1, av1(&[1; 3000], is_key, 1100)),
                (Codec::H265, h265(&[1; 3000], is_key, 1100)),
            ] {
                assert_eq!(payload::read(codec, &payloads[0]).0.starts_keyframe, is_key, "{codec:?}");
                assert!(!payload::read(codec, &payloads[1]).0.starts_keyframe, "{codec:?}");
            }
        }
    }
}
