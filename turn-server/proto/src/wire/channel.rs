//! ChannelData (RFC 8656 section 12.4): four bytes, then the payload.

use std::ops::Range;

/// Bytes in front of the payload.
pub const HEADER_BYTES: usize = 4;

/// A channel's number: 0x4000 to 0x7FFE. RFC 8656 gives out only those up to 0x4FFF, which is all that fits beside other protocols
/// on one port (RFC 7983); on a port of our own the others are no danger, and clients of RFC 5766 choose among all of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// `None`: not a channel number.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 0x4000 && number <= 0x7FFE { Some(Self(number)) } else { None }
    }

    /// As on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// True for packets that begin as ChannelData does. A STUN message begins with two zero bits.
#[must_use]
pub const fn is_channel_data(first_byte: u8) -> bool {
    first_byte & 0xC0 == 0x40
}

/// The channel of a datagram and where its payload is. Over UDP there may be padding or none (section 12.5), and it is cut off.
#[must_use]
pub fn parse(packet: &[u8]) -> Option<(ChannelNumber, Range<usize>)> {
    let [n0, n1, l0, l1] = *packet.first_chunk::<HEADER_BYTES>()?;
    let number = ChannelNumber::new(u16::from_be_bytes([n0, n1]))?;
    let end = HEADER_BYTES + usize::from(u16::from_be_bytes([l0, l1]));
    (end <= packet.len()).then_some((number, HEADER_BYTES..end))
}

/// The header of a payload of this length.
#[must_use]
pub const fn header(number: ChannelNumber, payload_len: u16) -> [u8; HEADER_BYTES] {
    let ([n0, n1], [l0, l1]) = (number.0.to_be_bytes(), payload_len.to_be_bytes());
    [n0, n1, l0, l1]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_header_reads_back() {
        for number in [0x4000, 0x4FFF, 0x5000, 0x7FFE] {
            let number = ChannelNumber::new(number).unwrap();
            let mut packet = header(number, 3).to_vec();
            packet.extend(b"abc");
            assert_eq!(parse(&packet), Some((number, 4..7)));
            packet.extend([0, 0]);
            assert_eq!(parse(&packet), Some((number, 4..7)), "padding is not payload");
        }
    }

    #[test]
    fn what_is_cut_short_or_out_of_range_is_no_channel_data() {
        assert_eq!(parse(&[0x40, 0, 0]), None);
        assert_eq!(parse(&[0x40, 0, 0, 1]), None);
        assert_eq!(parse(&[0x7F, 0xFF, 0, 0]), None);
        assert_eq!(parse(&[0x3F, 0xFF, 0, 0]), None);
        assert_eq!(ChannelNumber::new(0x8000), None);
    }
}
