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
    /// Times resent and how it was sent ([`SENT`], [`MARKER`], [`EMPTIED`]); [`UNUSED`] before the first packet.
    state: u8,
}

/// Marks an entry that stands for no packet.
const UNUSED: u8 = u8::MAX;
/// The part of the state that counts.
const RESENDS: u8 = 0x0f;
/// It went out, ...
const SENT: u8 = 0x10;
/// ... with the marker, ...
const MARKER: u8 = 0x20;
/// ... or without its payload.
const EMPTIED: u8 = 0x40;
const EMPTY: Entry = Entry { source: 0, output: 0, epoch: 0, state: UNUSED };

/// How a packet went out: what is resent has to be the same, though its layers flow no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Looks {
    /// With the marker.
    pub marker: bool,
    /// Without its payload.
    pub is_emptied: bool,
}

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
    /// How; None: it has a number, but was not sent.
    pub looks: Option<Looks>,
}

impl Looks {
    fn bits(self) -> u8 {
        SENT | if self.marker { MARKER } else { 0 } | if self.is_emptied { EMPTIED } else { 0 }
    }
}

impl Entry {
    fn origin(self) -> Origin {
        let looks = Looks { marker: self.state & MARKER != 0, is_emptied: self.state & EMPTIED != 0 };
        Origin { source: self.source, epoch: self.epoch, looks: Some(looks).filter(|_| self.state & SENT != 0) }
    }
}

impl History {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.fill(EMPTY);
    }

    /// Remembers a packet that goes out, or (without `looks`) could have.
    pub fn record(&mut self, output: u64, source: u64, epoch: EpochId, looks: Option<Looks>) {
        if self.entries.is_empty() {
            self.entries = vec![EMPTY; ENTRIES].into_boxed_slice();
        }
        let (source, wire) = (low32(source), low16(output));
        self.entries[usize::from(wire) % ENTRIES] = Entry { source, output: wire, epoch, state: looks.map_or(0, Looks::bits) };
    }

    /// A packet with this number on the wire is remembered.
    #[must_use]
    pub fn knows(&self, wire: u16) -> bool {
        self.entries.get(usize::from(wire) % ENTRIES).is_some_and(|entry| entry.state != UNUSED && entry.output == wire)
    }

    /// Finds a packet by its number on the wire.
    #[must_use]
    pub fn look_up(&self, wire: u16) -> Option<Origin> {
        let entry = self.entries.get(usize::from(wire) % ENTRIES)?;
        self.knows(wire).then(|| entry.origin())
    }

    /// A packet with this number on the wire is remembered, and has not been asked for too often.
    #[must_use]
    pub fn may_take(&self, wire: u16) -> bool {
        self.entries.get(usize::from(wire) % ENTRIES).is_some_and(|entry| entry.output == wire && entry.state & RESENDS < MAX_RESENDS)
    }

    /// It was resent.
    pub fn count_resend(&mut self, wire: u16) {
        if self.may_take(wire)
            && let Some(entry) = self.entries.get_mut(usize::from(wire) % ENTRIES)
        {
            entry.state += 1;
        }
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
            history.record(65_000 + step, 200_000 + step, 3, None);
            if let Some(asked) = step.checked_sub(500) {
                let origin = history.look_up(low16(65_000 + asked));
                assert_eq!(origin.map(|o| widen(o.source, 200_000 + step)), Some(200_000 + asked));
            }
        }
    }

    #[test]
    fn a_forgotten_or_unknown_number_has_no_origin() {
        let mut history = History::default();
        assert!(!history.may_take(1));
        for output in 1..=1500 {
            history.record(output, output, 0, None);
        }
        assert_eq!([1, 1500, 1501].map(|wire| history.may_take(wire)), [false, true, false]);
        assert_eq!([1, 1501].map(|wire| history.look_up(wire)), [None, None]);
    }

    #[test]
    fn a_packet_is_resent_a_few_times_at_most() {
        let mut history = History::default();
        history.record(5, 5, 0, None);
        let mut resend = || {
            let may = history.may_take(5);
            history.count_resend(5);
            may
        };
        let resends = (0..100).filter(|_| resend()).count();
        assert_eq!(resends, usize::from(MAX_RESENDS));
    }

    #[test]
    fn what_is_resent_looks_as_it_did() {
        let mut history = History::default();
        for (number, marker, is_emptied) in [(0, false, false), (1, true, false), (2, false, true)] {
            history.record(number, number, 0, Some(Looks { marker, is_emptied }));
            for _ in 0..MAX_RESENDS {
                assert_eq!(history.look_up(low16(number)).and_then(|origin| origin.looks), Some(Looks { marker, is_emptied }));
                history.count_resend(low16(number));
            }
            assert!(!history.may_take(low16(number)));
        }
    }

    #[test]
    fn the_low_bits_find_the_nearest_number_below() {
        let near = (7 << 32) + 5;
        assert_eq!(widen(5, near), near);
        assert_eq!(widen(u32::MAX, near), near - 6);
    }
}
