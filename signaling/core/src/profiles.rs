//! How much the participants of a room tell newcomers of themselves, together.
//!
//! In: the bytes of identity, name, metadata, attributes and tracks of each, whenever they change. Out: whether there is room for more.
//! Invariant: beyond [`limits::FREE_PROFILE_BYTES`] of each, participants have at most `max_profile_bytes` together; so what a newcomer is
//! told has a bound, and nobody with a usual profile is refused because others have large ones.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use livekit_protocol::request_response::Reason;
use prost::Message as _;
use sfu_api::ParticipantId;
use signaling_api::{ErrorCode, Grants};

use crate::{
    limits,
    participant::{ProfileError, attributes_bytes},
    room::Room,
    turn::Turn,
};

/// See the module. Bounded by the number of participants.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    /// What somebody has beyond what is free; nobody is in it who has nothing.
    excess: BTreeMap<ParticipantId, usize>,
    sum: usize,
}

impl Profiles {
    /// Whether somebody who is there or comes may have so many bytes. To have fewer than before is always possible.
    pub(crate) fn fits(&self, id: Option<ParticipantId>, bytes: usize, max_bytes: usize) -> bool {
        let (asked, before) = (excess(bytes), id.map_or(0, |id| self.of(id)));
        asked <= before || (self.sum - before).saturating_add(asked) <= max_bytes
    }

    /// Somebody has so many bytes from here on.
    fn note(&mut self, id: ParticipantId, bytes: usize) {
        let excess = excess(bytes);
        self.forget(id);
        if excess > 0 {
            self.excess.insert(id, excess);
            self.sum += excess;
        }
    }

    /// Somebody is gone.
    pub(crate) fn forget(&mut self, id: ParticipantId) {
        self.sum -= self.excess.remove(&id).unwrap_or(0);
    }

    fn of(&self, id: ParticipantId) -> usize {
        self.excess.get(&id).copied().unwrap_or(0)
    }
}

impl Room {
    /// Something that others see of a participant may have changed.
    pub(crate) fn weigh(&mut self, id: ParticipantId) {
        let Some(participant) = self.members.get(id) else { return };
        let bytes = profile_bytes(&participant.grants) + self.tracks_bytes(id);
        self.profiles.note(id, bytes);
    }

    /// Takes over what a participant or an administrator asks for. True if something changed.
    pub(crate) fn update_profile(
        &mut self,
        id: ParticipantId,
        update: &proto::UpdateParticipantMetadata,
        turn: &Turn<'_>,
    ) -> Result<bool, ProfileError> {
        let (tracks_bytes, profiles, max_bytes) = (self.tracks_bytes(id), &self.profiles, turn.config.max_profile_bytes);
        let Some(participant) = self.members.get_mut(id) else { return Ok(false) };
        participant.update_profile(update, |bytes| profiles.fits(Some(id), bytes + tracks_bytes, max_bytes))
    }

    /// Everything that a participant publishes, whether others know it already or not.
    pub(crate) fn tracks_bytes(&self, id: ParticipantId) -> usize {
        let media = self.tracks.of(id).map(|track| track.info.encoded_len());
        let data = self.data_tracks.of(id).map(|track| track.info.encoded_len());
        media.chain(data).sum()
    }

    /// Whether a participant may publish one more track, of so many bytes.
    pub(crate) fn check_profile(&self, id: ParticipantId, more_bytes: usize, turn: &Turn<'_>) -> Result<(), (Reason, &'static str)> {
        let Some(participant) = self.members.get(id) else { return Ok(()) };
        let bytes = profile_bytes(&participant.grants) + self.tracks_bytes(id) + more_bytes;
        let fits = self.profiles.fits(Some(id), bytes, turn.config.max_profile_bytes);
        if fits { Ok(()) } else { Err((Reason::LimitExceeded, ErrorCode::ProfileLimit.message())) }
    }
}

/// What a token says of a participant that others are told.
pub(crate) fn profile_bytes(grants: &Grants) -> usize {
    grants.identity.len() + grants.name.len() + grants.metadata.len() + attributes_bytes(&grants.attributes)
}

fn excess(bytes: usize) -> usize {
    bytes.saturating_sub(limits::FREE_PROFILE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: usize = limits::FREE_PROFILE_BYTES;

    #[test]
    fn small_profiles_are_free_and_large_ones_share_a_bound() {
        let mut profiles = Profiles::default();
        let [one, other] = [1, 2].map(ParticipantId);
        profiles.note(one, FREE + 70);
        assert!(profiles.fits(Some(other), FREE + 30, 100) && profiles.fits(None, FREE + 30, 100));
        assert!(!profiles.fits(Some(other), FREE + 31, 100) && !profiles.fits(None, FREE + 31, 100));
        assert!(profiles.fits(Some(one), FREE + 100, 100), "its own counts once");
        profiles.note(other, FREE + 30);
        assert!(profiles.fits(None, FREE, 100) && profiles.fits(Some(one), FREE + 70, 0), "nothing more than before");
        profiles.note(one, 0);
        profiles.forget(other);
        assert_eq!((profiles.sum, profiles.excess.len()), (0, 0));
    }
}
