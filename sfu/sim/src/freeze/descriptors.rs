//! Follows dependency descriptors: what they announce has to be true of the frames that come.

use std::collections::VecDeque;

use sfu_core::rtp::payload::dependency_descriptor::{Descriptor, Structure};

use super::decoder::REMEMBERED_FRAMES;
use super::depacketize::Boundaries;
use super::report::Report;

/// What the descriptors told so far.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    structure: Option<Structure>,
    active: u32,
    last_number: Option<u16>,
    /// Numbers of the frames that were decoded.
    decoded: VecDeque<u16>,
    current: Option<Descriptor>,
}

impl Descriptors {
    /// Takes the descriptor of a packet. `is_gapless`: nothing is missing since the last whole frame.
    pub(super) fn follow(&mut self, bytes: &[u8], boundaries: Boundaries, is_gapless: bool, report: &mut Report) {
        if let Ok(Some(structure)) = Structure::parse(bytes) {
            self.structure = Some(structure);
        }
        let Ok(descriptor) = Descriptor::parse(bytes, self.structure.as_ref()) else {
            report.descriptors_wrong += u64::from(is_gapless);
            self.current = None;
            return;
        };
        let mandatory = descriptor.mandatory;
        let announced = Boundaries { starts: mandatory.starts_frame, ends: mandatory.ends_frame };
        report.descriptors_wrong += u64::from(announced != boundaries);
        if let Some(active) = descriptor.active_decode_targets {
            self.active = active;
            let layers = self.structure.iter().flat_map(|s| (0..s.decode_targets()).map(|target| (target, s.layer_of(target))));
            report.announced = layers.filter(|(target, _)| active & (1 << target) != 0).filter_map(|(_, layer)| layer).max();
        }
        if boundaries.starts {
            let step = self.last_number.map_or(1, |last| mandatory.frame_number.wrapping_sub(last));
            report.frame_numbers_back += u64::from(step == 0 || step > 0x8000);
            self.last_number = Some(mandatory.frame_number);
        }
        report.frames_unannounced += u64::from(is_gapless && descriptor.indications.present() & self.active == 0);
        self.current = Some(descriptor);
    }

    /// The current frame was decoded: all that it refers to must have been too.
    pub(super) fn check_references(&mut self, report: &mut Report) {
        let Some(descriptor) = self.current else { return };
        let number = descriptor.mandatory.frame_number;
        let is_there = |diff: &u16| self.decoded.contains(&number.wrapping_sub(*diff));
        report.references_wrong += u64::from(!descriptor.frame_diffs.as_slice().iter().all(is_there));
        self.decoded.push_back(number);
        if self.decoded.len() > REMEMBERED_FRAMES {
            self.decoded.pop_front();
        }
    }
}
