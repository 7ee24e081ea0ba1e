//! All rooms, by id and by name.
//!
//! Invariant: each room has both entries.

use std::collections::{BTreeMap, HashMap};

use rand::Rng;
use sfu_api::RoomId;

use crate::{ids, room::Room};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    by_id: BTreeMap<RoomId, Room>,
    by_name: HashMap<String, RoomId>,
}

impl Rooms {
    pub(crate) fn insert(&mut self, room: Room) {
        self.by_name.insert(room.name.clone(), room.id);
        self.by_id.insert(room.id, room);
    }

    pub(crate) fn remove(&mut self, id: RoomId) {
        if let Some(room) = self.by_id.remove(&id) {
            self.by_name.remove(&room.name);
        }
    }

    pub(crate) fn get(&self, id: RoomId) -> Option<&Room> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: RoomId) -> Option<&mut Room> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Room> {
        self.by_id.get(self.by_name.get(name)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Room> {
        self.by_id.values()
    }

    pub(crate) fn ids(&self) -> Vec<RoomId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn unused_id(&self, rng: &mut dyn Rng) -> RoomId {
        loop {
            let id = RoomId(ids::random_id(rng));
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}
