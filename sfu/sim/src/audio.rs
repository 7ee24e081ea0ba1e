//! Symbolic audio: packets that say which they are, and a receiver that notices what is missing or wrong.
//!
//! Like [`crate::frame`] for video: no sound, but a number, and bytes that follow from it.

use std::collections::BTreeSet;
use std::time::Duration;

/// Time between two packets.
pub const PACKET_TIME: Duration = Duration::from_millis(20);
/// RTP ticks between two packets.
pub const PACKET_TICKS: u32 = 960;

const MAGIC: [u8; 4] = *b"SYAU";
/// About 32 kbit/s.
const LEN: usize = 80;
/// Packets that are remembered to notice repetitions.
const REMEMBERED: usize = 256;

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
}

/// See the module.
#[derive(Debug, Default)]
pub struct AudioReceiver {
    report: AudioReport,
    recent: BTreeSet<u32>,
}

impl AudioReceiver {
    /// Takes a packet in.
    pub fn receive(&mut self, timestamp: u32, payload: &[u8]) {
        let report = &mut self.report;
        let Some(number) = decode(payload) else {
            report.corrupted += 1;
            return;
        };
        report.packets += 1;
        report.repeated += u64::from(!self.recent.insert(number));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_first();
        }
        if let Some((before, at)) = report.newest {
            let expected = number.wrapping_sub(before).wrapping_mul(PACKET_TICKS);
            report.misplaced += u64::from(timestamp.wrapping_sub(at) != expected);
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
        let mut receiver = AudioReceiver::default();
        for (number, timestamp) in [(1, 100), (2, 1060), (2, 1060), (4, 2980), (5, 3000)] {
            receiver.receive(timestamp, &encode(number));
        }
        let report = receiver.report();
        assert_eq!((report.packets, report.repeated, report.misplaced), (5, 1, 1));
    }
}
