//! Subscriptions across a room: who gets which track, as rights, gates and wishes change.
//!
//! Invariant: the media node was asked for exactly the pairs whose phase is live, and a pair is live only while the track
//! is ready, its owner is shown, and the subscriber is allowed.

use livekit_protocol as proto;
use livekit_protocol::{SubscriptionError, signal_response::Message};
use sfu_api::{Command, MediaLabel, ParticipantId, TrackId, VideoWish};

use crate::{
    ids, limits,
    room::Room,
    subscriptions::{Phase, View},
    turn::Turn,
};

/// What stands between a participant and a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Open,
    /// The subscriber may not subscribe to anything.
    NoRight,
    /// The publisher does not let it.
    Gated,
    /// There is no such track for it.
    None,
}

impl Room {
    /// A newcomer gets what is there, if it wants everything.
    pub(crate) fn subscribe_to_all(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        if !self.members.get(id).is_some_and(|participant| participant.auto_subscribe) {
            return;
        }
        let tracks: Vec<_> = self.tracks.all_ready().filter(|track| track.owner != id).map(|track| track.id).collect();
        for track in tracks {
            self.want(id, track, false, turn);
        }
    }

    /// A new track goes to everybody who wants everything.
    pub(crate) fn subscribe_all_to(&mut self, track: TrackId, turn: &mut Turn<'_>) {
        let subscribers: Vec<_> =
            self.members.iter().filter(|participant| participant.auto_subscribe).map(|participant| participant.id).collect();
        for subscriber in subscribers {
            self.want(subscriber, track, false, turn);
        }
    }

    pub(crate) fn update_subscription(
        &mut self,
        id: ParticipantId,
        update: &proto::UpdateSubscription,
        tell_errors: bool,
        turn: &mut Turn<'_>,
    ) {
        let by_participant = update.participant_tracks.iter().flat_map(|tracks| &tracks.track_sids);
        for sid in update.track_sids.iter().chain(by_participant).take(limits::SIDS_PER_MESSAGE) {
            let track = ids::parse_track_sid(sid);
            match (track, update.subscribe) {
                (Some(track), true) => {
                    if !self.want(id, track, tell_errors, turn) && tell_errors {
                        self.tell_subscription_error(id, sid.clone(), SubscriptionError::SeTrackNotfound, turn);
                    }
                }
                (Some(track), false) => self.unsubscribe(id, track, turn),
                (None, true) if tell_errors => self.tell_subscription_error(id, sid.clone(), SubscriptionError::SeTrackNotfound, turn),
                (None, _) => turn.counters.invalid_messages += 1,
            }
        }
    }

    /// A participant wants a track. False if there is no such track for it.
    fn want(&mut self, id: ParticipantId, track: TrackId, tell_errors: bool, turn: &mut Turn<'_>) -> bool {
        if self.access(id, track) == Access::None {
            return false;
        }
        let Some(participant) = self.members.get_mut(id) else { return false };
        if participant.subscriptions.phase(track).is_none() {
            if participant.subscriptions.len() >= limits::SUBSCRIPTIONS_PER_PARTICIPANT {
                if tell_errors && let Some(sid) = self.tracks.get(track).map(|track| track.info.sid.clone()) {
                    self.tell_subscription_error(id, sid, SubscriptionError::SeUnknown, turn);
                }
                return true;
            }
            participant.subscriptions.set_phase(track, Phase::Withheld);
        }
        let was_told = participant.subscriptions.was_gated(track);
        self.reconsider(id, track, turn);
        // Who asks is answered, also the second time.
        let is_answered = match self.access(id, track) {
            Access::Gated => !was_told,
            Access::NoRight => false,
            Access::Open | Access::None => true,
        };
        if tell_errors && !is_answered {
            self.tell_gate(id, track, false, turn);
        }
        true
    }

    fn unsubscribe(&mut self, id: ParticipantId, track: TrackId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        if participant.subscriptions.is_live(track) {
            turn.out.media(Command::Unsubscribe { participant: id, track });
        }
        participant.subscriptions.end(track);
    }

    /// Makes a wanted subscription live or withheld, as access is.
    fn reconsider(&mut self, id: ParticipantId, track: TrackId, turn: &mut Turn<'_>) {
        let access = self.access(id, track);
        let Some(participant) = self.members.get_mut(id) else { return };
        if participant.subscriptions.phase(track).is_none() {
            return;
        }
        match (access, participant.subscriptions.is_live(track)) {
            (Access::Open, false) => {
                participant.subscriptions.set_phase(track, Phase::Requested);
                if participant.subscriptions.was_gated(track) {
                    self.tell_gate(id, track, true, turn);
                }
                self.subscribe_at_node(id, track, turn);
            }
            (Access::NoRight | Access::Gated | Access::None, true) => {
                participant.subscriptions.set_phase(track, Phase::Withheld);
                turn.out.media(Command::Unsubscribe { participant: id, track });
                if access == Access::Gated {
                    self.tell_gate(id, track, false, turn);
                }
            }
            (Access::Gated, false) if !participant.subscriptions.was_gated(track) => self.tell_gate(id, track, false, turn),
            _ => {}
        }
    }

    pub(crate) fn may_subscribe(&self, id: ParticipantId, track: TrackId) -> bool {
        self.access(id, track) == Access::Open
    }

    fn access(&self, id: ParticipantId, track: TrackId) -> Access {
        let Some(subscriber) = self.members.get(id) else { return Access::None };
        let Some(track) = self.tracks.ready(track).filter(|track| track.owner != id) else { return Access::None };
        let Some(owner) = self.members.get(track.owner).filter(|owner| !owner.is_hidden()) else { return Access::None };
        if !subscriber.grants.can_subscribe {
            Access::NoRight
        } else if !owner.gate.allows(&subscriber.grants, track.id) {
            Access::Gated
        } else {
            Access::Open
        }
    }

    /// Rights of a subscriber changed.
    pub(crate) fn reconsider_subscriber(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        let wanted: Vec<_> = participant.subscriptions.wanted().map(|(track, _)| track).collect();
        for track in wanted {
            self.reconsider(id, track, turn);
        }
    }

    /// A publisher changed who may subscribe, or is shown or hidden from here on.
    pub(crate) fn reconsider_publisher(&mut self, owner: ParticipantId, turn: &mut Turn<'_>) {
        let tracks: Vec<_> = self.tracks.of(owner).map(|track| track.id).collect();
        for track in tracks {
            for subscriber in self.members.ids() {
                self.reconsider(subscriber, track, turn);
            }
        }
    }

    fn subscribe_at_node(&self, id: ParticipantId, track: TrackId, turn: &mut Turn<'_>) {
        let (Some(participant), Some(track)) = (self.members.get(id), self.tracks.get(track)) else { return };
        let Some(owner) = self.members.get(track.owner) else { return };
        // `PA_…|TR_…` names the track where a browser makes up its own track id; `PA_…|camera` makes browsers keep the
        // tracks of one participant in sync.
        let is_synced =
            self.settings.sync_streams && participant.session.protocol() > PROTOCOL_BEFORE_SYNC_STREAMS && is_sdp_token(&track.info.stream);
        let part = if is_synced { &track.info.stream } else { &track.info.sid };
        let label = MediaLabel { stream_id: format!("{}|{part}", owner.sid), track_id: track.info.sid.clone() };
        turn.out.media(Command::Subscribe { participant: id, track: track.id, label });
        let wish = participant.subscriptions.view(track.id, participant.adaptive_stream).wish(track.kind, &track.info);
        if wish != VideoWish::default() {
            turn.out.media(Command::SetWish { participant: id, track: track.id, wish });
        }
    }

    pub(crate) fn update_track_settings(&mut self, id: ParticipantId, settings: &proto::UpdateTrackSettings, turn: &mut Turn<'_>) {
        let view = View::from_proto(settings);
        for sid in settings.track_sids.iter().take(limits::SIDS_PER_MESSAGE) {
            let Some(track) = ids::parse_track_sid(sid).and_then(|track| self.tracks.ready(track)) else { continue };
            let Some(participant) = self.members.get_mut(id).filter(|participant| participant.id != track.owner) else { continue };
            participant.subscriptions.set_view(track.id, view);
            if participant.subscriptions.is_live(track.id) {
                turn.out.media(Command::SetWish { participant: id, track: track.id, wish: view.wish(track.kind, &track.info) });
            }
        }
    }

    pub(crate) fn disable_view(&mut self, id: ParticipantId, sid: &str, turn: &mut Turn<'_>) {
        let Some(track) = ids::parse_track_sid(sid).and_then(|track| self.tracks.ready(track)) else { return };
        let Some(participant) = self.members.get_mut(id).filter(|participant| participant.id != track.owner) else { return };
        participant.subscriptions.disable(track.id);
        if participant.subscriptions.is_live(track.id) {
            let wish = participant.subscriptions.view(track.id, participant.adaptive_stream).wish(track.kind, &track.info);
            turn.out.media(Command::SetWish { participant: id, track: track.id, wish });
        }
    }

    /// The media node says how a subscription went.
    pub(crate) fn subscription_event(
        &mut self,
        id: ParticipantId,
        track: TrackId,
        error: Option<sfu_api::SubscriptionError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(participant) = self.members.get_mut(id).filter(|participant| participant.subscriptions.is_live(track)) else {
            turn.counters.stale_events += 1;
            return;
        };
        let Some(error) = error else {
            participant.subscriptions.set_phase(track, Phase::Active);
            self.tell_first_subscriber(track, turn);
            self.tell_publishers_quality(id, track, turn);
            return;
        };
        participant.subscriptions.end(track);
        let Some(sid) = self.tracks.get(track).map(|track| track.info.sid.clone()) else { return };
        let error = match error {
            sfu_api::SubscriptionError::TrackUnknown => SubscriptionError::SeTrackNotfound,
            sfu_api::SubscriptionError::CodecUnsupported => SubscriptionError::SeCodecUnsupported,
            sfu_api::SubscriptionError::Limit => SubscriptionError::SeUnknown,
        };
        self.tell_subscription_error(id, sid, error, turn);
    }

    /// With the first track of a publisher its subscriber learns how well it is connected.
    fn tell_publishers_quality(&mut self, id: ParticipantId, track: TrackId, turn: &mut Turn<'_>) {
        let (Some(participant), Some(track)) = (self.members.get(id), self.tracks.get(track)) else { return };
        let is_active = |other: TrackId| participant.subscriptions.phase(other) == Some(Phase::Active);
        if self.tracks.of(track.owner).filter(|other| is_active(other.id)).count() == 1 {
            let owner = track.owner;
            self.tell_quality_of(owner, id, turn);
        }
    }

    /// The media node has paused a subscription, or goes on with it.
    pub(crate) fn stream_state_changed(&mut self, id: ParticipantId, track: TrackId, is_paused: bool, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id).filter(|participant| participant.subscriptions.is_live(track)) else {
            turn.counters.stale_events += 1;
            return;
        };
        participant.subscriptions.set_paused(track, is_paused);
        let info = self.stream_state(track, is_paused);
        self.tell_states(id, info.into_iter().collect(), turn);
    }

    /// A client came back: states may have changed while it was away.
    pub(crate) fn tell_stream_states(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        let states = participant.subscriptions.stream_states().filter_map(|(track, is_paused)| self.stream_state(track, is_paused));
        self.tell_states(id, states.collect(), turn);
    }

    fn stream_state(&self, track: TrackId, is_paused: bool) -> Option<proto::StreamStateInfo> {
        let track = self.tracks.get(track)?;
        let state = if is_paused { proto::StreamState::Paused } else { proto::StreamState::Active };
        Some(proto::StreamStateInfo {
            participant_sid: self.members.get(track.owner)?.sid.clone(),
            track_sid: track.info.sid.clone(),
            state: state.into(),
        })
    }

    fn tell_states(&self, id: ParticipantId, stream_states: Vec<proto::StreamStateInfo>, turn: &mut Turn<'_>) {
        if let Some(conn) = self.members.conn(id).filter(|_| !stream_states.is_empty()) {
            turn.out.send(conn, Message::StreamStateUpdate(proto::StreamStateUpdate { stream_states }));
        }
    }

    fn tell_first_subscriber(&mut self, track: TrackId, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.get_mut(track).filter(|track| !track.subscriber_told) else { return };
        let Some(conn) = self.members.conn(track.owner) else { return };
        track.subscriber_told = true;
        turn.out.send(conn, Message::TrackSubscribed(proto::TrackSubscribed { track_sid: track.info.sid.clone() }));
    }

    fn tell_subscription_error(&self, id: ParticipantId, track_sid: String, error: SubscriptionError, turn: &mut Turn<'_>) {
        let Some(conn) = self.members.conn(id) else { return };
        turn.out.send(conn, Message::SubscriptionResponse(proto::SubscriptionResponse { track_sid, err: error.into() }));
    }

    fn tell_gate(&mut self, id: ParticipantId, track: TrackId, allowed: bool, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.get(track) else { return };
        let Some(participant_sid) = self.members.get(track.owner).map(|owner| owner.sid.clone()) else { return };
        let Some(participant) = self.members.get_mut(id) else { return };
        participant.subscriptions.mark_gated(track.id);
        if let Some(conn) = participant.session.conn() {
            let update = proto::SubscriptionPermissionUpdate { participant_sid, track_sid: track.info.sid.clone(), allowed };
            turn.out.send(conn, Message::SubscriptionPermissionUpdate(update));
        }
    }
}

/// The publisher chose it; it goes into a line of the subscriber's session description.
fn is_sdp_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A stream id that is not a track's is understood by clients of protocol 10 and above.
const PROTOCOL_BEFORE_SYNC_STREAMS: i32 = 9;
