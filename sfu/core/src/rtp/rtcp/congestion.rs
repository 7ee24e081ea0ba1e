//! Congestion control feedback (RFC 8888 section 3.1): whether and when packets of streams arrived, by their own numbers.

use super::parse::Reader;
use crate::error::Discard;
use crate::rtp::ntp::CompactNtp;

/// Arrival times are in units of 1/1024 s before the report; these two values say less.
const LONG_AGO: u16 = 0x1ffe;
const UNKNOWN: u16 = 0x1fff;
const RECEIVED: u16 = 0x8000;
/// Compact NTP units (1/65536 s) of one unit of an arrival time.
const UNITS: u32 = 64;

/// Received feedback.
#[derive(Clone, Copy, Debug)]
pub struct CongestionFeedback<'a> {
    /// Who reports.
    pub sender_ssrc: u32,
    blocks: &'a [u8],
    reported_at: CompactNtp,
}

/// What became of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamPacketStatus {
    /// Its stream.
    pub ssrc: u32,
    /// Its sequence number.
    pub sequence: u16,
    /// When it arrived by the client's clock, if it did.
    pub arrival: Option<CompactNtp>,
}

impl<'a> CongestionFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Discard> {
        let (blocks, time) = body.split_last_chunk::<4>().ok_or(Discard::RtcpMalformed)?;
        let mut reader = Reader(blocks);
        let sender_ssrc = reader.u32()?;
        let blocks = reader.0;
        while !reader.0.is_empty() {
            let (_, _, _) = read_block(&mut reader)?;
        }
        Ok(Self { sender_ssrc, blocks, reported_at: CompactNtp(u32::from_be_bytes(*time)) })
    }

    /// What became of the packets, stream by stream. Those of which only is known that they arrived are left out.
    pub fn statuses(&self) -> impl Iterator<Item = StreamPacketStatus> + use<'a> {
        let (mut reader, reported_at) = (Reader(self.blocks), self.reported_at);
        std::iter::from_fn(move || read_block(&mut reader).ok()).flat_map(move |(ssrc, first, reports)| {
            (0..=u16::MAX).zip(reports).filter_map(move |(place, &report)| {
                let report = u16::from_be_bytes(report);
                let arrival = match (report & RECEIVED != 0, report & UNKNOWN) {
                    (false, _) => None,
                    (true, LONG_AGO | UNKNOWN) => return None,
                    (true, ago) => Some(CompactNtp(reported_at.0.wrapping_sub(u32::from(ago) * UNITS))),
                };
                Some(StreamPacketStatus { ssrc, sequence: first.wrapping_add(place), arrival })
            })
        })
    }
}

/// A stream, its first sequence number, and a report for this packet and each one after it.
fn read_block<'a>(reader: &mut Reader<'a>) -> Result<(u32, u16, &'a [[u8; 2]]), Discard> {
    let (ssrc, first, count) = (reader.u32()?, reader.u16()?, usize::from(reader.u16()?));
    let reports = reader.items(count)?;
    if !count.is_multiple_of(2) {
        reader.take(2)?;
    }
    Ok((ssrc, first, reports))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn feedback() -> Vec<u8> {
        let mut body = vec![0, 0, 0, 1];
        body.extend([0, 0, 0, 7, 0xff, 0xff, 0, 3, 0x84, 0, 0, 0, 0xbf, 0xff, 0, 0]);
        body.extend([0, 0, 0, 9, 0, 5, 0, 2, 0x80, 0, 0x80, 1]);
        body.extend(0x0002_0000_u32.to_be_bytes());
        body
    }

    #[test]
    fn packets_of_several_streams_have_arrival_times() {
        let body = feedback();
        let parsed = CongestionFeedback::parse(&body).unwrap();
        let found: Vec<_> = parsed.statuses().map(|s| (s.ssrc, s.sequence, s.arrival.map(|at| at.0))).collect();
        // 1,024 units of 1/1024 s are one second; a time that is not known is left out.
        assert_eq!(found, [(7, 65_535, Some(0x0001_0000)), (7, 0, None), (9, 5, Some(0x0002_0000)), (9, 6, Some(0x0001_ffc0))]);
    }

    #[test]
    fn feedback_that_is_cut_off_anywhere_is_malformed_or_shorter() {
        let body = feedback();
        for len in 0..body.len() {
            if let Ok(parsed) = CongestionFeedback::parse(&body[..len]) {
                assert!(parsed.statuses().count() < 4, "{len}");
            }
        }
    }
}
