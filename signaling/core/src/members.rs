//! The participants of a room, by id and by identity.
//!
//! Invariant: each participant has both entries, and no two participants share an identity.

use std::collections::{BTreeMap, HashMap};

use sfu_api::ParticipantId;

use crate::{ConnId, ids, participant::Participant};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_id: BTreeMap<ParticipantId, Participant>,
    by_identity: HashMap<String, ParticipantId>,
}

impl Members {
    /// An earlier participant of the same identity must have been removed.
    pub(crate) fn insert(&mut self, participant: Participant) {
        let before = self.by_identity.insert(participant.grants.identity.clone(), participant.id);
        debug_assert!(before.is_none(), "one identity, one participant");
        self.by_id.insert(participant.id, participant);
    }

    pub(crate) fn remove(&mut self, id: ParticipantId) -> Option<Participant> {
        let participant = self.by_id.remove(&id)?;
        self.by_identity.remove(participant.identity());
        Some(participant)
    }

    pub(crate) fn get(&self, id: ParticipantId) -> Option<&Participant> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ParticipantId) -> Option<&mut Participant> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn id_of(&self, identity: &str) -> Option<ParticipantId> {
        self.by_identity.get(identity).copied()
    }

    pub(crate) fn id_of_sid(&self, sid: &str) -> Option<ParticipantId> {
        let member = self.get(ids::parse_participant_sid(sid)?)?;
        (member.sid == sid).then_some(member.id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Participant> {
        self.by_id.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Participant> {
        self.by_id.values_mut()
    }

    pub(crate) fn ids(&self) -> Vec<ParticipantId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn conn(&self, id: ParticipantId) -> Option<ConnId> {
        self.get(id)?.session.conn()
    }

    /// The connections of those that `is_addressed` picks and that have one.
    pub(crate) fn conns(&self, is_addressed: impl Fn(&Participant) -> bool) -> Vec<ConnId> {
        self.iter().filter(|participant| is_addressed(participant)).filter_map(|participant| participant.session.conn()).collect()
    }
}
