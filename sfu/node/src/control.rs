//! Brings commands to the shard that they are for, and decides on which shards a room lives.
//!
//! A room is placed when its first participant joins, on the shard with the fewest participants: its home. When it outgrows that
//! ([`Sharing`]), further participants are placed on other shards, which then share the room. Participants stay where they are.
//! Commands for one shard keep their order, also between callers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sfu_api::{Command, ParticipantId, PlayoutDelay, RoomId, TrackId};

use crate::config::Sharing;

/// Why a command was not given to a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The participant has not joined, or has left.
    #[error("no such participant")]
    UnknownParticipant,
    /// The track was not published, or its publisher has left.
    #[error("no such track")]
    UnknownTrack,
    /// The participant is in another room.
    #[error("the participant is in another room")]
    OtherRoom,
    /// The participant's transports are on another shard than the room that it is to move to.
    #[error("the room is on another shard")]
    OtherShard,
    /// The track id is in use by another participant.
    #[error("the track id is in use")]
    TrackTaken,
    /// The shard has more commands waiting than its queue holds. Nothing was changed; try again later.
    #[error("the shard is overloaded")]
    Overloaded,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Stopped,
    /// Nobody is in the room.
    #[error("no such room")]
    UnknownRoom,
}

/// Who and what lives on which shard.
#[derive(Debug)]
pub(crate) struct Directory {
    rooms: HashMap<RoomId, Room>,
    participants: HashMap<ParticipantId, Participant>,
    tracks: HashMap<TrackId, ParticipantId>,
    /// Participants per shard.
    load: Vec<usize>,
    /// Share of its time that each shard was busy of late, in percent; told by the shards.
    busy_percent: Vec<Arc<AtomicU32>>,
    sharing: Sharing,
    /// Shards that have a way to each other, the lower number first.
    lanes: BTreeSet<(u16, u16)>,
}

#[derive(Debug)]
struct Room {
    /// Its shards with the number of participants on each, the home first.
    shards: Vec<(u16, usize)>,
    playout_delay: Option<PlayoutDelay>,
}

impl Room {
    fn on(shard: u16) -> Self {
        Self { shards: vec![(shard, 0)], playout_delay: None }
    }

    fn is_on(&self, shard: u16) -> bool {
        self.shards.iter().any(|(other, _)| *other == shard)
    }

    fn count_mut(&mut self, shard: u16) -> &mut usize {
        let place = self.shards.iter().position(|(other, _)| *other == shard).unwrap_or_else(|| {
            self.shards.push((shard, 0));
            self.shards.len() - 1
        });
        &mut self.shards[place].1
    }
}

/// What a shard has to be told before it gets its first participant of a room that others have already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    pub(crate) room: RoomId,
    pub(crate) others: Vec<u16>,
    pub(crate) playout_delay: Option<PlayoutDelay>,
}

#[derive(Debug)]
struct Participant {
    room: RoomId,
    shard: u16,
    tracks: Vec<TrackId>,
}

impl Directory {
    pub(crate) fn new(shards: u16, sharing: Sharing) -> Self {
        let load = vec![0; usize::from(shards)];
        let busy_percent = load.iter().map(|_| Arc::default()).collect();
        let (rooms, participants, tracks) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { rooms, participants, tracks, load, busy_percent, sharing, lanes: BTreeSet::new() }
    }

    /// Where a shard says how busy it is.
    pub(crate) fn busy_percent(&self, shard: u16) -> Arc<AtomicU32> {
        self.busy_percent.get(usize::from(shard)).map(Arc::clone).unwrap_or_default()
    }

    /// What a shard has to know before it carries out a command that puts somebody into a room.
    pub(crate) fn share_for(&self, command: &Command, shard: u16) -> Option<Share> {
        let (Command::Join { room, .. } | Command::Move { room, .. }) = command else { return None };
        let known = self.rooms.get(room).filter(|known| !known.is_on(shard))?;
        let others: Vec<u16> = known.shards.iter().map(|(other, _)| *other).collect();
        (!others.is_empty()).then_some(Share { room: *room, others, playout_delay: known.playout_delay })
    }

    /// Those shards to which a shard has no way yet.
    pub(crate) fn missing_lanes(&self, shard: u16, others: &[u16]) -> Vec<u16> {
        others.iter().copied().filter(|&other| !self.lanes.contains(&(shard.min(other), shard.max(other)))).collect()
    }

    /// Two shards have a way to each other.
    pub(crate) fn lane_made(&mut self, shard: u16, other: u16) {
        self.lanes.insert((shard.min(other), shard.max(other)));
    }

    /// The shards that a command for many is for, each with the participants that are on it. None: it is for one shard.
    pub(crate) fn split(&self, command: &Command) -> Option<Vec<(u16, Command)>> {
        match command {
            Command::SendData { to, delivery, payload } => {
                let mut parts: Vec<(u16, Vec<ParticipantId>)> = Vec::new();
                for participant in to {
                    let Ok(shard) = self.shard_of_participant(*participant) else { continue };
                    match parts.iter_mut().find(|(other, _)| *other == shard) {
                        Some((_, part)) => part.push(*participant),
                        None => parts.push((shard, vec![*participant])),
                    }
                }
                let command = |to| Command::SendData { to, delivery: *delivery, payload: payload.clone() };
                (parts.len() > 1).then(|| parts.into_iter().map(|(shard, to)| (shard, command(to))).collect())
            }
            Command::SetPlayoutDelay { room, .. } => {
                let known = self.rooms.get(room).filter(|known| known.shards.len() > 1)?;
                Some(known.shards.iter().map(|(shard, _)| (*shard, command.clone())).collect())
            }
            _ => None,
        }
    }

    /// The shard that a command is for. Changes nothing, so that a command that can't be delivered leaves no trace.
    pub(crate) fn shard_of(&self, command: &Command) -> Result<u16, CommandError> {
        match command {
            Command::Join { room, participant, .. } => match self.participants.get(participant) {
                Some(known) if known.room != *room => Err(CommandError::OtherRoom),
                Some(known) => Ok(known.shard),
                None => Ok(self.rooms.get(room).map_or_else(|| self.least_loaded(), |room| self.place(room))),
            },
            Command::Publish { participant, track, .. } => match self.tracks.get(track) {
                Some(owner) if owner != participant => Err(CommandError::TrackTaken),
                _ => self.shard_of_participant(*participant),
            },
            Command::Unpublish { track } | Command::SetMuted { track, .. } => {
                let owner = self.tracks.get(track).ok_or(CommandError::UnknownTrack)?;
                self.shard_of_participant(*owner)
            }
            Command::SetPlayoutDelay { room, .. } => {
                self.rooms.get(room).and_then(|room| room.shards.first()).map(|(shard, _)| *shard).ok_or(CommandError::UnknownRoom)
            }
            // Who has to change the shard joins anew: not every track survives a move into a room that lives elsewhere.
            Command::Move { participant, room } => {
                let shard = self.shard_of_participant(*participant)?;
                match self.rooms.get(room) {
                    Some(room) if room.shards.iter().all(|(other, _)| *other != shard) => Err(CommandError::OtherShard),
                    _ => Ok(shard),
                }
            }
            // Those who have just left don't matter; see `split` for rooms on several shards.
            Command::SendData { to, .. } => {
                to.iter().find_map(|p| self.shard_of_participant(*p).ok()).ok_or(CommandError::UnknownParticipant)
            }
            command => {
                command.participant().map_or(Err(CommandError::UnknownParticipant), |participant| self.shard_of_participant(participant))
            }
        }
    }

    /// Notes what a command changes, once it was given to `shard`.
    pub(crate) fn delivered(&mut self, change: Change, shard: u16) {
        match change {
            Change::None => {}
            Change::Join { room, participant } => self.join(room, participant, shard),
            Change::Leave { participant } => self.leave(participant),
            Change::Move { room, participant } => self.move_to(room, participant),
            Change::SetPlayoutDelay { room, delay } => {
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.playout_delay = delay;
                }
            }
            Change::Publish { participant, track } => {
                if self.tracks.insert(track, participant).is_none()
                    && let Some(owner) = self.participants.get_mut(&participant)
                {
                    owner.tracks.push(track);
                }
            }
            Change::Unpublish { track } => {
                if let Some(owner) = self.tracks.remove(&track).and_then(|owner| self.participants.get_mut(&owner)) {
                    owner.tracks.retain(|t| *t != track);
                }
            }
        }
    }

    /// Everyone who is in a room.
    pub(crate) fn participants(&self) -> Vec<ParticipantId> {
        self.participants.keys().copied().collect()
    }

    fn shard_of_participant(&self, participant: ParticipantId) -> Result<u16, CommandError> {
        self.participants.get(&participant).map(|p| p.shard).ok_or(CommandError::UnknownParticipant)
    }

    fn least_loaded(&self) -> u16 {
        (0..).zip(&self.load).min_by_key(|(_, load)| **load).map_or(0, |(shard, _)| shard)
    }

    /// Where the next participant of a room goes: to the first of its shards with room, else to a further one, else to where the
    /// fewest of the room are.
    fn place(&self, room: &Room) -> u16 {
        let is_busy = |shard: u16| {
            let busy = self.busy_percent.get(usize::from(shard)).map_or(0, |busy| busy.load(Ordering::Relaxed));
            busy >= self.sharing.busy_percent
        };
        let fits = |&&(shard, count): &&(u16, usize)| count < self.sharing.participants && !is_busy(shard);
        if let Some((shard, _)) = room.shards.iter().find(fits) {
            return *shard;
        }
        let others = (0..).zip(&self.load).filter(|(shard, _)| !room.is_on(*shard) && !is_busy(*shard));
        let further = others.min_by_key(|(_, load)| **load).map(|(shard, _)| shard);
        let emptiest = room.shards.iter().min_by_key(|(_, count)| *count).map(|(shard, _)| *shard);
        further.or(emptiest).unwrap_or(0)
    }

    fn join(&mut self, room: RoomId, participant: ParticipantId, shard: u16) {
        if self.participants.contains_key(&participant) {
            return;
        }
        self.participants.insert(participant, Participant { room, shard, tracks: Vec::new() });
        *self.rooms.entry(room).or_insert_with(|| Room::on(shard)).count_mut(shard) += 1;
        self.load[usize::from(shard)] += 1;
    }

    fn leave(&mut self, participant: ParticipantId) {
        let Some(Participant { room, shard, tracks }) = self.participants.remove(&participant) else { return };
        for track in tracks {
            self.tracks.remove(&track);
        }
        self.load[usize::from(shard)] -= 1;
        self.quit(room, shard);
    }

    fn move_to(&mut self, room: RoomId, participant: ParticipantId) {
        let Some(known) = self.participants.get_mut(&participant).filter(|known| known.room != room) else { return };
        let (from, shard) = (std::mem::replace(&mut known.room, room), known.shard);
        *self.rooms.entry(room).or_insert_with(|| Room::on(shard)).count_mut(shard) += 1;
        self.quit(from, shard);
    }

    fn quit(&mut self, room: RoomId, shard: u16) {
        if let Some(entry) = self.rooms.get_mut(&room) {
            *entry.count_mut(shard) -= 1;
            entry.shards.retain(|(_, count)| *count > 0);
            if entry.shards.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }
}

/// What a command changes in the directory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    None,
    Join { room: RoomId, participant: ParticipantId },
    Leave { participant: ParticipantId },
    Move { room: RoomId, participant: ParticipantId },
    Publish { participant: ParticipantId, track: TrackId },
    Unpublish { track: TrackId },
    SetPlayoutDelay { room: RoomId, delay: Option<PlayoutDelay> },
}

impl Change {
    pub(crate) const fn of(command: &Command) -> Self {
        match command {
            Command::Join { room, participant, .. } => Self::Join { room: *room, participant: *participant },
            Command::Leave { participant } => Self::Leave { participant: *participant },
            Command::Move { room, participant } => Self::Move { room: *room, participant: *participant },
            Command::Publish { participant, track, .. } => Self::Publish { participant: *participant, track: *track },
            Command::Unpublish { track } => Self::Unpublish { track: *track },
            Command::SetPlayoutDelay { room, delay } => Self::SetPlayoutDelay { room: *room, delay: *delay },
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sfu_api::{Delivery, MediaKind, PublishRequest};

    use super::*;

    #[test]
    fn a_room_is_placed_where_the_fewest_participants_are() {
        let mut directory = Directory::new(3, Sharing::default());
        assert_eq!(give(&mut directory, join(1, 1)), Ok(0));
        assert_eq!(give(&mut directory, join(1, 2)), Ok(0));
        assert_eq!(give(&mut directory, join(2, 3)), Ok(1));
        assert_eq!(give(&mut directory, join(3, 4)), Ok(2));
        assert_eq!(give(&mut directory, join(4, 5)), Ok(1));
    }

    #[test]
    fn a_room_stays_while_it_has_participants_and_may_move_after() {
        let mut directory = Directory::new(2, Sharing::default());
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, join(2, 2)).unwrap();
        give(&mut directory, join(1, 3)).unwrap();
        give(&mut directory, leave(1)).unwrap();
        assert_eq!(give(&mut directory, join(1, 4)), Ok(0));
        give(&mut directory, leave(3)).unwrap();
        give(&mut directory, leave(4)).unwrap();
        give(&mut directory, join(3, 5)).unwrap();
        give(&mut directory, leave(2)).unwrap();
        assert_eq!(give(&mut directory, join(1, 6)), Ok(1));
    }

    #[test]
    fn joining_twice_counts_once() {
        let mut directory = Directory::new(2, Sharing::default());
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, join(1, 1)).unwrap();
        assert_eq!(directory.load, [1, 0]);
        assert_eq!(give(&mut directory, join(2, 1)), Err(CommandError::OtherRoom));
        give(&mut directory, leave(1)).unwrap();
        assert!(directory.rooms.is_empty());
    }

    #[test]
    fn a_room_that_has_outgrown_its_shard_goes_on_on_others() {
        let mut directory = Directory::new(3, Sharing { participants: 2, busy_percent: 65 });
        give(&mut directory, join(9, 100)).unwrap();
        let places: Vec<_> = (1..=8).map(|participant| give(&mut directory, join(1, participant)).unwrap()).collect();
        assert_eq!(places, [1, 1, 2, 2, 0, 0, 1, 2], "the emptiest shard first, and evenly once all are full");
        give(&mut directory, leave(3)).unwrap();
        give(&mut directory, leave(4)).unwrap();
        give(&mut directory, leave(8)).unwrap();
        assert_eq!(directory.rooms[&RoomId(1)].shards, [(1, 3), (0, 2)]);
        assert_eq!(give(&mut directory, join(1, 9)), Ok(2));
    }

    #[test]
    fn a_busy_shard_gets_nobody_while_another_one_is_idle() {
        let mut directory = Directory::new(2, Sharing::default());
        assert_eq!(give(&mut directory, join(1, 1)), Ok(0));
        directory.busy_percent(0).store(90, Ordering::Relaxed);
        assert_eq!(give(&mut directory, join(1, 2)), Ok(1));
        directory.busy_percent(1).store(90, Ordering::Relaxed);
        directory.busy_percent(0).store(10, Ordering::Relaxed);
        assert_eq!(give(&mut directory, join(1, 3)), Ok(0));
        directory.busy_percent(0).store(90, Ordering::Relaxed);
        assert_eq!(give(&mut directory, join(1, 4)), Ok(1), "where the fewest of the room are");
    }

    #[test]
    fn a_shard_is_told_of_a_room_with_its_first_participant_only() {
        let mut directory = Directory::new(2, Sharing { participants: 1, busy_percent: 65 });
        assert_eq!(directory.share_for(&join(1, 1), 0), None);
        give(&mut directory, join(1, 1)).unwrap();
        let delay = Some(PlayoutDelay { min_ms: 10, max_ms: 20 });
        give(&mut directory, Command::SetPlayoutDelay { room: RoomId(1), delay }).unwrap();
        let share = Share { room: RoomId(1), others: vec![0], playout_delay: delay };
        assert_eq!(directory.share_for(&join(1, 2), 1), Some(share));
        assert_eq!(directory.missing_lanes(1, &[0]), [0]);
        directory.lane_made(1, 0);
        assert!(directory.missing_lanes(0, &[1]).is_empty());
        assert_eq!(give(&mut directory, join(1, 2)), Ok(1));
        assert_eq!(directory.share_for(&join(1, 3), 1), None);
    }

    #[test]
    fn what_is_for_many_is_split_by_their_shards() {
        let mut directory = Directory::new(2, Sharing { participants: 1, busy_percent: 65 });
        give(&mut directory, join(1, 1)).unwrap();
        let delay = Command::SetPlayoutDelay { room: RoomId(1), delay: None };
        assert_eq!((directory.split(&data(&[1])), directory.split(&delay)), (None, None));
        give(&mut directory, join(1, 2)).unwrap();
        assert_eq!(directory.split(&data(&[2, 1, 9])).unwrap(), [(1, data(&[2])), (0, data(&[1]))]);
        assert_eq!(directory.split(&delay).unwrap(), [(0, delay.clone()), (1, delay.clone())]);
    }

    #[test]
    fn a_participant_that_moves_stays_on_its_shard_or_is_refused() {
        let mut directory = Directory::new(2, Sharing::default());
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, join(2, 2)).unwrap();
        assert_eq!(give(&mut directory, move_to(1, 2)), Err(CommandError::OtherShard));
        assert_eq!(give(&mut directory, move_to(1, 3)), Ok(0));
        assert_eq!(directory.rooms[&RoomId(2)].shards, [(1, 1)]);
        assert!(!directory.rooms.contains_key(&RoomId(1)));
        assert_eq!(give(&mut directory, join(3, 3)), Ok(0), "the new room is where its first participant was");
        give(&mut directory, leave(1)).unwrap();
        give(&mut directory, leave(3)).unwrap();
        assert_eq!((directory.rooms.len(), directory.load), (1, vec![0, 1]));
    }

    #[test]
    fn tracks_are_found_by_their_owner_and_go_with_it() {
        let mut directory = Directory::new(2, Sharing::default());
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, join(2, 2)).unwrap();
        assert_eq!(give(&mut directory, publish(2, 7)), Ok(1));
        assert_eq!(give(&mut directory, Command::SetMuted { track: TrackId(7), muted: true }), Ok(1));
        assert_eq!(give(&mut directory, publish(1, 7)), Err(CommandError::TrackTaken));
        give(&mut directory, leave(2)).unwrap();
        assert_eq!(give(&mut directory, Command::SetMuted { track: TrackId(7), muted: true }), Err(CommandError::UnknownTrack));
        assert!(directory.tracks.is_empty());
    }

    #[test]
    fn an_unpublished_track_is_unknown() {
        let mut directory = Directory::new(1, Sharing::default());
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, publish(1, 7)).unwrap();
        give(&mut directory, Command::Unpublish { track: TrackId(7) }).unwrap();
        assert_eq!(give(&mut directory, Command::Unpublish { track: TrackId(7) }), Err(CommandError::UnknownTrack));
        assert!(directory.participants[&ParticipantId(1)].tracks.is_empty());
    }

    #[test]
    fn data_goes_to_the_room_of_whoever_is_still_there() {
        let mut directory = Directory::new(2, Sharing::default());
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, join(2, 2)).unwrap();
        assert_eq!(give(&mut directory, data(&[9, 2])), Ok(1));
        assert_eq!(give(&mut directory, data(&[9])), Err(CommandError::UnknownParticipant));
    }

    #[test]
    fn a_command_that_was_not_delivered_leaves_no_trace() {
        let directory = Directory::new(2, Sharing::default());
        assert_eq!(directory.shard_of(&join(1, 1)), Ok(0));
        assert!(directory.participants().is_empty());
        assert_eq!(directory.shard_of(&leave(1)), Err(CommandError::UnknownParticipant));
    }

    fn give(directory: &mut Directory, command: Command) -> Result<u16, CommandError> {
        let shard = directory.shard_of(&command)?;
        directory.delivered(Change::of(&command), shard);
        Ok(shard)
    }

    fn join(room: u64, participant: u64) -> Command {
        Command::Join { room: RoomId(room), participant: ParticipantId(participant), can_subscribe: true, mode: sfu_api::PeerMode::Dual }
    }

    fn move_to(participant: u64, room: u64) -> Command {
        Command::Move { participant: ParticipantId(participant), room: RoomId(room) }
    }

    fn leave(participant: u64) -> Command {
        Command::Leave { participant: ParticipantId(participant) }
    }

    fn publish(participant: u64, track: u64) -> Command {
        let request = PublishRequest {
            cid: String::new(),
            kind: MediaKind::Audio,
            preferred_codec: String::new(),
            stereo: false,
            dtx: false,
            muted: false,
            width_px: 0,
            height_px: 0,
            layers: Vec::new(),
            red: false,
            backup_codecs: Vec::new(),
            backup_policy: sfu_api::BackupPolicy::default(),
            source: sfu_api::MediaSource::default(),
        };
        Command::Publish { participant: ParticipantId(participant), track: TrackId(track), request }
    }

    fn data(to: &[u64]) -> Command {
        Command::SendData { to: to.iter().copied().map(ParticipantId).collect(), delivery: Delivery::Lossy, payload: Vec::new() }
    }
}
