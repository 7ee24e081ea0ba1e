//! What the media node says of a room's talk: data packets and speakers.

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message as Response;
use prost::Message;
use sfu_api::{Command, Delivery, ParticipantId, Speaker};

use crate::{
    data,
    data::{Refusal, Sender},
    permissions,
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
                if self.takes_call_answer(id, &routed.packet, turn) {
                    return;
                }
                let to: Vec<_> = self
                    .members
                    .iter()
                    .filter(|other| other.id != id)
                    .filter(|other| routed.audience.includes(other.identity(), &other.sid, other.grants.can_subscribe_metrics))
                    .map(|other| other.id)
                    .collect();
                turn.counters.data_forwarded += 1;
                if !to.is_empty() {
                    turn.out.media(Command::SendData { to, delivery, payload: routed.packet.encode_to_vec() });
                }
            }
            Err(Refusal::Malformed) => turn.counters.data_malformed += 1,
            Err(Refusal::NotAllowed) => turn.counters.data_refused += 1,
            Err(Refusal::Repeated) => turn.counters.data_repeated += 1,
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
