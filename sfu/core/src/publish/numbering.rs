//! Keeps an encoding's sequence numbers ascending when its sender starts over with another SSRC.
//!
//! Invariant: within an encoding a number stands for one packet, whatever SSRC it came with.

/// Added to what the current SSRC sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Numbering {
    base: u64,
}

impl Numbering {
    /// The encoding's number of a packet index (RFC 3711) of the current SSRC.
    #[must_use]
    pub fn own(self, source: u64) -> u64 {
        source.wrapping_add(self.base)
    }

    /// The current SSRC's packet index of one of the encoding's numbers.
    #[must_use]
    pub fn source(self, own: u64) -> u64 {
        own.wrapping_sub(self.base)
    }

    /// Another SSRC begins with `first_source`: it follows `highest`.
    pub fn start_over(&mut self, first_source: u64, highest: u64) {
        self.base = (highest + 1).wrapping_sub(first_source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_source_follows_the_old_one_at_every_edge() {
        for first in [0_u64, 1, 32_767, 32_768, 65_534, 65_535] {
            let mut numbering = Numbering::default();
            assert_eq!(numbering.own(70_000), 70_000);
            numbering.start_over(first, 70_000);
            assert_eq!((numbering.own(first), numbering.own(first + 9)), (70_001, 70_010));
            assert_eq!(numbering.source(70_010), first + 9);
        }
    }
}
