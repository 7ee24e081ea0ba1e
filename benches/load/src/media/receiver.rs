//! Receiving a track: integrity, order, loss, layers, latency, and the feedback of a browser (NACK, PLI, receiver reports).
//!
//! In: decrypted packets with the kernel's timestamp. Out: counts in [`Counters`], RTCP. A stamp in each payload
//! ([`super::stamp`]) says what it must be: within an encoding, the numbers of the stamps and the sequence numbers grow together,
//! and an encoding is changed at a keyframe only.

use std::time::{Duration, Instant};

use sfu_core::media::Codec;
use sfu_core::rtp::header::RtpHeader;
use sfu_core::rtp::ntp::{CompactNtp, NtpTime};
use sfu_core::rtp::rtcp::{Pli, ReportBlock, write_nack, write_pli};
use sfu_core::rtp::sequence::nearest;

use super::counters::{Counters, Measured};
use super::link::{Format, ReceiveTrack};
use super::packetize;
use super::stamp::{self, Stamp};

/// SSRC of a receiver that sends nothing.
pub(super) const OWN_SSRC: u32 = 1;
/// Between two requests for one packet: libwebrtc's round trip time when it knows none.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// libwebrtc, `kMaxNackRetries`.
const MAX_NACKS: u8 = 10;
/// Packets that are waited for at once; beyond it a keyframe is asked for (libwebrtc, `kMaxNackPackets`).
const MAX_MISSING: usize = 1_000;
/// Between two requests for a keyframe; libwebrtc waits as long for one.
const PLI_INTERVAL: Duration = Duration::from_millis(200);

/// A track that is received.
pub(super) struct Receiving {
    track: ReceiveTrack,
    first: Option<u64>,
    highest: u64,
    unique: u64,
    missing: Vec<Missing>,
    /// What the newest packet in order said.
    last: Option<Last>,
    wants_keyframe: bool,
    last_pli: Option<Instant>,
    last_packet: Option<Instant>,
    sender_report: Option<(NtpTime, Instant)>,
    reported: (u64, u64),
    jitter: Jitter,
}

struct Missing {
    sequence: u64,
    asked_at: Option<Instant>,
    tries: u8,
}

#[derive(Clone, Copy)]
struct Last {
    sequence: u64,
    stamp: Stamp,
}

/// RFC 3550 section 6.4.1 and appendix A.8.
#[derive(Default)]
struct Jitter {
    transit: Option<i64>,
    /// In 1/16 ticks.
    value: i64,
}

impl Receiving {
    pub(super) fn new(track: ReceiveTrack) -> Self {
        let wants_keyframe = track.codec.is_video();
        Self {
            track,
            first: None,
            highest: 0,
            unique: 0,
            missing: Vec::new(),
            last: None,
            wants_keyframe,
            last_pli: None,
            last_packet: None,
            sender_report: None,
            reported: (0, 0),
            jitter: Jitter::default(),
        }
    }

    pub(super) fn track(&self) -> &ReceiveTrack {
        &self.track
    }

    /// A renegotiation says the same track in other words.
    pub(super) fn redescribe(&mut self, track: ReceiveTrack) {
        self.track = track;
    }

    /// Media has come.
    pub(super) fn is_live(&self) -> bool {
        self.first.is_some()
    }

    /// Takes a packet on the SSRC of the media. `arrived_at_ns` counts from 1970.
    pub(super) fn take(&mut self, now: Instant, arrived_at_ns: u64, header: &RtpHeader, payload: &[u8], measured: &mut Measured) {
        self.last_packet = Some(now);
        let sequence = self.place(header.sequence, &mut measured.counters);
        if payload.is_empty() {
            measured.counters.padding += 1;
            self.pass_over(sequence);
            return;
        }
        let Some(codec) = self.codec_of(header.payload_type) else {
            measured.counters.damaged += 1;
            return;
        };
        self.jitter.observe(arrived_at_ns, header.timestamp, codec.clock_rate_hz());
        if let Some(stamp) = self.check(codec, sequence, payload, &mut measured.counters) {
            measured.latency.record(Duration::from_nanos(arrived_at_ns.saturating_sub(stamp.sent_at_ns)));
        }
    }

    /// Takes a packet on the SSRC of retransmissions (RFC 4588 section 4).
    pub(super) fn take_rtx(&mut self, header: &RtpHeader, payload: &[u8], counters: &mut Counters) {
        let Some((original, payload)) = payload.split_first_chunk::<2>() else {
            counters.padding += 1;
            return;
        };
        counters.retransmissions += 1;
        let associated = self.track.formats.iter().find_map(|(payload_type, format)| match format {
            Format::Rtx(of) if *payload_type == header.payload_type => Some(*of),
            _ => None,
        });
        if self.first.is_none() {
            return;
        }
        let sequence = nearest(u16::from_be_bytes(*original), self.highest);
        let Some(place) = self.missing.iter().position(|missing| missing.sequence == sequence) else { return };
        self.missing.swap_remove(place);
        self.unique += 1;
        counters.arrived += 1;
        if !payload.is_empty()
            && let Some(codec) = associated.and_then(|payload_type| self.codec_of(payload_type))
        {
            self.check(codec, sequence, payload, counters);
        }
    }

    /// Extends a sequence number and notes what is missing.
    fn place(&mut self, wire: u16, counters: &mut Counters) -> u64 {
        if self.first.is_none() {
            let sequence = 0x1_0000 + u64::from(wire);
            (self.first, self.highest, self.unique) = (Some(sequence), sequence, 1);
            counters.expected += 1;
            counters.arrived += 1;
            return sequence;
        }
        let sequence = nearest(wire, self.highest);
        if sequence > self.highest {
            let gap = self.highest + 1..sequence;
            counters.expected += sequence - self.highest;
            if self.track.codec.is_video() && !gap.is_empty() {
                if self.missing.len() + usize::try_from(sequence - gap.start).unwrap_or(usize::MAX) > MAX_MISSING {
                    self.missing.clear();
                    self.wants_keyframe = true;
                } else {
                    self.missing.extend(gap.map(|sequence| Missing { sequence, asked_at: None, tries: 0 }));
                }
            }
            self.highest = sequence;
        } else {
            // The SRTP window lets nothing through twice, so it is one that was missing.
            counters.reordered += 1;
            self.missing.retain(|missing| missing.sequence != sequence);
        }
        self.unique += 1;
        counters.arrived += 1;
        sequence
    }

    fn codec_of(&self, payload_type: u8) -> Option<Codec> {
        self.track.formats.iter().find_map(|(known, format)| match format {
            Format::Codec(codec) if *known == payload_type => Some(*codec),
            _ => None,
        })
    }

    /// Verifies a payload; its stamp if it is whole.
    fn check(&mut self, codec: Codec, sequence: u64, payload: &[u8], counters: &mut Counters) -> Option<Stamp> {
        let Some(parsed) = packetize::parse(codec, payload) else {
            counters.damaged += 1;
            return None;
        };
        if parsed.starts_keyframe {
            self.wants_keyframe = false;
            counters.keyframes += 1;
        }
        let stamp = match parsed.body.map(stamp::read) {
            Some(Some(stamp)) => stamp,
            None => {
                self.pass_over(sequence);
                return None;
            }
            Some(None) => {
                counters.damaged += 1;
                return None;
            }
        };
        counters.verified += 1;
        match stamp.source.encoding() {
            0 => counters.encoding_0 += 1,
            1 => counters.encoding_1 += 1,
            _ => counters.encoding_2 += 1,
        }
        let Some(last) = self.last else {
            self.last = Some(Last { sequence, stamp });
            return Some(stamp);
        };
        if stamp.source.track() != last.stamp.source.track() {
            counters.misrouted += 1;
        } else if stamp.source == last.stamp.source {
            let grown = stamp.number.wrapping_sub(last.stamp.number).cast_signed();
            let moved = i64::try_from(sequence).unwrap_or(0) - i64::try_from(last.sequence).unwrap_or(0);
            // What a server leaves out of a stream (a keyframe's wait, a pause) may shorten the distance, never turn it round.
            let is_consistent = (moved > 0) == (grown > 0) && i64::from(grown).abs() >= moved.abs();
            counters.misnumbered += u64::from(!is_consistent && moved != 0);
        } else if sequence > last.sequence && !parsed.starts_keyframe && last.sequence + 1 == sequence {
            counters.bad_switches += 1;
        }
        if sequence > last.sequence {
            self.last = Some(Last { sequence, stamp });
        }
        Some(stamp)
    }

    /// A packet without a stamp (parameter sets, padding) takes a sequence number, but no number of its source.
    fn pass_over(&mut self, sequence: u64) {
        if let Some(last) = self.last.as_mut().filter(|last| last.sequence + 1 == sequence) {
            last.sequence = sequence;
        }
    }

    pub(super) fn on_sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.sender_report = Some((ntp, now));
    }

    /// NACKs and PLIs that are due.
    pub(super) fn feedback(&mut self, now: Instant, compound: &mut Vec<u8>, counters: &mut Counters) {
        if !self.missing.is_empty() {
            let before = self.missing.len();
            self.missing.retain(|missing| missing.tries < MAX_NACKS);
            self.wants_keyframe |= self.missing.len() < before;
            self.missing.sort_unstable_by_key(|missing| missing.sequence);
            let mut due: Vec<u16> = Vec::new();
            for missing in &mut self.missing {
                if missing.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= NACK_INTERVAL) && due.len() < NACKS_AT_ONCE {
                    (missing.asked_at, missing.tries) = (Some(now), missing.tries + 1);
                    due.push(sfu_core::rtp::sequence::low16(missing.sequence));
                }
            }
            counters.nacks_sent += due.len() as u64;
            write_nack(compound, OWN_SSRC, self.track.ssrc, due);
        }
        // A browser asks only while packets come that it can't show.
        let is_receiving = self.last_packet.is_some_and(|at| now.saturating_duration_since(at) < PLI_INTERVAL);
        let is_due = self.last_pli.is_none_or(|at| now.saturating_duration_since(at) >= PLI_INTERVAL);
        if self.wants_keyframe && is_receiving && is_due {
            self.last_pli = Some(now);
            counters.plis_sent += 1;
            write_pli(compound, Pli { sender_ssrc: OWN_SSRC, media_ssrc: self.track.ssrc });
        }
    }

    /// What a receiver report says of it.
    pub(super) fn block(&mut self, now: Instant) -> Option<ReportBlock> {
        let first = self.first?;
        let expected = self.highest + 1 - first;
        let lost = i64::try_from(expected).ok()? - i64::try_from(self.unique).ok()?;
        // RFC 3550 appendix A.3.
        let (expected_before, unique_before) = std::mem::replace(&mut self.reported, (expected, self.unique));
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(self.unique.saturating_sub(unique_before));
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let (last_sr, delay_since_last_sr) = match self.sender_report {
            Some((ntp, at)) => (ntp.compact(), CompactNtp::from_duration(now.saturating_duration_since(at))),
            None => (CompactNtp::default(), CompactNtp::default()),
        };
        Some(ReportBlock {
            ssrc: self.track.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(255),
            cumulative_lost: i32::try_from(lost).unwrap_or(0),
            highest_sequence: u32::try_from((self.highest - 0x1_0000) & 0xffff_ffff).unwrap_or(0),
            jitter_ticks: u32::try_from(self.jitter.value >> 4).unwrap_or(0),
            last_sr,
            delay_since_last_sr,
        })
    }
}

/// Sequence numbers of one NACK, so that it fits a datagram.
const NACKS_AT_ONCE: usize = 200;

impl Jitter {
    fn observe(&mut self, arrived_at_ns: u64, timestamp: u32, clock_rate_hz: u32) {
        let arrival = i64::try_from((u128::from(arrived_at_ns) * u128::from(clock_rate_hz) / 1_000_000_000) & 0xffff_ffff).unwrap_or(0);
        let transit = arrival - i64::from(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            // Both wrap at 2^32.
            let distance = i64::from((transit - before) as i32).abs();
            self.value += distance - ((self.value + 8) >> 4);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sfu_core::rtp::rtcp::{RtcpPacket, packets};

    use super::super::packetize::{Frame, cut};
    use super::super::stamp::Source;
    use super::*;

    const SSRC: u32 = 77;

    fn video() -> Receiving {
        let formats = vec![(96, Format::Codec(Codec::Vp8)), (97, Format::Rtx(96))];
        let track = ReceiveTrack { name: "v".into(), codec: Codec::Vp8, ssrc: SSRC, rtx_ssrc: Some(78), formats, transport_cc: None };
        Receiving::new(track)
    }

    fn header(sequence: u16, payload_type: u8) -> RtpHeader {
        let [a, b] = sequence.to_be_bytes();
        RtpHeader::parse(&[0x80, payload_type, a, b, 0, 0, 0, 0, 0, 0, 0, 77]).unwrap()
    }

    /// A packet of a frame of one packet.
    fn payload(number: u32, encoding: usize, is_keyframe: bool, sent_at_ns: u64) -> Vec<u8> {
        let frame = Frame { is_keyframe, number, key_index: 0, size_px: (64, 64) };
        let mut out = Vec::new();
        cut(Codec::Vp8, frame, 100, 1, &mut Vec::new(), |payload| {
            stamp::write(
                &mut payload.bytes[payload.body_at.unwrap()..],
                Stamp { source: Source::new(1, true, encoding), number, sent_at_ns },
            );
            out.clone_from(payload.bytes);
        });
        out
    }

    /// Feeds (sequence, number, encoding, keyframe).
    fn feed(receiving: &mut Receiving, packets: &[(u16, u32, usize, bool)]) -> Measured {
        let mut measured = Measured::default();
        for &(sequence, number, encoding, is_keyframe) in packets {
            let payload = payload(number, encoding, is_keyframe, 1_000);
            receiving.take(Instant::now(), 51_000, &header(sequence, 96), &payload, &mut measured);
        }
        measured
    }

    #[test]
    fn packets_in_order_are_without_fault_across_every_edge() {
        for start in [0, 1, 32_767, 32_768, 65_534, 65_535_u16] {
            let packets: Vec<_> = (0..5).map(|i| (start.wrapping_add(i), u32::MAX.wrapping_add(i.into()), 0, i == 0)).collect();
            let measured = feed(&mut video(), &packets);
            let counters = measured.counters;
            assert_eq!((counters.expected, counters.arrived, counters.verified, counters.faults()), (5, 5, 5, 0), "{start}");
            assert_eq!(measured.latency.max(), Duration::from_micros(50));
        }
    }

    #[test]
    fn a_lost_packet_is_asked_for_and_its_retransmission_makes_it_whole() {
        let mut receiving = video();
        let mut measured = feed(&mut receiving, &[(65_534, 1, 0, true), (0, 3, 0, false)]);
        assert_eq!((measured.counters.expected, measured.counters.arrived), (3, 2));
        let mut compound = Vec::new();
        receiving.feedback(Instant::now(), &mut compound, &mut measured.counters);
        let asked: Vec<u16> = packets(&compound)
            .flat_map(|packet| match packet.unwrap() {
                RtcpPacket::Nack(nack) => nack.sequences().collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
        assert_eq!(asked, [65_535]);
        let rtx = [[0xff, 0xff].as_slice(), &payload(2, 0, false, 0)].concat();
        receiving.take_rtx(&header(9, 97), &rtx, &mut measured.counters);
        assert_eq!((measured.counters.arrived, measured.counters.faults()), (3, 0));
        assert!((measured.counters.loss() - 0.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_packet_that_never_comes_is_a_loss_and_ends_in_a_request_for_a_keyframe() {
        let mut receiving = video();
        let mut measured = feed(&mut receiving, &[(1, 1, 0, true), (3, 3, 0, false)]);
        let (mut now, mut compound) = (Instant::now(), Vec::new());
        for _ in 0..=MAX_NACKS {
            receiving.feedback(now, &mut compound, &mut measured.counters);
            now += NACK_INTERVAL;
        }
        assert_eq!((measured.counters.nacks_sent, receiving.wants_keyframe), (u64::from(MAX_NACKS), true));
        assert!((measured.counters.loss() - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn wrong_numbers_are_noticed() {
        // A server that reuses, skips or swaps packets of one encoding.
        assert_eq!(feed(&mut video(), &[(1, 1, 0, true), (2, 1, 0, false)]).counters.misnumbered, 1);
        assert_eq!(feed(&mut video(), &[(1, 1, 0, true), (3, 2, 0, false)]).counters.misnumbered, 1);
        assert_eq!(feed(&mut video(), &[(1, 5, 0, true), (2, 4, 0, false)]).counters.misnumbered, 1);
    }

    #[test]
    fn what_a_server_left_out_is_no_fault() {
        let measured = feed(&mut video(), &[(1, 1, 0, true), (2, 9, 0, false)]);
        assert_eq!((measured.counters.misnumbered, measured.counters.expected), (0, 2));
    }

    #[test]
    fn an_encoding_is_changed_at_a_keyframe_only() {
        assert_eq!(feed(&mut video(), &[(1, 1, 0, true), (2, 900, 2, true)]).counters.faults(), 0);
        assert_eq!(feed(&mut video(), &[(1, 1, 0, true), (2, 900, 2, false)]).counters.bad_switches, 1);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut measured = Measured::default();
        let mut bytes = payload(1, 0, true, 0);
        *bytes.last_mut().unwrap() ^= 1;
        video().take(Instant::now(), 0, &header(1, 96), &bytes, &mut measured);
        assert_eq!((measured.counters.damaged, measured.counters.verified), (1, 0));
    }

    #[test]
    fn a_keyframe_is_asked_for_while_there_is_none() {
        let mut receiving = video();
        let mut measured = feed(&mut receiving, &[(1, 1, 0, false)]);
        let mut compound = Vec::new();
        receiving.feedback(Instant::now(), &mut compound, &mut measured.counters);
        receiving.feedback(Instant::now(), &mut compound, &mut measured.counters);
        assert_eq!(measured.counters.plis_sent, 1);
        let measured = feed(&mut receiving, &[(2, 2, 0, true)]);
        assert_eq!((measured.counters.keyframes, receiving.wants_keyframe), (1, false));
    }

    #[test]
    fn a_report_says_what_was_lost() {
        let mut receiving = video();
        feed(&mut receiving, &[(1, 1, 0, true), (2, 2, 0, false), (5, 5, 0, false)]);
        let block = receiving.block(Instant::now()).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost, block.highest_sequence), (2, 102, 5));
    }
}
