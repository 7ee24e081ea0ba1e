//! View of an RTP header (RFC 3550 section 5.1) without touching the payload.

use std::ops::Range;

use crate::error::Discard;

/// Bytes of the fixed header.
pub const FIXED_LEN: usize = 12;

/// A parsed RTP header; ranges index the packet that it was parsed from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtpHeader {
    /// Last packet of a frame (video) or first of a talk spurt (audio).
    pub marker: bool,
    /// Payload type, 0-127.
    pub payload_type: u8,
    /// Sequence number as sent.
    pub sequence: u16,
    /// Timestamp in ticks of the codec's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// The payload's end carries padding.
    pub has_padding: bool,
    /// "Defined by profile" field of the extension block, 0 without one.
    pub extension_profile: u16,
    /// Elements of the extension block.
    pub extension: Range<usize>,
    /// Fixed header, CSRCs and extension block; the payload starts here.
    pub len: usize,
}

impl RtpHeader {
    /// Parses the clear part of an RTP or SRTP packet.
    ///
    /// # Errors
    /// [`Discard::RtpMalformed`] if the version is not 2 or a length reaches beyond the packet.
    pub fn parse(packet: &[u8]) -> Result<Self, Discard> {
        let (fixed, rest) = packet.split_first_chunk::<FIXED_LEN>().ok_or(Discard::RtpMalformed)?;
        let [first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *fixed;
        if first >> 6 != 2 {
            return Err(Discard::RtpMalformed);
        }
        let csrc_len = usize::from(first & 0x0f) * 4;
        let mut len = FIXED_LEN + csrc_len;
        let mut extension_profile = 0;
        let mut extension = 0..0;
        if first & 0x10 != 0 {
            let block = rest.get(csrc_len..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Discard::RtpMalformed)?;
            extension_profile = u16::from_be_bytes([block[0], block[1]]);
            let words = usize::from(u16::from_be_bytes([block[2], block[3]]));
            extension = len + 4..len + 4 + words * 4;
            len = extension.end;
        }
        if len > packet.len() {
            return Err(Discard::RtpMalformed);
        }
        Ok(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            has_padding: first & 0x20 != 0,
            extension_profile,
            extension,
            len,
        })
    }

    /// Payload of a decrypted packet without its padding.
    ///
    /// # Errors
    /// [`Discard::RtpMalformed`] if the padding count is zero or larger than the payload.
    pub fn payload<'a>(&self, plain: &'a [u8]) -> Result<&'a [u8], Discard> {
        let payload = plain.get(self.len..).ok_or(Discard::RtpMalformed)?;
        if !self.has_padding {
            return Ok(payload);
        }
        let padding = usize::from(*payload.last().ok_or(Discard::RtpMalformed)?);
        match payload.len().checked_sub(padding) {
            Some(len) if padding > 0 => Ok(&payload[..len]),
            _ => Err(Discard::RtpMalformed),
        }
    }
}

/// RTP and RTCP share a port; RTCP packet types fill 192-223 (RFC 5761 section 4).
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram.get(1), Some(192..=223))
}

/// What a forwarded packet's fixed header says. Written by [`FixedHeader::to_bytes`].
#[derive(Clone, Copy, Debug)]
pub struct FixedHeader {
    /// See [`RtpHeader::marker`].
    pub marker: bool,
    /// The packet ends in padding.
    pub has_padding: bool,
    /// See [`RtpHeader::payload_type`].
    pub payload_type: u8,
    /// See [`RtpHeader::sequence`].
    pub sequence: u16,
    /// See [`RtpHeader::timestamp`].
    pub timestamp: u32,
    /// See [`RtpHeader::ssrc`].
    pub ssrc: u32,
}

impl FixedHeader {
    /// The header's bytes; forwarded packets always carry an extension block and never CSRCs.
    #[must_use]
    pub fn to_bytes(self) -> [u8; FIXED_LEN] {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [i0, i1, i2, i3] = self.ssrc.to_be_bytes();
        let first = 0x90 | (u8::from(self.has_padding) << 5);
        let second = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        [first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn written(has_padding: bool) -> Vec<u8> {
        let header =
            FixedHeader { marker: true, has_padding, payload_type: 96, sequence: 65_535, timestamp: 0xdead_beef, ssrc: 0x0102_0304 };
        let mut packet = header.to_bytes().to_vec();
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x10, 7, 0, 0]);
        packet.extend_from_slice(&[1, 2, 3, 2]);
        packet
    }

    #[test]
    fn a_written_header_reads_back() {
        let packet = written(false);
        let header = RtpHeader::parse(&packet).unwrap();
        assert!(header.marker);
        assert_eq!((header.payload_type, header.sequence), (96, 65_535));
        assert_eq!((header.timestamp, header.ssrc), (0xdead_beef, 0x0102_0304));
        assert_eq!((header.extension_profile, header.extension.clone(), header.len), (0xbede, 16..20, 20));
        assert_eq!(header.payload(&packet).unwrap(), [1, 2, 3, 2]);
    }

    #[test]
    fn padding_is_not_payload() {
        let packet = written(true);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.payload(&packet).unwrap(), [1, 2]);
    }

    #[test]
    fn padding_longer_than_the_payload_is_malformed() {
        let mut packet = written(true);
        *packet.last_mut().unwrap() = 5;
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.payload(&packet), Err(Discard::RtpMalformed));
        *packet.last_mut().unwrap() = 0;
        assert_eq!(header.payload(&packet), Err(Discard::RtpMalformed));
    }

    #[test]
    fn every_truncation_of_the_header_is_malformed() {
        let packet = written(false);
        for len in 0..20 {
            assert_eq!(RtpHeader::parse(&packet[..len]), Err(Discard::RtpMalformed), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(header) = RtpHeader::parse(&bytes) {
                prop_assert!(header.len <= bytes.len());
                let _ = header.payload(&bytes);
            }
        }
    }
}
