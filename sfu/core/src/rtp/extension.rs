//! RTP header extensions (RFC 8285): reading what publishers send, writing the one block that all subscribers get.

use arrayvec::ArrayVec;

use crate::media::{Extension, ExtensionMap};
use crate::rtp::header::RtpHeader;

/// Profile of a block with one-byte element headers.
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// Profile of a block with two-byte element headers; the low four bits are free.
const TWO_BYTE_PROFILE: u16 = 0x1000;
/// Longest block that [`forwarded_block`] writes: header, TWCC, level, orientation, playout delay, capture time.
pub const MAX_FORWARDED_BLOCK: usize = 40;
/// Where the transport-wide sequence number stands in a forwarded packet: fixed header, block header, element header.
pub const TRANSPORT_CC_OFFSET: usize = 12 + 4 + 1;

/// Voice activity and level of one audio packet (RFC 6464).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AudioLevel {
    /// The encoder thinks that it is speech.
    pub voice: bool,
    /// 0 (loudest) to 127 (silence), in -dBov.
    pub minus_dbov: u8,
}

/// What the engine reads of a packet's extensions. Values borrow from the packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extensions<'a> {
    /// m-line.
    pub mid: Option<&'a str>,
    /// Simulcast encoding.
    pub rid: Option<&'a str>,
    /// Simulcast encoding that this RTX packet repairs.
    pub repaired_rid: Option<&'a str>,
    /// Transport-wide sequence number.
    pub transport_cc: Option<u16>,
    /// Level of an audio packet.
    pub audio_level: Option<AudioLevel>,
    /// Elements that are passed on as they are.
    video_orientation: Option<&'a [u8]>,
    playout_delay: Option<&'a [u8]>,
    abs_capture_time: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    /// Reads the elements that `map` names; others are skipped, as is everything behind a malformed element.
    #[must_use]
    pub fn parse(header: &RtpHeader, packet: &'a [u8], map: &ExtensionMap) -> Self {
        let mut found = Self::default();
        let Some(mut rest) = packet.get(header.extension.clone()) else { return found };
        let is_one_byte = header.extension_profile == ONE_BYTE_PROFILE;
        if !is_one_byte && header.extension_profile & 0xfff0 != TWO_BYTE_PROFILE {
            return found;
        }
        while let Some((id, value, tail)) = next_element(rest, is_one_byte) {
            rest = tail;
            if let Some(extension) = map.extension(id) {
                found.set(extension, value);
            }
        }
        found
    }

    fn set(&mut self, extension: Extension, value: &'a [u8]) {
        match extension {
            Extension::Mid => self.mid = std::str::from_utf8(value).ok(),
            Extension::Rid => self.rid = std::str::from_utf8(value).ok(),
            Extension::RepairedRid => self.repaired_rid = std::str::from_utf8(value).ok(),
            Extension::TransportCc => self.transport_cc = value.first_chunk().map(|&v| u16::from_be_bytes(v)),
            Extension::AudioLevel => {
                self.audio_level = value.first().map(|&v| AudioLevel { voice: v & 0x80 != 0, minus_dbov: v & 0x7f });
            }
            Extension::VideoOrientation => self.video_orientation = Some(value),
            Extension::PlayoutDelay => self.playout_delay = Some(value),
            Extension::AbsCaptureTime => self.abs_capture_time = Some(value),
            // Means something between the publisher and us only.
            Extension::AbsSendTime => {}
        }
    }

    /// The extension block that every subscriber gets, with room for its transport-wide sequence number in front.
    ///
    /// Ids are [`Extension::offered_id`], the same on all subscriber transports.
    #[must_use]
    pub fn forwarded_block(&self) -> ArrayVec<u8, MAX_FORWARDED_BLOCK> {
        let mut block: ArrayVec<u8, MAX_FORWARDED_BLOCK> = ArrayVec::from_iter([0xbe, 0xde, 0, 0]);
        push_element(&mut block, Extension::TransportCc, &[0, 0]);
        if let Some(level) = self.audio_level {
            push_element(&mut block, Extension::AudioLevel, &[(u8::from(level.voice) << 7) | level.minus_dbov]);
        }
        for (extension, value, len) in [
            (Extension::VideoOrientation, self.video_orientation, 1..=1),
            (Extension::PlayoutDelay, self.playout_delay, 3..=3),
            (Extension::AbsCaptureTime, self.abs_capture_time, 8..=16),
        ] {
            if let Some(value) = value.filter(|v| len.contains(&v.len())) {
                push_element(&mut block, extension, value);
            }
        }
        while !block.len().is_multiple_of(4) {
            block.push(0);
        }
        block[3] = u8::try_from(block.len() / 4 - 1).expect("the block's capacity is below 256 words");
        block
    }
}

/// Puts a receiver's ids into a forwarded block, where they are not [`Extension::offered_id`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renumbering([u8; 16]);

impl Renumbering {
    /// To the ids in `map`; `None` if these are ours. What is not in `map`, or has an id that needs two-byte elements, is
    /// blanked.
    #[must_use]
    pub fn new(map: &ExtensionMap) -> Option<Self> {
        let mut ids = [0; 16];
        let mut is_identity = true;
        for extension in Extension::ALL {
            let (ours, theirs) = (extension.offered_id(), map.id(extension).filter(|id| (1..=14).contains(id)).unwrap_or(0));
            if let Some(id) = ids.get_mut(usize::from(ours)) {
                *id = theirs;
            }
            is_identity &= ours == theirs;
        }
        (!is_identity).then_some(Self(ids))
    }

    /// Renumbers a block, which begins with its profile. Its length stays.
    pub fn apply(&self, block: &mut [u8]) {
        let Some((head, mut rest)) = block.split_at_mut_checked(4) else { return };
        let is_one_byte = head[..2] == ONE_BYTE_PROFILE.to_be_bytes();
        while let Some(&first) = rest.first() {
            let (id, len) = match rest.get(1) {
                _ if first == 0 => (0, 1),
                _ if is_one_byte => (first >> 4, usize::from(first & 0x0f) + 2),
                Some(&len) => (first, usize::from(len) + 2),
                None => return,
            };
            let Some((element, tail)) = rest.split_at_mut_checked(len) else { return };
            match self.0.get(usize::from(id)).copied().unwrap_or(0) {
                // RFC 8285 section 4.1.1: zeros between elements are padding.
                0 => element.fill(0),
                theirs if is_one_byte => element[0] = (theirs << 4) | (first & 0x0f),
                theirs => element[0] = theirs,
            }
            rest = tail;
        }
    }
}

/// Splits the first element off: id, value, rest. Padding bytes are skipped (RFC 8285 sections 4.2 and 4.3).
fn next_element(mut rest: &[u8], is_one_byte: bool) -> Option<(u8, &[u8], &[u8])> {
    while let [0, tail @ ..] = rest {
        rest = tail;
    }
    let (id, len, body) = match rest {
        // Id 15 means: stop here.
        [head, ..] if is_one_byte && head >> 4 == 15 => return None,
        [head, body @ ..] if is_one_byte => (head >> 4, usize::from(head & 0x0f) + 1, body),
        [id, len, body @ ..] => (*id, usize::from(*len), body),
        _ => return None,
    };
    let (value, tail) = body.split_at_checked(len)?;
    Some((id, value, tail))
}

fn push_element(block: &mut ArrayVec<u8, MAX_FORWARDED_BLOCK>, extension: Extension, value: &[u8]) {
    let head = (extension.offered_id() << 4) | u8::try_from(value.len() - 1).expect("element values are 1 to 16 bytes");
    if block.remaining_capacity() > value.len() {
        block.push(head);
        block.try_extend_from_slice(value).expect("capacity was checked");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn packet(profile: [u8; 2], elements: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        packet.extend_from_slice(&profile);
        packet.extend_from_slice(&u16::try_from(elements.len() / 4).unwrap().to_be_bytes());
        packet.extend_from_slice(elements);
        packet
    }

    fn map() -> ExtensionMap {
        let mut map = ExtensionMap::default();
        map.set(Extension::Mid, 4);
        map.set(Extension::Rid, 10);
        map.set(Extension::TransportCc, 3);
        map.set(Extension::AudioLevel, 1);
        map.set(Extension::VideoOrientation, 13);
        map
    }

    #[test]
    fn one_byte_elements_are_read() {
        let packet = packet([0xbe, 0xde], &[0x40, b'7', 0x31, 0x12, 0x34, 0, 0xa0, b'q', 0x10, 0x85, 0, 0]);
        let header = RtpHeader::parse(&packet).unwrap();
        let found = Extensions::parse(&header, &packet, &map());
        assert_eq!((found.mid, found.rid, found.transport_cc), (Some("7"), Some("q"), Some(0x1234)));
        assert_eq!(found.audio_level, Some(AudioLevel { voice: true, minus_dbov: 5 }));
    }

    #[test]
    fn two_byte_elements_are_read() {
        let packet = packet([0x10, 0x00], &[4, 1, b'7', 0, 3, 2, 0x12, 0x34]);
        let header = RtpHeader::parse(&packet).unwrap();
        let found = Extensions::parse(&header, &packet, &map());
        assert_eq!((found.mid, found.transport_cc), (Some("7"), Some(0x1234)));
    }

    #[test]
    fn the_forwarded_block_has_our_ids_and_the_sequence_number_in_front() {
        let packet = packet([0xbe, 0xde], &[0xd0, 0x01, 0x10, 0x05]);
        let header = RtpHeader::parse(&packet).unwrap();
        let block = Extensions::parse(&header, &packet, &map()).forwarded_block();
        let twcc = (Extension::TransportCc.offered_id() << 4) | 1;
        let level = Extension::AudioLevel.offered_id() << 4;
        let orientation = Extension::VideoOrientation.offered_id() << 4;
        assert_eq!(block.as_slice(), [0xbe, 0xde, 0, 2, twcc, 0, 0, level, 5, orientation, 1, 0]);
        assert_eq!(TRANSPORT_CC_OFFSET, 12 + 5);
    }

    #[test]
    fn a_block_gets_the_receivers_ids_and_what_it_does_not_know_becomes_padding() {
        let incoming = packet([0xbe, 0xde], &[0xd0, 0x01, 0x10, 0x05]);
        let header = RtpHeader::parse(&incoming).unwrap();
        let mut block = Extensions::parse(&header, &incoming, &map()).forwarded_block();
        let mut theirs = ExtensionMap::default();
        theirs.set(Extension::TransportCc, 13);
        theirs.set(Extension::VideoOrientation, 2);
        Renumbering::new(&theirs).unwrap().apply(&mut block);
        assert_eq!(block.as_slice(), [0xbe, 0xde, 0, 2, 0xd1, 0, 0, 0, 0, 0x20, 1, 0]);
    }

    #[test]
    fn a_block_with_two_byte_elements_is_renumbered_too() {
        let mut theirs = ExtensionMap::default();
        theirs.set(Extension::TransportCc, 13);
        let (known, unknown) = (Extension::TransportCc.offered_id(), Extension::AudioLevel.offered_id());
        let mut block = [0x10, 0, 0, 2, known, 2, 7, 8, unknown, 1, 9, 0];
        Renumbering::new(&theirs).unwrap().apply(&mut block);
        assert_eq!(block, [0x10, 0, 0, 2, 13, 2, 7, 8, 0, 0, 0, 0]);
    }

    #[test]
    fn nothing_is_renumbered_where_the_ids_are_ours() {
        let mut map = ExtensionMap::default();
        Extension::ALL.into_iter().for_each(|extension| map.set(extension, extension.offered_id()));
        assert_eq!(Renumbering::new(&map), None);
        map.set(Extension::AudioLevel, 0);
        assert!(Renumbering::new(&map).is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_blocks_are_renumbered_without_panic(mut block: Vec<u8>, profile in prop::sample::select(vec![[0xbe, 0xde], [0x10, 0]])) {
            block.iter_mut().zip(profile).for_each(|(byte, new)| *byte = new);
            let len = block.len();
            Renumbering::new(&map()).unwrap().apply(&mut block);
            prop_assert_eq!(block.len(), len);
        }

        #[test]
        fn arbitrary_blocks_never_panic(profile in any::<[u8; 2]>(), words in proptest::collection::vec(any::<[u8; 4]>(), 0..16)) {
            let packet = packet(profile, words.as_flattened());
            let header = RtpHeader::parse(&packet).unwrap();
            let block = Extensions::parse(&header, &packet, &map()).forwarded_block();
            prop_assert!(block.len().is_multiple_of(4));
        }
    }
}
