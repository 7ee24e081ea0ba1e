//! The participants of a room, by id and by identity.
//!
//! Invariants: each participant has both entries, and no two participants share an identity; who is not among the touched is as
//! it was when it was last counted and shown. So a join asks those few, and not everybody in a room of hundreds.

use std::collections::{BTreeMap, HashMap};

use sfu_api::ParticipantId;

use crate::{
    ConnId,
    data_tracks::DataSubscriptions,
    ids,
    participant::Participant,
    roster::{Roster, Shown},
    subscriptions::Subscriptions,
};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Boxed: they are large, and a newcomer would move its neighbours.
    by_id: BTreeMap<ParticipantId, Box<Participant>>,
    by_identity: HashMap<String, ParticipantId>,
    /// Who may have changed since it was last counted; those whose [`Tally`] says so.
    touched: Vec<ParticipantId>,
    /// Of everybody, as last counted.
    counted: Numbers,
    /// What newcomers are told of them.
    pub(crate) roster: Roster,
}

/// How many there are of whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Numbers {
    /// Who counts against the room's limit and keeps it open.
    pub(crate) independent: usize,
    /// Of these, whom others see.
    pub(crate) shown: usize,
    /// Publishers that others see.
    pub(crate) publishers: usize,
    /// Who records.
    pub(crate) recorders: usize,
}

/// What was counted of a participant.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counted: Numbers,
    is_touched: bool,
}

impl Numbers {
    fn of(participant: &Participant) -> Self {
        let (is_shown, is_independent) = (!participant.is_hidden(), !participant.is_dependent());
        Self {
            independent: usize::from(is_independent),
            shown: usize::from(is_shown && is_independent),
            publishers: usize::from(is_shown && participant.is_publisher),
            recorders: usize::from(participant.grants.recorder),
        }
    }

    /// With `new` in the place of `old`, which is in it.
    const fn exchange(self, old: Self, new: Self) -> Self {
        Self {
            independent: self.independent - old.independent + new.independent,
            shown: self.shown - old.shown + new.shown,
            publishers: self.publishers - old.publishers + new.publishers,
            recorders: self.recorders - old.recorders + new.recorders,
        }
    }
}

impl Members {
    /// An earlier participant of the same identity must have been removed.
    pub(crate) fn insert(&mut self, mut participant: Participant) {
        let before = self.by_identity.insert(participant.grants.identity.clone(), participant.id);
        debug_assert!(before.is_none(), "one identity, one participant");
        participant.tally = Tally { counted: Numbers::default(), is_touched: true };
        participant.shown.forget();
        self.touched.push(participant.id);
        self.by_id.insert(participant.id, Box::new(participant));
    }

    pub(crate) fn remove(&mut self, id: ParticipantId) -> Option<Participant> {
        let participant = self.by_id.remove(&id)?;
        self.by_identity.remove(participant.identity());
        self.counted = self.counted.exchange(participant.tally.counted, Numbers::default());
        if participant.tally.is_touched {
            self.touched.retain(|touched| *touched != id);
        }
        self.roster.remove(id);
        Some(*participant)
    }

    pub(crate) fn get(&self, id: ParticipantId) -> Option<&Participant> {
        self.by_id.get(&id).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, id: ParticipantId) -> Option<&mut Participant> {
        let participant = self.by_id.get_mut(&id)?;
        if !std::mem::replace(&mut participant.tally.is_touched, true) {
            self.touched.push(id);
        }
        Some(participant)
    }

    pub(crate) fn id_of(&self, identity: &str) -> Option<ParticipantId> {
        self.by_identity.get(identity).copied()
    }

    pub(crate) fn id_of_sid(&self, sid: &str) -> Option<ParticipantId> {
        let member = self.get(ids::parse_participant_sid(sid)?)?;
        (member.sid == sid).then_some(member.id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Participant> {
        self.by_id.values().map(Box::as_ref)
    }

    /// What everybody wants to receive, which nobody sees and nobody counts: for whatever else may change there is [`Self::get_mut`].
    pub(crate) fn wishes_mut(&mut self) -> impl Iterator<Item = (ParticipantId, &mut Subscriptions, &mut DataSubscriptions)> {
        self.by_id.values_mut().map(|member| (member.id, &mut member.subscriptions, &mut member.data_subscriptions))
    }

    /// A version of a participant is in the roster. Nothing else of it has changed.
    pub(crate) fn note_shown(&mut self, id: ParticipantId, shown: Shown) {
        if let Some(participant) = self.by_id.get_mut(&id) {
            participant.shown = shown;
        }
    }

    /// How many there are of whom at present.
    pub(crate) fn numbers(&self) -> Numbers {
        let touched = self.touched.iter().filter_map(|id| self.get(*id));
        touched.fold(self.counted, |numbers, member| numbers.exchange(member.tally.counted, Numbers::of(member)))
    }

    /// Counts those who may have changed, but for `except`, and returns them.
    pub(crate) fn settle(&mut self, except: Option<ParticipantId>) -> Vec<ParticipantId> {
        let (kept, settled): (Vec<_>, Vec<_>) = std::mem::take(&mut self.touched).into_iter().partition(|id| Some(*id) == except);
        self.touched = kept;
        for id in &settled {
            let Some(member) = self.by_id.get_mut(id) else { continue };
            let tally = Tally { counted: Numbers::of(member), is_touched: false };
            self.counted = self.counted.exchange(member.tally.counted, tally.counted);
            member.tally = tally;
        }
        settled
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
