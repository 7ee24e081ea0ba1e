//! LiveKit's client protocol as a state machine: rooms, participants, tracks, subscriptions, data.
//!
//! In: [`Input`]s (a connection came, a message, an event of the media node) and the time. Out: [`Output`]s (messages to
//! clients, commands to the media node). Sans-IO: no clock, no socket, no thread, no lock.
//! One [`Signaling`] owns its rooms alone, so every change of a room has one order, and its sequence number says which.

mod admin;
mod agents;
mod blobs;
mod budget;
mod codecs;
mod config;
mod counters;
mod data;
mod data_tracks;
mod ids;
mod interface;
mod join;
mod journal;
pub mod limits;
mod members;
mod messaging;
mod negotiation;
mod participant;
mod permissions;
mod profiles;
mod publishing;
mod quality;
mod reconnect;
mod relays;
mod reliable;
mod requests;
mod revocations;
mod room;
mod rooms;
mod roster;
mod session;
mod settings;
mod simulate;
mod speakers;
mod subscribing;
mod subscriptions;
mod timers;
mod tracks;
mod turn;
mod updates;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::{DisconnectReason, leave_request::Action, signal_response};
use rand::Rng;
use sfu_api::{Event, ParticipantId, RoomId};
use signaling_api::{EndReason, ErrorCode, Grants, RoomConfig};

use crate::{
    agents::{Agents, News},
    profiles::Profiles,
    revocations::Revocations,
    room::{Farewell, Room},
    rooms::Rooms,
    timers::{Timer, Timers},
    turn::{Directory, Outbox, Turn},
};

pub use admin::{AdminError, AdminId, AdminRequest, AdminResponse, AdminResult};
pub use agents::{WorkerId, WorkerInput};
pub use config::{PROTOCOL_VERSION, Region, SignalingConfig};
pub use counters::Counters;
pub use ids::{
    ConnId, PARTICIPANT_PREFIX, data_track_sid, parse_data_track_sid, parse_participant_sid, parse_track_sid, participant_sid, room_sid,
    track_sid,
};
pub use interface::{Census, CloseReason, Input, JoinParams, Output};
pub use journal::{CODEC_WORDS, Happening, Note, TrackLabel};
pub use quality::Judgement;
pub use relays::Relays;
pub use roster::Welcome;

/// Owns every room of one server. Routes inputs to rooms; what they mean is decided there.
#[derive(Debug)]
pub struct Signaling {
    config: SignalingConfig,
    rooms: Rooms,
    directory: Directory,
    timers: Timers,
    out: Outbox,
    counters: Counters,
    revocations: Revocations,
    agents: Agents,
    news: Vec<News>,
    /// Nobody may join any more.
    is_draining: bool,
    /// Nobody may open a room any more.
    takes_no_rooms: bool,
}

impl Signaling {
    /// No rooms yet.
    #[must_use]
    pub fn new(config: SignalingConfig) -> Self {
        Self {
            config,
            rooms: Rooms::default(),
            directory: Directory::default(),
            timers: Timers::default(),
            out: Outbox::default(),
            counters: Counters::default(),
            revocations: Revocations::default(),
            agents: Agents::default(),
            news: Vec::new(),
            is_draining: false,
            takes_no_rooms: false,
        }
    }

    /// Handles one input; `unix_now` counts from the Unix epoch. Call [`Signaling::poll`] until it is empty afterwards.
    pub fn handle(&mut self, input: Input, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        match input {
            Input::Connect { conn, grants, request, remote_ip } => {
                tracing::debug!(?conn, %remote_ip, sdk = request.client.sdk, version = request.client.version, "connect");
                self.connect(conn, *grants, &request, now, unix_now, rng);
            }
            Input::Message { conn, request } => {
                let Some((room, participant)) = self.directory.at(conn) else { return };
                self.with_room(room, now, unix_now, rng, |room, turn| room.receive(participant, *request, turn));
            }
            Input::Closed { conn } => {
                let Some((room, participant)) = self.directory.at(conn) else { return };
                self.directory.unseat(conn);
                self.with_room(room, now, unix_now, rng, |room, turn| room.link_lost(participant, turn));
            }
            Input::Media(event) => self.media(event, now, unix_now, rng),
            Input::Admin { id, grants, request } => self.admin(id, &grants, *request, now, unix_now, rng),
            Input::Worker { worker, input } => self.worker(worker, input, now, unix_now, rng),
        }
        self.tell_agents(now, unix_now, rng);
    }

    /// The next thing to do, in order.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// When to call [`Signaling::handle_timeout`] at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what time has brought. Call [`Signaling::poll`] until it is empty afterwards.
    pub fn handle_timeout(&mut self, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        while let Some(timer) = self.timers.pop_due(now) {
            let room = match timer {
                Timer::RoomIdle(room)
                | Timer::RoomUpdate(room)
                | Timer::UpdateBeat(room)
                | Timer::QualityBeat(room)
                | Timer::Calls(room) => Some(room),
                Timer::Silence(id)
                | Timer::SignalGrace(id)
                | Timer::MediaGrace(id)
                | Timer::MediaLost(id)
                | Timer::Join(id)
                | Timer::Token(id)
                | Timer::SimulatedSpeech(id) => self.directory.room_of(id),
                Timer::Job(id) => {
                    self.job_timer(id, now, unix_now, rng);
                    None
                }
                Timer::Worker(id) => {
                    self.worker_timer(id, now, unix_now, rng);
                    None
                }
            };
            if let Some(room) = room {
                self.with_room(room, now, unix_now, rng, |room, turn| room.timer_fired(timer, turn));
            }
        }
        self.tell_agents(now, unix_now, rng);
    }

    /// Whether a genuine token is still good: it is not once its participant was removed, whatever it is shown for.
    ///
    /// # Errors
    /// [`ErrorCode::TokenRevoked`].
    pub fn check_token(&self, grants: &Grants) -> Result<(), ErrorCode> {
        if self.revocations.is_revoked(grants) { Err(ErrorCode::TokenRevoked) } else { Ok(()) }
    }

    /// Whether a client may join as things are: for refusing before a WebSocket is opened, and for `/rtc/validate`.
    ///
    /// # Errors
    /// Why not.
    pub fn check_join(&self, grants: &Grants, request: &JoinParams) -> Result<(), ErrorCode> {
        join::check_grants(grants)?;
        // A resume too: it names its session by an identity alone, and that may be one that came later with a good token.
        self.check_token(grants)?;
        let room = self.rooms.by_name(&grants.room);
        let earlier = room.and_then(|room| room.members.id_of(&grants.identity));
        if request.reconnect {
            // Answered on the signal connection: that is where clients read that they have to start anew.
            return Ok(());
        }
        if self.is_draining {
            return Err(ErrorCode::Unavailable);
        }
        if room.is_none() && !grants.room_preset.is_empty() && !self.config.presets.contains_key(&grants.room_preset) {
            return Err(ErrorCode::BadRequest);
        }
        if room.is_none() {
            if !self.config.auto_create_rooms && !grants.room_create && !self.takes_no_rooms {
                return Err(ErrorCode::RoomNotFound);
            }
            self.may_open_room()?;
        }
        let profile = profiles::profile_bytes(grants);
        if !room.map_or(&Profiles::default(), |room| &room.profiles).fits(earlier, profile, self.config.max_profile_bytes) {
            return Err(ErrorCode::ProfileLimit);
        }
        match room {
            Some(room) if room.is_full() && earlier.is_none() && !permissions::is_dependent(grants) => Err(ErrorCode::RoomFull),
            _ if earlier.is_none() && self.directory.participants() >= self.config.max_total_participants => {
                Err(ErrorCode::ParticipantLimit)
            }
            _ => Ok(()),
        }
    }

    /// About how many bytes somebody who joins or resumes with this token is told first of the participants of the room.
    pub fn welcome_bytes(&mut self, grants: &Grants) -> usize {
        let room = self.rooms.by_name(&grants.room).map(|room| room.id);
        let others = room.and_then(|id| self.rooms.get_mut(id)).map_or(0, |room| room.welcome_bytes(&self.config));
        others + profiles::profile_bytes(grants)
    }

    /// No one may join any more; everybody is asked to join anew, which leads to another server. Rooms close.
    pub fn drain(&mut self, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        self.is_draining = true;
        for id in self.rooms.ids() {
            self.with_room(id, now, unix_now, rng, |room, turn| room.dismiss(EndReason::ServerShutdown, Action::Reconnect, turn));
            self.close_room(id);
        }
        self.tell_agents(now, unix_now, rng);
    }

    /// Rooms that are open go on and may be joined; new ones are refused, or may be opened again, after [`Self::drain`] too.
    pub fn close_to_new_rooms(&mut self, is_closed: bool) {
        self.takes_no_rooms = is_closed;
        self.is_draining &= is_closed;
    }

    /// All rooms.
    #[must_use]
    pub fn rooms(&self) -> Vec<proto::Room> {
        self.rooms.iter().map(|room| room.describe(&self.config)).collect()
    }

    /// Everybody in a room, hidden participants included: for administrators. None if there is no such room.
    #[must_use]
    pub fn participants(&self, room: &str) -> Option<Vec<proto::ParticipantInfo>> {
        Some(self.rooms.by_name(room)?.everybody(&self.config))
    }

    /// Number of the latest change of a room.
    #[must_use]
    pub fn room_sequence(&self, room: &str) -> Option<u64> {
        self.rooms.by_name(room).map(Room::sequence)
    }

    /// How many rooms, participants, signal connections, workers and jobs there are.
    #[must_use]
    pub fn census(&self) -> Census {
        let (workers, jobs) = self.agents.census();
        Census {
            rooms: self.rooms.len(),
            participants: self.directory.participants(),
            connections: self.directory.connections(),
            workers,
            jobs,
        }
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn connect(&mut self, conn: ConnId, grants: Grants, request: &JoinParams, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        if self.directory.is_seated(conn) {
            return;
        }
        if let Err(code) = self.check_join(&grants, request) {
            self.refuse(conn, code, request);
            return;
        }
        let here = self.rooms.by_name(&grants.room).and_then(|room| Some((room.id, room.members.id_of(&grants.identity)?)));
        if request.reconnect {
            // The session is named by its sid; a newer one of the same identity is another session.
            let asked = request.participant_sid.as_deref().filter(|sid| !sid.is_empty());
            let found = here.filter(|(_, participant)| asked.is_none_or(|sid| participant_sid(*participant) == sid));
            match found {
                Some((room, participant)) => {
                    self.with_room(room, now, unix_now, rng, |room, turn| room.resume(participant, conn, request, turn));
                }
                None => self.refuse_resume(conn, request),
            }
            return;
        }
        if let Some((room, participant)) = here {
            let farewell = Farewell::Leave(Action::Disconnect);
            self.with_room(room, now, unix_now, rng, |room, turn| room.remove(participant, EndReason::DuplicateIdentity, farewell, turn));
        }
        let room = match self.rooms.by_name(&grants.room) {
            Some(room) => room.id,
            None => {
                let asked = self.config.with_preset((*grants.room_config).clone(), &grants.room_preset).unwrap_or_default();
                self.open_room(&grants.room, &asked, now, unix_now, rng)
            }
        };
        let id = self.unused_participant_id(rng);
        self.with_room(room, now, unix_now, rng, |room, turn| room.enter(id, conn, grants, request, turn));
    }

    fn refuse(&mut self, conn: ConnId, code: ErrorCode, request: &JoinParams) {
        if let Some(leave) = session::leave_request(request.client.protocol, join::refusal(code), Action::Disconnect) {
            self.out.send(conn, signal_response::Message::Leave(session::with_regions(leave, &self.config)));
        }
        self.out.close(conn, CloseReason::Refused(code));
    }

    fn refuse_resume(&mut self, conn: ConnId, request: &JoinParams) {
        if let Some(leave) = session::leave_request(request.client.protocol, DisconnectReason::StateMismatch, Action::Reconnect) {
            self.out.send(conn, signal_response::Message::Leave(session::with_regions(leave, &self.config)));
        }
        self.out.close(conn, CloseReason::Refused(ErrorCode::ParticipantNotFound));
    }

    /// Whether one more room may be opened, whoever asks for it.
    pub(crate) fn may_open_room(&self) -> Result<(), ErrorCode> {
        if self.is_draining || self.takes_no_rooms {
            return Err(ErrorCode::Unavailable);
        }
        if self.rooms.len() >= self.config.max_rooms { Err(ErrorCode::RoomLimit) } else { Ok(()) }
    }

    /// There must be none of that name, and it must be one that [may be opened](Self::may_open_room).
    fn open_room(&mut self, name: &str, asked: &RoomConfig, now: Instant, unix_now: Duration, rng: &mut impl Rng) -> RoomId {
        let id = self.rooms.unused_id(rng);
        let settings = settings::RoomSettings::new(&self.config, asked);
        let room = Room::open(id, name.to_owned(), settings, &mut self.turn(now, unix_now, rng).1);
        self.rooms.insert(room);
        self.news.push(News::Opened(id));
        id
    }

    fn unused_participant_id(&self, rng: &mut impl Rng) -> ParticipantId {
        loop {
            let id = ParticipantId(ids::random_id(rng));
            if self.directory.room_of(id).is_none() {
                return id;
            }
        }
    }

    fn media(&mut self, event: Event, now: Instant, unix_now: Duration, rng: &mut impl Rng) {
        let room = match &event {
            Event::Answer { participant, .. }
            | Event::Offer { participant, .. }
            | Event::NegotiationFailed { participant, .. }
            | Event::Transport { participant, .. }
            | Event::TrackReady { participant, .. }
            | Event::TrackEnded { participant, .. }
            | Event::Subscription { participant, .. }
            | Event::CodecReady { participant, .. }
            | Event::WantedLayers { participant, .. }
            | Event::Data { participant, .. }
            | Event::StreamState { participant, .. }
            | Event::ConnectionQuality { participant, .. }
            | Event::MediaSections { participant, .. }
            | Event::MoveRefused { participant } => self.directory.room_of(*participant),
            Event::Speakers { room, .. } => Some(*room),
            // For whoever drives this, not for rooms.
            Event::Samples(_) => None,
        };
        let is_known = room.is_some_and(|id| self.with_room(id, now, unix_now, rng, |room, turn| room.media_event(event, turn)).is_some());
        if !is_known {
            self.counters.stale_events += 1;
        }
    }

    /// Runs `action` on a room, and closes the room if it is over. None if there is no such room.
    fn with_room<T>(
        &mut self,
        id: RoomId,
        now: Instant,
        unix_now: Duration,
        rng: &mut impl Rng,
        action: impl FnOnce(&mut Room, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let (rooms, mut turn) = self.turn(now, unix_now, rng);
        let room = rooms.get_mut(id)?;
        let result = action(room, &mut turn);
        if room.is_over() {
            self.close_room(id);
        }
        Some(result)
    }

    /// Nobody is in it any more.
    fn close_room(&mut self, id: RoomId) {
        self.rooms.remove(id);
        self.news.push(News::Closed(id));
        self.timers.clear(Timer::RoomIdle(id));
        self.timers.clear(Timer::RoomUpdate(id));
        self.timers.clear(Timer::UpdateBeat(id));
        self.timers.clear(Timer::QualityBeat(id));
        self.timers.clear(Timer::Calls(id));
    }

    fn turn<'a>(&'a mut self, now: Instant, unix_now: Duration, rng: &'a mut impl Rng) -> (&'a mut Rooms, Turn<'a>) {
        let turn = Turn {
            now,
            unix_now,
            config: &self.config,
            rng,
            out: &mut self.out,
            timers: &mut self.timers,
            directory: &mut self.directory,
            counters: &mut self.counters,
            revocations: &mut self.revocations,
            news: &mut self.news,
        };
        (&mut self.rooms, turn)
    }
}
