//! What the media node says of a room's talk: data packets and speakers.

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message as Response;
use prost::Message;
use sfu_api::{Command, Delivery, ParticipantId, Speaker};

use crate::{
    data,
    data::{Refusal, Sender},
    ids, limits, permissions,
    reliable::Receiver,
    room::Room,
    turn::Turn,
};

impl Room {
    pub(crate) fn data_received(&mut self, id: ParticipantId, delivery: Delivery, payload: &[u8], turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        if !participant.grants.can_publish_data {
            turn.counters.data_refused += 1;
            return;
        }
        let sender = Sender {
            identity: &participant.grants.identity,
            sid: &participant.sid,
            is_hidden: participant.grants.hidden,
            is_agent: permissions::is_agent(&participant.grants),
        };
        match data::route(payload, delivery, sender, &mut participant.last_data_sequence) {
            Ok(routed) => {
                let is_metrics = routed.audience == data::Audience::Metrics;
                if self.takes_call_answer(id, &routed.packet, turn) {
                    return;
                }
                let recipients = routed.audience.among(&self.members);
                let mut to = recipients.ids(&self.members);
                to.retain(|other| *other != id || is_metrics);
                turn.counters.data_forwarded += 1;
                self.announce_if_untold(id, turn);
                let payload = routed.packet.encode_to_vec();
                if delivery == Delivery::Reliable && routed.packet.sequence > 0 {
                    self.reliable_log.record(id, routed.packet.sequence, recipients, &payload, turn.now);
                }
                if !to.is_empty() {
                    turn.out.media(Command::SendData { to, delivery, payload });
                }
            }
            Err(Refusal::Malformed) => turn.counters.data_malformed += 1,
            Err(Refusal::NotAllowed) => turn.counters.data_refused += 1,
            Err(Refusal::Repeated) => turn.counters.data_repeated += 1,
        }
    }

    /// Sends a client that has resumed again what it has not heard of others, by what it says it heard.
    pub(crate) fn replay_reliable(&mut self, id: ParticipantId, heard: &[proto::DataChannelReceiveState], turn: &mut Turn<'_>) {
        // Clients that don't count what they hear would hear it twice.
        if heard.is_empty() {
            return;
        }
        let Some(participant) = self.members.get_mut(id) else { return };
        if !participant.session.takes_replay() {
            return;
        }
        let receiver = Receiver { id, sees_metrics: participant.grants.can_subscribe_metrics, entered_at: participant.entered_at };
        let heard = heard
            .iter()
            .take(limits::SIDS_PER_MESSAGE)
            .filter_map(|state| Some((ids::parse_participant_sid(&state.publisher_sid)?, state.last_seq)))
            .collect();
        for payload in self.reliable_log.missed(receiver, &heard, turn.now) {
            turn.counters.data_replayed += 1;
            turn.out.media(Command::SendData { to: vec![id], delivery: Delivery::Reliable, payload: payload.to_vec() });
        }
    }

    pub(crate) fn speakers_changed(&mut self, speakers: &[Speaker], turn: &mut Turn<'_>) {
        let members = &self.members;
        let changes = self.speakers.update(speakers, |id| members.get(id).is_some_and(|participant| !participant.is_hidden()));
        if !changes.is_empty() {
            turn.out.broadcast(members.conns(|_| true), Response::SpeakersChanged(proto::SpeakersChanged { speakers: changes }));
        }
    }
}
