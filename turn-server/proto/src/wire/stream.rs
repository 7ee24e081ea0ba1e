//! Cuts a byte stream into messages (RFC 8656 section 3.1): STUN messages have their length, ChannelData is padded to four bytes.
//!
//! In: bytes as they come. Out: how long the message at their beginning is. There is nothing to search for: a stream that does not
//! begin with a message is of no use and is closed.

use super::channel;
use super::{HEADER_BYTES, MAGIC_COOKIE};

/// Longest message that a stream may hold: a header and 65,535 bytes, padded.
pub const MAX_MESSAGE_BYTES: usize = HEADER_BYTES + 65_536;

/// What a stream begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// Not enough to say.
    Partial,
    /// A message of so many bytes, of which so many with its padding.
    Message {
        /// Without padding.
        len: usize,
        /// With padding.
        padded: usize,
    },
    /// Something else.
    Foreign,
}

/// Looks at the beginning of a stream. The message need not be there whole.
#[must_use]
pub fn begin(bytes: &[u8]) -> Begin {
    let [b0, b1, b2, b3, rest @ ..] = bytes else {
        return match bytes.first() {
            Some(first) if first & 0x80 != 0 => Begin::Foreign,
            _ => Begin::Partial,
        };
    };
    let length = usize::from(u16::from_be_bytes([*b2, *b3]));
    if channel::is_channel_data(*b0) {
        if channel::ChannelNumber::new(u16::from_be_bytes([*b0, *b1])).is_none() {
            return Begin::Foreign;
        }
        let len = channel::HEADER_BYTES + length;
        return Begin::Message { len, padded: len.next_multiple_of(4) };
    }
    let cookie = MAGIC_COOKIE.to_be_bytes();
    if b0 & 0xC0 != 0 || !length.is_multiple_of(4) || rest.iter().zip(cookie).any(|(byte, wanted)| *byte != wanted) {
        return Begin::Foreign;
    }
    if rest.len() < cookie.len() {
        return Begin::Partial;
    }
    Begin::Message { len: HEADER_BYTES + length, padded: HEADER_BYTES + length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stun_message_and_channel_data_tell_their_lengths() {
        assert_eq!(begin(&[0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42]), Begin::Message { len: 28, padded: 28 });
        assert_eq!(begin(&[0x40, 1, 0, 5]), Begin::Message { len: 9, padded: 12 });
        assert_eq!(begin(&[0x40, 1, 0xFF, 0xFF]), Begin::Message { len: 65_539, padded: 65_540 });
    }

    #[test]
    fn the_beginning_of_a_beginning_is_waited_for() {
        for partial in [&[][..], &[0], &[0x40, 1, 0], &[0, 1, 0, 8, 0x21, 0x12]] {
            assert_eq!(begin(partial), Begin::Partial, "{partial:?}");
        }
    }

    #[test]
    fn other_protocols_are_told_at_once() {
        for foreign in [&b"\x16\x03\x01\x02"[..], b"\x80", b"\x00\x14\x00\x01\x00\x00\x21\x12", b"\x7f\xff\0\0"] {
            assert_eq!(begin(foreign), Begin::Foreign, "{foreign:?}");
        }
    }
}
