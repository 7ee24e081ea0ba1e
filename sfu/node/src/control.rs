//! Brings commands to the shard that they are for, and decides on which shard a room lives.
//!
//! A room is placed when its first participant joins, on the shard with the fewest participants, and stays there while it has
//! participants. Participants and tracks follow their room. Commands for one shard keep their order, also between callers.

use std::collections::HashMap;

use sfu_api::{Command, ParticipantId, RoomId, TrackId};

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
    /// The room to move to lives on another shard.
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
}

#[derive(Debug)]
struct Room {
    shard: u16,
    participants: usize,
}

#[derive(Debug)]
struct Participant {
    room: RoomId,
    shard: u16,
    tracks: Vec<TrackId>,
}

impl Directory {
    pub(crate) fn new(shards: u16) -> Self {
        let load = vec![0; usize::from(shards)];
        Self { rooms: HashMap::new(), participants: HashMap::new(), tracks: HashMap::new(), load }
    }

    /// The shard that a command is for. Changes nothing, so that a command that can't be delivered leaves no trace.
    pub(crate) fn shard_of(&self, command: &Command) -> Result<u16, CommandError> {
        match command {
            Command::Join { room, participant, .. } => match self.participants.get(participant) {
                Some(known) if known.room != *room => Err(CommandError::OtherRoom),
                _ => Ok(self.rooms.get(room).map_or_else(|| self.least_loaded(), |room| room.shard)),
            },
            Command::Publish { participant, track, .. } => match self.tracks.get(track) {
                Some(owner) if owner != participant => Err(CommandError::TrackTaken),
                _ => self.shard_of_participant(*participant),
            },
            Command::Unpublish { track } | Command::SetMuted { track, .. } => {
                let owner = self.tracks.get(track).ok_or(CommandError::UnknownTrack)?;
                self.shard_of_participant(*owner)
            }
            Command::Leave { participant }
            | Command::Offer { participant, .. }
            | Command::Answer { participant, .. }
            | Command::RestartIce { participant }
            | Command::Subscribe { participant, .. }
            | Command::Unsubscribe { participant, .. }
            | Command::SetWish { participant, .. }
            | Command::PreferTcp { participant, .. }
            | Command::PublishData { participant, .. }
            | Command::UnpublishData { participant, .. }
            | Command::SubscribeData { participant, .. }
            | Command::UnsubscribeData { participant, .. }
            | Command::PublishCodec { participant, .. }
            | Command::LimitDownlink { participant, .. }
            | Command::Explain { participant } => self.shard_of_participant(*participant),
            Command::SetPlayoutDelay { room, .. } => self.rooms.get(room).map(|room| room.shard).ok_or(CommandError::UnknownRoom),
            Command::Move { participant, room } => {
                let shard = self.shard_of_participant(*participant)?;
                match self.rooms.get(room) {
                    Some(room) if room.shard != shard => Err(CommandError::OtherShard),
                    _ => Ok(shard),
                }
            }
            // All are in one room; those who have just left don't matter.
            Command::SendData { to, .. } => {
                to.iter().find_map(|p| self.shard_of_participant(*p).ok()).ok_or(CommandError::UnknownParticipant)
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

    fn join(&mut self, room: RoomId, participant: ParticipantId, shard: u16) {
        if self.participants.contains_key(&participant) {
            return;
        }
        self.participants.insert(participant, Participant { room, shard, tracks: Vec::new() });
        self.rooms.entry(room).or_insert(Room { shard, participants: 0 }).participants += 1;
        self.load[usize::from(shard)] += 1;
    }

    fn leave(&mut self, participant: ParticipantId) {
        let Some(Participant { room, shard, tracks }) = self.participants.remove(&participant) else { return };
        for track in tracks {
            self.tracks.remove(&track);
        }
        self.load[usize::from(shard)] -= 1;
        self.quit(room);
    }

    fn move_to(&mut self, room: RoomId, participant: ParticipantId) {
        let Some(known) = self.participants.get_mut(&participant).filter(|known| known.room != room) else { return };
        let (from, shard) = (std::mem::replace(&mut known.room, room), known.shard);
        self.rooms.entry(room).or_insert(Room { shard, participants: 0 }).participants += 1;
        self.quit(from);
    }

    fn quit(&mut self, room: RoomId) {
        if let Some(entry) = self.rooms.get_mut(&room) {
            entry.participants -= 1;
            if entry.participants == 0 {
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
}

impl Change {
    pub(crate) const fn of(command: &Command) -> Self {
        match command {
            Command::Join { room, participant, .. } => Self::Join { room: *room, participant: *participant },
            Command::Leave { participant } => Self::Leave { participant: *participant },
            Command::Move { room, participant } => Self::Move { room: *room, participant: *participant },
            Command::Publish { participant, track, .. } => Self::Publish { participant: *participant, track: *track },
            Command::Unpublish { track } => Self::Unpublish { track: *track },
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
        let mut directory = Directory::new(3);
        assert_eq!(give(&mut directory, join(1, 1)), Ok(0));
        assert_eq!(give(&mut directory, join(1, 2)), Ok(0));
        assert_eq!(give(&mut directory, join(2, 3)), Ok(1));
        assert_eq!(give(&mut directory, join(3, 4)), Ok(2));
        assert_eq!(give(&mut directory, join(4, 5)), Ok(1));
    }

    #[test]
    fn a_room_stays_while_it_has_participants_and_may_move_after() {
        let mut directory = Directory::new(2);
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
        let mut directory = Directory::new(2);
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, join(1, 1)).unwrap();
        assert_eq!(directory.load, [1, 0]);
        assert_eq!(give(&mut directory, join(2, 1)), Err(CommandError::OtherRoom));
        give(&mut directory, leave(1)).unwrap();
        assert!(directory.rooms.is_empty());
    }

    #[test]
    fn a_participant_moves_on_its_shard_only_and_is_found_in_the_new_room() {
        let mut directory = Directory::new(2);
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, join(2, 2)).unwrap();
        assert_eq!(give(&mut directory, move_to(1, 2)), Err(CommandError::OtherShard));
        assert_eq!(give(&mut directory, move_to(1, 3)), Ok(0));
        assert!(!directory.rooms.contains_key(&RoomId(1)));
        assert_eq!(give(&mut directory, join(3, 3)), Ok(0), "the new room is where its first participant was");
        give(&mut directory, leave(1)).unwrap();
        give(&mut directory, leave(3)).unwrap();
        assert_eq!((directory.rooms.len(), directory.load), (1, vec![0, 1]));
    }

    #[test]
    fn tracks_are_found_by_their_owner_and_go_with_it() {
        let mut directory = Directory::new(2);
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
        let mut directory = Directory::new(1);
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, publish(1, 7)).unwrap();
        give(&mut directory, Command::Unpublish { track: TrackId(7) }).unwrap();
        assert_eq!(give(&mut directory, Command::Unpublish { track: TrackId(7) }), Err(CommandError::UnknownTrack));
        assert!(directory.participants[&ParticipantId(1)].tracks.is_empty());
    }

    #[test]
    fn data_goes_to_the_room_of_whoever_is_still_there() {
        let mut directory = Directory::new(2);
        give(&mut directory, join(1, 1)).unwrap();
        give(&mut directory, join(2, 2)).unwrap();
        assert_eq!(give(&mut directory, data(&[9, 2])), Ok(1));
        assert_eq!(give(&mut directory, data(&[9])), Err(CommandError::UnknownParticipant));
    }

    #[test]
    fn a_command_that_was_not_delivered_leaves_no_trace() {
        let directory = Directory::new(2);
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
