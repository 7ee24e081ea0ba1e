//! Offers, answers and the state of transports, between a client and the media node.
//!
//! Candidates are not passed on: the node is ICE-lite, it learns a client's address from its checks, and its own
//! candidates are in the session descriptions.

use livekit_protocol as proto;
use livekit_protocol::{DisconnectReason, leave_request::Action, participant_info::State, signal_response::Message};
use sfu_api::{Command, FailReason, ParticipantId, PeerMode, TrackId, TransportRole, TransportState};
use signaling_api::EndReason;

use crate::{
    CloseReason, Happening, journal, limits,
    room::{Farewell, Room},
    session,
    timers::Timer,
    turn::Turn,
};

impl Room {
    pub(crate) fn client_offer(&mut self, id: ParticipantId, offer: proto::SessionDescription, turn: &mut Turn<'_>) {
        if offer.sdp.len() > limits::SDP_BYTES {
            self.negotiation_failed(id, turn);
            return;
        }
        turn.out.media(Command::Offer { participant: id, id: offer.id, sdp: offer.sdp });
    }

    pub(crate) fn client_answer(&mut self, id: ParticipantId, answer: proto::SessionDescription, turn: &mut Turn<'_>) {
        if answer.sdp.len() > limits::SDP_BYTES {
            self.negotiation_failed(id, turn);
            return;
        }
        turn.out.media(Command::Answer { participant: id, id: answer.id, sdp: answer.sdp });
    }

    /// `subscribed`: which m-line carries which track, with one peer connection. There clients can't read it from the SDP
    /// alone, since their own m-lines name what comes on them.
    pub(crate) fn node_answer(
        &mut self,
        id: ParticipantId,
        offer_id: u32,
        sdp: String,
        subscribed: Vec<(String, TrackId)>,
        turn: &mut Turn<'_>,
    ) {
        let sid_of = |track| Some(self.tracks.get(track)?.info.sid.clone());
        let mid_to_track_id = subscribed.into_iter().filter_map(|(mid, track)| Some((mid, sid_of(track)?))).collect();
        let answer = proto::SessionDescription { r#type: "answer".to_owned(), sdp, id: offer_id, mid_to_track_id };
        let Some(participant) = self.members.get_mut(id) else { return };
        match participant.session.conn() {
            Some(conn) => turn.out.send(conn, Message::Answer(answer)),
            None => participant.session.keep_answer(answer),
        }
    }

    /// The client shall make an offer. One that is away makes one when it resumes, to restart ICE.
    pub(crate) fn media_sections(&self, id: ParticipantId, (num_audios, num_videos): (u32, u32), turn: &mut Turn<'_>) {
        self.tell(id, Message::MediaSectionsRequirement(proto::MediaSectionsRequirement { num_audios, num_videos }), turn);
    }

    /// An offer that can't be sent is not kept: the resume asks for a new one.
    pub(crate) fn node_offer(&self, id: ParticipantId, offer_id: u32, sdp: String, turn: &mut Turn<'_>) {
        let Some(conn) = self.members.conn(id) else { return };
        turn.out
            .send(conn, Message::Offer(proto::SessionDescription { r#type: "offer".to_owned(), sdp, id: offer_id, ..Default::default() }));
    }

    /// Both sides would disagree on what is negotiated for ever (LiveKit: `onAnyTransportNegotiationFailed`).
    pub(crate) fn negotiation_failed(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        turn.counters.invalid_messages += 1;
        self.start_anew(id, EndReason::NegotiationFailed, turn);
    }

    pub(crate) fn transport_changed(&mut self, id: ParticipantId, role: TransportRole, state: TransportState, turn: &mut Turn<'_>) {
        self.quality_may_change(id, turn);
        match state {
            TransportState::Connected => self.transport_connected(id, role, turn),
            TransportState::Disconnected => self.transport_lost(id, role, turn),
            TransportState::Failed(FailReason::IceNoPath) => {
                if let Some(participant) = self.members.get_mut(id) {
                    participant.media_failure = Some(FailReason::IceNoPath);
                }
                self.transport_lost(id, role, turn);
            }
            // A new path does not change what the two ends can't agree on.
            TransportState::Failed(reason) => {
                self.remove(id, journal::of_media(reason), Farewell::Leave(Action::Disconnect), turn);
            }
        }
    }

    fn transport_connected(&mut self, id: ParticipantId, role: TransportRole, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        participant.session.media.connected(role);
        participant.media_failure = None;
        if !participant.session.media.in_trouble() {
            turn.timers.clear(Timer::MediaGrace(id));
            turn.timers.clear(Timer::MediaLost(id));
        }
        // The only transport says nothing about that; a track will.
        let is_for_publishing = role == TransportRole::Publisher && participant.mode == PeerMode::Dual;
        let becomes_publisher = is_for_publishing && participant.grants.can_publish && !participant.is_publisher;
        participant.is_publisher |= becomes_publisher;
        let becomes_active = role == participant.primary && participant.state != State::Active;
        if becomes_active {
            participant.state = State::Active;
            turn.timers.clear(Timer::Join(id));
            if participant.connected_at.is_none() {
                participant.connected_at = Some(turn.now);
                let after = turn.now.saturating_duration_since(participant.stays_since);
                turn.out.note(id, Happening::Connected { after });
            }
        }
        if becomes_active || becomes_publisher {
            self.announce_arrival(id, turn);
        }
        if becomes_active {
            self.tell_speakers_to(id, turn);
        }
    }

    /// If nothing helps within the grace period, the participant is gone.
    fn transport_lost(&mut self, id: ParticipantId, role: TransportRole, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        participant.session.media.lost(role);
        turn.out.note(id, Happening::Lost { is_media: true });
        turn.timers.set_if_unset(Timer::MediaGrace(id), turn.now + turn.config.resume_grace);
        turn.timers.set_if_unset(Timer::MediaLost(id), turn.now + limits::MEDIA_LOSS_PATIENCE);
    }

    /// A resume restarts ICE. A connection that is on its way to resume already needs no word.
    pub(crate) fn ask_to_resume(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        let Some(conn) = participant.session.conn() else { return };
        let protocol = participant.session.protocol();
        if let Some(leave) = session::leave_request(protocol, DisconnectReason::ConnectionTimeout, Action::Resume) {
            turn.out.send(conn, Message::Leave(session::with_regions(leave, turn.config)));
        }
        self.drop_link(id, CloseReason::Resume, turn);
    }
}
