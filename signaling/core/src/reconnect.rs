//! Resume: a client comes back on a new connection and must know exactly what the server knows.
//!
//! It is told who left while it was away, a snapshot of everybody who is here, and everything of its own that changed.
//! Updates carry versions, so telling twice changes nothing; telling of a departure whose identity is here again would,
//! and is left out: the snapshot replaces it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use livekit_protocol as proto;
use livekit_protocol::{
    DisconnectReason, TrackPublishedResponse, leave_request::Action, participant_info::State, signal_response::Message,
};
use sfu_api::{Command, ParticipantId};
use signaling_api::EndReason;

use crate::{
    CloseReason, ConnId, Happening, JoinParams, SignalingConfig, limits,
    room::{Farewell, Room},
    timers::Timer,
    tracks::Stage,
    turn::Turn,
};

/// Who left lately; oldest first. Bounded by time and number.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    log: VecDeque<Departure>,
    /// Departures up to this time may be missing because there were too many.
    forgotten_until: Option<Instant>,
}

/// What a client needs to take somebody out of its picture. Not the profile, which may have 128 kB.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Departure {
    at: Instant,
    sid: String,
    identity: String,
    version: u32,
    reason: DisconnectReason,
}

impl Departures {
    pub(crate) fn note(&mut self, now: Instant, info: &proto::ParticipantInfo, config: &SignalingConfig) {
        self.prune(now, config);
        if self.log.len() >= limits::DEPARTURES {
            self.forgotten_until = self.log.pop_front().map(|departure| departure.at);
        }
        self.log.push_back(Departure {
            at: now,
            sid: info.sid.clone(),
            identity: info.identity.clone(),
            version: info.version,
            reason: info.disconnect_reason(),
        });
    }

    /// Forgets what nobody can ask for any more.
    pub(crate) fn prune(&mut self, now: Instant, config: &SignalingConfig) {
        // Nobody who resumes was heard before this: silence is noticed, and the grace period ends.
        let needed = config.silence_timeout() + config.resume_grace + config.ping_timeout + MARGIN;
        while self.log.front().is_some_and(|departure| now.saturating_duration_since(departure.at) > needed) {
            self.log.pop_front();
        }
        if self.log.is_empty() {
            self.log.shrink_to_fit();
        }
    }

    /// Those who left at `from` or later; none if that is not known completely.
    fn since(&self, from: Option<Instant>) -> Option<impl Iterator<Item = &Departure>> {
        let is_complete = self.forgotten_until.is_none_or(|until| from.is_some_and(|from| until < from));
        is_complete.then(|| self.log.iter().filter(move |departure| from.is_none_or(|from| departure.at >= from)))
    }
}

impl Departure {
    fn info(&self) -> proto::ParticipantInfo {
        proto::ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.identity.clone(),
            version: self.version,
            state: State::Disconnected.into(),
            disconnect_reason: self.reason.into(),
            ..Default::default()
        }
    }
}

impl Room {
    /// A participant of this room comes back on `conn`.
    pub(crate) fn resume(&mut self, id: ParticipantId, conn: ConnId, request: &JoinParams, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        let missed_since = Self::missed_since(participant.session.last_heard(), turn.config);
        participant.shown.forget();
        if let Some(before) = participant.session.attach(conn, request.client.clone(), turn.now) {
            turn.directory.unseat(before);
            turn.out.close(before, CloseReason::Resumed);
        }
        turn.directory.seat(conn, id);
        turn.timers.clear(Timer::SignalGrace(id));
        turn.timers.clear(Timer::MediaLost(id));
        turn.timers.set(Timer::Silence(id), turn.now + turn.config.silence_timeout());
        turn.timers.set(Timer::Token(id), turn.now + turn.config.token_refresh_interval);
        if turn.timers.is_set(Timer::MediaGrace(id)) {
            // The client is here to repair its media: it gets the time that it needs.
            turn.timers.set(Timer::MediaGrace(id), turn.now + turn.config.resume_grace);
        }
        if participant.session.takes_simulated_drop(true, turn.now) {
            self.drop_link(id, CloseReason::Resume, turn);
            return;
        }
        let last_message_seq = participant.last_data_sequence;
        self.departures.prune(turn.now, turn.config);
        turn.out.note(id, Happening::Resumed { conn });

        let Some(departed) = self.missed_departures(id, missed_since) else {
            self.start_anew(id, EndReason::StateMismatch, turn);
            return;
        };
        let reconnect = proto::ReconnectResponse {
            ice_servers: turn.config.ice_servers_for(&crate::ids::participant_sid(id), turn.unix_now),
            server_info: Some(turn.config.server_info()),
            last_message_seq,
            ..Default::default()
        };
        turn.out.send(conn, Message::Reconnect(reconnect));
        if !departed.is_empty() {
            turn.out.send(conn, Message::Update(proto::ParticipantUpdate { participants: departed }));
        }
        self.tell_snapshot(id, conn, turn);
        self.tell_own_changes(id, conn, turn);
        self.tell_stream_states(id, turn);
        self.tell_handles_again(id, turn);
        self.quality_may_change(id, turn);
        self.tell_all_qualities(id, turn);
        if self.members.get(id).is_some_and(|participant| participant.grants.can_subscribe) {
            turn.out.media(Command::RestartIce { participant: id });
        }
        if self.members.get_mut(id).is_some_and(|participant| participant.session.takes_simulated_drop(false, turn.now)) {
            self.drop_link(id, CloseReason::Resume, turn);
            return;
        }
        self.receive_all(id, &request.messages, turn);
    }

    /// Departures that the client may not know of and whose identity is not here again.
    fn missed_departures(&self, id: ParticipantId, since: Option<Instant>) -> Option<Vec<proto::ParticipantInfo>> {
        let departed = self.departures.since(since)?;
        Some(
            departed
                .filter(|departure| {
                    self.members
                        .id_of(&departure.identity)
                        .and_then(|here| self.members.get(here))
                        .is_none_or(|here| here.is_hidden() && here.id != id)
                })
                .map(Departure::info)
                .collect(),
        )
    }

    fn tell_snapshot(&self, id: ParticipantId, conn: ConnId, turn: &mut Turn<'_>) {
        let mut participants = self.others(id, turn.config);
        participants.extend(self.participant_info(id, turn.config));
        turn.out.send(conn, Message::Update(proto::ParticipantUpdate { participants }));
        let room = Some(self.info(turn));
        turn.out.send(conn, Message::RoomUpdate(proto::RoomUpdate { room }));
        let shown = self.members.iter().filter(|participant| !participant.is_hidden()).map(|participant| participant.id);
        turn.out.send(conn, Message::SpeakersChanged(proto::SpeakersChanged { speakers: self.speakers.all(shown) }));
    }

    /// What happened to the client's own tracks and subscriptions while it was away.
    fn tell_own_changes(&mut self, id: ParticipantId, conn: ConnId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        let untold = participant.session.take_untold();
        for track_sid in untold.track_ends {
            turn.out.send(conn, Message::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid }));
        }
        let own: Vec<_> = self.tracks.of(id).map(|track| track.id).collect();
        for track in own {
            let is_subscribed =
                self.members.iter().any(|other| other.subscriptions.phase(track) == Some(crate::subscriptions::Phase::Active));
            let Some(track) = self.tracks.get_mut(track) else { continue };
            if track.stage == Stage::Pending {
                // The answer to its announcement may have been lost.
                let response = TrackPublishedResponse { cid: track.cid.clone(), track: Some(track.info.clone()) };
                turn.out.send(conn, Message::TrackPublished(response));
            }
            if !track.wanted.is_empty() {
                turn.out.send(conn, Message::SubscribedQualityUpdate(track.quality_update()));
            }
            if std::mem::take(&mut track.mute_untold) {
                let mute = proto::MuteTrackRequest { sid: track.info.sid.clone(), muted: track.info.muted };
                turn.out.send(conn, Message::Mute(mute));
            }
            if is_subscribed && !std::mem::replace(&mut track.subscriber_told, true) {
                turn.out.send(conn, Message::TrackSubscribed(proto::TrackSubscribed { track_sid: track.info.sid.clone() }));
            }
        }
        self.tell_gates(id, conn, turn);
        if let Some(answer) = untold.answer {
            turn.out.send(conn, Message::Answer(answer));
        }
    }

    fn tell_gates(&self, id: ParticipantId, conn: ConnId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        for track in participant.subscriptions.gated().filter_map(|track| self.tracks.ready(track)) {
            let Some(owner) = self.members.get(track.owner) else { continue };
            let update = proto::SubscriptionPermissionUpdate {
                participant_sid: owner.sid.clone(),
                track_sid: track.info.sid.clone(),
                allowed: self.may_subscribe(id, track.id),
            };
            turn.out.send(conn, Message::SubscriptionPermissionUpdate(update));
        }
    }

    /// What the client believes to have published and subscribed to. What it wants is done; what it believes wrongly about
    /// its own tracks can't be mended.
    pub(crate) fn sync_state(&mut self, id: ParticipantId, state: &proto::SyncState, turn: &mut Turn<'_>) {
        let is_known = |published: &TrackPublishedResponse| {
            let sid = published.track.as_ref().map(|info| info.sid.as_str());
            sid.is_some_and(|sid| self.tracks.of(id).any(|track| track.info.sid == sid))
        };
        let is_within_limits = state.publish_tracks.len() <= limits::TRACKS_PER_PARTICIPANT
            && state.publish_data_tracks.len() <= limits::TRACKS_PER_PARTICIPANT;
        let is_right = is_within_limits
            && state.publish_tracks.iter().all(is_known)
            && state.publish_data_tracks.iter().all(|published| self.knows_data_track(id, published));
        if !is_right {
            self.start_anew(id, EndReason::StateMismatch, turn);
            return;
        }
        for sid in state.track_sids_disabled.iter().take(limits::SIDS_PER_MESSAGE) {
            self.disable_view(id, sid, turn);
        }
        if let Some(subscription) = &state.subscription {
            self.update_subscription(id, subscription, false, turn);
        }
        if let Some(subscription) = &state.data_subscription {
            self.update_data_subscription(id, subscription, turn);
        }
        self.replay_reliable(id, &state.datachannel_receive_states, turn);
    }

    /// The connection is lost or given up; the participant stays for the grace period.
    pub(crate) fn drop_link(&mut self, id: ParticipantId, reason: CloseReason, turn: &mut Turn<'_>) {
        let Some(conn) = self.members.get_mut(id).and_then(|participant| participant.session.detach()) else { return };
        turn.out.close(conn, reason);
        turn.directory.unseat(conn);
        self.await_resume(id, turn);
    }

    /// The connection is gone by itself.
    pub(crate) fn link_lost(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        if self.members.get_mut(id).and_then(|participant| participant.session.detach()).is_some() {
            self.await_resume(id, turn);
        }
    }

    fn await_resume(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        turn.out.note(id, Happening::Lost { is_media: false });
        self.quality_may_change(id, turn);
        turn.timers.clear(Timer::Silence(id));
        turn.timers.clear(Timer::Token(id));
        turn.timers.set(Timer::SignalGrace(id), turn.now + turn.config.resume_grace);
    }

    /// A state that can't be mended: the client joins again as a new participant.
    pub(crate) fn start_anew(&mut self, id: ParticipantId, reason: EndReason, turn: &mut Turn<'_>) {
        turn.counters.full_reconnects += 1;
        self.remove(id, reason, Farewell::Leave(Action::Reconnect), turn);
    }
}

/// Timers fire a little late.
const MARGIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_departure_is_kept_without_the_profile_and_not_for_good() {
        let (start, config) = (crate::tests::start(), SignalingConfig::default());
        let info = proto::ParticipantInfo {
            sid: "PA_1".to_owned(),
            identity: "alice".to_owned(),
            version: 7,
            metadata: "x".repeat(limits::METADATA_BYTES),
            disconnect_reason: DisconnectReason::ClientInitiated.into(),
            ..Default::default()
        };
        let mut departures = Departures::default();
        departures.note(start, &info, &config);
        let kept: Vec<_> = departures.since(None).into_iter().flatten().map(Departure::info).collect();
        assert_eq!(kept, [proto::ParticipantInfo { metadata: String::new(), state: State::Disconnected.into(), ..info }]);
        departures.prune(start + Duration::from_secs(3600), &config);
        assert_eq!(departures.log.capacity(), 0);
    }
}
