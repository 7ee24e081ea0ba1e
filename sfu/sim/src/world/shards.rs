//! What a node does: knows who is on which shard, gives commands to the shards that they are for, and carries bytes between shards.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use sfu_api::{Command, ParticipantId, RoomId};
use sfu_core::relay::LinkId;
use sfu_core::shard::Shard;

use super::World;

/// What is on its way between shards: from, to, bytes.
pub(super) type Rings = BTreeMap<(usize, usize), Vec<u8>>;

/// Who is on which shard.
#[derive(Default)]
pub(super) struct Placing {
    pub(super) shards: HashMap<ParticipantId, usize>,
    /// Shards of each room with the number of participants there, the home first.
    rooms: HashMap<RoomId, Vec<(usize, usize)>>,
}

impl Placing {
    fn shard_of(&self, participant: ParticipantId) -> usize {
        self.shards.get(&participant).copied().unwrap_or(0)
    }

    /// Somebody is in a room from here on; what its shard has to know if it had nobody there.
    fn enter(&mut self, room: RoomId, shard: usize) -> Vec<LinkId> {
        let places = self.rooms.entry(room).or_default();
        if let Some((_, count)) = places.iter_mut().find(|(other, _)| *other == shard) {
            *count += 1;
            return Vec::new();
        }
        places.push((shard, 1));
        places.iter().filter(|(other, _)| *other != shard).map(|&(other, _)| link(other)).collect()
    }

    fn quit(&mut self, room: RoomId, shard: usize) {
        let Some(places) = self.rooms.get_mut(&room) else { return };
        for (_, count) in places.iter_mut().filter(|(other, _)| *other == shard) {
            *count -= 1;
        }
        places.retain(|(_, count)| *count > 0);
    }
}

/// One of the shards, where a borrow of the whole world is too much.
pub(super) fn nth<'a>(first: &'a mut Shard, others: &'a mut [Shard], number: usize) -> &'a mut Shard {
    if number == 0 { first } else { &mut others[number - 1] }
}

pub(super) fn link(shard: usize) -> LinkId {
    LinkId(u16::try_from(shard).unwrap_or(u16::MAX))
}

impl World {
    /// One of the shards.
    ///
    /// # Panics
    /// If there is none with this number.
    pub fn engine(&mut self, shard: usize) -> &mut Shard {
        nth(&mut self.shard, &mut self.others, shard)
    }

    pub(super) fn engines(&self) -> impl Iterator<Item = &Shard> {
        std::iter::once(&self.shard).chain(&self.others)
    }

    /// Shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        1 + self.others.len()
    }

    /// Does what a node does: gives a command to the shards that it is for.
    pub(super) fn place(&mut self, now: Instant, command: Command) {
        match command {
            Command::SendData { to, delivery, payload } => {
                for shard in 0..self.shards() {
                    let to: Vec<ParticipantId> = to.iter().copied().filter(|&who| self.placing.shard_of(who) == shard).collect();
                    if !to.is_empty() {
                        self.engine(shard).handle_command(now, Command::SendData { to, delivery, payload: payload.clone() });
                    }
                }
            }
            Command::SetPlayoutDelay { .. } => {
                for shard in 0..self.shards() {
                    self.engine(shard).handle_command(now, command.clone());
                }
            }
            command => {
                let shard = self.shard_of(&command);
                if let Command::Join { room, .. } | Command::Move { room, .. } = command {
                    let others = self.placing.enter(room, shard);
                    if !others.is_empty() {
                        self.engine(shard).share_room(room, &others);
                    }
                }
                if let Command::Leave { participant } | Command::Move { participant, .. } = command
                    && let Some(&index) = self.by_id.get(&participant)
                {
                    self.placing.quit(self.participants[index].room, shard);
                }
                if let Command::Move { participant, room } = command
                    && let Some(&index) = self.by_id.get(&participant)
                {
                    self.participants[index].room = room;
                }
                let engine = nth(&mut self.shard, &mut self.others, shard);
                self.meter.time(|| engine.handle_command(now, command));
            }
        }
    }

    fn shard_of(&self, command: &Command) -> usize {
        match command {
            Command::Unpublish { track } | Command::SetMuted { track, .. } => {
                self.owners.get(track).map_or(0, |&owner| self.placing.shard_of(self.participants[owner].id))
            }
            command => command.participant().map_or(0, |participant| self.placing.shard_of(participant)),
        }
    }

    /// Brings the shards what is on its way to them.
    pub(super) fn cross(&mut self, now: Instant) {
        for ((from, to), bytes) in std::mem::take(&mut self.rings) {
            let engine = nth(&mut self.shard, &mut self.others, to);
            self.meter.time(|| engine.handle_relay(now, link(from), &bytes));
        }
    }

    /// Takes from the shards what is for others, as far as there is room.
    pub(super) fn load_rings(&mut self, now: Instant) {
        for from in 0..self.shards() {
            let links: Vec<LinkId> = self.engine(from).relay_links().collect();
            for link in links {
                let room = self.ring_bytes - self.rings.get(&(from, link.0.into())).map_or(0, Vec::len);
                let outbox = self.engine(from).relay_outbox(link);
                let bytes = outbox.prepare(room).to_vec();
                outbox.sent(bytes.len());
                self.rings.entry((from, link.0.into())).or_default().extend(bytes);
            }
            self.engine(from).mend_torn(now);
        }
    }
}
