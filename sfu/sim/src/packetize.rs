//! RTP payloads of synthetic frames and back, as browsers write and read them: RFC 7741 (VP8), RFC 6184 mode 1 (H.264).
//!
//! Written independently of the engine's own payload parser, so that a shared mistake can't hide.

/// What goes into the VP8 payload descriptor of a frame's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vp8Descriptor {
    /// 15 bits, always written long.
    pub picture_id: u16,
    /// `TL0PICIDX`.
    pub tl0_picture_index: u8,
    /// `TID`.
    pub temporal: u8,
    /// `Y`: depends on the base layer only.
    pub is_layer_sync: bool,
    /// `KEYIDX`, 5 bits.
    pub key_index: u8,
}

/// A VP8 payload taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vp8Payload<'a> {
    /// Its descriptor, if it has all the parts that [`vp8`] writes.
    pub descriptor: Option<Vp8Descriptor>,
    /// First packet of the frame.
    pub starts_frame: bool,
    /// What stands behind the descriptor.
    pub data: &'a [u8],
}

/// Bytes before the symbolic frame in a VP8 keyframe: frame tag, start code, dimensions (RFC 6386 section 9.1).
pub const VP8_KEY_PREFIX: usize = 10;
/// Bytes before it in an interframe: the frame tag.
pub const VP8_INTER_PREFIX: usize = 3;

/// Payloads of a VP8 frame.
#[must_use]
pub fn vp8(frame: &[u8], is_keyframe: bool, size_px: (u16, u16), descriptor: Vp8Descriptor, max_payload: usize) -> Vec<Vec<u8>> {
    // Bit 0 clear: keyframe; show_frame; the partition size does not matter to anybody here.
    let mut bitstream = vec![0x10 | u8::from(!is_keyframe), 0, 0];
    if is_keyframe {
        bitstream.extend_from_slice(&[0x9d, 0x01, 0x2a]);
        bitstream.extend_from_slice(&size_px.0.to_le_bytes());
        bitstream.extend_from_slice(&size_px.1.to_le_bytes());
    }
    bitstream.extend_from_slice(frame);
    let [id_high, id_low] = (descriptor.picture_id | 0x8000).to_be_bytes();
    let layer = (descriptor.temporal << 6) | (u8::from(descriptor.is_layer_sync) << 5) | (descriptor.key_index & 0x1f);
    let chunk = max_payload.saturating_sub(6).max(1);
    let packet = |(index, data): (usize, &[u8])| {
        let first = 0x80 | (u8::from(index == 0) << 4) | (u8::from(descriptor.temporal > 0) << 5);
        let mut payload = vec![first, 0xf0, id_high, id_low, descriptor.tl0_picture_index, layer];
        payload.extend_from_slice(data);
        payload
    };
    bitstream.chunks(chunk).enumerate().map(packet).collect()
}

/// Takes a VP8 payload apart; `None` if the descriptor is cut short.
#[must_use]
pub fn read_vp8(payload: &[u8]) -> Option<Vp8Payload<'_>> {
    let (&first, mut rest) = payload.split_first()?;
    let mut descriptor = None;
    if first & 0x80 != 0 {
        let (&flags, tail) = rest.split_first()?;
        rest = tail;
        let mut picture_id = None;
        if flags & 0x80 != 0 {
            let (&high, tail) = rest.split_first()?;
            rest = tail;
            picture_id = Some(u16::from(high & 0x7f));
            if high & 0x80 != 0 {
                let (&low, tail) = rest.split_first()?;
                rest = tail;
                picture_id = Some(u16::from_be_bytes([high & 0x7f, low]));
            }
        }
        let mut tl0_picture_index = None;
        if flags & 0x40 != 0 {
            let (&index, tail) = rest.split_first()?;
            rest = tail;
            tl0_picture_index = Some(index);
        }
        let mut layer = None;
        if flags & 0x30 != 0 {
            let (&byte, tail) = rest.split_first()?;
            rest = tail;
            layer = Some(byte);
        }
        if let (Some(picture_id), Some(tl0_picture_index), Some(layer)) = (picture_id, tl0_picture_index, layer) {
            let (temporal, is_layer_sync, key_index) = (layer >> 6, layer & 0x20 != 0, layer & 0x1f);
            descriptor = Some(Vp8Descriptor { picture_id, tl0_picture_index, temporal, is_layer_sync, key_index });
        }
    }
    let starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
    Some(Vp8Payload { descriptor, starts_frame, data: rest })
}

/// The symbolic frame in a VP8 bitstream.
#[must_use]
pub fn strip_vp8(bitstream: &[u8]) -> Option<&[u8]> {
    let is_keyframe = bitstream.first()? & 1 == 0;
    bitstream.get(if is_keyframe { VP8_KEY_PREFIX } else { VP8_INTER_PREFIX }..)
}

const NAL_REF_IDC: u8 = 0x60;
const INTER_SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// `first_mb_in_slice` 0 and a slice type, as far as the engine looks.
const SLICE_HEADER: u8 = 0x88;
const SPS: [u8; 6] = [0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

/// Payloads of an H.264 access unit: a keyframe has its parameter sets in front, as STAP-A.
#[must_use]
pub fn h264(frame: &[u8], is_keyframe: bool, max_payload: usize) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    if is_keyframe {
        let mut aggregate = vec![NAL_REF_IDC | STAP_A];
        for unit in [SPS.as_slice(), PPS.as_slice()] {
            aggregate.extend_from_slice(&u16::try_from(unit.len()).expect("parameter sets are short").to_be_bytes());
            aggregate.extend_from_slice(unit);
        }
        payloads.push(aggregate);
    }
    let unit_type = if is_keyframe { IDR_SLICE } else { INTER_SLICE };
    let mut body = vec![SLICE_HEADER];
    body.extend_from_slice(frame);
    if body.len() < max_payload {
        body.insert(0, NAL_REF_IDC | unit_type);
        payloads.push(body);
        return payloads;
    }
    let chunks: Vec<&[u8]> = body.chunks(max_payload.saturating_sub(2).max(1)).collect();
    for (index, chunk) in chunks.iter().enumerate() {
        let (is_first, is_last) = (index == 0, index + 1 == chunks.len());
        let mut payload = vec![NAL_REF_IDC | FU_A, (u8::from(is_first) << 7) | (u8::from(is_last) << 6) | unit_type];
        payload.extend_from_slice(chunk);
        payloads.push(payload);
    }
    payloads
}

/// True for a payload with which an access unit of [`h264`] may start; a keyframe starts with its parameter sets.
#[must_use]
pub fn starts_h264_unit(payload: &[u8]) -> bool {
    match payload {
        [first, header, ..] if first & 0x1f == FU_A => header & 0x80 != 0 && header & 0x1f == INTER_SLICE,
        [first, ..] => matches!(first & 0x1f, INTER_SLICE | STAP_A),
        [] => false,
    }
}

/// The symbolic frame in the payloads of one access unit; `None` where they are no whole unit of one slice.
#[must_use]
pub fn read_h264(payloads: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut slice: Option<Vec<u8>> = None;
    let mut is_open = false;
    for payload in payloads {
        match payload.as_slice() {
            [first, rest @ ..] if matches!(first & 0x1f, INTER_SLICE | IDR_SLICE) && slice.is_none() => slice = Some(rest.to_vec()),
            [first, header, rest @ ..] if first & 0x1f == FU_A => {
                match (&mut slice, header & 0x80 != 0) {
                    (None, true) => slice = Some(rest.to_vec()),
                    (Some(slice), false) if is_open => slice.extend_from_slice(rest),
                    _ => return None,
                }
                is_open = header & 0x40 == 0;
            }
            [first, ..] if first & 0x1f == STAP_A && slice.is_none() => {}
            _ => return None,
        }
    }
    let (&header, frame) = slice.as_deref()?.split_first()?;
    (!is_open && header == SLICE_HEADER).then(|| frame.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DESCRIPTOR: Vp8Descriptor =
        Vp8Descriptor { picture_id: 0x7fff, tl0_picture_index: 200, temporal: 2, is_layer_sync: true, key_index: 31 };

    #[test]
    fn vp8_frames_survive_packetization() {
        let frame: Vec<u8> = (0..=255).cycle().take(3000).collect();
        for is_keyframe in [true, false] {
            let payloads = vp8(&frame, is_keyframe, (640, 360), DESCRIPTOR, 1100);
            assert_eq!(payloads.len(), 3);
            let parts: Vec<Vp8Payload<'_>> = payloads.iter().map(|p| read_vp8(p).unwrap()).collect();
            assert!(parts.iter().all(|p| p.descriptor == Some(DESCRIPTOR)));
            assert_eq!(parts.iter().map(|p| p.starts_frame).collect::<Vec<_>>(), [true, false, false]);
            let bitstream: Vec<u8> = parts.iter().flat_map(|p| p.data).copied().collect();
            assert_eq!(strip_vp8(&bitstream).unwrap(), frame);
        }
    }

    #[test]
    fn h264_frames_survive_packetization_in_one_or_many_packets() {
        for len in [10, 1098, 1099, 5000] {
            let frame = vec![7; len];
            for is_keyframe in [true, false] {
                let payloads = h264(&frame, is_keyframe, 1100);
                assert!(payloads.iter().all(|p| p.len() <= 1100));
                assert_eq!(read_h264(&payloads).unwrap(), frame);
                assert!(starts_h264_unit(&payloads[0]));
            }
        }
    }

    #[test]
    fn an_h264_unit_with_a_missing_fragment_is_not_read() {
        let payloads = h264(&[7; 5000], true, 1100);
        assert_eq!(read_h264(&payloads[..payloads.len() - 1]), None);
        assert_eq!(read_h264(&payloads[2..]), None);
        assert!(!starts_h264_unit(&payloads[2]));
    }

    #[test]
    fn the_engine_sees_the_same_keyframes() {
        use sfu_core::media::Codec;
        use sfu_core::rtp::payload;
        for is_keyframe in [true, false] {
            let payloads = vp8(&[1; 3000], is_keyframe, (640, 360), DESCRIPTOR, 1100);
            assert_eq!(payload::read(Codec::Vp8, &payloads[0]).0.starts_keyframe, is_keyframe);
            assert!(!payload::read(Codec::Vp8, &payloads[1]).0.starts_keyframe);
            let payloads = h264(&[1; 3000], is_keyframe, 1100);
            assert_eq!(payload::read(Codec::H264, &payloads[0]).0.starts_keyframe, is_keyframe);
        }
    }
}
