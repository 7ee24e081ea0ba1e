//! Tokens that are not good any more although their time is not over: those of participants that were removed.
//!
//! Remembered by name of the room and identity, beyond the end of the room. Bounded; the oldest is forgotten.
//! LiveKit: `RoomParticipantIdentity.revoke_token_ts`.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use signaling_api::Grants;

use crate::limits;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// Tokens that begin before this time since the Unix epoch.
    before: HashMap<(String, String), Duration>,
    order: VecDeque<(String, String)>,
}

impl Revocations {
    /// Tokens of `identity` for `room` that begin before this time are void.
    pub(crate) fn add(&mut self, room: &str, identity: &str, before: Duration) {
        let key = (room.to_owned(), identity.to_owned());
        match self.before.get_mut(&key) {
            Some(known) => *known = before.max(*known),
            None => {
                self.order.push_back(key.clone());
                self.before.insert(key, before);
            }
        }
        while self.order.len() > limits::REVOCATIONS {
            if let Some(oldest) = self.order.pop_front() {
                self.before.remove(&oldest);
            }
        }
    }

    pub(crate) fn is_revoked(&self, grants: &Grants) -> bool {
        if self.before.is_empty() {
            return false;
        }
        self.before.get(&(grants.room.clone(), grants.identity.clone())).is_some_and(|before| grants.not_before < *before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(identity: &str, not_before: u64) -> Grants {
        Grants { identity: identity.to_owned(), room: "r".to_owned(), not_before: Duration::from_secs(not_before), ..Grants::default() }
    }

    #[test]
    fn a_token_from_before_is_void_and_a_later_one_is_not() {
        let mut revocations = Revocations::default();
        revocations.add("r", "alice", Duration::from_secs(100));
        revocations.add("r", "alice", Duration::from_secs(50));
        assert!(revocations.is_revoked(&grants("alice", 99)) && !revocations.is_revoked(&grants("alice", 100)));
        assert!(revocations.is_revoked(&grants("alice", 0)), "one that says no beginning");
        assert!(!revocations.is_revoked(&grants("bob", 0)));
        assert!(!revocations.is_revoked(&Grants { room: "other".to_owned(), ..grants("alice", 0) }));
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let mut revocations = Revocations::default();
        for number in 0..=limits::REVOCATIONS {
            revocations.add("r", &number.to_string(), Duration::from_secs(1));
        }
        assert!(!revocations.is_revoked(&grants("0", 0)) && revocations.is_revoked(&grants("1", 0)));
        assert_eq!(revocations.before.len(), limits::REVOCATIONS);
    }
}
