//! What one turn of the state machine may use: the time, chance, settings, and the places where results go.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use livekit_protocol::{SignalResponse, signal_response::Message};
use rand::Rng;
use sfu_api::{Command, ParticipantId, RoomId};

use crate::{
    CloseReason, ConnId, Counters, Happening, Note, Output, SignalingConfig, agents::News, revocations::Revocations, timers::Timers,
};

/// Lent to whoever handles an input.
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    /// Since the Unix epoch.
    pub(crate) unix_now: Duration,
    pub(crate) config: &'a SignalingConfig,
    pub(crate) rng: &'a mut dyn Rng,
    pub(crate) out: &'a mut Outbox,
    pub(crate) timers: &'a mut Timers,
    pub(crate) directory: &'a mut Directory,
    pub(crate) counters: &'a mut Counters,
    pub(crate) revocations: &'a mut Revocations,
    /// What agents are told after this turn.
    pub(crate) news: &'a mut Vec<News>,
}

impl Turn<'_> {
    pub(crate) fn unix_millis(&self) -> i64 {
        i64::try_from(self.unix_now.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Results in the order in which they are to happen.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Output>,
}

impl Outbox {
    pub(crate) fn send(&mut self, conn: ConnId, message: Message) {
        self.queue.push_back(Output::Send { conn, response: Box::new(SignalResponse { message: Some(message) }) });
    }

    pub(crate) fn broadcast(&mut self, conns: Vec<ConnId>, message: Message) {
        match conns.as_slice() {
            [] => {}
            [conn] => self.send(*conn, message),
            _ => self.queue.push_back(Output::Broadcast { conns, response: Box::new(SignalResponse { message: Some(message) }) }),
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.queue.push_back(Output::Close { conn, reason });
    }

    pub(crate) fn media(&mut self, command: Command) {
        self.queue.push_back(Output::Media(command));
    }

    pub(crate) fn note(&mut self, participant: ParticipantId, what: Happening) {
        self.queue.push_back(Output::Note(Note { participant, what }));
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }
}

/// Where participants are and which connection is whose.
///
/// Invariant: every connection in `seats` belongs to a participant in `rooms`.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    rooms: HashMap<ParticipantId, RoomId>,
    seats: HashMap<ConnId, ParticipantId>,
}

impl Directory {
    pub(crate) fn enter(&mut self, participant: ParticipantId, room: RoomId) {
        self.rooms.insert(participant, room);
    }

    /// The participant's connection must have been unseated.
    pub(crate) fn forget(&mut self, participant: ParticipantId) {
        self.rooms.remove(&participant);
    }

    pub(crate) fn seat(&mut self, conn: ConnId, participant: ParticipantId) {
        self.seats.insert(conn, participant);
    }

    pub(crate) fn unseat(&mut self, conn: ConnId) -> Option<ParticipantId> {
        self.seats.remove(&conn)
    }

    pub(crate) fn is_seated(&self, conn: ConnId) -> bool {
        self.seats.contains_key(&conn)
    }

    pub(crate) fn at(&self, conn: ConnId) -> Option<(RoomId, ParticipantId)> {
        let participant = *self.seats.get(&conn)?;
        Some((self.room_of(participant)?, participant))
    }

    pub(crate) fn room_of(&self, participant: ParticipantId) -> Option<RoomId> {
        self.rooms.get(&participant).copied()
    }

    pub(crate) fn participants(&self) -> usize {
        self.rooms.len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seats.len()
    }
}
