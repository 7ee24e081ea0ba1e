//! Data packets: decoded, stamped with their sender, addressed.
//!
//! In: bytes from a data channel. Out: the packet to pass on and for whom, or the reason why not. The payload of a packet
//! is not looked at. A sequence number stays what its sender made it: receivers drop repeats by it.

use livekit_protocol as proto;
use livekit_protocol::data_packet::{Kind, Value};
use prost::Message;
use sfu_api::{Delivery, ParticipantId};

use crate::{limits, members::Members};

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) identity: &'a str,
    pub(crate) sid: &'a str,
    pub(crate) is_hidden: bool,
    /// May speak for others: transcriptions and generated text.
    pub(crate) is_agent: bool,
}

/// A packet that may be passed on.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) packet: proto::DataPacket,
    pub(crate) audience: Audience,
}

/// For whom, as the sender says it; never the sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Audience {
    /// Everybody else in the room.
    Others,
    /// Those who have one of these.
    Named { identities: Vec<String>, sids: Vec<String> },
    /// Those who may see metrics.
    Metrics,
}

/// For whom, of those who are in the room when it is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Recipients {
    /// Everybody else in the room.
    Others,
    /// Those, in order and none twice.
    Listed(Vec<ParticipantId>),
    /// Those who may see metrics.
    Metrics,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    Malformed,
    NotAllowed,
    Repeated,
}

/// `last_sequence` is the highest sequence number of the sender's reliable packets until now.
#[expect(deprecated, reason = "older clients address and identify user packets by fields inside the packet")]
pub(crate) fn route(payload: &[u8], delivery: Delivery, sender: Sender<'_>, last_sequence: &mut u32) -> Result<Routed, Refusal> {
    if payload.len() > limits::DATA_PACKET_BYTES {
        return Err(Refusal::Malformed);
    }
    let mut packet = proto::DataPacket::decode(payload).map_err(|_| Refusal::Malformed)?;
    let Some(value) = packet.value.as_mut() else {
        return Err(Refusal::Malformed);
    };

    let mut sids = Vec::new();
    let mut speaks_for_other = sender.is_agent && !packet.participant_identity.is_empty() && packet.participant_identity != sender.identity;
    let mut is_metrics = false;
    match value {
        Value::User(user) => {
            speaks_for_other = false;
            let (sid, identity) = if sender.is_hidden { ("", "") } else { (sender.sid, sender.identity) };
            sid.clone_into(&mut user.participant_sid);
            identity.clone_into(&mut user.participant_identity);
            if packet.destination_identities.is_empty() {
                packet.destination_identities.clone_from(&user.destination_identities);
            } else {
                user.destination_identities.clone_from(&packet.destination_identities);
            }
            sids.clone_from(&user.destination_sids);
        }
        // A transcription claims what another participant said (LiveKit forwards those of agents only).
        Value::Transcription(_) if !sender.is_agent => return Err(Refusal::NotAllowed),
        // Who speaks is for the server to say.
        Value::Speaker(_) => return Err(Refusal::NotAllowed),
        Value::ChatMessage(chat) => chat.generated |= speaks_for_other,
        Value::StreamHeader(header) => match header.content_header.as_mut() {
            Some(proto::data_stream::header::ContentHeader::TextHeader(text)) => text.generated |= speaks_for_other,
            _ => speaks_for_other = false,
        },
        Value::Metrics(_) => is_metrics = true,
        _ => speaks_for_other = false,
    }
    if packet.destination_identities.len() + sids.len() > limits::DATA_ADDRESSEES {
        return Err(Refusal::Malformed);
    }
    // Last, so that a packet that is refused for another reason uses up no number.
    if delivery == Delivery::Reliable && packet.sequence > 0 {
        if packet.sequence <= *last_sequence {
            return Err(Refusal::Repeated);
        }
        *last_sequence = packet.sequence;
    }

    packet.kind = match delivery {
        Delivery::Reliable => Kind::Reliable.into(),
        Delivery::Lossy | Delivery::DataTrack => Kind::Lossy.into(),
    };
    // The channel is who sent it, whatever the packet says; an agent may speak for another.
    if !speaks_for_other {
        packet.participant_identity = if sender.is_hidden { String::new() } else { sender.identity.to_owned() };
    }
    packet.participant_sid = sender.sid.to_owned();
    let audience = if is_metrics {
        Audience::Metrics
    } else if packet.destination_identities.is_empty() && sids.is_empty() {
        Audience::Others
    } else {
        Audience::Named { identities: packet.destination_identities.clone(), sids }
    };
    Ok(Routed { packet, audience })
}

impl Audience {
    /// Each name is looked up once, however many people there are.
    pub(crate) fn among(&self, members: &Members) -> Recipients {
        match self {
            Self::Others => Recipients::Others,
            Self::Named { identities, sids } => {
                let by_identity = identities.iter().filter_map(|identity| members.id_of(identity));
                let by_sid = sids.iter().filter_map(|sid| members.id_of_sid(sid));
                let mut listed: Vec<_> = by_identity.chain(by_sid).collect();
                listed.sort_unstable();
                listed.dedup();
                listed.shrink_to_fit();
                Recipients::Listed(listed)
            }
            Self::Metrics => Recipients::Metrics,
        }
    }
}

impl Recipients {
    pub(crate) fn includes(&self, id: ParticipantId, sees_metrics: bool) -> bool {
        match self {
            Self::Others => true,
            Self::Listed(listed) => listed.binary_search(&id).is_ok(),
            Self::Metrics => sees_metrics,
        }
    }

    /// All of them, whoever sent it, in order.
    pub(crate) fn ids(&self, members: &Members) -> Vec<ParticipantId> {
        match self {
            Self::Listed(listed) => listed.clone(),
            Self::Others | Self::Metrics => {
                let all = members.iter().filter(|member| self.includes(member.id, member.grants.can_subscribe_metrics));
                all.map(|member| member.id).collect()
            }
        }
    }

    /// Memory beside its own.
    pub(crate) const fn heap_bytes(&self) -> usize {
        match self {
            Self::Listed(listed) => listed.capacity() * size_of::<ParticipantId>(),
            Self::Others | Self::Metrics => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, deprecated)]
    use proptest::prelude::*;

    use super::*;

    const ALICE: Sender<'static> = Sender { identity: "alice", sid: "PA_alice", is_hidden: false, is_agent: false };

    fn encode(value: Value, sequence: u32, to: &[&str]) -> Vec<u8> {
        proto::DataPacket {
            value: Some(value),
            sequence,
            destination_identities: to.iter().map(|name| (*name).to_owned()).collect(),
            participant_identity: "mallory".to_owned(),
            participant_sid: "PA_mallory".to_owned(),
            ..Default::default()
        }
        .encode_to_vec()
    }

    fn user() -> Value {
        Value::User(proto::UserPacket { payload: b"hello".to_vec(), topic: Some("t".to_owned()), ..Default::default() })
    }

    #[test]
    fn a_packet_says_who_sent_it_whatever_the_sender_wrote() {
        let routed = route(&encode(user(), 0, &[]), Delivery::Lossy, ALICE, &mut 0).unwrap();
        assert_eq!((routed.packet.participant_identity.as_str(), routed.packet.participant_sid.as_str()), ("alice", "PA_alice"));
        assert_eq!((routed.packet.kind(), routed.audience), (Kind::Lossy, Audience::Others));
        let Some(Value::User(user)) = routed.packet.value else { panic!("a user packet stays one") };
        assert_eq!(
            (user.participant_identity.as_str(), user.payload.as_slice(), user.topic.as_deref()),
            ("alice", &b"hello"[..], Some("t"))
        );
    }

    #[test]
    fn a_hidden_sender_stays_unnamed() {
        let routed = route(&encode(user(), 0, &[]), Delivery::Lossy, Sender { is_hidden: true, ..ALICE }, &mut 0).unwrap();
        assert_eq!(routed.packet.participant_identity, "");
    }

    #[test]
    fn addressees_are_read_from_the_packet_and_from_old_user_packets() {
        let routed = route(&encode(user(), 0, &["bob"]), Delivery::Lossy, ALICE, &mut 0).unwrap();
        assert_eq!(routed.audience, Audience::Named { identities: vec!["bob".to_owned()], sids: vec![] });
        let old = Value::User(proto::UserPacket { destination_sids: vec!["PA_carol".to_owned()], ..Default::default() });
        let routed = route(&encode(old, 0, &[]), Delivery::Lossy, ALICE, &mut 0).unwrap();
        assert_eq!(routed.audience, Audience::Named { identities: vec![], sids: vec!["PA_carol".to_owned()] });
    }

    #[test]
    fn a_reliable_packet_is_passed_on_once_and_keeps_its_number() {
        let mut last = 0;
        let packet = encode(user(), 5, &[]);
        assert_eq!(route(&packet, Delivery::Reliable, ALICE, &mut last).unwrap().packet.sequence, 5);
        assert_eq!(route(&packet, Delivery::Reliable, ALICE, &mut last).unwrap_err(), Refusal::Repeated);
        assert_eq!(last, 5);
    }

    #[test]
    fn only_an_agent_may_transcribe_and_speak_for_another() {
        let transcription = encode(Value::Transcription(proto::Transcription::default()), 0, &[]);
        assert_eq!(route(&transcription, Delivery::Reliable, ALICE, &mut 0).unwrap_err(), Refusal::NotAllowed);
        let agent = Sender { is_agent: true, ..ALICE };
        assert!(route(&transcription, Delivery::Reliable, agent, &mut 0).is_ok());
        let chat = encode(Value::ChatMessage(proto::ChatMessage::default()), 0, &[]);
        let routed = route(&chat, Delivery::Reliable, agent, &mut 0).unwrap();
        assert_eq!(routed.packet.participant_identity, "mallory");
        let Some(Value::ChatMessage(chat)) = routed.packet.value else { panic!("a chat message stays one") };
        assert!(chat.generated);
    }

    #[test]
    fn metrics_go_to_those_who_may_see_them() {
        let routed = route(&encode(Value::Metrics(proto::MetricsBatch::default()), 0, &[]), Delivery::Reliable, ALICE, &mut 0).unwrap();
        let recipients = routed.audience.among(&Members::default());
        assert!(recipients.includes(ParticipantId(1), true) && !recipients.includes(ParticipantId(1), false));
    }

    #[test]
    fn packets_without_content_or_beyond_the_limit_are_malformed() {
        assert_eq!(route(&[], Delivery::Lossy, ALICE, &mut 0).unwrap_err(), Refusal::Malformed);
        let big = vec![0; limits::DATA_PACKET_BYTES + 1];
        assert_eq!(route(&big, Delivery::Lossy, ALICE, &mut 0).unwrap_err(), Refusal::Malformed);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, sequence: u32) {
            let _ = route(&bytes, Delivery::Reliable, ALICE, &mut { sequence });
        }
    }
}
