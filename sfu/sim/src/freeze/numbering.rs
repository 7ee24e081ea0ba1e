//! What ascends from picture to picture: timestamps, VP8 and VP9 picture ids, base layer indices.

use std::time::Duration;

use super::report::Report;

const CLOCK_RATE_HZ: u32 = 90_000;

/// Picture id and base layer index of a picture, with its temporal layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PictureIndex {
    pub(super) id: u16,
    pub(super) tl0: u8,
    pub(super) temporal: u8,
}

/// The numbers of the last picture.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    pub(super) timestamp: Option<u32>,
    picture_id: Option<u16>,
    tl0: Option<u8>,
}

impl Numbering {
    pub(super) fn check_timestamp(&mut self, timestamp: u32, report: &mut Report) {
        let Some(last) = self.timestamp.replace(timestamp) else { return };
        let step = timestamp.wrapping_sub(last);
        if step == 0 || step > u32::MAX / 2 {
            report.timestamps_back += 1;
        } else {
            let step = Duration::from_secs(1) * (step / CLOCK_RATE_HZ) + Duration::from_secs(1) * (step % CLOCK_RATE_HZ) / CLOCK_RATE_HZ;
            report.longest_timestamp_step = report.longest_timestamp_step.max(step);
        }
    }

    /// `is_gapless`: nothing is missing since the last picture. `counts_all`: the codec gives each picture the next id.
    pub(super) fn check_index(&mut self, index: PictureIndex, is_keyframe: bool, is_gapless: bool, counts_all: bool, report: &mut Report) {
        if let Some(last) = self.picture_id {
            let step = index.id.wrapping_sub(last) & 0x7fff;
            if step == 0 || step > 0x4000 {
                report.picture_ids_back += 1;
            } else if step != 1 && is_gapless && counts_all {
                report.picture_id_jumps += 1;
            }
        }
        // What nobody could decode before a keyframe may be missing.
        if let Some(last) = self.tl0.filter(|_| is_gapless && !is_keyframe) {
            let step = index.tl0.wrapping_sub(last);
            report.tl0_jumps += u64::from(step != u8::from(index.temporal == 0));
        }
        self.picture_id = Some(index.id);
        self.tl0 = Some(index.tl0);
    }

    /// Picture ids begin anew, as with another codec.
    pub(super) fn forget_picture_id(&mut self) {
        self.picture_id = None;
    }
}
