//! Redundant audio data (RFC 2198): one packet carries a frame and copies of earlier ones.
//!
//! In: payloads of an `audio/red` payload type. Out: their blocks, and payloads made of blocks. Invariants: a payload that
//! reads back was written whole; lengths never reach beyond the payload; no more than [`MAX_REDUNDANT`] copies.
//! Not here: which copies are worth sending or using (`audio::forms`).

use arrayvec::ArrayVec;

use crate::limits::MAX_DATAGRAM;

/// Copies of earlier frames in one packet. libwebrtc and LiveKit's clients send one or two; a payload with more is refused.
pub const MAX_REDUNDANT: usize = 8;
/// Longest copy in bytes: its length has ten bits.
pub const MAX_COPY_LEN: usize = 0x3ff;
/// Largest distance of a copy's timestamp in ticks: it has 14 bits.
pub const MAX_TIMESTAMP_OFFSET: u32 = 0x3fff;
/// Bytes of the header in front of each copy.
const COPY_HEADER_LEN: usize = 4;
/// First bit of a block header: another header follows.
const FOLLOWS: u8 = 0x80;

/// A payload with redundancy, as it is built and stored.
pub type RedPayload = ArrayVec<u8, MAX_DATAGRAM>;

/// A copy of an earlier frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied<'a> {
    /// Ticks by which its frame is older than the packet.
    pub timestamp_offset: u32,
    /// The frame.
    pub frame: &'a [u8],
}

/// A payload taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Red<'a> {
    /// Earlier frames, oldest first, as they are ordered in the packet.
    pub copies: ArrayVec<Copied<'a>, MAX_REDUNDANT>,
    /// The frame of the packet's own timestamp.
    pub primary: &'a [u8],
}

impl<'a> Red<'a> {
    /// Takes a payload apart whose blocks all have the payload type `block_type`; None if it is malformed, has too many
    /// copies or a block of another type.
    #[must_use]
    pub fn parse(payload: &'a [u8], block_type: u8) -> Option<Self> {
        let mut headers: ArrayVec<(u32, usize), MAX_REDUNDANT> = ArrayVec::new();
        let mut rest = payload;
        loop {
            let (&first, tail) = rest.split_first()?;
            if first & !FOLLOWS != block_type {
                return None;
            }
            if first & FOLLOWS == 0 {
                rest = tail;
                break;
            }
            let (&[high, middle, low], tail) = tail.split_first_chunk::<3>()?;
            let packed = u32::from_be_bytes([0, high, middle, low]);
            // 14 bits of timestamp offset, ten of length.
            let len = usize::try_from(packed & 0x3ff).ok()?;
            headers.try_push((packed >> 10, len)).ok()?;
            rest = tail;
        }
        let mut copies = ArrayVec::new();
        for (timestamp_offset, len) in headers {
            let (frame, tail) = rest.split_at_checked(len)?;
            rest = tail;
            copies.push(Copied { timestamp_offset, frame });
        }
        Some(Self { copies, primary: rest })
    }

    /// The payload of these blocks, all of one type; None if it is longer than a packet may be, or a copy does not fit its
    /// header.
    #[must_use]
    pub fn write(&self, block_type: u8) -> Option<RedPayload> {
        let mut payload = RedPayload::new();
        for copy in &self.copies {
            let len = u32::try_from(copy.frame.len()).ok().filter(|_| copy.frame.len() <= MAX_COPY_LEN)?;
            let offset = Some(copy.timestamp_offset).filter(|&offset| offset <= MAX_TIMESTAMP_OFFSET)?;
            let [_, high, middle, low] = ((offset << 10) | len).to_be_bytes();
            payload.try_extend_from_slice(&[FOLLOWS | block_type, high, middle, low]).ok()?;
        }
        payload.try_push(block_type & !FOLLOWS).ok()?;
        for frame in self.copies.iter().map(|copy| copy.frame).chain([self.primary]) {
            payload.try_extend_from_slice(frame).ok()?;
        }
        Some(payload)
    }

    /// Bytes that [`Self::write`] makes.
    #[must_use]
    pub fn len(&self) -> usize {
        let copies: usize = self.copies.iter().map(|copy| COPY_HEADER_LEN + copy.frame.len()).sum();
        copies + 1 + self.primary.len()
    }

    /// True if there is nothing in any block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.primary.is_empty() && self.copies.iter().all(|copy| copy.frame.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_of_libwebrtc_reads_as_its_blocks() {
        // One copy, 960 ticks older, two bytes long: F=1 PT=111, 960 << 10 | 2, F=0 PT=111.
        let payload = [0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 2, 7, 8, 9];
        let red = Red::parse(&payload, 111).unwrap();
        assert_eq!(red.copies.as_slice(), [Copied { timestamp_offset: 960, frame: &[1, 2] }]);
        assert_eq!(red.primary, [7, 8, 9]);
    }

    #[test]
    fn a_packet_without_copies_has_one_byte_more_than_its_frame() {
        let red = Red { copies: ArrayVec::new(), primary: &[7; 80] };
        let payload = red.write(111).unwrap();
        assert_eq!((payload.len(), payload[0], red.len()), (81, 111, 81));
        assert_eq!(Red::parse(&payload, 111).unwrap(), red);
    }

    #[test]
    fn blocks_of_another_type_and_lengths_beyond_the_packet_are_refused() {
        let payload = [0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 2, 7];
        assert!(Red::parse(&payload, 110).is_none());
        for len in 0..7 {
            assert!(Red::parse(&payload[..len], 111).is_none(), "{len} bytes");
        }
        assert!(Red::parse(&payload[..7], 111).unwrap().primary.is_empty());
    }

    #[test]
    fn more_copies_than_the_bound_are_refused() {
        let with_copies = |count: usize| [[0xef, 0, 0, 0].repeat(count), vec![111]].concat();
        assert!(Red::parse(&with_copies(MAX_REDUNDANT), 111).is_some());
        assert!(Red::parse(&with_copies(MAX_REDUNDANT + 1), 111).is_none());
    }

    #[test]
    fn what_does_not_fit_its_header_is_not_written() {
        let one = |timestamp_offset, frame| Red { copies: [Copied { timestamp_offset, frame }].into_iter().collect(), primary: &[1] };
        let long = [0; MAX_COPY_LEN + 1];
        assert!(one(MAX_TIMESTAMP_OFFSET, &long[1..]).write(111).is_some());
        assert!(one(MAX_TIMESTAMP_OFFSET + 1, &long[1..]).write(111).is_none());
        assert!(one(960, &long).write(111).is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            copies in proptest::collection::vec((0..=MAX_TIMESTAMP_OFFSET, proptest::collection::vec(any::<u8>(), 0..150)), 0..=MAX_REDUNDANT),
            primary in proptest::collection::vec(any::<u8>(), 0..300),
            block_type in 0_u8..128,
        ) {
            let copied = copies.iter().map(|(timestamp_offset, frame)| Copied { timestamp_offset: *timestamp_offset, frame });
            let red = Red { copies: copied.collect(), primary: &primary };
            let payload = red.write(block_type);
            prop_assert_eq!(payload.is_some(), red.len() <= MAX_DATAGRAM);
            if let Some(payload) = payload {
                prop_assert_eq!(payload.len(), red.len());
                prop_assert_eq!(Red::parse(&payload, block_type), Some(red));
            }
        }

        #[test]
        fn arbitrary_payloads_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..200), block_type in 0_u8..128) {
            if let Some(red) = Red::parse(&payload, block_type) {
                // A header of zero offset and length reads back too, so reading loses nothing.
                let written = red.write(block_type).unwrap();
                prop_assert_eq!(written.as_slice(), payload.as_slice());
            }
        }
    }
}
