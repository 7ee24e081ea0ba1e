//! Counts what a client makes its association hold, and says when it is too much.
//!
//! The association's receive window counts the bytes of messages that wait to be complete. That leaves a malicious client
//! three ways to make it hold without bound: a message that never ends (its next chunk is taken although the window is
//! closed, because it could be the last one); complete messages behind a gap that is never filled (they are read, but
//! remembered); a gap that is large enough to be filled for ever. And bytes are not what costs: a chunk of one byte takes as
//! much room and time as one of a thousand.
//!
//! In: the DATA chunks that pass the guard, the acknowledgements that the association sends, the messages that are read.
//! Invariants: no chunk is more than [`MAX_AHEAD`] in front of what was acknowledged; at most [`MAX_CHUNKS`] chunks and
//! twice the receive window of bytes are held.

use super::guard::{CHUNK_HEADER_LEN, COMMON_HEADER_LEN, SACK, later};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holdings {
    /// The client's number up to which the association has everything.
    acknowledged: Option<u32>,
    /// Taken and not known to be read; a chunk that comes twice in front of a gap counts twice.
    chunks: usize,
    /// The last acknowledgement said that the receive window is closed.
    is_closed: bool,
    /// Taken since then.
    bytes_beyond: usize,
}

/// What to do with a DATA chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Give it to the association.
    Take,
    /// Drop the packet; a client that means well sends it again.
    Drop,
    /// The client does not mean well.
    Flood,
}

impl Holdings {
    /// The client says where its numbers begin.
    pub(super) fn begin(&mut self, first_tsn: u32) {
        *self = Self { acknowledged: Some(first_tsn.wrapping_sub(1)), ..Self::default() };
    }

    /// The client sends a chunk of data.
    pub(super) fn data(&mut self, tsn: u32, bytes: usize) -> Verdict {
        let ahead = self.acknowledged.map_or(1, |acknowledged| tsn.wrapping_sub(acknowledged));
        if ahead == 0 || ahead >= HALF {
            // Known already: the association ignores it.
            return Verdict::Take;
        }
        if ahead > MAX_AHEAD {
            return Verdict::Drop;
        }
        self.chunks += 1;
        if self.is_closed {
            self.bytes_beyond += bytes;
        }
        let is_too_much = self.chunks > MAX_CHUNKS || self.bytes_beyond > MAX_BYTES_BEYOND;
        if is_too_much { Verdict::Flood } else { Verdict::Take }
    }

    /// A message of so many chunks was read.
    pub(super) fn read(&mut self, chunks: usize) {
        self.chunks = self.chunks.saturating_sub(chunks);
    }

    /// The association sends a packet, maybe with an acknowledgement (RFC 9260 section 3.3.4).
    pub(super) fn sent(&mut self, packet: &[u8], window: u32) {
        let mut rest = packet.get(COMMON_HEADER_LEN..).unwrap_or_default();
        while let Some((&[kind, _, l0, l1], value)) = rest.split_first_chunk::<CHUNK_HEADER_LEN>() {
            if let (SACK, Some(&[t0, t1, t2, t3, w0, w1, w2, w3])) = (kind, value.first_chunk()) {
                self.acknowledged = Some(later(self.acknowledged, u32::from_be_bytes([t0, t1, t2, t3])));
                let credit = u32::from_be_bytes([w0, w1, w2, w3]);
                self.is_closed = credit == 0;
                if credit > 0 {
                    self.bytes_beyond = 0;
                }
                if credit >= window {
                    self.chunks = 0;
                }
            }
            let length = usize::from(u16::from_be_bytes([l0, l1])).max(CHUNK_HEADER_LEN);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Chunks between the last acknowledgement and the newest one. A client with a window of 512 kB has less under way, unless
/// its messages are shorter than 64 bytes and a round trip takes seconds.
const MAX_AHEAD: u32 = 8192;
/// Chunks that wait to be read: of messages that are not complete, or that others have to come before. The longest message has
/// 250, a full window of long ones 450.
const MAX_CHUNKS: usize = 4096;
/// What is taken of a client that goes on while the window is closed; it repeats what was lost, which is less than a window.
const MAX_BYTES_BEYOND: usize = super::RECEIVE_WINDOW as usize;
const HALF: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 512 * 1024;

    fn sack(tsn: u32, credit: u32) -> Vec<u8> {
        let chunk = [&[SACK, 0, 0, 16][..], &tsn.to_be_bytes(), &credit.to_be_bytes(), &[0; 4]].concat();
        [&[0; COMMON_HEADER_LEN][..], &[10, 0, 0, 7, 1, 2, 3, 0], &chunk].concat()
    }

    #[test]
    fn a_chunk_far_in_front_of_the_acknowledgement_is_dropped() {
        for start in [0, 1, u32::MAX, u32::MAX - 5000, 1 << 31] {
            let mut holdings = Holdings::default();
            holdings.begin(start);
            assert_eq!(holdings.data(start.wrapping_add(MAX_AHEAD - 1), 1), Verdict::Take);
            assert_eq!(holdings.data(start.wrapping_add(MAX_AHEAD), 1), Verdict::Drop);
            holdings.sent(&sack(start, WINDOW), WINDOW);
            assert_eq!(holdings.data(start.wrapping_add(MAX_AHEAD), 1), Verdict::Take);
        }
    }

    #[test]
    fn chunks_that_are_never_read_are_a_flood_in_the_end() {
        let mut holdings = Holdings::default();
        holdings.begin(0);
        for tsn in 0..4096 {
            assert_eq!(holdings.data(tsn, 1), Verdict::Take);
            holdings.sent(&sack(tsn, WINDOW - tsn - 1), WINDOW);
        }
        assert_eq!(holdings.data(4096, 1), Verdict::Flood);
    }

    #[test]
    fn chunks_that_are_read_or_repeated_are_not() {
        let mut holdings = Holdings::default();
        holdings.begin(0);
        for tsn in 0..100_000 {
            assert_eq!(holdings.data(tsn, 1000), Verdict::Take);
            assert_eq!(holdings.data(tsn.wrapping_sub(1), 1000), Verdict::Take, "again");
            holdings.sent(&sack(tsn, WINDOW - 1), WINDOW);
            holdings.read(1);
        }
    }

    #[test]
    fn a_window_that_is_empty_again_proves_that_nothing_is_held() {
        let mut holdings = Holdings::default();
        holdings.begin(0);
        for tsn in 0..100_000 {
            assert_eq!(holdings.data(tsn, 1), Verdict::Take);
            if tsn % 4000 == 0 {
                holdings.sent(&sack(tsn, WINDOW), WINDOW);
            }
        }
    }

    #[test]
    fn what_comes_while_the_window_is_closed_is_bounded() {
        let mut holdings = Holdings::default();
        holdings.begin(0);
        holdings.sent(&sack(0, 0), WINDOW);
        let verdicts: Vec<Verdict> = (1..1000).map(|tsn| holdings.data(tsn, 1000)).collect();
        assert_eq!(verdicts.iter().position(|&verdict| verdict == Verdict::Flood), Some(MAX_BYTES_BEYOND / 1000));
        holdings.sent(&sack(999, 1), WINDOW);
        assert_eq!(holdings.data(1000, 1000), Verdict::Take);
    }
}
