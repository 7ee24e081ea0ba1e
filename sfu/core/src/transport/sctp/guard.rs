//! Reads an SCTP packet before the association does, and refuses what is malformed or asks for too much.
//!
//! The client has authenticated itself by then, but it may still be malicious, and what one client sends must not
//! take more than its share of the thread that serves others. Invariants behind it: every chunk and every parameter
//! fits exactly, so that two readers can't disagree about where the next one begins; the work for a FORWARD-TSN
//! (RFC 3758) is at most [`MAX_SKIP`] steps, as is that for the gaps in the SACKs of a packet; stream numbers and stream
//! resets, which are remembered, are bounded; so is what the association has to hold ([`Holdings`]).

use super::holdings::{Holdings, Verdict};
use crate::error::Discard;
use crate::limits::MAX_DATA_CHANNELS;

/// What [`Guard::inspect`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PacketKind {
    /// An INIT, which is alone in its packet (RFC 9260 section 6.10).
    Init,
    /// The client ends the association.
    Abort,
    /// The client makes the association hold more than anyone needs who means well.
    Flood,
    /// Anything else.
    Other,
}

/// What is remembered of a client's packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guard {
    /// The highest transmission sequence number so far.
    highest_tsn: Option<u32>,
    resets: u32,
    holdings: Holdings,
}

impl Guard {
    /// Notes a packet that the association sends; `window` is what it may hold at most.
    pub(super) fn sent(&mut self, packet: &[u8], window: u32) {
        self.holdings.sent(packet, window);
    }

    /// Notes that a message of so many chunks was read.
    pub(super) fn read(&mut self, chunks: usize) {
        self.holdings.read(chunks);
    }

    /// Checks a packet. A refused one changes nothing.
    pub(super) fn inspect(&mut self, packet: &[u8]) -> Result<PacketKind, Discard> {
        let mut rest = packet.get(COMMON_HEADER_LEN..).ok_or(Discard::SctpMalformed)?;
        let mut kind = PacketKind::Other;
        let Self { mut highest_tsn, mut resets, mut holdings } = *self;
        let (mut count, mut gap_len) = (0, 0);
        while !rest.is_empty() {
            let (&[chunk, _, l0, l1], _) = rest.split_first_chunk::<CHUNK_HEADER_LEN>().ok_or(Discard::SctpMalformed)?;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let value = rest.get(CHUNK_HEADER_LEN..length).ok_or(Discard::SctpMalformed)?;
            // RFC 9260 section 3.2: the length does not count padding, which the last chunk may lack.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            count += 1;
            let is_exact = match chunk {
                DATA => {
                    let (&[t0, t1, t2, t3, s0, s1], rest) = value.split_first_chunk::<6>().ok_or(Discard::SctpMalformed)?;
                    let tsn = u32::from_be_bytes([t0, t1, t2, t3]);
                    let verdict = holdings.data(tsn, rest.len());
                    if verdict == Verdict::Flood {
                        kind = PacketKind::Flood;
                    }
                    highest_tsn = Some(later(highest_tsn, tsn));
                    rest.len() > 6 && u16::from_be_bytes([s0, s1]) < MAX_STREAMS && verdict != Verdict::Drop
                }
                INIT => {
                    let &[.., t0, t1, t2, t3] = value.first_chunk::<16>().ok_or(Discard::SctpMalformed)?;
                    let first_tsn = u32::from_be_bytes([t0, t1, t2, t3]);
                    highest_tsn = Some(first_tsn.wrapping_sub(1));
                    holdings.begin(first_tsn);
                    kind = PacketKind::Init;
                    true
                }
                SACK => {
                    let &[_, _, _, _, _, _, _, _, g0, g1, d0, d1] = value.first_chunk::<12>().ok_or(Discard::SctpMalformed)?;
                    let [gaps_len, duplicates_len] = [[g0, g1], [d0, d1]].map(|count| usize::from(u16::from_be_bytes(count)) * 4);
                    gap_len += value.get(12..12 + gaps_len).map_or(0, total_gap_len);
                    value.len() == 12 + gaps_len + duplicates_len && gap_len <= MAX_SKIP
                }
                HEARTBEAT => parameter(value).is_some_and(|(_, length)| length == value.len()),
                ABORT => {
                    kind = PacketKind::Abort;
                    true
                }
                SHUTDOWN => value.len() == 4,
                SHUTDOWN_ACK | COOKIE_ACK | SHUTDOWN_COMPLETE => value.is_empty(),
                COOKIE_ECHO => true,
                RE_CONFIG => {
                    resets += 1;
                    resets <= MAX_RESETS && are_resets(value)
                }
                FORWARD_TSN => {
                    let tsn = u32::from_be_bytes(*value.first_chunk().ok_or(Discard::SctpMalformed)?);
                    let skip = tsn.wrapping_sub(highest_tsn.ok_or(Discard::SctpMalformed)?);
                    highest_tsn = Some(later(highest_tsn, tsn));
                    let is_short = value.len().is_multiple_of(4) && value.len() <= MAX_FORWARD_LEN;
                    is_short && (skip <= MAX_SKIP || skip >= HALF)
                }
                // ERROR too: it only reports (RFC 9260 section 3.3.10) and nothing here would do anything about it.
                _ => false,
            };
            if !is_exact {
                return Err(Discard::SctpMalformed);
            }
        }
        if count == 0 || (kind == PacketKind::Init && count > 1) {
            return Err(Discard::SctpMalformed);
        }
        *self = Self { highest_tsn, resets, holdings };
        Ok(kind)
    }
}

/// Numbers that the gap blocks of a SACK name (RFC 9260 section 3.3.4). The association looks each of them up; blocks that
/// overlap make it do so again and again.
fn total_gap_len(blocks: &[u8]) -> u32 {
    let (blocks, _) = blocks.as_chunks::<4>();
    let len = |&[s0, s1, e0, e1]: &[u8; 4]| u32::from(u16::from_be_bytes([e0, e1]).saturating_sub(u16::from_be_bytes([s0, s1]))) + 1;
    blocks.iter().map(len).sum()
}

/// Kind and length (without padding) of the parameter that a value starts with.
fn parameter(value: &[u8]) -> Option<(u16, usize)> {
    let (&[k0, k1, l0, l1], _) = value.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    (4..=value.len()).contains(&length).then_some((u16::from_be_bytes([k0, k1]), length))
}

/// RFC 6525 section 3.1: one or two parameters; of these only resets by the sender and plain answers are of use here.
fn are_resets(value: &[u8]) -> bool {
    let mut rest = value;
    for _ in 0..2 {
        let is_known = match parameter(rest) {
            Some((OUTGOING_RESET, length)) => length >= 16 && length.is_multiple_of(2) && length < MAX_RESET_LEN,
            Some((RESET_RESPONSE, length)) => length == 12,
            _ => false,
        };
        if !is_known {
            return false;
        }
        let length = parameter(rest).map_or(0, |(_, length)| length.next_multiple_of(4));
        rest = rest.get(length..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
    }
    false
}

/// RFC 9260 section 1.6: serial number arithmetic.
pub(super) fn later(highest: Option<u32>, tsn: u32) -> u32 {
    match highest {
        Some(highest) if tsn.wrapping_sub(highest) >= HALF => highest,
        _ => tsn,
    }
}

/// Streams of one association; browsers count them from 0 and need two per open channel. The association walks them all for
/// every chunk of data.
pub(super) const MAX_STREAMS: u16 = 256;
/// A client's receive window of tiny messages is far less.
const MAX_SKIP: u32 = 1 << 16;
/// Bytes of a FORWARD-TSN: four, and four for every stream that skips ordered messages.
const MAX_FORWARD_LEN: usize = 4 + 4 * 2 * MAX_DATA_CHANNELS;
/// Stream resets of one association, with their answers and repetitions: every closed channel is a few.
const MAX_RESETS: u32 = 4096;

const HALF: u32 = 1 << 31;
pub(super) const COMMON_HEADER_LEN: usize = 12;
pub(super) const CHUNK_HEADER_LEN: usize = 4;
const DATA: u8 = 0;
const INIT: u8 = 1;
pub(super) const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RE_CONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;
const OUTGOING_RESET: u16 = 13;
const RESET_RESPONSE: u16 = 16;
/// Bytes of one reset that names every stream.
const MAX_RESET_LEN: usize = 16 + 2 * MAX_STREAMS as usize;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_forward_tsn_may_skip_what_a_window_holds_but_not_half_the_space() {
        for start in [0, 1, u32::MAX - 1, u32::MAX, 1 << 31] {
            for (skip, is_accepted) in [(0, true), (1, true), (MAX_SKIP, true), (MAX_SKIP + 1, false), (HALF - 1, false)] {
                let mut guard = Guard::default();
                guard.inspect(&packet(&[init(start)])).unwrap();
                let forward = chunk(FORWARD_TSN, &start.wrapping_sub(1).wrapping_add(skip).to_be_bytes());
                assert_eq!(guard.inspect(&packet(&[forward])).is_ok(), is_accepted, "{start} {skip}");
            }
        }
    }

    #[test]
    fn an_old_forward_tsn_is_harmless() {
        let mut guard = Guard::default();
        guard.inspect(&packet(&[init(100)])).unwrap();
        guard.inspect(&packet(&[data(200, 0)])).unwrap();
        assert_eq!(guard.inspect(&packet(&[chunk(FORWARD_TSN, &90_u32.to_be_bytes())])), Ok(PacketKind::Other));
    }

    #[test]
    fn gaps_that_overlap_are_counted_as_often_as_they_are_named() {
        let sack = |blocks: &[[u16; 2]]| {
            let count = u16::try_from(blocks.len()).unwrap().to_be_bytes();
            let blocks: Vec<u8> = blocks.as_flattened().iter().flat_map(|number| number.to_be_bytes()).collect();
            chunk(SACK, &[&[0; 8][..], &count, &[0, 0], &blocks].concat())
        };
        let is_accepted = |chunks: &[Vec<u8>]| Guard::default().inspect(&packet(chunks)).is_ok();
        assert!(is_accepted(&[sack(&[[2, 2], [4, 9], [11, u16::MAX]])]));
        assert!(is_accepted(&[sack(&[[1, u16::MAX]])]));
        assert!(!is_accepted(&[sack(&[[1, u16::MAX], [1, 9]])]));
        assert!(!is_accepted(&[sack(&[[1, 40_000]]), sack(&[[1, 40_000]])]));
    }

    #[test]
    fn a_client_that_floods_is_told_apart_from_one_whose_packet_is_dropped() {
        let mut guard = Guard::default();
        guard.inspect(&packet(&[init(1)])).unwrap();
        assert_eq!(guard.inspect(&packet(&[data(100_000, 0)])), Err(Discard::SctpMalformed));
        let mut kinds = (1..=4096).map(|tsn| guard.inspect(&packet(&[data(tsn, 0)])).unwrap());
        assert!(kinds.all(|kind| kind == PacketKind::Other));
        guard.sent(&packet(&[chunk(SACK, &[&4096_u32.to_be_bytes()[..], &[0, 0, 0, 1], &[0; 4]].concat())]), 1000);
        assert_eq!(guard.inspect(&packet(&[data(4097, 0)])), Ok(PacketKind::Flood));
    }

    #[test]
    fn high_stream_numbers_are_refused() {
        let mut guard = Guard::default();
        assert!(guard.inspect(&packet(&[data(1, MAX_STREAMS - 1)])).is_ok());
        assert_eq!(guard.inspect(&packet(&[data(2, MAX_STREAMS)])), Err(Discard::SctpMalformed));
    }

    #[test]
    fn an_init_has_to_be_alone_and_broken_chunks_are_refused() {
        let mut guard = Guard::default();
        assert_eq!(guard.inspect(&packet(&[init(1)])), Ok(PacketKind::Init));
        assert!(guard.inspect(&packet(&[init(1), init(1)])).is_err());
        assert!(guard.inspect(&packet(&[])).is_err());
        assert!(guard.inspect(&packet(&[vec![DATA, 0, 0, 3]])).is_err());
        assert!(guard.inspect(&packet(&[vec![DATA, 0, 0, 9, 1, 2, 3, 4]])).is_err());
    }

    #[test]
    fn chunks_that_two_readers_could_read_differently_are_refused() {
        let reset = [&[0, 13, 0, 18][..], &[1; 14]].concat();
        let response = [&[0, 16, 0, 12][..], &[1; 8]].concat();
        let long_response = [&[0, 16, 0, 20][..], &[1; 16]].concat();
        for (chunk, is_accepted) in [
            (chunk(SACK, &[0; 12]), true),
            (chunk(SACK, &[0; 16]), false),
            (chunk(SACK, &[&[0; 11][..], &[1]].concat()), false),
            (chunk(HEARTBEAT, &[0, 1, 0, 8, 1, 2, 3, 4]), true),
            (chunk(HEARTBEAT, &[0, 1, 0, 4, 1, 2, 3, 4]), false),
            (chunk(COOKIE_ACK, &[]), true),
            (chunk(COOKIE_ACK, &[0; 4]), false),
            (chunk(RE_CONFIG, &reset), true),
            (chunk(RE_CONFIG, &[&reset[..], &[0, 0], &response].concat()), true),
            (chunk(RE_CONFIG, &long_response), false),
            (chunk(RE_CONFIG, &[&response[..], &response, &response].concat()), false),
            (chunk(9, &[0, 6, 0, 4]), false),
            (chunk(200, &[]), false),
        ] {
            assert_eq!(Guard::default().inspect(&packet(std::slice::from_ref(&chunk))).is_ok(), is_accepted, "{chunk:?}");
        }
        assert_eq!(Guard::default().inspect(&packet(&[chunk(ABORT, &[0, 12, 0, 9])])), Ok(PacketKind::Abort));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..5)) {
            let mut guard = Guard::default();
            for packet in packets {
                let _ = guard.inspect(&packet);
            }
        }
    }

    fn packet(chunks: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; COMMON_HEADER_LEN], chunks.concat()].concat()
    }

    fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(CHUNK_HEADER_LEN + value.len()).unwrap().to_be_bytes();
        [&[kind, 0], &length[..], value].concat()
    }

    fn init(tsn: u32) -> Vec<u8> {
        chunk(INIT, &[&[0; 12][..], &tsn.to_be_bytes()].concat())
    }

    fn data(tsn: u32, stream: u16) -> Vec<u8> {
        chunk(DATA, &[&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &[0; 6], &[1; 4]].concat())
    }
}
