//! Remembers which source packet each output number stands for, so that NACKs can be answered from the publisher's ring.
//!
//! Eight bytes a packet; the packet itself is kept once, by its publisher.

use super::rewrite::EpochId;
use crate::rtp::sequence::low16;

/// Packets that can be asked for again. At 500 packets/s, two seconds. A power of two.
pub const ENTRIES: usize = 1024;
/// Times that one packet is resent; a client that asks more often is out of luck (RFC 4585 leaves it to the sender).
const MAX_RESENDS: u8 = 8;

#[derive(Clone, Copy)]
struct Entry {
    /// Low 32 bits of the source's extended sequence number.
    source: u32,
    /// Checks that the entry stands for the number that is asked for.
    output: u16,
    epoch: EpochId,
    /// [`UNUSED`] before the first packet.
    resends: u8,
}

/// Marks an entry that stands for no packet; more than any packet is resent.
const UNUSED: u8 = u8::MAX;
const EMPTY: Entry = Entry { source: 0, output: 0, epoch: 0, resends: UNUSED };

/// See the module. Allocates with the first packet.
#[derive(Default)]
pub struct History {
    entries: Box<[Entry]>,
}

/// Where to find a packet again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Low 32 bits of the source's extended sequence number.
    pub source: u32,
    /// Epoch in which it was sent.
    pub epoch: EpochId,
}

impl History {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.fill(EMPTY);
    }

    /// Remembers a packet that goes out.
    pub fn record(&mut self, output: u64, source: u64, epoch: EpochId) {
        if self.entries.is_empty() {
            self.entries = vec![EMPTY; ENTRIES].into_boxed_slice();
        }
        let (source, wire) = (low32(source), low16(output));
        self.entries[usize::from(wire) % ENTRIES] = Entry { source, output: wire, epoch, resends: 0 };
    }

    /// A packet with this number on the wire is remembered.
    #[must_use]
    pub fn knows(&self, wire: u16) -> bool {
        self.entries.get(usize::from(wire) % ENTRIES).is_some_and(|entry| entry.resends != UNUSED && entry.output == wire)
    }

    /// Finds a packet by its number on the wire.
    #[must_use]
    pub fn look_up(&self, wire: u16) -> Option<Origin> {
        let entry = self.entries.get(usize::from(wire) % ENTRIES)?;
        self.knows(wire).then_some(Origin { source: entry.source, epoch: entry.epoch })
    }

    /// Finds a packet by its number on the wire and counts the resend; None if it is forgotten or asked too often.
    pub fn take(&mut self, wire: u16) -> Option<Origin> {
        let entry = self.entries.get_mut(usize::from(wire) % ENTRIES)?;
        if entry.output != wire || entry.resends >= MAX_RESENDS {
            return None;
        }
        entry.resends += 1;
        Some(Origin { source: entry.source, epoch: entry.epoch })
    }
}

/// The extended number whose low 32 bits are `low`, next to `near`.
#[must_use]
pub fn widen(low: u32, near: u64) -> u64 {
    let behind = low32(near).wrapping_sub(low);
    near.saturating_sub(u64::from(behind))
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is kept")]
fn low32(extended: u64) -> u32 {
    extended as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leads_back_to_its_source_across_wraps() {
        let mut history = History::default();
        for step in 0..100_000_u64 {
            history.record(65_000 + step, 200_000 + step, 3);
            if let Some(asked) = step.checked_sub(500) {
                let origin = history.take(low16(65_000 + asked));
                assert_eq!(origin.map(|o| widen(o.source, 200_000 + step)), Some(200_000 + asked));
            }
        }
    }

    #[test]
    fn a_forgotten_or_unknown_number_has_no_origin() {
        let mut history = History::default();
        assert_eq!(history.take(1), None);
        for output in 1..=1500 {
            history.record(output, output, 0);
        }
        assert_eq!(history.take(1), None);
        assert_eq!(history.take(1501), None);
        assert!(history.take(1500).is_some());
    }

    #[test]
    fn a_packet_is_resent_a_few_times_at_most() {
        let mut history = History::default();
        history.record(5, 5, 0);
        let resends = (0..100).filter(|_| history.take(5).is_some()).count();
        assert_eq!(resends, usize::from(MAX_RESENDS));
    }

    #[test]
    fn the_low_bits_find_the_nearest_number_below() {
        let near = (7 << 32) + 5;
        assert_eq!(widen(5, near), near);
        assert_eq!(widen(u32::MAX, near), near - 6);
    }
}
