//! Everybody in a room as a newcomer is told of them: encoded once per change of a participant, and kept in one piece.
//!
//! A join response lists all others. Describing and encoding hundreds of them anew was a quarter of what signaling does for a join,
//! looking at each of them for whether it has changed a sixth, and joins cost with the square of the room. Invariant: what is kept of a
//! participant is what others see of it, for its `version` grows with every change of that.

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use sfu_api::ParticipantId;

use crate::{SignalingConfig, room::Room};

/// Which version of a participant is in the roster.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    version: Option<u32>,
}

impl Shown {
    /// It is another one to others, though its version has not grown.
    pub(crate) fn forget(&mut self) {
        self.version = None;
    }
}

/// Those that a newcomer may know of, as [`Welcome`] has them.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// One field after another.
    encoded: Vec<u8>,
    /// Whose field is how long, in the same order: that of arrival. Who changes came lately more often than not, and so little moves.
    entries: Vec<(ParticipantId, usize)>,
}

impl Roster {
    /// A participant came or changed.
    fn put(&mut self, id: ParticipantId, info: &[u8]) {
        let mut field = Vec::with_capacity(info.len() + FIELD_OVERHEAD);
        encode_key(OTHER_PARTICIPANTS, WireType::LengthDelimited, &mut field);
        encode_varint(info.len() as u64, &mut field);
        field.extend_from_slice(info);
        let len = field.len();
        match self.find(id) {
            Some((place, range)) => {
                self.encoded.splice(range, field);
                self.entries[place].1 = len;
            }
            None => {
                self.encoded.extend_from_slice(&field);
                self.entries.push((id, len));
            }
        }
    }

    /// A participant is gone, or hidden.
    pub(crate) fn remove(&mut self, id: ParticipantId) {
        if let Some((place, range)) = self.find(id) {
            self.encoded.drain(range);
            self.entries.remove(place);
        }
    }

    /// All but one: what is before and what is behind it.
    fn without(&self, id: ParticipantId) -> [&[u8]; 2] {
        match self.find(id) {
            Some((_, range)) => [&self.encoded[..range.start], &self.encoded[range.end..]],
            None => [&self.encoded, &[]],
        }
    }

    fn find(&self, id: ParticipantId) -> Option<(usize, std::ops::Range<usize>)> {
        let mut end = self.encoded.len();
        for (place, (other, len)) in self.entries.iter().enumerate().rev() {
            if *other == id {
                return Some((place, end - len..end));
            }
            end -= len;
        }
        None
    }
}

/// A `JoinResponse`, encoded.
#[derive(Clone, PartialEq, Debug)]
pub struct Welcome {
    /// Without the others.
    response: Box<proto::SignalResponse>,
    encoded: Vec<u8>,
}

/// Number of `SignalResponse.join` and of `JoinResponse.other_participants`.
const JOIN: u32 = 1;
const OTHER_PARTICIPANTS: u32 = 3;

/// Of the key and the length of an entry, at most.
const FIELD_OVERHEAD: usize = 11;

impl Welcome {
    /// `others`: the field `other_participants`, as often as there are some; the fields of a message may come in any order.
    pub(crate) fn new(join: proto::JoinResponse, others: [&[u8]; 2]) -> Self {
        let len = (join.encoded_len() + others[0].len() + others[1].len()) as u64;
        let mut encoded = Vec::with_capacity(1 + encoded_len_varint(len) + usize::try_from(len).unwrap_or_default());
        encode_key(JOIN, WireType::LengthDelimited, &mut encoded);
        encode_varint(len, &mut encoded);
        join.encode_raw(&mut encoded);
        others.iter().for_each(|part| encoded.extend_from_slice(part));
        Self { response: Box::new(proto::SignalResponse { message: Some(Message::Join(join)) }), encoded }
    }

    /// The message without the others.
    #[must_use]
    pub fn response(&self) -> &proto::SignalResponse {
        &self.response
    }

    /// The message without the others, and the whole of it in protobuf.
    #[must_use]
    pub fn into_parts(self) -> (Box<proto::SignalResponse>, Vec<u8>) {
        (self.response, self.encoded)
    }

    /// The whole message.
    #[must_use]
    pub fn whole(&self) -> proto::SignalResponse {
        proto::SignalResponse::decode(self.encoded.as_slice()).unwrap_or_default()
    }
}

impl Room {
    /// What a newcomer is told first.
    pub(crate) fn welcome(&mut self, newcomer: ParticipantId, join: proto::JoinResponse, config: &SignalingConfig) -> Welcome {
        self.show_changed(Some(newcomer), config);
        debug_assert!(self.is_shown_as_it_is(newcomer, config));
        Welcome::new(join, self.members.roster.without(newcomer))
    }

    /// About how many bytes a newcomer is told first: what it is told of the others.
    pub(crate) fn welcome_bytes(&mut self, config: &SignalingConfig) -> usize {
        self.show_changed(None, config);
        self.members.roster.encoded.len()
    }

    fn show_changed(&mut self, newcomer: Option<ParticipantId>, config: &SignalingConfig) {
        for id in self.members.settle(newcomer) {
            self.show(id, config);
        }
    }

    fn show(&mut self, id: ParticipantId, config: &SignalingConfig) {
        let Some(member) = self.members.get(id) else { return };
        if member.is_hidden() {
            self.members.roster.remove(id);
            self.members.note_shown(id, Shown::default());
            return;
        }
        let version = Some(member.version);
        if member.shown.version != version {
            let Some(info) = self.participant_info(id, config) else { return };
            self.members.roster.put(id, &info.encode_to_vec());
            self.members.note_shown(id, Shown { version });
        }
    }

    fn is_shown_as_it_is(&self, newcomer: ParticipantId, config: &SignalingConfig) -> bool {
        let welcome = Welcome::new(proto::JoinResponse::default(), self.members.roster.without(newcomer)).whole();
        let Some(Message::Join(proto::JoinResponse { mut other_participants, .. })) = welcome.message else { return false };
        let mut others = self.others(newcomer, config);
        others.sort_by(|one, other| one.sid.cmp(&other.sid));
        other_participants.sort_by(|one, other| one.sid.cmp(&other.sid));
        others == other_participants
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_welcome_is_the_message_with_everybody_in_it() {
        let info = |name: &str| proto::ParticipantInfo { identity: name.to_owned(), version: 300, ..Default::default() };
        for (count, without) in [(0, 0), (1, 0), (200, 0), (200, 1), (200, 77), (200, 200)] {
            let mut others: Vec<_> = (1..=count).map(|number| info(&format!("other{number}"))).collect();
            let mut roster = Roster::default();
            others.iter().zip(1..).for_each(|(other, id)| roster.put(ParticipantId(id), &other.encode_to_vec()));
            if without > 0 {
                others.remove(without - 1);
            }
            let join = proto::JoinResponse { participant: Some(info("me")), server_version: "1".to_owned(), ..Default::default() };
            let welcome = Welcome::new(join.clone(), roster.without(ParticipantId(without as u64)));
            let message = Some(Message::Join(proto::JoinResponse { other_participants: others, ..join }));
            let plain = proto::SignalResponse { message };
            assert_eq!(welcome.whole(), plain);
            assert_eq!(welcome.into_parts().1.len(), plain.encoded_len());
        }
    }

    #[test]
    fn who_changes_keeps_its_place_and_who_leaves_makes_none() {
        let mut roster = Roster::default();
        for (id, info) in [(1, "one"), (2, "two"), (3, "three"), (2, "another two"), (1, ""), (4, "four")] {
            roster.put(ParticipantId(id), info.as_bytes());
        }
        roster.remove(ParticipantId(3));
        roster.remove(ParticipantId(9));
        let key = |len: u8| [26, len];
        let expected = [key(0).as_slice(), &key(11), b"another two", &key(4), b"four"].concat();
        assert_eq!((roster.encoded, roster.entries.len()), (expected, 3));
    }
}
