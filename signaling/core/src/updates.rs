//! When others are told of a participant that changed or left: at once, and if it changed a moment ago, or the room is a large one,
//! with the next beat.
//!
//! Invariants: within one beat everybody is told of a participant once, whatever it does; what was not told stays noted
//! until it is. The message says how the participant is when it is sent, so that several changes make one message. Nobody is
//! told that an identity is gone after being told that it is here again.
//! Not here: what a participant may spend on messages to others (`budget`), the messages themselves (`room`).

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol::ParticipantInfo;
use sfu_api::ParticipantId;

/// See the module. Bounded by the number of participants.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    /// Whether the participant is to be told too.
    untold: BTreeMap<ParticipantId, bool>,
    told_in_this_beat: BTreeSet<ParticipantId>,
    /// The last that others see of those who left.
    farewells: Vec<ParticipantInfo>,
}

impl Updates {
    /// A participant changed.
    pub(crate) fn note(&mut self, id: ParticipantId, to_itself: bool) {
        *self.untold.entry(id).or_default() |= to_itself;
    }

    /// True if it has to wait for the next beat.
    pub(crate) fn was_told_in_this_beat(&self, id: ParticipantId) -> bool {
        self.told_in_this_beat.contains(&id)
    }

    /// Everybody is told of it. Returns whether the participant is to be told too.
    pub(crate) fn take(&mut self, id: ParticipantId) -> bool {
        self.told_in_this_beat.insert(id);
        self.untold.remove(&id).unwrap_or_default()
    }

    /// True if something of it has not been told.
    pub(crate) fn is_untold(&self, id: ParticipantId) -> bool {
        self.untold.contains_key(&id)
    }

    /// A participant left; the others are told with the next beat.
    pub(crate) fn note_farewell(&mut self, info: ParticipantInfo) {
        self.farewells.push(info);
    }

    /// Those who left and of whom nobody was told.
    pub(crate) fn take_farewells(&mut self) -> Vec<ParticipantInfo> {
        std::mem::take(&mut self.farewells)
    }

    /// True if an identity left and nobody was told.
    pub(crate) fn has_farewell_of(&self, identity: &str) -> bool {
        self.farewells.iter().any(|info| info.identity == identity)
    }

    /// A new beat: those that wait.
    pub(crate) fn beat(&mut self) -> Vec<ParticipantId> {
        self.told_in_this_beat.clear();
        self.untold.keys().copied().collect()
    }

    /// The participant is gone.
    pub(crate) fn forget(&mut self, id: ParticipantId) {
        self.untold.remove(&id);
        self.told_in_this_beat.remove(&id);
    }

    /// False if no beat is needed.
    pub(crate) fn is_idle(&self) -> bool {
        self.untold.is_empty() && self.told_in_this_beat.is_empty() && self.farewells.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_within_one_beat_are_one_message_and_none_is_lost() {
        let (mut updates, id) = (Updates::default(), ParticipantId(1));
        updates.note(id, false);
        assert!(!updates.was_told_in_this_beat(id));
        assert!(!updates.take(id));
        for to_itself in [false, true, false] {
            updates.note(id, to_itself);
            assert!(updates.was_told_in_this_beat(id));
        }
        assert_eq!(updates.beat(), [id]);
        assert!(updates.take(id), "one of the changes was for itself too");
        assert_eq!(updates.beat(), []);
        assert!(updates.is_idle());
    }
}
