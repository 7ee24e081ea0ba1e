//! Commands that name a track of another shard before that shard has announced it here.
//!
//! Signaling hears of a track by another way than this shard, and may be faster. Invariants: commands of one participant for one
//! track keep their order; nothing waits longer than its patience, and there is a bound.

use std::time::Instant;

use sfu_api::{Command, ParticipantId, TrackId};

use super::PATIENCE;

/// Commands that wait; further ones are carried out at once, which fails.
const MAX_PARKED: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Parked {
    commands: Vec<(Instant, Command)>,
}

/// Whom and what a command is about, if it is one that may wait.
fn subject(command: &Command) -> Option<(ParticipantId, TrackId)> {
    match command {
        Command::Subscribe { participant, track, .. }
        | Command::Unsubscribe { participant, track }
        | Command::SetWish { participant, track, .. }
        | Command::SubscribeData { participant, track, .. }
        | Command::UnsubscribeData { participant, track } => Some((*participant, *track)),
        _ => None,
    }
}

impl Parked {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// An earlier command of the same participant for the same track waits.
    pub(super) fn is_behind(&self, command: &Command) -> bool {
        subject(command).is_some_and(|subject| self.commands.iter().any(|(_, other)| self::subject(other) == Some(subject)))
    }

    /// Keeps a command; false if it may not wait or there is no room.
    pub(super) fn keep(&mut self, now: Instant, command: &Command) -> bool {
        let has_room = subject(command).is_some() && self.commands.len() < MAX_PARKED;
        if has_room {
            self.commands.push((now, command.clone()));
        }
        has_room
    }

    /// The track is known from here on: what waited for it, in order.
    pub(super) fn take(&mut self, track: TrackId) -> Vec<Command> {
        self.take_if(|_, command| subject(command).is_some_and(|(_, other)| other == track))
    }

    /// What has waited too long, in order.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Command> {
        self.take_if(|since, _| now.saturating_duration_since(since) >= PATIENCE)
    }

    /// Nobody waits for answers any more.
    pub(super) fn forget(&mut self, participant: ParticipantId) {
        self.commands.retain(|(_, command)| subject(command).is_none_or(|(who, _)| who != participant));
    }

    fn take_if(&mut self, is_taken: impl Fn(Instant, &Command) -> bool) -> Vec<Command> {
        let (taken, left) = std::mem::take(&mut self.commands).into_iter().partition(|(since, command)| is_taken(*since, command));
        self.commands = left;
        let taken: Vec<(Instant, Command)> = taken;
        taken.into_iter().map(|(_, command)| command).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(participant: u64, track: u64) -> Command {
        let label = sfu_api::MediaLabel { stream_id: String::new(), track_id: String::new() };
        Command::Subscribe { participant: ParticipantId(participant), track: TrackId(track), label }
    }

    fn unsubscribe(participant: u64, track: u64) -> Command {
        Command::Unsubscribe { participant: ParticipantId(participant), track: TrackId(track) }
    }

    #[test]
    fn what_waits_for_a_track_comes_back_in_order() {
        let (now, mut parked) = (Instant::now(), Parked::default());
        assert!(parked.keep(now, &subscribe(1, 1)));
        assert!(parked.keep(now, &subscribe(2, 2)));
        assert!(parked.is_behind(&unsubscribe(1, 1)) && !parked.is_behind(&unsubscribe(1, 2)));
        assert!(parked.keep(now, &unsubscribe(1, 1)));
        assert_eq!(parked.take(TrackId(1)), [subscribe(1, 1), unsubscribe(1, 1)]);
        assert_eq!(parked.take_overdue(now + PATIENCE), [subscribe(2, 2)]);
        assert!(parked.is_empty());
    }

    #[test]
    fn nothing_of_who_has_left_waits_and_there_is_a_bound() {
        let (now, mut parked) = (Instant::now(), Parked::default());
        for track in 0..MAX_PARKED as u64 {
            assert!(parked.keep(now, &subscribe(1, track)));
        }
        assert!(!parked.keep(now, &subscribe(1, 0)));
        assert!(!parked.keep(now, &Command::Leave { participant: ParticipantId(1) }));
        parked.forget(ParticipantId(1));
        assert!(parked.is_empty());
    }
}
