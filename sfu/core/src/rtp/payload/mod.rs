//! What each codec leaves readable in its RTP payload, as far as forwarding needs it.

pub mod h264;
pub mod vp8;

use crate::media::Codec;
use vp8::Vp8Fields;

/// What forwarding knows of one packet's place in its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PayloadInfo {
    /// First packet of a frame that needs no other frame; a switch may happen here.
    pub starts_keyframe: bool,
    /// Temporal layer, 0 if there are none.
    pub temporal: u8,
    /// Fields of the VP8 descriptor to be rewritten; absent for other codecs.
    pub vp8: Option<Vp8Fields>,
}

impl PayloadInfo {
    /// Reads the payload's first bytes. A payload that can't be read (for example one that is encrypted end to end
    /// beyond what the codec leaves clear) is forwarded as it is, but no switch happens on it.
    #[must_use]
    pub fn parse(codec: Codec, payload: &[u8]) -> Self {
        match codec {
            Codec::Vp8 => vp8::parse(payload).unwrap_or_default(),
            Codec::H264 => Self { starts_keyframe: h264::starts_keyframe(payload), ..Self::default() },
            Codec::Vp9 | Codec::Av1 | Codec::H265 => Self::default(),
            Codec::Opus => Self { starts_keyframe: true, ..Self::default() },
        }
    }
}
