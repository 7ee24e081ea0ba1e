//! Who speaks, as clients know it: only changes are told.

use std::collections::BTreeMap;

use livekit_protocol::SpeakerInfo;
use sfu_api::{ParticipantId, Speaker};

use crate::ids;

/// The speakers that clients know of.
#[derive(Debug, Default)]
pub(crate) struct SpeakerBoard {
    steps: BTreeMap<ParticipantId, u8>,
}

impl SpeakerBoard {
    /// Takes over the new set and returns what changed, loudest first, ended ones last.
    /// Speakers that `is_shown` rejects are treated as silent.
    pub(crate) fn update(&mut self, speakers: &[Speaker], is_shown: impl Fn(ParticipantId) -> bool) -> Vec<SpeakerInfo> {
        let mut next = BTreeMap::new();
        let mut changes = Vec::new();
        for speaker in speakers.iter().filter(|speaker| is_shown(speaker.participant)) {
            let step = quantize(speaker.level);
            if next.insert(speaker.participant, step).is_none() && self.steps.get(&speaker.participant) != Some(&step) {
                changes.push(info(speaker.participant, Some(step)));
            }
        }
        changes.extend(self.steps.keys().filter(|id| !next.contains_key(id)).map(|id| info(*id, None)));
        self.steps = next;
        changes
    }

    /// A participant is gone; clients drop it by themselves.
    pub(crate) fn remove(&mut self, id: ParticipantId) {
        self.steps.remove(&id);
    }

    /// Those who speak.
    pub(crate) fn active(&self) -> Vec<SpeakerInfo> {
        self.steps.iter().map(|(id, step)| info(*id, Some(*step))).collect()
    }

    /// Everybody of `ids`, speaking or not: puts a client right that may have missed changes.
    pub(crate) fn all(&self, ids: impl Iterator<Item = ParticipantId>) -> Vec<SpeakerInfo> {
        ids.map(|id| info(id, self.steps.get(&id).copied())).collect()
    }
}

pub(crate) fn info(id: ParticipantId, step: Option<u8>) -> SpeakerInfo {
    SpeakerInfo { sid: ids::participant_sid(id), level: step.map_or(0.0, |step| f32::from(step) / STEPS), active: step.is_some() }
}

/// Small changes of a level are not worth a message to everybody (LiveKit: `AudioLevelQuantization` = 8).
fn quantize(level: f32) -> u8 {
    (1_u8..=8).find(|step| f32::from(*step) / STEPS >= level).unwrap_or(8)
}

const STEPS: f32 = 8.0;

#[cfg(test)]
mod tests {
    use super::*;

    const A: ParticipantId = ParticipantId(1);
    const B: ParticipantId = ParticipantId(2);

    fn speaker(participant: ParticipantId, level: f32) -> Speaker {
        Speaker { participant, level }
    }

    #[test]
    fn only_changes_are_told_and_who_stops_is_told_once() {
        let mut board = SpeakerBoard::default();
        let first = board.update(&[speaker(A, 0.5), speaker(B, 0.2)], |_| true);
        assert_eq!(first.iter().map(|info| (info.level, info.active)).collect::<Vec<_>>(), [(0.5, true), (0.25, true)]);
        assert_eq!(board.update(&[speaker(A, 0.45), speaker(B, 0.21)], |_| true), []);
        let ended = board.update(&[speaker(A, 0.5)], |_| true);
        assert_eq!(ended, [SpeakerInfo { sid: ids::participant_sid(B), level: 0.0, active: false }]);
        assert_eq!(board.update(&[speaker(A, 0.5)], |_| true), []);
    }

    #[test]
    fn who_is_not_shown_does_not_speak() {
        let mut board = SpeakerBoard::default();
        assert_eq!(board.update(&[speaker(A, 1.0)], |id| id != A), []);
        assert_eq!(board.active(), []);
    }

    #[test]
    fn levels_that_are_no_levels_stay_in_range() {
        let mut board = SpeakerBoard::default();
        for level in [f32::NAN, f32::INFINITY, -1.0, 2.0] {
            let told = board.update(&[speaker(A, level)], |_| true);
            assert!(told.iter().all(|info| (0.0..=1.0).contains(&info.level)));
        }
    }
}
