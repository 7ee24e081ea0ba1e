//! What a person would notice of a video track, and what only a wrong sender does.

use std::time::{Duration, Instant};

use sfu_core::rtp::payload::dependency_descriptor::Layer;

use crate::frame::Frame;

/// What was seen so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Frames shown.
    pub frames_shown: u64,
    /// Keyframes among them.
    pub keyframes_shown: u64,
    /// Whole frames that came before the first keyframe.
    pub frames_before_keyframe: u64,
    /// Whole frames whose reference was never shown.
    pub frames_undecodable: u64,
    /// Frames that lost a packet.
    pub frames_incomplete: u64,
    /// Packets given up.
    pub packets_lost: u64,
    /// Freezes as browsers count them: their start and length.
    pub freezes: Vec<(Instant, Duration)>,
    /// Longest time between two shown frames, or since the last one.
    pub longest_gap: Duration,
    /// When the first frame was shown.
    pub first_shown: Option<Instant>,
    /// The encoding that is on screen.
    pub current: Option<Frame>,
    /// Changes of the encoding on screen: when, and to which.
    pub switches: Vec<(Instant, u8)>,
    /// Frames that are no frame though no packet of them is missing.
    pub frames_corrupted: u64,
    /// Interframes of another encoding than the one on screen.
    pub switches_without_keyframe: u64,
    /// Frames whose timestamp is not after the one before.
    pub timestamps_back: u64,
    /// Longest step of the timestamp between two frames.
    pub longest_timestamp_step: Duration,
    /// VP8 picture ids that do not follow the one before, though no packet is missing between.
    pub picture_id_jumps: u64,
    /// VP8 picture ids that are used again or go back.
    pub picture_ids_back: u64,
    /// Sequence numbers used for two packets.
    pub sequences_reused: u64,
    /// `TL0PICIDX` that do not count the pictures of the base layer, though no packet is missing between.
    pub tl0_jumps: u64,
    /// Packets of a picture behind its marker.
    pub pictures_continued: u64,
    /// Pictures without a marker, though no packet is missing.
    pub pictures_unended: u64,
    /// Dependency descriptors that could not be read though no packet is missing, or contradict the payload.
    pub descriptors_wrong: u64,
    /// Frame numbers that don't ascend.
    pub frame_numbers_back: u64,
    /// Decodable frames whose descriptor refers to frames that never came.
    pub references_wrong: u64,
    /// Frames of no decode target that is announced as active.
    pub frames_unannounced: u64,
    /// Highest layer that is announced as active.
    pub announced: Option<Layer>,
    /// Bytes of RTP payload that came.
    pub payload_bytes: u64,
    /// Pictures shown of each temporal layer.
    pub temporal_shown: [u64; 3],
    /// Pictures that were there only after their turn.
    pub frames_late: u64,
}

impl Report {
    /// What only a wrong sender does, in words; empty if all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let faults = [
            (self.frames_corrupted, "corrupted frames"),
            (self.switches_without_keyframe, "switches without keyframe"),
            (self.timestamps_back, "timestamps going back"),
            (self.picture_id_jumps, "picture id jumps"),
            (self.picture_ids_back, "picture ids going back"),
            (self.sequences_reused, "sequence numbers used twice"),
            (self.tl0_jumps, "base layer indices that jump"),
            (self.pictures_continued, "packets behind a marker"),
            (self.pictures_unended, "pictures without marker"),
            (self.descriptors_wrong, "wrong descriptors"),
            (self.frame_numbers_back, "frame numbers going back"),
            (self.references_wrong, "wrong references"),
            (self.frames_unannounced, "frames that were not announced"),
        ];
        faults.into_iter().filter(|&(count, _)| count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }

    /// Time frozen altogether.
    #[must_use]
    pub fn frozen(&self) -> Duration {
        self.freezes.iter().map(|(_, length)| *length).sum()
    }
}
