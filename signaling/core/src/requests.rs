//! A client's messages: which part answers which.

use livekit_protocol as proto;
use livekit_protocol::{
    DisconnectReason, leave_request::Action, request_response, request_response::Reason, signal_request, signal_response::Message,
};
use sfu_api::ParticipantId;
use signaling_api::EndReason;

use crate::{
    CloseReason,
    permissions::TrackGate,
    room::{Farewell, Room},
    turn::Turn,
};

impl Room {
    /// A message came on the participant's connection.
    pub(crate) fn receive(&mut self, id: ParticipantId, request: proto::SignalRequest, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        if participant.session.hear(work(&request), turn.now) {
            self.handle_request(id, request, turn);
        } else {
            self.drop_link(id, CloseReason::Flood, turn);
        }
    }

    #[expect(deprecated, reason = "older clients send them")]
    fn handle_request(&mut self, id: ParticipantId, request: proto::SignalRequest, turn: &mut Turn<'_>) {
        use signal_request::Message as Request;
        let Some(message) = request.message else {
            turn.counters.unknown_messages += 1;
            return;
        };
        match message {
            Request::Offer(offer) => self.client_offer(id, offer, turn),
            Request::Answer(answer) => self.client_answer(id, answer, turn),
            // The node is ICE-lite. Layers follow from the media.
            Request::Trickle(_) | Request::UpdateLayers(_) => {}
            Request::AddTrack(add) => self.add_track(id, add, turn),
            Request::Mute(mute) => self.client_mute(id, mute, turn),
            Request::Subscription(update) => self.update_subscription(id, &update, true, turn),
            Request::TrackSetting(settings) => self.update_track_settings(id, &settings, turn),
            Request::Leave(leave) => self.client_leave(id, &leave, turn),
            Request::SubscriptionPermission(permission) => self.set_gate(id, &permission, turn),
            Request::SyncState(state) => self.sync_state(id, &state, turn),
            Request::Simulate(simulate) => self.simulate(id, simulate, turn),
            Request::Ping(_) => self.tell(id, Message::Pong(turn.unix_millis()), turn),
            Request::PingReq(ping) => {
                let pong = proto::Pong { last_ping_timestamp: ping.timestamp, timestamp: turn.unix_millis() };
                self.tell(id, Message::PongResp(pong), turn);
            }
            Request::UpdateMetadata(update) => self.client_profile(id, update, turn),
            Request::UpdateAudioTrack(update) => self.update_audio_track(id, update, turn),
            Request::UpdateVideoTrack(update) => self.update_video_track(id, update, turn),
            Request::PublishDataTrackRequest(publish) => self.publish_data_track(id, publish, turn),
            Request::UnpublishDataTrackRequest(unpublish) => self.unpublish_data_track(id, unpublish, turn),
            Request::UpdateDataSubscription(update) => self.update_data_subscription(id, &update, turn),
            Request::StoreDataBlobRequest(store) => self.store_blob(id, store, turn),
            Request::GetDataBlobRequest(get) => self.get_blob(id, &get, turn),
        }
    }

    fn client_leave(&mut self, id: ParticipantId, leave: &proto::LeaveRequest, turn: &mut Turn<'_>) {
        let reason = match leave.reason() {
            DisconnectReason::UserUnavailable => EndReason::NotAvailable,
            DisconnectReason::UserRejected => EndReason::Declined,
            DisconnectReason::AgentError => EndReason::AgentFailed,
            _ => EndReason::ClientLeft,
        };
        self.remove(id, reason, Farewell::Leave(Action::Disconnect), turn);
    }

    fn client_profile(&mut self, id: ParticipantId, update: proto::UpdateParticipantMetadata, turn: &mut Turn<'_>) {
        let request_id = update.request_id;
        let (reason, message) = self.change_profile(id, &update, turn).err().unwrap_or((Reason::Ok, ""));
        self.reply(id, request_id, reason, message, Some(request_response::Request::UpdateMetadata(update)), turn);
    }

    fn change_profile(
        &mut self,
        id: ParticipantId,
        update: &proto::UpdateParticipantMetadata,
        turn: &mut Turn<'_>,
    ) -> Result<(), (Reason, &'static str)> {
        if !self.may_change(id, turn) {
            return Err((Reason::LimitExceeded, "too many changes"));
        }
        let Some(participant) = self.members.get(id) else { return Ok(()) };
        if !participant.grants.can_update_own_metadata {
            return Err((Reason::NotAllowed, "does not have permission to update own metadata"));
        }
        if self.update_profile(id, update, turn).map_err(|error| (Reason::LimitExceeded, error.message()))? {
            self.announce_soon(id, true, turn);
            self.refresh_token(id, turn);
        }
        Ok(())
    }

    fn set_gate(&mut self, id: ParticipantId, permission: &proto::SubscriptionPermission, turn: &mut Turn<'_>) {
        let gate = TrackGate::from_proto(permission, |sid| Some(self.members.get(sid)?.identity().to_owned()));
        // Each of its tracks is considered anew for everybody.
        let tracks = self.tracks.of(id).count() + self.data_tracks.of(id).count();
        let pairs = tracks.saturating_mul(self.members.len());
        let Some(participant) = self.members.get_mut(id).filter(|participant| participant.gate != gate) else { return };
        if !participant.session.spend(plain_messages(pairs / PAIRS_PER_MESSAGE), turn.now) {
            self.drop_link(id, CloseReason::Flood, turn);
            return;
        }
        participant.gate = gate;
        self.reconsider_publisher(id, turn);
        self.reconsider_data_publisher(id, turn);
    }

    /// Answers a request. Clients before protocol 15 take any answer for an error.
    pub(crate) fn reply(
        &self,
        id: ParticipantId,
        request_id: u32,
        reason: Reason,
        message: &str,
        request: Option<request_response::Request>,
        turn: &mut Turn<'_>,
    ) {
        let Some(participant) = self.members.get(id) else { return };
        if !matches!(reason, Reason::Ok | Reason::Queued) {
            turn.counters.invalid_messages += 1;
        } else if participant.session.protocol() <= PROTOCOL_BEFORE_GOOD_NEWS {
            return;
        }
        let response = proto::RequestResponse { request_id, reason: reason.into(), message: message.to_owned(), request };
        self.tell(id, Message::RequestResponse(response), turn);
    }

    /// To one participant, if it has a connection.
    pub(crate) fn tell(&self, id: ParticipantId, message: Message, turn: &mut Turn<'_>) {
        if let Some(conn) = self.members.conn(id) {
            turn.out.send(conn, message);
        }
    }
}

/// How many plain messages a message is worth: what names many tracks is as much work as one message for each.
fn work(request: &proto::SignalRequest) -> u32 {
    use signal_request::Message as Request;
    let named = |update: &proto::UpdateSubscription| {
        update.track_sids.len() + update.participant_tracks.iter().map(|tracks| 1 + tracks.track_sids.len()).sum::<usize>()
    };
    let parts = match &request.message {
        Some(Request::Subscription(update)) => named(update),
        Some(Request::TrackSetting(settings)) => settings.track_sids.len(),
        Some(Request::SyncState(state)) => {
            let data = state.data_subscription.as_ref().map_or(0, |subscription| subscription.updates.len());
            state.track_sids_disabled.len() + state.publish_tracks.len() + state.subscription.as_ref().map_or(0, named) + data
        }
        Some(Request::UpdateDataSubscription(update)) => update.updates.len(),
        Some(Request::SubscriptionPermission(permission)) => {
            permission.track_permissions.iter().map(|entry| 1 + entry.track_sids.len()).sum()
        }
        _ => 1,
    };
    plain_messages(parts)
}

fn plain_messages(parts: usize) -> u32 {
    u32::try_from(parts.max(1)).unwrap_or(u32::MAX)
}

/// Pairs of a track and a subscriber that are considered in the time of a plain message.
const PAIRS_PER_MESSAGE: usize = 32;
/// `RequestResponse` with reason OK is understood by clients of protocol 15 and above.
const PROTOCOL_BEFORE_GOOD_NEWS: i32 = 14;
