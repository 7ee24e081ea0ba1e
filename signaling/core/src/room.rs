//! A room: who and what is in it, and how changes reach everybody in one order.
//!
//! Invariant: every change gets the next sequence number, and every client with a connection is told of it in that order;
//! of several changes of one participant in a row it may be told at once.
//! What the parts decide is in their own files; `impl Room` blocks beside them connect the parts.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use livekit_protocol::{DisconnectReason, leave_request::Action, signal_response::Message};
use prost::Message as _;
use rand::Rng;
use sfu_api::{Command, Event, ParticipantId, RoomId};
use signaling_api::{EndReason, RoomConfig};

use crate::{
    CloseReason, SignalingConfig,
    admin::{Calls, Nonces},
    agents::News,
    data_tracks::DataTracks,
    ids,
    journal::{self, Happening},
    limits,
    members::Members,
    participant::Participant,
    profiles::Profiles,
    quality::{Judgement, Qualities},
    reconnect::Departures,
    reliable::ReliableLog,
    session,
    settings::RoomSettings,
    simulate::TcpWishes,
    speakers::SpeakerBoard,
    timers::Timer,
    tracks::{MediaFound, Tracks},
    turn::Turn,
    updates::Updates,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) name: String,
    pub(crate) settings: RoomSettings,
    pub(crate) members: Members,
    pub(crate) tracks: Tracks,
    pub(crate) speakers: SpeakerBoard,
    pub(crate) departures: Departures,
    pub(crate) data_tracks: DataTracks,
    pub(crate) reliable_log: ReliableLog,
    pub(crate) qualities: Qualities,
    pub(crate) profiles: Profiles,
    pub(crate) tcp_wishes: TcpWishes,
    updates: Updates,
    sequence: u64,
    is_over: bool,
    created_at: Duration,
    /// Marks frames that the server puts into encrypted tracks.
    sif_trailer: Vec<u8>,
    /// Since when nobody is in it that keeps it open, and whether somebody was before.
    idle_since: Instant,
    was_joined: bool,
    pub(crate) calls: Calls,
    pub(crate) nonces: Nonces,
}

/// How a participant that is removed is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Farewell {
    /// With a `LeaveRequest`.
    Leave(Action),
    /// Its connection is cut, as when a server dies.
    Cut,
}

impl Room {
    /// A room is created empty, and closes again if nobody joins.
    pub(crate) fn open(id: RoomId, name: String, settings: RoomSettings, turn: &mut Turn<'_>) -> Self {
        turn.timers.set(Timer::RoomIdle(id), turn.now + settings.empty_timeout);
        Self {
            id,
            name,
            settings,
            members: Members::default(),
            tracks: Tracks::default(),
            speakers: SpeakerBoard::default(),
            departures: Departures::default(),
            data_tracks: DataTracks::default(),
            reliable_log: ReliableLog::default(),
            qualities: Qualities::default(),
            profiles: Profiles::default(),
            tcp_wishes: TcpWishes::default(),
            updates: Updates::default(),
            sequence: 0,
            is_over: false,
            created_at: turn.unix_now,
            sif_trailer: random_trailer(turn.rng),
            idle_since: turn.now,
            was_joined: false,
            calls: Calls::default(),
            nonces: Nonces::default(),
        }
    }

    /// Tells the media node, which forgets a room when nobody is in it.
    pub(crate) fn delay_playout(&self, turn: &mut Turn<'_>) {
        if let Some(delay) = self.settings.playout_delay() {
            turn.out.media(Command::SetPlayoutDelay { room: self.id, delay: Some(delay) });
        }
    }

    /// Takes over settings that are asked for while the room is open, and tells everybody.
    pub(crate) fn reconfigure(&mut self, asked: &RoomConfig, turn: &mut Turn<'_>) {
        let before = self.settings.clone();
        self.settings.update(turn.config, asked);
        if self.settings == before {
            return;
        }
        if turn.timers.is_set(Timer::RoomIdle(self.id)) {
            turn.timers.set(Timer::RoomIdle(self.id), self.idle_since + self.idle_timeout());
        }
        if self.settings.playout_delay() != before.playout_delay() && self.is_in_use() {
            self.delay_playout(turn);
        }
        self.changed(turn);
        self.tell_room(turn);
    }

    /// How long it stays with nobody in it.
    fn idle_timeout(&self) -> Duration {
        if self.was_joined { self.settings.departure_timeout } else { self.settings.empty_timeout }
    }

    pub(crate) fn info(&self, turn: &Turn<'_>) -> proto::Room {
        self.describe(turn.config)
    }

    pub(crate) fn describe(&self, config: &SignalingConfig) -> proto::Room {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let numbers = self.members.numbers();
        proto::Room {
            sid: ids::room_sid(self.id),
            name: self.name.clone(),
            empty_timeout: u32::try_from(self.settings.empty_timeout.as_secs()).unwrap_or(u32::MAX),
            departure_timeout: u32::try_from(self.settings.departure_timeout.as_secs()).unwrap_or(u32::MAX),
            max_participants: self.settings.max_participants,
            creation_time: i64::try_from(self.created_at.as_secs()).unwrap_or(i64::MAX),
            creation_time_ms: i64::try_from(self.created_at.as_millis()).unwrap_or(i64::MAX),
            enabled_codecs: config.codecs(),
            metadata: self.settings.metadata.clone(),
            num_participants: number(numbers.shown),
            num_publishers: number(numbers.publishers),
            active_recording: numbers.recorders > 0,
            ..Default::default()
        }
    }

    pub(crate) fn sif_trailer(&self) -> Vec<u8> {
        self.sif_trailer.clone()
    }

    /// Number of the latest change.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many participants count against the room's limit.
    pub(crate) fn occupancy(&self) -> usize {
        self.members.numbers().independent
    }

    /// Somebody is in it who keeps it open.
    fn is_in_use(&self) -> bool {
        self.occupancy() > 0
    }

    pub(crate) fn is_full(&self) -> bool {
        let limit = usize::try_from(self.settings.max_participants).unwrap_or(usize::MAX);
        limit > 0 && self.occupancy() >= limit
    }

    /// What others see of a participant.
    pub(crate) fn participant_info(&self, id: ParticipantId, config: &SignalingConfig) -> Option<proto::ParticipantInfo> {
        Some(self.describe_member(self.members.get(id)?, config))
    }

    /// The participants that `viewer` may know of, itself not among them.
    pub(crate) fn others(&self, viewer: ParticipantId, config: &SignalingConfig) -> Vec<proto::ParticipantInfo> {
        self.members
            .iter()
            .filter(|participant| participant.id != viewer && !participant.is_hidden())
            .map(|participant| self.describe_member(participant, config))
            .collect()
    }

    fn describe_member(&self, participant: &Participant, config: &SignalingConfig) -> proto::ParticipantInfo {
        let data_tracks = self.data_tracks.infos_of(participant.id);
        proto::ParticipantInfo { data_tracks, ..participant.info(&config.region, self.tracks.infos_of(participant.id)) }
    }

    /// A participant changed in a way that others see and must know before what follows: its next version goes out.
    pub(crate) fn announce(&mut self, id: ParticipantId, to_itself: bool, turn: &mut Turn<'_>) {
        self.note_change(id, to_itself, turn);
        let Some(info) = self.participant_info(id, turn.config) else { return };
        if let Some(participant) = self.members.get_mut(id) {
            participant.update_budget.charge(update_cost(&info), turn.now);
        }
        self.tell_of(info, id, turn);
    }

    /// A participant came, or its media did. In a large room, where others come all the time, it is told with their arrivals.
    pub(crate) fn announce_arrival(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        if self.is_large(turn.config) {
            self.note_change(id, false, turn);
        } else {
            self.announce(id, false, turn);
        }
    }

    /// What follows comes from a participant that others may not know of yet.
    pub(crate) fn announce_if_untold(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        if self.updates.is_untold(id) && !self.updates.was_told_in_this_beat(id) {
            self.tell_within_budget(id, turn);
        }
    }

    /// A participant changed in a way that others see: they are told soon, and of several changes at once. The participant
    /// itself is told before its request is answered: the native SDK's next request repeats what it knows of its profile.
    pub(crate) fn announce_soon(&mut self, id: ParticipantId, to_itself: bool, turn: &mut Turn<'_>) {
        self.note_change(id, false, turn);
        let own = self.members.conn(id).filter(|_| to_itself);
        if let (Some(conn), Some(info)) = (own, self.participant_info(id, turn.config)) {
            turn.out.send(conn, Message::Update(proto::ParticipantUpdate { participants: vec![info] }));
        }
        if !self.updates.was_told_in_this_beat(id) {
            self.tell_within_budget(id, turn);
        }
    }

    /// A participant has a new track: others know it before its media comes, as long as they are not told too much of it.
    pub(crate) fn announce_track(&mut self, owner: ParticipantId, turn: &mut Turn<'_>) {
        self.note_change(owner, false, turn);
        self.tell_within_budget(owner, turn);
    }

    fn note_change(&mut self, id: ParticipantId, to_itself: bool, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        participant.version += 1;
        self.weigh(id);
        self.updates.note(id, to_itself);
        self.changed(turn);
        turn.timers.set_if_unset(Timer::UpdateBeat(self.id), turn.now + self.update_beat(turn.config));
    }

    pub(crate) fn is_large(&self, config: &SignalingConfig) -> bool {
        self.members.len() > config.small_room
    }

    fn update_beat(&self, config: &SignalingConfig) -> Duration {
        let members = if self.is_large(config) { u32::try_from(self.members.len()).unwrap_or(u32::MAX) } else { 0 };
        let by_size = limits::UPDATE_BEAT_PER_PARTICIPANT.saturating_mul(members);
        by_size.clamp(limits::UPDATE_BEAT, limits::LONGEST_UPDATE_BEAT)
    }

    /// One that changes all the time may not take the others' lines for itself: it waits until it has earned the next.
    fn tell_within_budget(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        if let Some(info) = self.info_within_budget(id, turn) {
            self.tell_of(info, id, turn);
        }
    }

    fn info_within_budget(&mut self, id: ParticipantId, turn: &Turn<'_>) -> Option<proto::ParticipantInfo> {
        let info = self.participant_info(id, turn.config)?;
        self.members.get_mut(id)?.update_budget.take(update_cost(&info), turn.now).then_some(info)
    }

    fn tell_of(&mut self, info: proto::ParticipantInfo, id: ParticipantId, turn: &mut Turn<'_>) {
        let to_itself = self.updates.take(id);
        let is_hidden = self.members.get(id).is_some_and(Participant::is_hidden);
        let conns = self.members.conns(|other| if other.id == id { to_itself } else { !is_hidden });
        turn.out.broadcast(conns, Message::Update(proto::ParticipantUpdate { participants: vec![info] }));
    }

    fn tell_waiting_updates(&mut self, turn: &mut Turn<'_>) {
        self.tell_farewells(turn);
        let mut news = Vec::new();
        for id in self.updates.beat() {
            let Some(info) = self.info_within_budget(id, turn) else { continue };
            if self.is_large(turn.config) && !self.members.get(id).is_some_and(Participant::is_hidden) {
                // To itself too: clients take news of themselves, and a message for each without its own part would be many.
                self.updates.take(id);
                news.push(info);
            } else {
                self.tell_of(info, id, turn);
            }
        }
        self.tell_everybody(news, turn);
        if self.is_large(turn.config) && turn.timers.is_set(Timer::RoomUpdate(self.id)) {
            self.room_update(turn);
        }
        self.tell_first_qualities(turn);
        if !self.updates.is_idle() {
            turn.timers.set(Timer::UpdateBeat(self.id), turn.now + self.update_beat(turn.config));
        }
    }

    fn tell_farewells(&mut self, turn: &mut Turn<'_>) {
        let farewells = self.updates.take_farewells();
        self.tell_everybody(farewells, turn);
    }

    /// An identity comes: whoever had it before must be known to be gone by then.
    pub(crate) fn tell_farewell_of(&mut self, identity: &str, turn: &mut Turn<'_>) {
        if self.updates.has_farewell_of(identity) {
            self.tell_farewells(turn);
        }
    }

    /// News of several participants, in few messages.
    fn tell_everybody(&self, news: Vec<proto::ParticipantInfo>, turn: &mut Turn<'_>) {
        if news.is_empty() {
            return;
        }
        let conns = self.members.conns(|_| true);
        let (mut participants, mut bytes) = (Vec::new(), 0);
        for info in news {
            let len = info.encoded_len();
            if participants.len() >= limits::PARTICIPANTS_PER_UPDATE || bytes + len > limits::UPDATE_BYTES {
                let participants = std::mem::take(&mut participants);
                bytes = 0;
                turn.out.broadcast(conns.clone(), Message::Update(proto::ParticipantUpdate { participants }));
            }
            bytes += len;
            participants.push(info);
        }
        turn.out.broadcast(conns, Message::Update(proto::ParticipantUpdate { participants }));
    }

    /// Something changed; the room's own numbers follow a little later.
    pub(crate) fn changed(&mut self, turn: &mut Turn<'_>) {
        self.sequence += 1;
        // In a large room the next beat takes it along; this is for what makes no beat.
        let beat = if self.is_large(turn.config) { self.update_beat(turn.config) } else { Duration::ZERO };
        turn.timers.set_if_unset(Timer::RoomUpdate(self.id), turn.now + limits::ROOM_UPDATE_DELAY + beat);
    }

    fn room_update(&mut self, turn: &mut Turn<'_>) {
        self.departures.prune(turn.now, turn.config);
        self.reliable_log.prune_all(turn.now);
        self.tell_room(turn);
    }

    /// Tells everybody about the room itself.
    pub(crate) fn tell_room(&self, turn: &mut Turn<'_>) {
        turn.timers.clear(Timer::RoomUpdate(self.id));
        let room = Some(self.info(turn));
        turn.out.broadcast(self.members.conns(|_| true), Message::RoomUpdate(proto::RoomUpdate { room }));
    }

    /// A participant came: the room is in use.
    pub(crate) fn note_arrival(&mut self, turn: &mut Turn<'_>) {
        if self.is_in_use() {
            self.was_joined = true;
            turn.timers.clear(Timer::RoomIdle(self.id));
        }
    }

    /// Takes a participant out, with everything that is its own.
    pub(crate) fn remove(&mut self, id: ParticipantId, reason: EndReason, farewell: Farewell, turn: &mut Turn<'_>) {
        let Some(mut gone) = self.members.remove(id) else { return };
        let (told, reason) = (journal::told(reason), gone.precisely(reason, turn.now));
        for track in self.tracks.remove_owner(id) {
            for (_, subscriptions, _) in self.members.wishes_mut() {
                subscriptions.forget(track.id);
            }
        }
        if let Some(conn) = gone.session.detach() {
            let leave = match farewell {
                Farewell::Leave(action) => session::leave_request(gone.session.protocol(), told, action),
                Farewell::Cut => None,
            };
            if let Some(leave) = leave {
                turn.out.send(conn, Message::Leave(session::with_regions(leave, turn.config)));
            }
            turn.out.close(conn, if farewell == Farewell::Cut { CloseReason::Resume } else { CloseReason::Ended(reason) });
            turn.directory.unseat(conn);
        }
        turn.out.media(Command::Leave { participant: id });
        turn.timers.clear_participant(id);
        turn.directory.forget(id);

        if reason != EndReason::DuplicateIdentity && gone.is_dependent() {
            turn.news.push(News::Left(self.id, gone.grants.identity.clone(), told));
        }
        gone.version += 1;
        self.forget_participant(id, turn);
        self.changed(turn);
        if !gone.is_hidden() {
            self.tell_departure(id, gone.farewell(told, &turn.config.region), turn);
        }
        let (was_connected, after) = (gone.connected_at.is_some(), turn.now.saturating_duration_since(gone.stays_since));
        turn.out.note(id, Happening::Ended { reason, was_connected, after });
        tracing::info!(participant = gone.sid, reason = reason.as_str(), "participant left");
    }

    /// What the room remembers of somebody who is not in it any more.
    pub(crate) fn forget_participant(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        self.forget_data_tracks_of(id, turn);
        self.speakers.remove(id);
        self.qualities.forget(id);
        self.profiles.forget(id);
        self.updates.forget(id);
        self.end_calls_to(id, turn);
        if !self.is_in_use() && !turn.timers.is_set(Timer::RoomIdle(self.id)) {
            self.idle_since = turn.now;
            turn.timers.set(Timer::RoomIdle(self.id), turn.now + self.idle_timeout());
        }
    }

    /// Others stop seeing a participant: because it left, or because it is hidden from here on.
    pub(crate) fn tell_departure(&mut self, id: ParticipantId, farewell: proto::ParticipantInfo, turn: &mut Turn<'_>) {
        // Newer clients take the next update with the same identity as the replacement; a departure in between would end
        // what the identity stands for (LiveKit: `IsCloseNotifySkippable`).
        let is_replaced = farewell.disconnect_reason() == DisconnectReason::DuplicateIdentity;
        let conns =
            self.members.conns(|other| other.id != id && !(is_replaced && other.session.protocol() > PROTOCOL_BEFORE_IDENTITY_RECONNECT));
        self.departures.note(turn.now, &farewell, turn.config);
        // Who only listened is missed by nobody at once; who is hidden from here on is still there, and told of itself.
        if self.is_large(turn.config) && !is_replaced && !farewell.is_publisher && self.members.get(id).is_none() {
            self.updates.note_farewell(farewell);
            turn.timers.set_if_unset(Timer::UpdateBeat(self.id), turn.now + self.update_beat(turn.config));
            return;
        }
        turn.out.broadcast(conns, Message::Update(proto::ParticipantUpdate { participants: vec![farewell] }));
    }

    /// Everybody has to go.
    pub(crate) fn dismiss(&mut self, reason: EndReason, action: Action, turn: &mut Turn<'_>) {
        for id in self.members.ids() {
            self.remove(id, reason, Farewell::Leave(action), turn);
        }
    }

    /// An event of the media node about this room or somebody in it.
    pub(crate) fn media_event(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Answer { participant, id, sdp, subscribed } => self.node_answer(participant, id, sdp, subscribed, turn),
            Event::Offer { participant, id, sdp } => self.node_offer(participant, id, sdp, turn),
            Event::NegotiationFailed { participant, role, message } => {
                tracing::debug!(participant = ids::participant_sid(participant), ?role, error = message, "negotiation failed");
                self.negotiation_failed(participant, turn);
            }
            Event::Transport { participant, role, state } => self.transport_changed(participant, role, state, turn),
            Event::TrackReady { participant, track, mid, mime, simulcast } => {
                self.track_ready(participant, track, MediaFound { mid, mime, simulcast }, turn);
            }
            Event::TrackEnded { participant, track } => self.track_ended(participant, track, turn),
            Event::Subscription { participant, track, error } => self.subscription_event(participant, track, error, turn),
            Event::Data { participant, delivery, payload } => self.data_received(participant, delivery, &payload, turn),
            Event::CodecReady { participant, track, mid, mime, simulcast } => {
                self.codec_ready(participant, track, MediaFound { mid, mime, simulcast }, turn);
            }
            Event::WantedLayers { participant, track, codecs } => self.wanted_layers(participant, track, codecs, turn),
            Event::Speakers { room: _, speakers } => self.speakers_changed(&speakers, turn),
            Event::StreamState { participant, track, is_paused } => self.stream_state_changed(participant, track, is_paused, turn),
            Event::ConnectionQuality { participant, quality, score, direction, cause } => {
                self.quality_found(participant, Judgement { quality, score, direction, cause }, turn);
            }
            Event::MediaSections { participant, audio, video } => self.media_sections(participant, (audio, video), turn),
            Event::MoveRefused { participant } => self.move_refused(participant, turn),
            Event::Samples(_) => {}
        }
    }

    /// A deadline of this room or somebody in it has come.
    pub(crate) fn timer_fired(&mut self, timer: Timer, turn: &mut Turn<'_>) {
        match timer {
            Timer::Silence(id) => self.check_silence(id, turn),
            Timer::SignalGrace(id) => self.remove(id, EndReason::SignalLost, Farewell::Cut, turn),
            Timer::MediaGrace(id) => {
                self.remove(id, self.why_without_media(id, EndReason::MediaLost), Farewell::Leave(Action::Disconnect), turn)
            }
            Timer::MediaLost(id) => self.ask_to_resume(id, turn),
            Timer::Join(id) => {
                self.remove(id, self.why_without_media(id, EndReason::JoinTimeout), Farewell::Leave(Action::Disconnect), turn)
            }
            Timer::Token(id) => {
                turn.timers.set(timer, turn.now + turn.config.token_refresh_interval);
                self.refresh_token(id, turn);
            }
            Timer::SimulatedSpeech(id) => self.end_simulated_speech(id, turn),
            Timer::RoomIdle(_) => self.close_if_idle(turn),
            Timer::RoomUpdate(_) => self.room_update(turn),
            Timer::UpdateBeat(_) => self.tell_waiting_updates(turn),
            Timer::QualityBeat(_) => self.tell_qualities(turn),
            Timer::Calls(_) => self.end_late_calls(turn),
            // Not of a room.
            Timer::Job(_) | Timer::Worker(_) => {}
        }
    }

    /// What a client that never had media knows of it is less than the node knows.
    fn why_without_media(&self, id: ParticipantId, otherwise: EndReason) -> EndReason {
        let participant = self.members.get(id).filter(|participant| participant.connected_at.is_none());
        participant.and_then(|participant| participant.media_failure).map_or(otherwise, journal::of_media)
    }

    fn check_silence(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        self.reliable_log.prune_all(turn.now);
        let Some(participant) = self.members.get(id) else { return };
        let due = participant.session.last_heard() + turn.config.silence_timeout();
        if due > turn.now {
            turn.timers.set(Timer::Silence(id), due);
        } else {
            self.drop_link(id, CloseReason::Silent, turn);
        }
    }

    /// The idle time is over: agents and recorders that are left have to go too.
    fn close_if_idle(&mut self, turn: &mut Turn<'_>) {
        if !self.is_in_use() {
            self.dismiss(EndReason::RoomClosed, Action::Disconnect, turn);
            self.is_over = true;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Earliest time of something that a client that was last heard at `last_heard` may have missed: what was on its way
    /// then may be lost, for as long as the client itself waits for an answer.
    pub(crate) fn missed_since(last_heard: Instant, config: &SignalingConfig) -> Option<Instant> {
        last_heard.checked_sub(config.ping_timeout)
    }
}

/// Clients of protocol 12 and above take an update with a known identity and a new sid as the same person.
const PROTOCOL_BEFORE_IDENTITY_RECONNECT: i32 = 11;

fn update_cost(info: &proto::ParticipantInfo) -> u32 {
    u32::try_from(info.encoded_len() / limits::UPDATE_COST_BYTES).unwrap_or(u32::MAX).saturating_add(1)
}

fn random_trailer(rng: &mut dyn Rng) -> Vec<u8> {
    let mut trailer = vec![0; 16];
    rng.fill_bytes(&mut trailer);
    trailer
}
