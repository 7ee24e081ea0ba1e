//! From payloads to frames, for each codec.

use sfu_core::media::Codec;

use super::numbering::PictureIndex;
use crate::frame::Frame;
use crate::packetize;
use crate::packetize_layered::{self, Part};

/// Whether a packet starts and ends its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Boundaries {
    pub(super) starts: bool,
    pub(super) ends: bool,
}

/// `None`: this is no payload of the codec.
pub(super) fn boundaries(codec: Codec, payload: &[u8], marker: bool) -> Option<Boundaries> {
    match codec {
        Codec::H264 => Some(Boundaries { starts: packetize::starts_h264_unit(payload), ends: marker }),
        Codec::Vp9 | Codec::Av1 | Codec::H265 => part(codec, payload).map(|part| Boundaries { starts: part.starts, ends: part.ends }),
        _ => packetize::read_vp8(payload).map(|part| Boundaries { starts: part.starts_frame, ends: marker }),
    }
}

/// The frame in whole payloads; the descriptor of the codec, if it has one, is the same in all of them.
pub(super) fn read_frame(codec: Codec, payloads: &[Vec<u8>]) -> Option<(Frame, Option<PictureIndex>)> {
    match codec {
        Codec::H264 => packetize::read_h264(payloads).and_then(|bytes| Frame::decode(&bytes)).map(|frame| (frame, None)),
        Codec::Vp9 | Codec::Av1 | Codec::H265 => read_layered(codec, payloads),
        _ => read_vp8(payloads),
    }
}

fn part(codec: Codec, payload: &[u8]) -> Option<Part<'_>> {
    match codec {
        Codec::Vp9 => packetize_layered::read_vp9(payload),
        Codec::H265 => packetize_layered::read_h265(payload),
        _ => packetize_layered::read_av1(payload),
    }
}

fn read_layered(codec: Codec, payloads: &[Vec<u8>]) -> Option<(Frame, Option<PictureIndex>)> {
    let parts: Vec<Part<'_>> = payloads.iter().map(|payload| part(codec, payload)).collect::<Option<_>>()?;
    let vp9 = parts.first()?.vp9;
    let last = parts.len() - 1;
    let is_one = |(index, part): (usize, &Part<'_>)| part.vp9 == vp9 && (part.starts, part.ends) == (index == 0, index == last);
    let is_one_frame = parts.iter().enumerate().all(is_one);
    let frame = Frame::decode(&parts.iter().flat_map(|part| part.data).copied().collect::<Vec<u8>>())?;
    let is_right = vp9.is_none_or(|own| (own.spatial, own.temporal) == (frame.spatial, frame.temporal));
    let index = vp9.map(|own| PictureIndex { id: own.picture_id, tl0: own.tl0_picture_index, temporal: own.temporal });
    (is_one_frame && is_right).then_some((frame, index))
}

fn read_vp8(payloads: &[Vec<u8>]) -> Option<(Frame, Option<PictureIndex>)> {
    let parts: Vec<_> = payloads.iter().map(|p| packetize::read_vp8(p)).collect::<Option<_>>()?;
    let descriptor = parts.first()?.descriptor;
    let is_one_frame = parts.iter().enumerate().all(|(index, p)| p.descriptor == descriptor && p.starts_frame == (index == 0));
    let bitstream: Vec<u8> = parts.iter().flat_map(|p| p.data).copied().collect();
    let frame = Frame::decode(packetize::strip_vp8(&bitstream)?)?;
    let index = descriptor.map(|own| PictureIndex { id: own.picture_id, tl0: own.tl0_picture_index, temporal: own.temporal });
    is_one_frame.then_some((frame, index))
}
