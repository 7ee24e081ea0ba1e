//! One deadline per purpose and owner, in order of time.
//!
//! Invariant: `by_key` and `by_time` hold the same pairs. Bounded by the number of participants and rooms.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use sfu_api::{ParticipantId, RoomId};

use crate::agents::{JobId, WorkerId};

/// What a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    /// The client must have been heard until then.
    Silence(ParticipantId),
    /// The client must have a signal connection again.
    SignalGrace(ParticipantId),
    /// The client must have media again.
    MediaGrace(ParticipantId),
    /// A client that lost its media and has not left is asked to resume.
    MediaLost(ParticipantId),
    /// The primary transport must have connected once.
    Join(ParticipantId),
    /// A fresh token is due.
    Token(ParticipantId),
    /// A simulated speaker falls silent.
    SimulatedSpeech(ParticipantId),
    /// The room has been idle for long enough.
    RoomIdle(RoomId),
    /// Changes of the room are told.
    RoomUpdate(RoomId),
    /// Participants of the room that changed are told of again.
    UpdateBeat(RoomId),
    /// Connection qualities that changed are told.
    QualityBeat(RoomId),
    /// Administrators' calls to participants of the room that are late.
    Calls(RoomId),
    /// A worker must have answered, or an agent must have left.
    Job(JobId),
    /// A worker must have registered.
    Worker(WorkerId),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_key: BTreeMap<Timer, Instant>,
    by_time: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Replaces an earlier deadline of the same timer.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.by_key.insert(timer, at) {
            self.by_time.remove(&(before, timer));
        }
        self.by_time.insert((at, timer));
    }

    /// Keeps an earlier deadline of the same timer.
    pub(crate) fn set_if_unset(&mut self, timer: Timer, at: Instant) {
        if !self.by_key.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_key.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.by_key.contains_key(&timer)
    }

    /// Forgets everything about a participant that is gone.
    pub(crate) fn clear_participant(&mut self, id: ParticipantId) {
        use Timer::{Join, MediaGrace, MediaLost, SignalGrace, Silence, SimulatedSpeech, Token};
        for timer in [Silence(id), SignalGrace(id), MediaGrace(id), MediaLost(id), Join(id), Token(id), SimulatedSpeech(id)] {
            self.clear(timer);
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_fire_in_order_and_once() {
        let start = crate::tests::start();
        let mut timers = Timers::default();
        timers.set(Timer::RoomIdle(RoomId(1)), start + Duration::from_secs(2));
        timers.set(Timer::Join(ParticipantId(1)), start + Duration::from_secs(9));
        timers.set(Timer::Join(ParticipantId(1)), start + Duration::from_secs(1));
        timers.set_if_unset(Timer::Join(ParticipantId(1)), start);
        assert_eq!(timers.next(), Some(start + Duration::from_secs(1)));
        let later = start + Duration::from_secs(5);
        assert_eq!(timers.pop_due(later), Some(Timer::Join(ParticipantId(1))));
        assert_eq!(timers.pop_due(later), Some(Timer::RoomIdle(RoomId(1))));
        assert_eq!((timers.pop_due(later), timers.next()), (None, None));
    }
}
