//! A symbolic decoder: knows which frames are there to be referred to.

use std::collections::VecDeque;

use crate::frame::Frame;

/// Frames that may be referred to; symbolic encoders refer to the last few only.
pub(super) const REMEMBERED_FRAMES: usize = 48;

/// Which frames are there to be referred to.
#[derive(Debug)]
pub(super) struct Decoder {
    shown: VecDeque<u32>,
    /// Whose frames are decoded; none before the first keyframe.
    pub(super) encoding: Option<u8>,
    pub(super) wants_keyframe: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { shown: VecDeque::new(), encoding: None, wants_keyframe: true }
    }

    /// True if the frame can be shown.
    pub(super) fn take(&mut self, frame: Frame) -> bool {
        if frame.is_keyframe {
            self.shown.clear();
            self.encoding = Some(frame.encoding);
            self.wants_keyframe = false;
        } else if self.encoding != Some(frame.encoding) || !self.has(frame.number, frame.reference) || !self.has(frame.number, frame.below)
        {
            // A higher temporal layer can be missed without harm.
            self.wants_keyframe |= frame.temporal == 0;
            return false;
        }
        self.shown.push_back(frame.number);
        if self.shown.len() > REMEMBERED_FRAMES {
            self.shown.pop_front();
        }
        true
    }

    fn has(&self, own: u32, reference: u32) -> bool {
        own == reference || self.shown.contains(&reference)
    }
}
