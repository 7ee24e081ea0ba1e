//! Packet index and replay protection (RFC 3711 sections 3.3.1 and 3.3.2).
//!
//! In: 16-bit sequence numbers and, after authentication, accepted indices. Invariants: an index is accepted once; what is
//! older than the window is refused; checking never changes state.

use crate::error::Discard;

/// What has to be remembered about one received SSRC: the rollover counter with the highest sequence number, and which of
/// the packets behind it came.
///
/// The caller keeps one per SSRC and may create it for an unauthenticated packet only if it can throw it away again.
#[derive(Clone, Debug, Default)]
pub struct InboundStream(ReplayWindow<RTP_WINDOW_WORDS>);

/// 15 whole words behind the newest one: 960 packets. A retransmission on the original SSRC (no RTX agreed) comes a round
/// trip late, which at 1000 packets/s needs far more than the 64 that RFC 3711 asks for.
const RTP_WINDOW_WORDS: usize = 16;

impl InboundStream {
    /// Index (rollover counter and sequence number) of the newest packet so far.
    #[must_use]
    pub fn highest_index(&self) -> Option<u64> {
        self.0.highest()
    }

    /// The index that a packet with this sequence number has, unless it was there before or is too old.
    pub(super) fn index_of(&self, seq: u16) -> Result<u64, Discard> {
        let index = match self.0.highest() {
            // The sender's rollover counter starts at 0 (RFC 3711 section 3.2.1).
            None => u64::from(seq),
            Some(highest) => guess_index(highest, seq).ok_or(Discard::SrtpReplay)?,
        };
        self.0.check(index)?;
        Ok(index)
    }

    /// Remembers an authenticated packet.
    pub(super) fn accept(&mut self, index: u64) {
        self.0.accept(index);
    }
}

/// RFC 3711 section 3.3.1: the index with this sequence number that is closest to the highest one. `None` if it would lie
/// outside of 48 bits: before the first packet of the stream, or after the last one of its key.
fn guess_index(highest: u64, seq: u16) -> Option<u64> {
    const HALF: u16 = 0x8000;
    const ROLLOVER: u64 = 1 << 16;
    let [.., a, b] = highest.to_be_bytes();
    let highest_seq = u16::from_be_bytes([a, b]);
    let same_roc = highest - u64::from(highest_seq) + u64::from(seq);
    let index = if highest_seq < HALF {
        if seq.checked_sub(highest_seq).is_some_and(|ahead| ahead > HALF) { same_roc.checked_sub(ROLLOVER)? } else { same_roc }
    } else if highest_seq - HALF > seq {
        same_roc + ROLLOVER
    } else {
        same_roc
    };
    (index < 1 << 48).then_some(index)
}

/// Which indices came: a ring of `WORDS` 64-bit words that slides by whole words, so that at least the last
/// `(WORDS - 1) * 64` indices are known.
#[derive(Clone, Debug)]
pub(super) struct ReplayWindow<const WORDS: usize> {
    /// The highest accepted index plus one; 0 before the first.
    next: u64,
    words: [u64; WORDS],
}

impl<const WORDS: usize> Default for ReplayWindow<WORDS> {
    fn default() -> Self {
        Self { next: 0, words: [0; WORDS] }
    }
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    pub(super) fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Refuses an index that was accepted before or is too old to know.
    pub(super) fn check(&self, index: u64) -> Result<(), Discard> {
        let is_ahead = index >= self.next;
        let is_known = index / 64 + WORDS as u64 > self.next.saturating_sub(1) / 64;
        if is_ahead || (is_known && self.words[slot::<WORDS>(index)] & bit(index) == 0) { Ok(()) } else { Err(Discard::SrtpReplay) }
    }

    /// Remembers an index that [`Self::check`] let pass.
    pub(super) fn accept(&mut self, index: u64) {
        if index >= self.next {
            let newest_word = self.next.saturating_sub(1) / 64;
            let fresh_words = (index / 64 - newest_word).min(WORDS as u64);
            for ahead in 0..fresh_words {
                self.words[slot::<WORDS>(index - ahead * 64)] = 0;
            }
            self.next = index + 1;
        }
        self.words[slot::<WORDS>(index)] |= bit(index);
    }
}

fn slot<const WORDS: usize>(index: u64) -> usize {
    usize::try_from(index / 64 % WORDS as u64).expect("less than WORDS")
}

fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const ROC: u64 = 1 << 16;

    #[test]
    fn the_index_guess_is_that_of_rfc3711_3_3_1_at_every_edge() {
        let edges = [0, 1, 2, 32_766, 32_767, 32_768, 32_769, 65_534, 65_535];
        for roc in [0_u64, 1, 2, 0xffff_fffe, 0xffff_ffff] {
            for highest_seq in edges {
                for seq in edges {
                    // The pseudo code of the RFC, with numbers that do not wrap.
                    let (s_l, s) = (i64::from(highest_seq), i64::from(seq));
                    let v =
                        i64::try_from(roc).unwrap() + if s_l < 32_768 { -i64::from(s - s_l > 32_768) } else { i64::from(s_l - 32_768 > s) };
                    let expected = (0..1 << 32).contains(&v).then(|| u64::try_from(v * 65_536 + s).unwrap());
                    assert_eq!(guess_index(roc * ROC + u64::from(highest_seq), seq), expected, "roc {roc} s_l {highest_seq} seq {seq}");
                }
            }
        }
    }

    #[test]
    fn the_rollover_counter_follows_a_wrap_and_a_late_packet_from_before_it() {
        let mut stream = InboundStream::default();
        for (seq, index) in [(65_533, 65_533), (65_535, 65_535), (1, ROC + 1), (65_534, 65_534), (0, ROC), (2, ROC + 2)] {
            assert_eq!(stream.index_of(seq), Ok(index));
            stream.accept(index);
        }
        assert_eq!(stream.highest_index(), Some(ROC + 2));
    }

    #[test]
    fn a_packet_from_before_the_first_rollover_is_refused() {
        let mut stream = InboundStream::default();
        stream.accept(3);
        assert_eq!(stream.index_of(65_535), Err(Discard::SrtpReplay));
    }

    #[test]
    fn an_index_passes_once() {
        for start in [0_u64, 1, 63, 64, 32_767, 32_768, 65_534, 65_535, ROC * 5 - 1] {
            let mut window = ReplayWindow::<4>::default();
            for index in start..start + 300 {
                assert_eq!(window.check(index), Ok(()));
                window.accept(index);
                assert_eq!(window.check(index), Err(Discard::SrtpReplay));
            }
        }
    }

    #[test]
    fn at_least_the_promised_window_is_open_for_late_packets() {
        for newest in (5_000..5_064).chain([ROC, ROC + 63]) {
            let mut window = ReplayWindow::<RTP_WINDOW_WORDS>::default();
            window.accept(newest);
            assert!((newest - 960..newest).all(|late| window.check(late).is_ok()));
            assert_eq!(window.check(newest - 1024), Err(Discard::SrtpReplay));
        }
    }

    #[test]
    fn checking_changes_nothing() {
        let stream = InboundStream::default();
        for seq in [0, 40_000, 65_535] {
            assert_eq!(stream.index_of(seq), Ok(u64::from(seq)));
        }
        assert_eq!(stream.highest_index(), None);
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set_of_everything_that_came(steps in proptest::collection::vec((-400_i64..400, any::<bool>()), 1..200), start in 0_u64..1000) {
            let mut window = ReplayWindow::<4>::default();
            let mut seen = BTreeSet::new();
            let mut at = start;
            for (step, is_jump) in steps {
                at = at.saturating_add_signed(if is_jump { step } else { step / 50 });
                let newest = seen.last().copied().unwrap_or(0);
                let is_certainly_known = at + 192 >= newest;
                let is_certainly_too_old = at + 256 <= newest;
                let verdict = window.check(at);
                if seen.contains(&at) || is_certainly_too_old {
                    prop_assert_eq!(verdict, Err(Discard::SrtpReplay));
                } else if is_certainly_known {
                    prop_assert_eq!(verdict, Ok(()));
                }
                if verdict.is_ok() {
                    window.accept(at);
                    seen.insert(at);
                }
            }
        }
    }
}
