//! What every payload says of itself, so that a receiver can tell that it is whole, whose it is, and how long it took.
//!
//! Big endian: magic (4), source (4), number of the packet within its source (4), time of sending in ns since 1970 (8), CRC-32C of
//! the stamp without the CRC and of all that follows (4).

/// Bytes of a stamp; no payload is smaller.
pub const LEN: usize = 24;
const MAGIC: [u8; 4] = *b"SlLd";
const CRC_AT: usize = 20;

/// A stamp without its checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Which encoding of which track of whom.
    pub source: Source,
    /// Counts the packets of its source, wrapping.
    pub number: u32,
    /// Nanoseconds since 1970.
    pub sent_at_ns: u64,
}

/// An encoding of a participant's track.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source(u32);

impl Source {
    /// Of this participant, with the encoding's place among its track's, smallest first.
    #[must_use]
    pub fn new(participant: usize, is_video: bool, encoding: usize) -> Self {
        let participant = u32::try_from(participant & 0xff_ffff).unwrap_or(0);
        Self(participant << 8 | u32::from(is_video) << 7 | u32::try_from(encoding & 0x7f).unwrap_or(0))
    }

    /// The encoding's place.
    #[must_use]
    pub fn encoding(self) -> usize {
        (self.0 & 0x7f) as usize
    }

    /// The same for all encodings of a track.
    #[must_use]
    pub fn track(self) -> u32 {
        self.0 >> 7
    }
}

/// Writes a stamp to the front of what is a payload behind its codec's headers.
pub fn write(body: &mut [u8], stamp: Stamp) {
    let Some((head, filling)) = body.split_first_chunk_mut::<LEN>() else { return };
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&stamp.source.0.to_be_bytes());
    head[8..12].copy_from_slice(&stamp.number.to_be_bytes());
    head[12..CRC_AT].copy_from_slice(&stamp.sent_at_ns.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..CRC_AT]), filling);
    head[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
}

/// Reads it back. `None` if a single byte of the body is another one.
#[must_use]
pub fn read(body: &[u8]) -> Option<Stamp> {
    let (head, filling) = body.split_first_chunk::<LEN>()?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..CRC_AT]), filling);
    let is_intact = head[..4] == MAGIC && word(CRC_AT) == crc;
    is_intact.then(|| Stamp { source: Source(word(4)), number: word(8), sent_at_ns: u64::from(word(12)) << 32 | u64::from(word(16)) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn stamped(len: usize) -> (Vec<u8>, Stamp) {
        let stamp = Stamp { source: Source::new(1_009, true, 2), number: u32::MAX, sent_at_ns: 1_700_000_000_123_456_789 };
        let mut body: Vec<u8> = (0..=255).cycle().take(len).collect();
        write(&mut body, stamp);
        (body, stamp)
    }

    #[test]
    fn a_stamp_reads_back() {
        for len in [LEN, LEN + 1, 1_150] {
            let (body, stamp) = stamped(len);
            assert_eq!(read(&body), Some(stamp));
        }
    }

    #[test]
    fn any_damage_is_noticed() {
        let (body, _) = stamped(200);
        for at in 0..body.len() {
            let mut damaged = body.clone();
            damaged[at] ^= 0x20;
            assert_eq!(read(&damaged), None, "byte {at}");
        }
        assert_eq!(read(&body[..199]), None);
        assert_eq!(read(&[body.as_slice(), &[0]].concat()), None);
    }

    #[test]
    fn what_is_too_short_has_no_stamp() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&stamped(LEN).0[..LEN - 1]), None);
    }

    #[test]
    fn encodings_of_a_track_share_it_and_tracks_differ() {
        let of = |participant, is_video, encoding| Source::new(participant, is_video, encoding);
        assert_eq!(of(7, true, 0).track(), of(7, true, 2).track());
        assert_ne!(of(7, true, 0).track(), of(7, false, 0).track());
        assert_ne!(of(7, true, 0).track(), of(8, true, 0).track());
        assert_eq!(of(7, true, 2).encoding(), 2);
    }
}
