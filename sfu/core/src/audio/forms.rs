//! The two forms of an Opus track: plain, and with redundancy (RFC 2198).
//!
//! A publisher sends one of them. The other is made once per packet, when a subscriber needs it, and is kept like another
//! encoding of the track: with its own ring and its own list of subscribers. Both have the publisher's sequence numbers and
//! timestamps, so that a subscriber may go from one to the other between two packets.
//!
//! In: packets as stored for the subscribers of the sent form. Out: packets of the other one. Invariant: a sequence number
//! of the made form stands for one packet, also where it was recovered from a copy and arrives itself later.
//! Not here: who gets which form (`route`).

use std::time::Instant;

use arrayvec::ArrayVec;

use crate::publish::encoding::{Arrived, Encoding};
use crate::publish::ring::Meta;
use crate::rtp::extension::Extensions;
use crate::rtp::payload::Layering;
use crate::rtp::payload::red::{Copied, MAX_COPY_LEN, MAX_REDUNDANT, MAX_TIMESTAMP_OFFSET, Red, RedPayload};

/// Place of the made form among a track's encodings; the sent one is in front of it.
pub const MADE: usize = 1;
/// Earlier frames in the packets that we make: enough for two lost in a row.
const COPIES: u64 = 2;
/// Packets that we make stay below this many bytes, so that they fit into any path's packets.
const MAX_LEN: usize = 1000;

/// How the frames of an Opus track are packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One frame a packet.
    Plain,
    /// With copies of earlier frames.
    Red,
}

/// A packet of one form, from which the other one is made.
pub struct Source<'a> {
    /// What is known of it.
    pub meta: &'a Meta,
    /// Its extension block.
    pub block: &'a [u8],
    /// Its payload, with our block types.
    pub payload: &'a [u8],
}

/// The payload with which a packet of a publisher that agreed on redundancy is stored: the blocks have `own_type` where the
/// publisher's had `their_type`, and a frame that came without redundancy is wrapped. `None` if it is malformed.
#[must_use]
pub fn normalized(payload: &[u8], is_red: bool, their_type: u8, own_type: u8) -> Option<RedPayload> {
    if payload.is_empty() {
        // Padding only.
        return Some(RedPayload::new());
    }
    let red = if is_red { Red::parse(payload, their_type)? } else { Red { copies: ArrayVec::new(), primary: payload } };
    red.write(own_type)
}

/// Stores the frames of a packet with redundancy one by one. Of the copies those are taken whose packets have not come, back
/// to `since`, before which nobody was listening. True if there is something fresh where nothing was.
///
/// The copies are those of the packets right before it, as all encoders and RFC 7198 do it.
pub fn strip(source: &Source<'_>, own_type: u8, made: &mut Encoding, since: u64, is_forwarded: bool, now: Instant) -> bool {
    let meta = source.meta;
    let Some(red) = Some(source.payload).filter(|payload| !payload.is_empty()).and_then(|payload| Red::parse(payload, own_type)) else {
        return put(made, *meta, source.block, &[], is_forwarded, now);
    };
    let mut has_first = false;
    // The level in the block is that of the packet itself.
    let (bare, _) = Extensions::default().forwarded_block(None);
    let oldest = u64::try_from(red.copies.len()).unwrap_or(0);
    for (back, copy) in (1..=oldest).rev().zip(&red.copies) {
        let Some(sequence) = meta.sequence.checked_sub(back).filter(|&sequence| sequence >= since) else { continue };
        if copy.frame.is_empty() || made.ring.get(sequence).is_some() {
            continue;
        }
        let timestamp = meta.timestamp.wrapping_sub(copy.timestamp_offset);
        let block_len = u16::try_from(bare.len()).unwrap_or(0);
        let recovered = Meta { sequence, timestamp, marker: false, block_len, ..*meta };
        has_first |= put(made, recovered, &bare, copy.frame, is_forwarded, now);
    }
    has_first | put(made, *meta, source.block, red.primary, is_forwarded, now)
}

/// Stores a plain packet with copies of those right before it, as far as these have come and are not separated by a silence.
/// True if there is something fresh where nothing was.
pub fn add_copies(source: &Source<'_>, own_type: u8, sent: &Encoding, made: &mut Encoding, is_forwarded: bool, now: Instant) -> bool {
    let meta = source.meta;
    if source.payload.is_empty() {
        return put(made, *meta, source.block, &[], is_forwarded, now);
    }
    let mut copies: ArrayVec<Copied<'_>, MAX_REDUNDANT> = ArrayVec::new();
    let mut len = 1 + source.payload.len();
    for sequence in (1..=COPIES).filter_map(|back| meta.sequence.checked_sub(back)) {
        let Some(earlier) = sent.ring.get(sequence) else { break };
        let frame = earlier.bytes.get(usize::from(earlier.meta.block_len)..).unwrap_or_default();
        let timestamp_offset = meta.timestamp.wrapping_sub(earlier.meta.timestamp);
        len += 4 + frame.len();
        if frame.is_empty() || frame.len() > MAX_COPY_LEN || timestamp_offset > MAX_TIMESTAMP_OFFSET || len > MAX_LEN {
            break;
        }
        copies.push(Copied { timestamp_offset, frame });
    }
    copies.reverse();
    let red = Red { copies, primary: source.payload };
    let Some(payload) = red.write(own_type) else { return false };
    put(made, *meta, source.block, &payload, is_forwarded, now)
}

/// True if there is something fresh where nothing was; a packet that is there is left as it is.
fn put(encoding: &mut Encoding, meta: Meta, block: &[u8], payload: &[u8], is_forwarded: bool, now: Instant) -> bool {
    let arrived = Arrived { meta, layering: &Layering::None, block, payload };
    encoding.store(arrived, is_forwarded, now).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::media::Codec;
    use crate::rtp::payload::PayloadInfo;

    const TYPE: u8 = 111;

    struct Track {
        sent: Encoding,
        made: Encoding,
    }

    impl Track {
        fn new() -> Self {
            Self { sent: Encoding::new(Codec::Opus, None), made: Encoding::new(Codec::Opus, None) }
        }

        /// A plain packet comes; what is made of it.
        fn plain(&mut self, sequence: u64, timestamp: u32, frame: &[u8]) -> Vec<u8> {
            let meta = meta(sequence, timestamp);
            put(&mut self.sent, meta, b"", frame, true, Instant::now());
            add_copies(&Source { meta: &meta, block: b"", payload: frame }, TYPE, &self.sent, &mut self.made, true, Instant::now());
            self.made.ring.get(sequence).unwrap().bytes.to_vec()
        }

        /// A packet with redundancy comes.
        fn red(&mut self, sequence: u64, copies: &[&[u8]], primary: &[u8]) {
            let count = u32::try_from(copies.len()).unwrap();
            let copied = copies.iter().zip(0..).map(|(frame, index)| Copied { timestamp_offset: 960 * (count - index), frame });
            let payload = Red { copies: copied.collect(), primary }.write(TYPE).unwrap();
            let meta = meta(sequence, u32::try_from(sequence).unwrap().wrapping_mul(960));
            strip(&Source { meta: &meta, block: b"", payload: &payload }, TYPE, &mut self.made, 65_000, true, Instant::now());
        }

        /// What is made, in the order in which it goes out: number, timestamp, frame.
        fn fresh(&mut self) -> Vec<(u64, u32, Vec<u8>)> {
            let fresh = std::mem::take(&mut self.made.fresh);
            let stored = fresh.into_iter().filter_map(|sequence| self.made.ring.get(sequence));
            stored.map(|s| (s.meta.sequence, s.meta.timestamp, s.bytes[usize::from(s.meta.block_len)..].to_vec())).collect()
        }
    }

    fn meta(sequence: u64, timestamp: u32) -> Meta {
        let payload = PayloadInfo { starts_keyframe: true, ..PayloadInfo::default() };
        Meta { payload, ..Meta::plain(sequence, timestamp, false) }
    }

    #[test]
    fn copies_are_those_of_the_two_packets_before() {
        let mut track = Track::new();
        assert_eq!(track.plain(65_535, 0, &[1]), [111, 1]);
        assert_eq!(track.plain(65_536, 960, &[2]), [0xef, 0x0f, 0, 1, 111, 1, 2]);
        assert_eq!(track.plain(65_537, 1920, &[3]), [0xef, 0x1e, 0, 1, 0xef, 0x0f, 0, 1, 111, 1, 2, 3]);
        assert_eq!(track.plain(65_538, 2880, &[4]), [0xef, 0x1e, 0, 1, 0xef, 0x0f, 0, 1, 111, 2, 3, 4]);
    }

    #[test]
    fn there_is_no_copy_across_a_gap_or_a_silence() {
        let mut track = Track::new();
        track.plain(70_000, 0, &[1]);
        assert_eq!(track.plain(70_002, 1920, &[3]), [111, 3], "a packet is missing between");
        assert_eq!(track.plain(70_003, 1920 + 16_384, &[4]), [111, 4], "the offset does not fit");
        assert_eq!(track.plain(70_001, 960, &[2]), [0xef, 0x0f, 0, 1, 111, 1, 2], "late, with what was before it");
    }

    #[test]
    fn a_large_frame_goes_without_copies() {
        let mut track = Track::new();
        track.plain(70_000, 0, &[1; 600]);
        assert_eq!(track.plain(70_001, 960, &[2; 600]).len(), 601);
    }

    #[test]
    fn lost_packets_come_out_of_the_copies_in_their_place() {
        let mut track = Track::new();
        track.red(70_000, &[&[8], &[9]], &[10]);
        track.fresh();
        track.red(70_003, &[&[11], &[12]], &[13]);
        let at = |sequence: u64, frame: u8| (sequence, u32::try_from(sequence).unwrap() * 960, vec![frame]);
        assert_eq!(track.fresh(), [at(70_001, 11), at(70_002, 12), at(70_003, 13)]);
        // What was recovered comes itself.
        track.red(70_002, &[&[10], &[11]], &[12]);
        assert_eq!(track.fresh(), []);
    }

    #[test]
    fn what_was_sent_before_anybody_listened_is_not_recovered() {
        let mut track = Track::new();
        track.red(65_001, &[&[1], &[2]], &[3]);
        assert_eq!(track.fresh().iter().map(|(sequence, ..)| *sequence).collect::<Vec<_>>(), [65_000, 65_001]);
    }

    #[test]
    fn a_frame_without_redundancy_is_wrapped_and_block_types_become_ours() {
        assert_eq!(normalized(&[1, 2, 3], false, 109, TYPE).unwrap().as_slice(), [111, 1, 2, 3]);
        assert_eq!(normalized(&[0x80 | 109, 0, 0, 1, 109, 7, 8], true, 109, TYPE).unwrap().as_slice(), [0xef, 0, 0, 1, 111, 7, 8]);
        assert!(normalized(&[0x80 | 108, 0, 0, 1, 109, 7, 8], true, 109, TYPE).is_none());
        assert!(normalized(&[], true, 109, TYPE).unwrap().is_empty());
    }
}
