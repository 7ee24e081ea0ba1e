//! The publisher's ring: decrypted packets of one encoding, kept once for all subscribers.
//!
//! In: packets as they arrive, in any order. Out: the same packets by sequence number, for forwarding, for
//! retransmission and for a subscriber that starts at the last keyframe.
//! Invariants: a sequence number is stored at most once; what `get` returns was not overwritten.
//! Not here: which packets are asked for, how they are renumbered.

use crate::error::Discard;
use crate::publish::layers::FrameInfo;
use crate::rtp::extension::DescriptorPlace;
use crate::rtp::payload::PayloadInfo;

/// Bytes and packets that a ring keeps at first; it grows with the encoding's rate (see [`Ring::reserve`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingSize {
    /// Bytes of packets.
    pub bytes: usize,
    /// Packets, a power of two.
    pub packets: usize,
}

impl RingSize {
    /// 128 packets are 2.5 s of Opus at 20 ms.
    pub const AUDIO: Self = Self { bytes: 16 * 1024, packets: 128 };
    /// One second of 1 Mbit/s.
    pub const VIDEO: Self = Self { bytes: 128 * 1024, packets: 256 };
    /// Largest size that a ring grows to: one second of 16 Mbit/s. Beyond, it reaches back less than a second.
    pub const LIMIT: Self = Self { bytes: 2 * 1024 * 1024, packets: 4096 };
}

/// What is known of a stored packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Extended sequence number.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker bit.
    pub marker: bool,
    /// Bytes of the extension block in front of the payload.
    pub block_len: u16,
    /// Where the dependency descriptor stands in the block.
    pub descriptor: DescriptorPlace,
    /// What the payload shows.
    pub payload: PayloadInfo,
    /// Its frame among the layers.
    pub frame: FrameInfo,
}

impl Meta {
    /// Of a packet that says nothing but its numbers.
    #[must_use]
    pub const fn plain(sequence: u64, timestamp: u32, marker: bool) -> Self {
        Self {
            sequence,
            timestamp,
            marker,
            block_len: 0,
            descriptor: DescriptorPlace { at: 0, len: 0 },
            payload: PayloadInfo { starts_keyframe: false, picture: None, counts_pictures: false },
            frame: FrameInfo::WHOLE,
        }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    meta: Meta,
    /// Bytes written to the ring before this packet, since the beginning.
    position: u64,
    len: u16,
}

/// A stored packet.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// What is known of it.
    pub meta: &'a Meta,
    /// Extension block (as subscribers get it), then payload.
    pub bytes: &'a [u8],
}

/// See the module.
pub struct Ring {
    data: Box<[u8]>,
    slots: Box<[Option<Slot>]>,
    written: u64,
    /// Lower numbers are refused: what is known of them was lost in a change of size.
    floor: u64,
}

/// Position of a packet whose bytes are gone, while its number is still known as stored.
const GONE: u64 = u64::MAX;

impl Ring {
    /// An empty ring.
    #[must_use]
    pub fn new(size: RingSize) -> Self {
        debug_assert!(size.packets.is_power_of_two());
        Self { data: vec![0; size.bytes].into_boxed_slice(), slots: vec![None; size.packets].into_boxed_slice(), written: 0, floor: 0 }
    }

    /// Stores a packet.
    ///
    /// # Errors
    /// [`Discard::Duplicate`], [`Discard::TooOld`] or [`Discard::TooLarge`]; the ring is unchanged.
    pub fn insert(&mut self, meta: Meta, block: &[u8], payload: &[u8]) -> Result<(), Discard> {
        if meta.sequence < self.floor {
            return Err(Discard::TooOld);
        }
        let index = self.index(meta.sequence);
        if let Some(slot) = &self.slots[index] {
            match slot.meta.sequence.cmp(&meta.sequence) {
                std::cmp::Ordering::Equal => return Err(Discard::Duplicate),
                std::cmp::Ordering::Greater => return Err(Discard::TooOld),
                std::cmp::Ordering::Less => {}
            }
        }
        let len = block.len() + payload.len();
        let stored_len = u16::try_from(len).ok().filter(|_| len <= self.data.len() / 4).ok_or(Discard::TooLarge)?;
        let capacity = self.data.len();
        let mut at = self.offset(self.written);
        if at + len > capacity {
            // Packets are contiguous: the rest of the lap stays unused.
            self.written += (capacity - at) as u64;
            at = 0;
        }
        self.data[at..at + block.len()].copy_from_slice(block);
        self.data[at + block.len()..at + len].copy_from_slice(payload);
        self.slots[index] = Some(Slot { meta, position: self.written, len: stored_len });
        self.written += len as u64;
        Ok(())
    }

    /// The packet with this number, if it is still there.
    #[must_use]
    pub fn get(&self, sequence: u64) -> Option<Stored<'_>> {
        let slot = self.slots[self.index(sequence)].as_ref().filter(|slot| slot.meta.sequence == sequence)?;
        if slot.position == GONE || self.written - slot.position > self.data.len() as u64 {
            return None;
        }
        let at = self.offset(slot.position);
        Some(Stored { meta: &slot.meta, bytes: &self.data[at..at + usize::from(slot.len)] })
    }

    /// A packet with this number came, even if its bytes are gone. Ask for numbers within [`Self::reach`] only.
    #[must_use]
    pub fn knows(&self, sequence: u64) -> bool {
        self.slots[self.index(sequence)].as_ref().is_some_and(|slot| slot.meta.sequence == sequence)
    }

    /// What is known of a stored packet, to learn more.
    pub fn meta_mut(&mut self, sequence: u64) -> Option<&mut Meta> {
        let index = self.index(sequence);
        self.slots[index].as_mut().map(|slot| &mut slot.meta).filter(|meta| meta.sequence == sequence)
    }

    /// How many packets the ring can reach back.
    #[must_use]
    pub fn reach(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Bytes and packets that it can hold.
    #[must_use]
    pub fn size(&self) -> RingSize {
        RingSize { bytes: self.data.len(), packets: self.slots.len() }
    }

    /// Changes the size (within [`RingSize::LIMIT`]), keeping as many of the newest packets as fit. A number that was
    /// stored stays known as stored, even if its bytes are gone: it must not be forwarded a second time.
    pub fn resize(&mut self, wanted: RingSize) {
        let bytes = wanted.bytes.next_power_of_two().min(RingSize::LIMIT.bytes);
        let packets = wanted.packets.next_power_of_two().min(RingSize::LIMIT.packets);
        if (RingSize { bytes, packets }) == self.size() {
            return;
        }
        let mut resized = Self::new(RingSize { bytes, packets });
        let mut known: Vec<Meta> = self.slots.iter().flatten().map(|slot| slot.meta).collect();
        known.sort_unstable_by_key(|meta| meta.sequence);
        let Some(highest) = known.last().map(|meta| meta.sequence) else {
            resized.floor = self.floor;
            *self = resized;
            return;
        };
        let reach = packets.min(self.slots.len()) as u64;
        resized.floor = self.floor.max((highest + 1).saturating_sub(reach));
        let floor = resized.floor;
        for meta in known.into_iter().filter(|meta| meta.sequence >= floor) {
            let stored = self.get(meta.sequence).map(|stored| stored.bytes.split_at(usize::from(meta.block_len)));
            let is_kept = stored.is_some_and(|(block, payload)| resized.insert(meta, block, payload).is_ok());
            if !is_kept {
                let index = resized.index(meta.sequence);
                resized.slots[index] = Some(Slot { meta, position: GONE, len: 0 });
            }
        }
        *self = resized;
    }

    fn index(&self, sequence: u64) -> usize {
        usize::try_from(sequence & (self.slots.len() as u64 - 1)).expect("masked by a usize")
    }

    fn offset(&self, position: u64) -> usize {
        usize::try_from(position % self.data.len() as u64).expect("below a usize")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn meta(sequence: u64) -> Meta {
        Meta { block_len: 4, ..Meta::plain(sequence, 0, false) }
    }

    fn payload(sequence: u64, len: usize) -> Vec<u8> {
        (0..len).map(|i| (sequence as usize + i) as u8).collect()
    }

    fn bytes(sequence: u64, len: usize) -> Vec<u8> {
        [b"head".to_vec(), payload(sequence, len)].concat()
    }

    #[test]
    fn what_is_known_of_a_packet_fits_a_cache_line() {
        assert!(size_of::<Meta>() <= 64, "{} bytes", size_of::<Meta>());
    }

    #[test]
    fn packets_come_back_whole_until_they_are_overwritten() {
        let mut ring = Ring::new(RingSize { bytes: 4096, packets: 16 });
        for sequence in 65_530..65_600 {
            let len = 100 + (sequence as usize * 37) % 300;
            ring.insert(meta(sequence), b"head", &payload(sequence, len)).unwrap();
            for back in 0..16 {
                let asked = sequence - back;
                if let Some(stored) = ring.get(asked) {
                    assert_eq!(stored.bytes, bytes(asked, 100 + (asked as usize * 37) % 300), "packet {asked} at {sequence}");
                }
            }
            assert!(ring.get(sequence).is_some());
            assert!(ring.get(sequence.saturating_sub(16)).is_none());
        }
    }

    #[test]
    fn a_packet_is_stored_once() {
        let mut ring = Ring::new(RingSize::AUDIO);
        ring.insert(meta(500), b"head", b"a").unwrap();
        assert_eq!(ring.insert(meta(500), b"head", b"b"), Err(Discard::Duplicate));
        assert_eq!(ring.insert(meta(500 - 128), b"head", b"b"), Err(Discard::TooOld));
        ring.insert(meta(498), b"head", b"late").unwrap();
        assert_eq!(ring.get(498).unwrap().bytes, b"headlate");
    }

    #[test]
    fn growing_keeps_what_is_stored() {
        let mut ring = Ring::new(RingSize { bytes: 4096, packets: 16 });
        for sequence in 100..116 {
            ring.insert(meta(sequence), b"head", &payload(sequence, 200)).unwrap();
        }
        ring.resize(RingSize { bytes: 10_000, packets: 100 });
        assert_eq!(ring.size(), RingSize { bytes: 16_384, packets: 128 });
        for sequence in 100..116 {
            assert_eq!(ring.get(sequence).unwrap().bytes, bytes(sequence, 200));
        }
    }

    proptest! {
        #[test]
        fn a_number_is_stored_once_whatever_the_sizes(steps in proptest::collection::vec((0..900_u64, 0..40_u8), 1..400)) {
            let mut ring = Ring::new(RingSize { bytes: 4096, packets: 16 });
            let mut stored = std::collections::HashSet::new();
            for (sequence, action) in steps {
                match action {
                    0 => ring.resize(RingSize { bytes: 8192, packets: 64 }),
                    1 => ring.resize(RingSize { bytes: 4096, packets: 16 }),
                    _ => {
                        if ring.insert(meta(sequence), b"head", &payload(sequence, 150)).is_ok() {
                            prop_assert!(stored.insert(sequence), "{sequence} twice");
                            let expected = bytes(sequence, 150);
                            prop_assert_eq!(ring.get(sequence).unwrap().bytes, expected.as_slice());
                        }
                    }
                }
            }
        }
    }
}
