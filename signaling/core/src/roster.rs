//! Everybody in a room as a newcomer is told of them: encoded once per change of a participant, not once per newcomer.
//!
//! A join response lists all others. Describing and encoding hundreds of them anew was a quarter of what signaling does for a join,
//! and joins cost with the square of the room. Invariant: what is kept of a participant is what others see of it, for its `version`
//! grows with every change of that.

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use sfu_api::ParticipantId;

use crate::{SignalingConfig, room::Room};

/// A participant as others see it, encoded.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// Which of its versions that is.
    version: Option<u32>,
    encoded: Vec<u8>,
}

impl Shown {
    /// It is another one to others, though its version has not grown.
    pub(crate) fn forget(&mut self) {
        self.version = None;
    }
}

/// A `JoinResponse` whose other participants are encoded already.
#[derive(Clone, PartialEq, Debug)]
pub struct Welcome {
    /// Without the others.
    response: Box<proto::SignalResponse>,
    /// The field `other_participants`, as often as there are some: the fields of a message may come in any order.
    others: Vec<u8>,
}

/// Number of `SignalResponse.join` and of `JoinResponse.other_participants`.
const JOIN: u32 = 1;
const OTHER_PARTICIPANTS: u32 = 3;

impl Welcome {
    pub(crate) fn new(join: proto::JoinResponse, others: Vec<u8>) -> Self {
        Self { response: Box::new(proto::SignalResponse { message: Some(Message::Join(join)) }), others }
    }

    /// The message without the others.
    #[must_use]
    pub fn response(&self) -> &proto::SignalResponse {
        &self.response
    }

    /// The whole message.
    #[must_use]
    pub fn whole(&self) -> proto::SignalResponse {
        proto::SignalResponse::decode(self.encode().as_slice()).unwrap_or_default()
    }

    /// Bytes of the whole message.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let len = self.join_len();
        1 + encoded_len_varint(len) + usize::try_from(len).unwrap_or(usize::MAX)
    }

    /// The whole message in protobuf.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        encode_key(JOIN, WireType::LengthDelimited, &mut out);
        encode_varint(self.join_len(), &mut out);
        if let Some(Message::Join(join)) = &self.response.message {
            join.encode_raw(&mut out);
        }
        out.extend_from_slice(&self.others);
        out
    }

    fn join_len(&self) -> u64 {
        let join = if let Some(Message::Join(join)) = &self.response.message { join.encoded_len() } else { 0 };
        (join + self.others.len()) as u64
    }
}

impl Room {
    /// The participants that `viewer` may know of, itself not among them, as [`Welcome`] has them.
    pub(crate) fn roster(&mut self, viewer: ParticipantId, config: &SignalingConfig) -> Vec<u8> {
        let stale = self.members.iter().filter(|member| member.shown.version != Some(member.version)).map(|member| member.id);
        for id in stale.collect::<Vec<_>>() {
            let encoded = self.participant_info(id, config).map(|info| info.encode_to_vec()).unwrap_or_default();
            if let Some(member) = self.members.get_mut(id) {
                member.shown = Shown { version: Some(member.version), encoded };
            }
        }
        let others = self.members.iter().filter(|member| member.id != viewer && !member.is_hidden());
        let mut roster = Vec::with_capacity(self.members.len() * TYPICAL_BYTES);
        for member in others {
            let encoded = &member.shown.encoded;
            debug_assert_eq!(proto::ParticipantInfo::decode(encoded.as_slice()).ok(), self.participant_info(member.id, config));
            encode_key(OTHER_PARTICIPANTS, WireType::LengthDelimited, &mut roster);
            encode_varint(encoded.len() as u64, &mut roster);
            roster.extend_from_slice(encoded);
        }
        roster
    }
}

/// Of a participant without metadata and tracks.
const TYPICAL_BYTES: usize = 160;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_welcome_is_the_message_with_everybody_in_it() {
        let info = |name: &str| proto::ParticipantInfo { identity: name.to_owned(), version: 300, ..Default::default() };
        for count in [0, 1, 200] {
            let others: Vec<_> = (0..count).map(|number| info(&format!("other{number}"))).collect();
            let mut encoded = Vec::new();
            for other in &others {
                prost::encoding::message::encode(OTHER_PARTICIPANTS, other, &mut encoded);
            }
            let join = proto::JoinResponse { participant: Some(info("me")), server_version: "1".to_owned(), ..Default::default() };
            let welcome = Welcome::new(join.clone(), encoded);
            let message = Some(Message::Join(proto::JoinResponse { other_participants: others, ..join }));
            let plain = proto::SignalResponse { message };
            assert_eq!(welcome.whole(), plain);
            assert_eq!((welcome.encoded_len(), welcome.encode().len()), (plain.encoded_len(), plain.encoded_len()));
        }
    }
}
