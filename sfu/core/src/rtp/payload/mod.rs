//! What each codec leaves readable in its RTP payload, as far as forwarding needs it.

mod aggregation;
pub mod av1;
pub mod bits;
pub mod dependency_descriptor;
pub mod h264;
pub mod h265;
pub mod picture;
pub mod red;
pub mod vp8;
pub mod vp9;

use crate::media::Codec;
use picture::PictureFields;
use vp9::Vp9Payload;

/// What a subscriber's copy of a packet needs to know of the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PayloadInfo {
    /// First packet of a frame that needs no other frame; a switch may happen here.
    pub starts_keyframe: bool,
    /// Fields of the VP8 or VP9 descriptor to be rewritten. Absent for other codecs.
    pub picture: Option<PictureFields>,
    /// Its picture id must have no gaps: decoders of VP8 take one for a loss. References of VP9 are counted in picture ids.
    pub counts_pictures: bool,
}

/// What the payload descriptor says of layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layering {
    /// Nothing.
    #[default]
    None,
    /// VP8: temporal layers.
    Vp8 {
        /// Picture id and its width in bits.
        picture_id: Option<(u16, u32)>,
        /// `TID`.
        temporal: u8,
        /// `Y`.
        is_sync: bool,
        /// First packet of a key frame.
        is_keyframe: bool,
    },
    /// VP9: spatial and temporal layers.
    Vp9(Vp9Payload),
}

/// Reads the payload's first bytes. A payload that can't be read (for example one that is encrypted end to end beyond what
/// the codec leaves clear) is forwarded as it is, but no switch happens on it unless the dependency descriptor says so.
#[must_use]
pub fn read(codec: Codec, payload: &[u8]) -> (PayloadInfo, Layering) {
    let keyframe = |starts_keyframe| (PayloadInfo { starts_keyframe, ..PayloadInfo::default() }, Layering::None);
    match codec {
        Codec::Vp8 => vp8::parse(payload).map(read_vp8).unwrap_or_default(),
        Codec::Vp9 => vp9::parse(payload).map(read_vp9).unwrap_or_default(),
        Codec::H264 => keyframe(h264::starts_keyframe(payload)),
        Codec::H265 => keyframe(h265::parse(payload).is_some_and(|info| info.starts_keyframe)),
        Codec::Av1 => keyframe(av1::parse(payload).is_some_and(|info| info.starts_keyframe)),
        Codec::Opus | Codec::Pcmu | Codec::Pcma => keyframe(true),
    }
}

fn read_vp8(info: vp8::Vp8Payload) -> (PayloadInfo, Layering) {
    let picture_id = info.fields.picture_id.map(|id| (id.value, if id.is_long { 15 } else { 7 }));
    let layering = Layering::Vp8 { picture_id, temporal: info.temporal, is_sync: info.is_layer_sync, is_keyframe: info.starts_keyframe };
    (PayloadInfo { starts_keyframe: info.starts_keyframe, picture: Some(info.fields), counts_pictures: true }, layering)
}

fn read_vp9(info: Vp9Payload) -> (PayloadInfo, Layering) {
    (PayloadInfo { starts_keyframe: info.starts_keyframe, picture: Some(info.fields), counts_pictures: false }, Layering::Vp9(info))
}
