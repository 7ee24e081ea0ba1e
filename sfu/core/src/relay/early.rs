//! Shards that asked for a room before this shard had it.
//!
//! Two shards that get their first participants of a room at the same time are told of each other by signaling's side, each by
//! its mailbox, and of each other's wish by a link, which may be faster: then the one that is asked does not have the room yet
//! and says so, but will have it in a moment. Invariants: nothing waits longer than its patience, and there is a bound.

use std::time::Instant;

use sfu_api::RoomId;

use super::{LinkId, PATIENCE};

/// Requests that wait; further ones are forgotten, as if the room never came.
const MAX_EARLY: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Early {
    requests: Vec<(LinkId, RoomId, Instant)>,
}

impl Early {
    pub(super) fn keep(&mut self, link: LinkId, room: RoomId, now: Instant) {
        self.forget(link, room);
        if self.requests.len() < MAX_EARLY {
            self.requests.push((link, room, now));
        }
    }

    /// The other shard has nobody in the room any more.
    pub(super) fn forget(&mut self, link: LinkId, room: RoomId) {
        self.requests.retain(|&(other, wanted, _)| (other, wanted) != (link, room));
    }

    /// The room is here: who asked for it.
    pub(super) fn take(&mut self, room: RoomId) -> Vec<LinkId> {
        let taken = self.requests.extract_if(.., |(_, wanted, _)| *wanted == room);
        taken.map(|(link, ..)| link).collect()
    }

    pub(super) fn drop_overdue(&mut self, now: Instant) {
        self.requests.retain(|(.., at)| now.saturating_duration_since(*at) < PATIENCE);
    }
}
