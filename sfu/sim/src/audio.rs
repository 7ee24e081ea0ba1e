//! Symbolic audio: packets that say which they are, and a receiver that notices what is missing or wrong.
//!
//! Like [`crate::frame`] for video: no sound, but a number, and bytes that follow from it. Redundancy (RFC 2198) is written and
//! read here independently of the engine's own, so that a shared mistake can't hide.

use std::collections::BTreeSet;
use std::time::Duration;

use sfu_core::media::Codec;

/// Time between two packets.
pub const PACKET_TIME: Duration = Duration::from_millis(20);

/// RTP ticks between two packets.
#[must_use]
pub const fn packet_ticks(codec: Codec) -> u32 {
    codec.clock_rate_hz() / 50
}

const MAGIC: [u8; 4] = *b"SYAU";
/// About 32 kbit/s.
const LEN: usize = 80;
/// Packets that are remembered to notice repetitions.
const REMEMBERED: usize = 256;
/// Bytes of the header of an earlier frame in a packet with redundancy.
const COPY_HEADER: usize = 4;

/// Payload number `number`.
#[must_use]
pub fn encode(number: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&number.to_be_bytes());
    let [.., low] = number.to_be_bytes();
    bytes.resize(LEN, low);
    bytes
}

/// The number of a payload; `None` if a byte is wrong.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<u32> {
    let number = payload.get(4..8)?.try_into().ok().map(u32::from_be_bytes)?;
    (encode(number) == payload).then_some(number)
}

/// A payload with copies of earlier frames: timestamp offset and frame of each, oldest first.
#[must_use]
pub fn with_copies(block_type: u8, copies: &[(u32, Vec<u8>)], frame: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (offset, copy) in copies {
        let len = u32::try_from(copy.len()).unwrap_or(0);
        let [_, bytes @ ..] = ((offset << 10) | len).to_be_bytes();
        payload.push(0x80 | block_type);
        payload.extend_from_slice(&bytes);
    }
    payload.push(block_type);
    copies.iter().for_each(|(_, copy)| payload.extend_from_slice(copy));
    payload.extend_from_slice(frame);
    payload
}

/// The frames of such a payload, each with its timestamp offset, oldest first; `None` if it is not made of blocks of that type.
#[must_use]
pub fn read_copies(block_type: u8, payload: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut at = 0;
    let mut headers = Vec::new();
    while payload.get(at)? & 0x80 != 0 {
        let header: [u8; COPY_HEADER] = payload.get(at..at + COPY_HEADER)?.try_into().ok()?;
        let word = u32::from_be_bytes(header);
        headers.push(((word >> 10) & 0x3fff, usize::try_from(word & 0x3ff).ok()?));
        if header[0] & 0x7f != block_type {
            return None;
        }
        at += COPY_HEADER;
    }
    if payload.get(at)? & 0x7f != block_type {
        return None;
    }
    at += 1;
    let mut frames = Vec::new();
    for (offset, len) in headers {
        frames.push((offset, payload.get(at..at + len)?));
        at += len;
    }
    frames.push((0, payload.get(at..)?));
    Some(frames)
}

/// What was heard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AudioReport {
    /// Intact packets.
    pub packets: u64,
    /// Packets whose content is not what the source sent.
    pub corrupted: u64,
    /// Packets with a content that was there before.
    pub repeated: u64,
    /// Packets whose RTP timestamp is not as far from that of the packet before as their contents are.
    pub misplaced: u64,
    /// Number and RTP timestamp of the newest packet.
    pub newest: Option<(u32, u32)>,
    /// Packets that came with copies of earlier frames.
    pub with_copies: u64,
    /// Frames whose own packet had not come when a copy did.
    pub recovered: u64,
    /// Frames that never came, between the first and the newest: what a listener hears as gaps, if the source sent them.
    pub missing: u64,
}

/// See the module.
#[derive(Debug)]
pub struct AudioReceiver {
    report: AudioReport,
    recent: BTreeSet<u32>,
    packet_ticks: u32,
}

impl AudioReceiver {
    /// Nothing was heard yet.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self { report: AudioReport::default(), recent: BTreeSet::new(), packet_ticks: packet_ticks(codec) }
    }

    /// Takes a packet with redundancy in: what is new of it, as a jitter buffer does.
    pub fn receive_with_copies(&mut self, timestamp: u32, block_type: u8, payload: &[u8]) {
        let Some(frames) = read_copies(block_type, payload) else {
            self.report.corrupted += 1;
            return;
        };
        self.report.with_copies += u64::from(frames.len() > 1);
        for (offset, frame) in frames {
            let is_known = decode(frame).is_some_and(|number| self.recent.contains(&number));
            if offset > 0 && is_known {
                continue;
            }
            // What was before the first packet was not for us.
            let is_ours = decode(frame).is_some_and(|number| self.recent.first().is_some_and(|&first| number > first));
            if offset > 0 && !is_ours {
                continue;
            }
            self.report.recovered += u64::from(offset > 0);
            self.receive(timestamp.wrapping_sub(offset), frame);
        }
    }

    /// Takes a packet in.
    pub fn receive(&mut self, timestamp: u32, payload: &[u8]) {
        let report = &mut self.report;
        let Some(number) = decode(payload) else {
            report.corrupted += 1;
            return;
        };
        report.packets += 1;
        let is_new = self.recent.insert(number);
        report.repeated += u64::from(!is_new);
        if self.recent.len() > REMEMBERED {
            self.recent.pop_first();
        }
        if let Some((before, at)) = report.newest {
            let expected = number.wrapping_sub(before).wrapping_mul(self.packet_ticks);
            report.misplaced += u64::from(timestamp.wrapping_sub(at) != expected);
        }
        match report.newest {
            Some((before, _)) if number > before => report.missing += u64::from(number - before - 1),
            Some(_) if is_new => report.missing = report.missing.saturating_sub(1),
            _ => {}
        }
        if report.newest.is_none_or(|(before, _)| number > before) {
            report.newest = Some((number, timestamp));
        }
    }

    /// What was heard so far.
    #[must_use]
    pub fn report(&self) -> &AudioReport {
        &self.report
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_payload_reads_back_and_damage_is_noticed() {
        let mut payload = encode(70_000);
        assert_eq!(decode(&payload), Some(70_000));
        payload[50] ^= 1;
        assert_eq!(decode(&payload), None);
    }

    #[test]
    fn repetitions_and_wrong_timestamps_are_counted() {
        let mut receiver = AudioReceiver::new(Codec::Opus);
        for (number, timestamp) in [(1, 100), (2, 1060), (2, 1060), (4, 2980), (5, 3000)] {
            receiver.receive(timestamp, &encode(number));
        }
        let report = receiver.report();
        assert_eq!((report.packets, report.repeated, report.misplaced, report.missing), (5, 1, 1, 1));
    }

    #[test]
    fn copies_fill_the_gaps_that_they_can() {
        let mut receiver = AudioReceiver::new(Codec::Opus);
        receiver.receive_with_copies(10 * 960, 111, &with_copies(111, &[(960, encode(9))], &encode(10)));
        receiver.receive_with_copies(13 * 960, 111, &with_copies(111, &[(960, encode(12))], &encode(13)));
        let report = receiver.report();
        assert_eq!((report.packets, report.recovered, report.missing, report.misplaced), (3, 1, 1, 0));
        receiver.receive_with_copies(14 * 960, 110, &with_copies(111, &[], &encode(14)));
        assert_eq!(receiver.report().corrupted, 1);
    }

    #[test]
    fn the_engine_reads_the_same_blocks() {
        let payload = with_copies(109, &[(1920, encode(1)), (960, encode(2))], &encode(3));
        let red = sfu_core::rtp::payload::red::Red::parse(&payload, 109).unwrap();
        let offsets: Vec<u32> = red.copies.iter().map(|copy| copy.timestamp_offset).collect();
        assert_eq!((offsets, decode(red.copies[0].frame), decode(red.primary)), (vec![1920, 960], Some(1), Some(3)));
        let read = read_copies(109, &payload).unwrap();
        assert_eq!(
            read.iter().map(|(offset, frame)| (*offset, decode(frame))).collect::<Vec<_>>(),
            [(1920, Some(1)), (960, Some(2)), (0, Some(3))]
        );
    }
}
