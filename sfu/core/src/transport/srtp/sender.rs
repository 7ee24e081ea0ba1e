//! Seals what goes to the remote side.

use super::cipher::Cipher;
use super::keys::MasterKey;
use super::{RTCP_HEADER_LEN, RTP_HEADER_LEN, SrtpProfile, u32_at};

/// The sending direction of a transport. It keeps no state per SSRC: the caller knows the packet index, because it numbers
/// the packets.
pub struct SrtpSender {
    cipher: Cipher,
    next_rtcp_index: u32,
}

/// RFC 3711 section 3.2.1: a key is good for 2^31 SRTCP packets.
const RTCP_INDEX_END: u32 = 1 << 31;

impl SrtpSender {
    /// A sender with our own master key.
    #[must_use]
    pub fn new(profile: SrtpProfile, master: &MasterKey) -> Self {
        Self { cipher: Cipher::new(profile, master), next_rtcp_index: 0 }
    }

    /// Seals a packet in place. `buf` is header, payload and [`SrtpProfile::rtp_tag_len`] bytes of room for the tag;
    /// `header_len` counts CSRCs and extension; `index` is `ROC << 16 | SEQ` with the sequence number of the header.
    /// Returns the length of the whole, which is that of `buf`.
    ///
    /// A pair of SSRC and index must not be sealed twice with different content: with GCM that gives away the key stream
    /// and the authentication key.
    ///
    /// # Panics
    /// If `buf` has no room for a header and the tag.
    #[inline]
    pub fn seal_rtp(&self, ssrc: u32, index: u64, buf: &mut [u8], header_len: usize) -> usize {
        assert!(header_len >= RTP_HEADER_LEN && buf.len() >= header_len + self.cipher.tag_len(), "no room for header and tag");
        debug_assert_eq!(u32_at(buf, 8), Some(ssrc), "the header's SSRC");
        debug_assert_eq!(buf[2..4], index.to_be_bytes()[6..], "the header's sequence number");
        self.cipher.seal_rtp(ssrc, index, buf, header_len);
        buf.len()
    }

    /// Seals the compound packet that begins at `start` of `buf` and appends its trailer. False, with the packet removed,
    /// if it is too short to be one or if the key has protected 2^31 packets: then the transport has to be replaced.
    #[must_use]
    pub fn seal_rtcp(&mut self, buf: &mut Vec<u8>, start: usize) -> bool {
        match buf.get(start..).and_then(|packet| u32_at(packet, RTCP_HEADER_LEN - 4)) {
            Some(ssrc) if self.next_rtcp_index < RTCP_INDEX_END => {
                self.cipher.seal_rtcp(ssrc, self.next_rtcp_index, buf, start);
                self.next_rtcp_index += 1;
                true
            }
            _ => {
                buf.truncate(start);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sender() -> SrtpSender {
        SrtpSender::new(SrtpProfile::AeadAes128Gcm, &MasterKey::new(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]).unwrap())
    }

    #[test]
    fn rfc3711_3_4_the_first_srtcp_index_is_zero_and_each_packet_gets_the_next() {
        let (mut sender, mut arena) = (sender(), vec![0xaa; 3]);
        for index in 0..3_u32 {
            let start = arena.len();
            arena.extend_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 7]);
            assert!(sender.seal_rtcp(&mut arena, start));
            assert_eq!(arena.len() - start, 8 + SrtpProfile::AeadAes128Gcm.rtcp_overhead());
            assert_eq!(u32_at(&arena, arena.len() - 4), Some(1 << 31 | index));
        }
        assert_eq!(arena[..3], [0xaa; 3]);
    }

    #[test]
    fn an_exhausted_key_seals_nothing_more() {
        let mut sender = sender();
        sender.next_rtcp_index = RTCP_INDEX_END - 1;
        let mut buf = vec![0x80, 201, 0, 1, 0, 0, 0, 7];
        assert!(sender.seal_rtcp(&mut buf, 0));
        let start = buf.len();
        buf.extend_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 7]);
        assert!(!sender.seal_rtcp(&mut buf, start));
        assert_eq!(buf.len(), start);
    }

    #[test]
    fn what_is_too_short_for_rtcp_is_removed() {
        let mut buf = vec![1, 2, 3, 4, 5, 6, 7];
        assert!(!sender().seal_rtcp(&mut buf, 0));
        assert!(buf.is_empty());
    }
}
