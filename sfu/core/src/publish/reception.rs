//! Receiver statistics of one stream (RFC 3550 appendices A.3 and A.8): what our receiver reports say.

use std::time::Instant;

use crate::rtp::ntp::{CompactNtp, NtpTime, ticks_in};
use crate::rtp::rtcp::ReportBlock;

/// A distance of more seconds between two packets' transit times is not jitter (libwebrtc: 450,000 ticks of video, 5 s).
const MAX_JITTER_S: u32 = 5;

/// See the module.
#[derive(Clone, Debug)]
pub struct Reception {
    clock_rate_hz: u32,
    first: Option<u64>,
    first_at: Option<Instant>,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// Arrival and RTP timestamp of the newest timestamp's first packet.
    before: Option<(Instant, u32)>,
    /// In 1/16 ticks.
    jitter: u32,
    last_sender_report: Option<(CompactNtp, Instant)>,
}

impl Reception {
    /// Of a stream of which nothing has arrived.
    #[must_use]
    pub fn new(clock_rate_hz: u32) -> Self {
        Self {
            clock_rate_hz,
            first: None,
            first_at: None,
            highest: 0,
            received: 0,
            expected_before: 0,
            received_before: 0,
            before: None,
            jitter: 0,
            last_sender_report: None,
        }
    }

    /// A packet of the stream arrived, not by RTX.
    pub fn on_packet(&mut self, sequence: u64, timestamp: u32, now: Instant) {
        let is_in_order = self.first.is_none() || sequence > self.highest;
        if self.first.is_none() {
            self.first_at = Some(now);
        }
        self.first = Some(self.first.map_or(sequence, |first| first.min(sequence)));
        self.highest = self.highest.max(sequence);
        self.received += 1;
        if is_in_order {
            self.measure_jitter(timestamp, now);
        }
    }

    /// RFC 3550 appendix A.8, for the first packet of each timestamp: the others of a frame leave the sender when its pacer
    /// lets them, which is no jitter of the network. Late packets are left out too: a retransmission says nothing.
    fn measure_jitter(&mut self, timestamp: u32, now: Instant) {
        let Some((at, before)) = self.before.replace((now, timestamp)) else { return };
        if before == timestamp {
            self.before = Some((at, before));
            return;
        }
        let passed = i64::try_from(ticks_in(now.saturating_duration_since(at), self.clock_rate_hz)).unwrap_or(i64::MAX);
        let distance = passed.saturating_sub(i64::from(timestamp.wrapping_sub(before).cast_signed())).unsigned_abs();
        // More than that is a muted or restarted source, whose timestamps stood still or jumped.
        if let Ok(distance) = u32::try_from(distance)
            && distance < self.clock_rate_hz.saturating_mul(MAX_JITTER_S)
        {
            self.jitter = self.jitter.saturating_add(distance).saturating_sub((self.jitter + 8) >> 4);
        }
    }

    /// A sender report of the stream arrived.
    pub fn on_sender_report(&mut self, ntp: NtpTime, now: Instant) {
        self.last_sender_report = Some((ntp.compact(), now));
    }

    /// The report block for the time since the last one; None before the first packet.
    pub fn report(&mut self, ssrc: u32, now: Instant) -> Option<ReportBlock> {
        let expected = self.expected()?;
        let (expected_now, received_now) = (expected - self.expected_before.min(expected), self.received - self.received_before);
        (self.expected_before, self.received_before) = (expected, self.received);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let (last_sr, delay) = match self.last_sender_report {
            Some((ntp, at)) => (ntp, CompactNtp::from_duration(now.saturating_duration_since(at))),
            None => (CompactNtp::default(), CompactNtp::default()),
        };
        #[expect(clippy::cast_possible_truncation, reason = "RFC 3550: the extended number on the wire has 32 bits")]
        let highest_sequence = self.highest as u32;
        Some(ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(255),
            cumulative_lost: self.lost(),
            highest_sequence,
            jitter_ticks: self.jitter >> 4,
            last_sr,
            delay_since_last_sr: delay,
        })
    }

    /// Packets that arrived, duplicates included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// When the first packet arrived.
    #[must_use]
    pub fn first_at(&self) -> Option<Instant> {
        self.first_at
    }

    /// Interarrival jitter in RTP ticks.
    #[must_use]
    pub fn jitter_ticks(&self) -> u32 {
        self.jitter >> 4
    }

    /// Packets lost so far; negative if duplicates outnumber losses. Bounded by the report's 24 bits.
    #[must_use]
    pub fn lost(&self) -> i32 {
        let expected = i64::try_from(self.expected().unwrap_or(0)).unwrap_or(i64::MAX);
        let received = i64::try_from(self.received).unwrap_or(i64::MAX);
        i32::try_from((expected - received).clamp(-0x80_0000, 0x7f_ffff)).unwrap_or(0)
    }

    /// Packets that should have arrived, by their numbers; None before the first.
    #[must_use]
    pub fn expected(&self) -> Option<u64> {
        self.first.map(|first| self.highest - first + 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_is_reported_before_the_first_packet() {
        assert_eq!(Reception::new(90_000).report(1, Instant::now()), None);
    }

    #[test]
    fn loss_is_reported_per_interval_and_in_total() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000);
        (65_500..65_600).filter(|sequence| sequence % 4 != 0).for_each(|sequence| reception.on_packet(sequence, 0, now));
        let report = reception.report(1, now).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost, report.highest_sequence), (62, 24, 65_599));
        (65_600..65_700).for_each(|sequence| reception.on_packet(sequence, 0, now));
        let report = reception.report(1, now).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 24));
    }

    #[test]
    fn the_sequence_number_carries_its_rollovers() {
        let now = Instant::now();
        for (sequence, reported) in [(65_535, 0xffff), (65_536, 0x1_0000), (3 << 16, 0x3_0000), (1 << 32, 0)] {
            let mut reception = Reception::new(90_000);
            reception.on_packet(sequence, 0, now);
            assert_eq!(reception.report(1, now).unwrap().highest_sequence, reported);
        }
    }

    #[test]
    fn reordering_is_not_loss() {
        let now = Instant::now();
        for start in [1, 32_767, 32_768, 65_534, 65_535, 65_536] {
            let mut reception = Reception::new(90_000);
            // The second is older than the first.
            for sequence in [start, start - 1, start + 3, start + 1, start + 2] {
                reception.on_packet(sequence, 0, now);
            }
            let report = reception.report(1, now).unwrap();
            assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 0));
        }
    }

    #[test]
    fn duplicates_make_the_count_negative_but_not_the_fraction() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000);
        for _ in 0..3 {
            reception.on_packet(7, 0, now);
        }
        let report = reception.report(1, now).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -2));
    }

    #[test]
    fn a_late_packet_of_the_interval_before_makes_no_negative_fraction() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000);
        [1, 2, 4].into_iter().for_each(|sequence| reception.on_packet(sequence, 0, now));
        assert_eq!(reception.report(1, now).unwrap().cumulative_lost, 1);
        [3, 5].into_iter().for_each(|sequence| reception.on_packet(sequence, 0, now));
        let report = reception.report(1, now).unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 0));
    }

    #[test]
    fn when_almost_everything_is_lost_the_fraction_stays_below_one() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000);
        [1, 100_000].into_iter().for_each(|sequence| reception.on_packet(sequence, 0, now));
        assert_eq!(reception.report(1, now).unwrap().fraction_lost, 255);
    }

    #[test]
    fn steady_packets_have_no_jitter_and_uneven_ones_have() {
        let start = Instant::now();
        for first_timestamp in [0, 0x7fff_ff00, u32::MAX - 900] {
            let (mut steady, mut uneven) = (Reception::new(48_000), Reception::new(48_000));
            for step in 0..500_u32 {
                let at = start + Duration::from_millis(u64::from(step) * 20);
                let timestamp = first_timestamp.wrapping_add(step * 960);
                steady.on_packet(u64::from(step), timestamp, at);
                uneven.on_packet(u64::from(step), timestamp, at + Duration::from_millis(u64::from(step % 2) * 10));
            }
            let end = start + Duration::from_secs(10);
            assert_eq!(steady.report(1, end).unwrap().jitter_ticks, 0);
            // Every packet is 10 ms off its predecessor: 480 ticks.
            assert!((460..=480).contains(&uneven.report(1, end).unwrap().jitter_ticks));
        }
    }

    #[test]
    fn neither_the_rest_of_a_frame_nor_a_late_packet_nor_a_pause_is_jitter() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut reception = Reception::new(90_000);
        reception.on_packet(1, 0, at(0));
        reception.on_packet(2, 0, at(25));
        reception.on_packet(4, 2_970, at(33));
        reception.on_packet(3, 0, at(300));
        reception.on_packet(5, 5_940, at(66));
        // The source was muted for a minute and goes on with the next timestamp.
        reception.on_packet(6, 8_910, at(60_000));
        reception.on_packet(7, 11_880, at(60_033));
        assert_eq!(reception.report(1, at(60_100)).unwrap().jitter_ticks, 0);
    }

    #[test]
    fn the_last_sender_report_is_referred_to() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000);
        reception.on_packet(1, 0, now);
        let report = reception.report(1, now).unwrap();
        assert_eq!((report.last_sr, report.delay_since_last_sr), (CompactNtp(0), CompactNtp(0)));
        reception.on_sender_report(NtpTime(0x1111_2222_3333_4444), now);
        let report = reception.report(1, now + Duration::from_millis(500)).unwrap();
        assert_eq!((report.last_sr, report.delay_since_last_sr), (CompactNtp(0x2222_3333), CompactNtp(0x8000)));
    }
}
