//! RTP header extensions (RFC 8285): reading what publishers send, writing the one block that all subscribers get.
//!
//! A forwarded block begins with a slot of four bytes for what each subscriber's copy says of its sending: the
//! transport-wide sequence number, or for clients without it the time ([`SendStamp`]). The dependency descriptor stands
//! last. Blocks have one-byte element headers unless the descriptor is too long for these.

use arrayvec::ArrayVec;

use crate::media::{Extension, ExtensionMap};
use crate::rtp::header::RtpHeader;

/// Profile of a block with one-byte element headers.
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// Profile of a block with two-byte element headers; the low four bits are free.
const TWO_BYTE_PROFILE: u16 = 0x1000;
/// Longest value of a one-byte element.
const ONE_BYTE_LEN: usize = 16;
/// Bytes in front of the elements: profile and length.
const BLOCK_HEADER: usize = 4;
/// Longest block that [`Extensions::forwarded_block`] writes: headers, slot, level, orientation, playout delay, capture time
/// and a dependency descriptor of any length.
pub const MAX_FORWARDED_BLOCK: usize = BLOCK_HEADER + 4 + 3 + 3 + 5 + 18 + 257 + 2;
/// Where the slot for a subscriber's own element begins in a forwarded block.
const SLOT: usize = BLOCK_HEADER;
/// Where the transport-wide sequence number stands in a forwarded packet: fixed header, block header, element header. A byte
/// of padding in front of a one-byte element makes it the same in both forms.
pub const TRANSPORT_CC_OFFSET: usize = 12 + SLOT + 2;

/// A block on its way into the ring.
pub type Block = ArrayVec<u8, MAX_FORWARDED_BLOCK>;

/// Voice activity and level of one audio packet (RFC 6464).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AudioLevel {
    /// The encoder thinks that it is speech.
    pub voice: bool,
    /// 0 (loudest) to 127 (silence), in -dBov.
    pub minus_dbov: u8,
}

/// What a subscriber's copies of a packet say of their sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SendStamp {
    /// Transport-wide sequence number.
    #[default]
    TransportCc,
    /// Absolute send time, for clients that have not agreed to the former.
    AbsSendTime,
    /// Nothing, for clients that have not agreed to either; they skip the slot (RFC 8285 section 5).
    Nothing,
}

/// Where a dependency descriptor stands in a forwarded block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DescriptorPlace {
    /// Offset of its value.
    pub at: u8,
    /// Length of its value; 0: there is none.
    pub len: u8,
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
    /// Dependency descriptor as it came.
    pub dependency_descriptor: Option<&'a [u8]>,
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
            Extension::DependencyDescriptor => self.dependency_descriptor = Some(value).filter(|value| !value.is_empty()),
            // Means something between the publisher and us only; subscribers get their own.
            Extension::AbsSendTime => {}
        }
    }

    /// The extension block that every subscriber gets, with the slot for its own element in front, and where its dependency
    /// descriptor stands. A configured playout delay (as [`playout_delay_value`] writes it) replaces the publisher's.
    ///
    /// Ids are [`Extension::offered_id`], the same on all subscriber transports.
    #[must_use]
    pub fn forwarded_block(&self, playout_delay: Option<&[u8; 3]>) -> (Block, DescriptorPlace) {
        let descriptor = self.dependency_descriptor.unwrap_or_default();
        let mut writer = BlockWriter::new(descriptor.len() <= ONE_BYTE_LEN);
        if let Some(level) = self.audio_level {
            writer.element(Extension::AudioLevel.offered_id(), &[(u8::from(level.voice) << 7) | level.minus_dbov]);
        }
        for (extension, value, len) in [
            (Extension::VideoOrientation, self.video_orientation, 1..=1),
            (Extension::PlayoutDelay, playout_delay.map(<[u8; 3]>::as_slice).or(self.playout_delay), 3..=3),
            (Extension::AbsCaptureTime, self.abs_capture_time, 8..=16),
        ] {
            if let Some(value) = value.filter(|v| len.contains(&v.len())) {
                writer.element(extension.offered_id(), value);
            }
        }
        let place = writer.descriptor(descriptor);
        (writer.finish(), place)
    }
}

/// Value of the playout delay extension: 12 bits each, in units of 10 ms.
#[must_use]
pub fn playout_delay_value(min_ms: u32, max_ms: u32) -> [u8; 3] {
    let units = |ms: u32| ms.div_ceil(10).min(0xfff);
    let [_, bytes @ ..] = ((units(min_ms) << 12) | units(max_ms.max(min_ms))).to_be_bytes();
    bytes
}

/// Absolute send time: 24 bits of seconds with 18 bits behind the point, from any start.
#[must_use]
pub fn abs_send_time(since_start: std::time::Duration) -> [u8; 3] {
    let fraction = (u64::from(since_start.subsec_micros()) << 18) / 1_000_000;
    let units = (since_start.as_secs() << 18).wrapping_add(fraction);
    let [.., a, b, c] = units.to_be_bytes();
    [a, b, c]
}

/// Puts the absolute send time into the slot of a forwarded packet, in place of the transport-wide sequence number.
pub fn stamp_send_time(packet: &mut [u8], time: [u8; 3]) {
    let is_one_byte = packet.get(12..14) == Some(&ONE_BYTE_PROFILE.to_be_bytes());
    let Some(slot) = packet.get_mut(12 + SLOT..12 + SLOT + 4) else { return };
    // A two-byte element of this value has no room in the slot: padding.
    let head = (Extension::AbsSendTime.offered_id() << 4) | 2;
    slot.copy_from_slice(&if is_one_byte { [head, time[0], time[1], time[2]] } else { [0; 4] });
}

/// A forwarded block again, with another dependency descriptor or without any.
#[must_use]
pub fn with_descriptor(block: &[u8], place: DescriptorPlace, descriptor: &[u8]) -> Block {
    let is_one_byte = block.starts_with(&ONE_BYTE_PROFILE.to_be_bytes());
    let mut writer = BlockWriter::new(descriptor.len() <= ONE_BYTE_LEN);
    let mut rest = block.get(SLOT + 4..).unwrap_or_default();
    while let Some((id, value, tail)) = next_element(rest, is_one_byte) {
        rest = tail;
        if place.len == 0 || id != Extension::DependencyDescriptor.offered_id() {
            writer.element(id, value);
        }
    }
    writer.descriptor(descriptor);
    writer.finish()
}

/// A forwarded block again, with a playout delay (as [`playout_delay_value`] writes it), and where its dependency descriptor stands
/// then. `None`: it has one already.
#[must_use]
pub fn with_playout_delay(block: &[u8], place: DescriptorPlace, delay: [u8; 3]) -> Option<(Block, DescriptorPlace)> {
    let is_one_byte = !is_two_byte(block);
    let mut writer = BlockWriter::new(is_one_byte);
    let mut rest = block.get(SLOT + 4..).unwrap_or_default();
    let mut descriptor = None;
    while let Some((id, value, tail)) = next_element(rest, is_one_byte) {
        rest = tail;
        if id == Extension::PlayoutDelay.offered_id() {
            return None;
        }
        if place.len > 0 && id == Extension::DependencyDescriptor.offered_id() {
            descriptor = Some(value);
        } else {
            writer.element(id, value);
        }
    }
    writer.element(Extension::PlayoutDelay.offered_id(), &delay);
    let place = writer.descriptor(descriptor.unwrap_or_default());
    Some((writer.finish(), place))
}

/// The block has two-byte element headers.
#[must_use]
pub fn is_two_byte(block: &[u8]) -> bool {
    block.first() == Some(&TWO_BYTE_PROFILE.to_be_bytes()[0])
}

struct BlockWriter {
    block: Block,
    is_one_byte: bool,
}

impl BlockWriter {
    fn new(is_one_byte: bool) -> Self {
        let [p0, p1] = if is_one_byte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE }.to_be_bytes();
        let id = Extension::TransportCc.offered_id();
        let [s0, s1] = if is_one_byte { [0, (id << 4) | 1] } else { [id, 2] };
        Self { block: Block::from_iter([p0, p1, 0, 0, s0, s1, 0, 0]), is_one_byte }
    }

    fn element(&mut self, id: u8, value: &[u8]) {
        let Ok(len) = u8::try_from(value.len()) else { return };
        if self.block.remaining_capacity() < value.len() + 2 || (self.is_one_byte && !(1..=ONE_BYTE_LEN).contains(&value.len())) {
            return;
        }
        if self.is_one_byte {
            self.block.push((id << 4) | (len - 1));
        } else {
            self.block.extend([id, len]);
        }
        self.block.extend(value.iter().copied());
    }

    fn descriptor(&mut self, value: &[u8]) -> DescriptorPlace {
        let Ok(len) = u8::try_from(value.len()) else { return DescriptorPlace::default() };
        let at = self.block.len() + if self.is_one_byte { 1 } else { 2 };
        if len == 0 {
            return DescriptorPlace::default();
        }
        self.element(Extension::DependencyDescriptor.offered_id(), value);
        DescriptorPlace { at: u8::try_from(at).unwrap_or(u8::MAX), len }
    }

    fn finish(mut self) -> Block {
        while !self.block.len().is_multiple_of(4) {
            self.block.push(0);
        }
        self.block[3] = u8::try_from(self.block.len() / 4 - 1).expect("the block's capacity is below 256 words");
        self.block
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
        let (block, place) = Extensions::parse(&header, &packet, &map()).forwarded_block(None);
        let twcc = (Extension::TransportCc.offered_id() << 4) | 1;
        let level = Extension::AudioLevel.offered_id() << 4;
        let orientation = Extension::VideoOrientation.offered_id() << 4;
        assert_eq!(block.as_slice(), [0xbe, 0xde, 0, 2, 0, twcc, 0, 0, level, 5, orientation, 1]);
        assert_eq!((TRANSPORT_CC_OFFSET, place.len), (12 + 6, 0));
    }

    #[test]
    fn a_descriptor_stands_last_and_decides_the_form_of_the_block() {
        for len in [1, 3, 16, 17, 100, 255] {
            let value: Vec<u8> = (0..len).map(|i| 255 - i).collect();
            let found = Extensions { dependency_descriptor: Some(&value), video_orientation: Some(&[3]), ..Extensions::default() };
            let (block, place) = found.forwarded_block(None);
            assert_eq!(is_two_byte(&block), len > 16);
            assert_eq!(block[usize::from(place.at)..][..usize::from(place.len)], value);
            assert_eq!(read(&block).dependency_descriptor, Some(value.as_slice()));
            assert_eq!(read(&block).video_orientation, Some([3].as_slice()));
            assert_eq!(read(&block).transport_cc, Some(0));

            let other: Vec<u8> = vec![7; 272 - usize::from(len)].into_iter().take(255).collect();
            let changed = with_descriptor(&block, place, &other);
            assert_eq!(read(&changed).dependency_descriptor, Some(other.as_slice()));
            assert_eq!(read(&changed).video_orientation, Some([3].as_slice()));
            let without = with_descriptor(&block, place, &[]);
            assert!(!is_two_byte(&without));
            assert_eq!((read(&without).dependency_descriptor, read(&without).video_orientation), (None, Some([3].as_slice())));
        }
    }

    #[test]
    fn a_configured_playout_delay_replaces_the_publishers() {
        let found = Extensions { playout_delay: Some(&[1, 2, 3]), ..Extensions::default() };
        let value = playout_delay_value(100, 2_000);
        assert_eq!(read(&found.forwarded_block(None).0).playout_delay, Some([1, 2, 3].as_slice()));
        assert_eq!(read(&found.forwarded_block(Some(&value)).0).playout_delay, Some([0, 0xa0, 0xc8].as_slice()));
    }

    #[test]
    fn a_playout_delay_is_put_in_front_of_the_descriptor_of_a_block_without_one() {
        let delay = playout_delay_value(300, 10_000);
        for len in [0, 3, 16, 17, 100] {
            let value: Vec<u8> = (0..len).map(|i| 255 - i).collect();
            let descriptor = Some(value.as_slice()).filter(|value| !value.is_empty());
            let plain = Extensions { dependency_descriptor: descriptor, video_orientation: Some(&[3]), ..Extensions::default() };
            let (block, place) = plain.forwarded_block(None);
            let (with, moved) = with_playout_delay(&block, place, delay).unwrap();
            assert_eq!(with.as_slice(), Extensions { playout_delay: Some(&delay), ..plain }.forwarded_block(None).0.as_slice());
            assert_eq!(with[usize::from(moved.at)..][..usize::from(moved.len)], value);
            assert_eq!(with_playout_delay(&with, moved, delay), None, "the publisher's or the room's holds");
        }
    }

    #[test]
    fn a_send_time_takes_the_place_of_the_sequence_number() {
        let mut packet = vec![0; 12];
        packet.extend_from_slice(&Extensions::default().forwarded_block(None).0);
        stamp_send_time(&mut packet, abs_send_time(std::time::Duration::from_millis(64_500)));
        assert_eq!(packet[12..], [0xbe, 0xde, 0, 1, (Extension::AbsSendTime.offered_id() << 4) | 2, 0x02, 0, 0]);
    }

    fn read(block: &[u8]) -> Extensions<'_> {
        let mut map = ExtensionMap::default();
        Extension::ALL.into_iter().for_each(|extension| map.set(extension, extension.offered_id()));
        let header = RtpHeader::parse(&[[0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9].as_slice(), block].concat()).unwrap();
        let shifted = RtpHeader { extension: 4..block.len(), ..header };
        Extensions::parse(&shifted, block, &map)
    }

    #[test]
    fn a_block_gets_the_receivers_ids_and_what_it_does_not_know_becomes_padding() {
        let incoming = packet([0xbe, 0xde], &[0xd0, 0x01, 0x10, 0x05]);
        let header = RtpHeader::parse(&incoming).unwrap();
        let (mut block, _) = Extensions::parse(&header, &incoming, &map()).forwarded_block(None);
        let mut theirs = ExtensionMap::default();
        theirs.set(Extension::TransportCc, 13);
        theirs.set(Extension::VideoOrientation, 2);
        Renumbering::new(&theirs).unwrap().apply(&mut block);
        assert_eq!(block.as_slice(), [0xbe, 0xde, 0, 2, 0, 0xd1, 0, 0, 0, 0, 0x20, 1]);
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
            let (block, _) = Extensions::parse(&header, &packet, &map()).forwarded_block(None);
            prop_assert!(block.len().is_multiple_of(4));
        }
    }
}
