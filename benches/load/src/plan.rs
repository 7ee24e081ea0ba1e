//! What one participant does in a run.

use sfu_core::media::{Codec, Rid};

/// One participant, as the scenario says.
#[derive(Clone, PartialEq, Debug)]
pub struct Participant {
    /// Counts through all participants of a run.
    pub index: usize,
    /// Name of its room.
    pub room: String,
    /// Its name in it.
    pub identity: String,
    /// It sends audio.
    pub audio: Option<AudioPlan>,
    /// It sends video.
    pub video: Option<VideoPlan>,
    /// It receives what the others of its room send.
    pub subscribes: bool,
    /// It receives, but media ends in its socket's filter: it costs the server all and this program nothing.
    pub is_sink: bool,
    /// What it wants of simulcast tracks.
    pub layer: Layer,
    /// Tracks that it is to receive.
    pub expected_tracks: usize,
}

/// Which encoding of a simulcast track a subscriber asks for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The largest.
    #[default]
    High,
    /// The one between.
    Medium,
    /// The smallest.
    Low,
}

/// An Opus-like track.
#[derive(Clone, PartialEq, Debug)]
pub struct AudioPlan {
    /// Bytes of payload of each packet.
    pub payload_bytes: usize,
    /// Between two packets, in ms.
    pub interval_ms: u32,
}

/// A camera-like track.
#[derive(Clone, PartialEq, Debug)]
pub struct VideoPlan {
    /// VP8 or H.264.
    pub codec: Codec,
    /// Frames per second.
    pub fps: f64,
    /// Smallest first; several have rids.
    pub encodings: Vec<EncodingPlan>,
}

/// One encoding.
#[derive(Clone, PartialEq, Debug)]
pub struct EncodingPlan {
    /// Its name, if there are several.
    pub rid: Option<Rid>,
    /// Width of the picture.
    pub width_px: u16,
    /// Height of the picture.
    pub height_px: u16,
    /// How large its frames are.
    pub size: FrameSize,
}

/// How large frames are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum FrameSize {
    /// Sizes vary about the mean that this bitrate gives; keyframes are several times larger.
    Bitrate {
        /// Of the payload, in bits per second.
        bps: u32,
    },
    /// Every frame, keyframes too, is so many packets of one size.
    Packets {
        /// Packets of a frame.
        count: usize,
        /// Bytes of payload of each.
        payload_bytes: usize,
    },
}

impl EncodingPlan {
    /// Mean bitrate of the payload.
    #[must_use]
    pub fn mean_bps(&self, fps: f64) -> u32 {
        match self.size {
            FrameSize::Bitrate { bps } => bps,
            FrameSize::Packets { count, payload_bytes } => {
                let per_frame = u32::try_from(count * payload_bytes * 8).unwrap_or(u32::MAX);
                (f64::from(per_frame) * fps) as u32
            }
        }
    }
}
