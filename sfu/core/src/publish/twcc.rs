//! Arrival times of everything on a publisher's transport, for its congestion control
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! In: transport-wide sequence numbers as packets arrive. Out: feedback every 50 to 100 ms while packets arrive.
//! Invariants: memory is bounded and follows the packet rate; each feedback begins where the one before ended, or at an
//! older packet that arrived since. Not here: the format on the wire ([`write_transport_cc`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rtp::rtcp::{TransportCcHead, TransportCcTime, write_transport_cc};
use crate::rtp::sequence::{low16, nearest};

/// From the first unreported packet to its feedback, at most. libwebrtc reports every 50 to 250 ms, 100 ms at first.
const LONG_INTERVAL: Duration = Duration::from_millis(100);
/// The same when [`BUSY_PACKETS`] wait to be reported: at high rates an early report costs little and helps most.
const SHORT_INTERVAL: Duration = Duration::from_millis(50);
/// 40 packets in 50 ms are about 8 Mbit/s.
const BUSY_PACKETS: u64 = 40;
/// This many go at once: the most that one feedback packet holds.
const FULL_PACKETS: u64 = 1024;
/// Numbers from the oldest remembered packet to the newest; a jump beyond it begins anew.
const MAX_SPAN: u64 = 4096;
/// A reported packet is remembered for this long, in case an older one arrives and the report has to be repeated from there
/// (libwebrtc: the same).
const BACK_WINDOW: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct TwccReceiver {
    /// Arrivals of consecutive numbers; not empty after the first packet.
    arrivals: VecDeque<Option<TransportCcTime>>,
    /// Number of the front.
    first: u64,
    /// First number that the next feedback reports.
    base: u64,
    /// Zero of the arrival times.
    epoch: Option<Instant>,
    /// Arrival of the first packet that is not reported yet.
    unreported_since: Option<Instant>,
    feedback_count: u8,
}

impl TwccReceiver {
    /// A packet with this number arrived.
    pub fn record(&mut self, wire: u16, now: Instant) {
        let at = self.time(now);
        let Some(newest) = self.newest() else {
            // In the second cycle, so that reordered ones before it are above zero.
            self.restart((1 << 16) | u64::from(wire), at);
            self.unreported_since = Some(now);
            return;
        };
        let sequence = nearest(wire, newest);
        if sequence > newest + MAX_SPAN {
            self.restart(sequence, at);
        } else if sequence > newest {
            let gap = usize::try_from(sequence - newest - 1).expect("less than MAX_SPAN");
            self.arrivals.extend(std::iter::repeat_n(None, gap));
            self.arrivals.push_back(Some(at));
            self.forget_before((sequence + 1).saturating_sub(MAX_SPAN));
        } else if let Some(offset) = sequence.checked_sub(self.first) {
            let slot = usize::try_from(offset).ok().and_then(|offset| self.arrivals.get_mut(offset));
            match slot {
                Some(slot @ None) => *slot = Some(at),
                // A duplicate tells nothing about the path.
                _ => return,
            }
        } else if newest - sequence < MAX_SPAN {
            (sequence + 1..self.first).for_each(|_| self.arrivals.push_front(None));
            self.arrivals.push_front(Some(at));
            self.first = sequence;
        } else {
            return;
        }
        self.base = self.base.min(sequence);
        self.unreported_since.get_or_insert(now);
    }

    /// When the next feedback is due, if nothing else arrives.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let since = self.unreported_since?;
        Some(match self.end().saturating_sub(self.base) {
            FULL_PACKETS.. => since,
            BUSY_PACKETS.. => since + SHORT_INTERVAL,
            _ => since + LONG_INTERVAL,
        })
    }

    /// Appends a feedback packet if one is due; true if so. When many packets wait, the next one is due at once.
    pub fn write_feedback(&mut self, out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, now: Instant) -> bool {
        if self.next_timeout().is_none_or(|due| now < due) {
            return false;
        }
        let lost = self.unreported().take_while(Option::is_none).count() as u64;
        if lost >= FULL_PACKETS {
            // No arrival in reach to which the packet could refer. The sender sees the gap between this feedback and the last.
            self.base += lost;
        }
        let head = TransportCcHead { sender_ssrc, media_ssrc, base_sequence: low16(self.base), feedback_count: self.feedback_count };
        let written = write_transport_cc(out, head, self.unreported());
        if written > 0 {
            self.feedback_count = self.feedback_count.wrapping_add(1);
        }
        self.base = if written > 0 { self.base + written as u64 } else { self.end() };
        self.end_feedback(now);
        written > 0
    }

    /// Arrivals from `base` on.
    fn unreported(&self) -> impl Iterator<Item = Option<TransportCcTime>> + '_ {
        let offset = usize::try_from(self.base.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.arrivals.len());
        self.arrivals.range(offset..).copied()
    }

    fn end_feedback(&mut self, now: Instant) {
        if self.base >= self.end() {
            self.unreported_since = None;
        }
        let oldest = self.time(now).0.wrapping_sub(units(BACK_WINDOW));
        let is_past = |at: TransportCcTime| at.0.wrapping_sub(oldest).cast_signed() < 0;
        // The newest one stays, as the reference for what comes next.
        while self.first < self.base && self.arrivals.len() > 1 && self.arrivals.front().is_some_and(|front| front.is_none_or(is_past)) {
            self.arrivals.pop_front();
            self.first += 1;
        }
    }

    fn restart(&mut self, sequence: u64, at: TransportCcTime) {
        self.arrivals.clear();
        self.arrivals.push_back(Some(at));
        self.first = sequence;
        self.base = sequence;
    }

    fn forget_before(&mut self, sequence: u64) {
        while self.first < sequence {
            self.arrivals.pop_front();
            self.first += 1;
        }
        self.base = self.base.max(self.first);
    }

    fn end(&self) -> u64 {
        self.first + self.arrivals.len() as u64
    }

    fn newest(&self) -> Option<u64> {
        if self.arrivals.is_empty() { None } else { self.end().checked_sub(1) }
    }

    fn time(&mut self, now: Instant) -> TransportCcTime {
        let epoch = *self.epoch.get_or_insert(now);
        TransportCcTime(units(now.saturating_duration_since(epoch)))
    }
}

/// In units of 250 us; wraps after 12 days, like the reference time on the wire.
#[expect(clippy::cast_possible_truncation, reason = "wraps like the field on the wire")]
fn units(duration: Duration) -> u32 {
    const PER_SECOND: u32 = 1_000_000 / TransportCcTime::UNIT_US;
    (duration.as_secs() as u32).wrapping_mul(PER_SECOND).wrapping_add(duration.subsec_micros() / TransportCcTime::UNIT_US)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
    use rtc_shared::marshal::Unmarshal;

    use super::*;
    use crate::rtp::rtcp::{PacketStatus, RtcpPacket, packets};

    const EDGES: [u16; 6] = [0, 1, 32_767, 32_768, 65_534, 65_535];

    #[test]
    fn arrivals_and_losses_are_reported_at_every_edge() {
        let start = Instant::now();
        for edge in EDGES {
            let mut twcc = TwccReceiver::default();
            for step in [0_u16, 1, 3, 4] {
                twcc.record(edge.wrapping_add(step), at(start, u64::from(step) * 10));
            }
            let expected = [(0, Some(0)), (1, Some(10)), (2, None), (3, Some(30)), (4, Some(40))];
            assert_eq!(feedback(&mut twcc, at(start, 100)), expected.map(|(step, ms)| (edge.wrapping_add(step), ms)), "edge {edge}");
            assert!(feedback(&mut twcc, at(start, 300)).is_empty());
        }
    }

    #[test]
    fn a_loss_between_two_feedbacks_is_in_the_second() {
        let start = Instant::now();
        for edge in EDGES {
            let mut twcc = TwccReceiver::default();
            twcc.record(edge, start);
            assert_eq!(feedback(&mut twcc, at(start, 100)), [(edge, Some(0))]);
            twcc.record(edge.wrapping_add(3), at(start, 1_000));
            let expected = [(edge.wrapping_add(1), None), (edge.wrapping_add(2), None), (edge.wrapping_add(3), Some(1_000))];
            assert_eq!(feedback(&mut twcc, at(start, 1_100)), expected);
        }
    }

    #[test]
    fn a_late_packet_is_reported_again_with_what_followed() {
        let start = Instant::now();
        let mut twcc = TwccReceiver::default();
        twcc.record(10, start);
        twcc.record(12, at(start, 5));
        assert_eq!(feedback(&mut twcc, at(start, 100)).len(), 3);
        twcc.record(11, at(start, 110));
        assert_eq!(feedback(&mut twcc, at(start, 210)), [(11, Some(110)), (12, Some(5))]);
    }

    #[test]
    fn a_packet_from_before_the_first_is_reported() {
        let start = Instant::now();
        for edge in EDGES {
            let mut twcc = TwccReceiver::default();
            twcc.record(edge, start);
            twcc.record(edge.wrapping_sub(2), at(start, 1));
            let expected = [(edge.wrapping_sub(2), Some(1)), (edge.wrapping_sub(1), None), (edge, Some(0))];
            assert_eq!(feedback(&mut twcc, at(start, 100)), expected);
        }
    }

    #[test]
    fn a_duplicate_keeps_its_first_arrival_and_causes_no_feedback() {
        let start = Instant::now();
        let mut twcc = TwccReceiver::default();
        twcc.record(10, start);
        twcc.record(10, at(start, 50));
        assert_eq!(feedback(&mut twcc, at(start, 100)), [(10, Some(0))]);
        twcc.record(10, at(start, 110));
        assert_eq!(twcc.next_timeout(), None);
    }

    #[test]
    fn feedback_is_due_after_100_ms_and_after_50_ms_on_a_busy_transport() {
        let start = Instant::now();
        let mut twcc = TwccReceiver::default();
        assert_eq!(twcc.next_timeout(), None);
        for sequence in 0..39 {
            twcc.record(sequence, at(start, u64::from(sequence)));
            assert_eq!(twcc.next_timeout(), Some(at(start, 100)));
        }
        twcc.record(39, at(start, 39));
        assert_eq!(twcc.next_timeout(), Some(at(start, 50)));
        assert!(feedback(&mut twcc, at(start, 49)).is_empty());
        assert_eq!(feedback(&mut twcc, at(start, 50)).len(), 40);
        assert_eq!(twcc.next_timeout(), None);
    }

    #[test]
    fn a_jump_begins_anew() {
        let start = Instant::now();
        let mut twcc = TwccReceiver::default();
        twcc.record(100, start);
        twcc.record(20_000, at(start, 10));
        assert_eq!(feedback(&mut twcc, at(start, 100)), [(20_000, Some(10))]);
        twcc.record(50_000, at(start, 110));
        assert_eq!(feedback(&mut twcc, at(start, 210)), [(50_000, Some(110))]);
    }

    #[test]
    fn a_gap_longer_than_a_feedback_packet_is_skipped() {
        let start = Instant::now();
        let mut twcc = TwccReceiver::default();
        twcc.record(0, start);
        assert_eq!(feedback(&mut twcc, at(start, 100)), [(0, Some(0))]);
        twcc.record(3_000, at(start, 110));
        twcc.record(3_001, at(start, 111));
        assert_eq!(feedback(&mut twcc, at(start, 210)), [(3_000, Some(110)), (3_001, Some(111))]);
    }

    #[test]
    fn after_a_pause_of_minutes_feedback_goes_on() {
        let start = Instant::now();
        let mut twcc = TwccReceiver::default();
        twcc.record(7, start);
        assert_eq!(feedback(&mut twcc, at(start, 100)).len(), 1);
        twcc.record(8, at(start, 600_000));
        twcc.record(9, at(start, 600_001));
        assert_eq!(feedback(&mut twcc, at(start, 600_100)), [(8, Some(600_000)), (9, Some(600_001))]);
    }

    #[test]
    fn the_other_implementation_reads_every_arrival_from_a_lossy_reordered_stream() {
        for (seed, edge) in (0..24).zip(EDGES.into_iter().cycle()) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let start = Instant::now();
            let (mut twcc, mut sent, mut read) = (TwccReceiver::default(), BTreeMap::new(), BTreeMap::new());
            let (loss, per_ms) = ([0.0, 0.05, 0.5][rng.random_range(0..3)], rng.random_range(1..5_u64));
            let (mut feedbacks, mut first_ms) = (0_u8, None);
            for ms in 0..1_500_u64 {
                for n in 0..per_ms {
                    // Some overtake their neighbours by a few packets.
                    let number = ms * per_ms + n + if rng.random_bool(0.02) { rng.random_range(0..5) } else { 0 };
                    if ms < 1_300 && !rng.random_bool(loss) {
                        twcc.record(low16(number + u64::from(edge)), at(start, ms));
                        let ms = i64::try_from(ms).unwrap();
                        sent.entry(number).or_insert(ms - *first_ms.get_or_insert(ms));
                    }
                }
                let mut out = Vec::new();
                while twcc.write_feedback(&mut out, 1, 2, at(start, ms)) {
                    let their = TransportLayerCc::unmarshal(&mut &out[..]).unwrap();
                    assert_eq!(their.fb_pkt_count, feedbacks, "seed {seed}");
                    feedbacks = feedbacks.wrapping_add(1);
                    for (wire, time_ms) in their_arrivals(&their) {
                        let distance = wire.wrapping_sub(low16(ms * per_ms + u64::from(edge))).cast_signed();
                        read.insert((ms * per_ms).checked_add_signed(i64::from(distance)).unwrap(), time_ms);
                    }
                    out.clear();
                }
            }
            let differing = read.iter().chain(&sent).find(|&(number, ms)| (read.get(number), sent.get(number)) != (Some(ms), Some(ms)));
            assert_eq!((differing, read.len()), (None, sent.len()), "seed {seed}");
        }
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_feedback_ends_for_any_numbers(steps in proptest::collection::vec((any::<u16>(), 0_u64..40), 1..400)) {
            let (mut twcc, mut now, mut out) = (TwccReceiver::default(), Instant::now(), Vec::new());
            for (wire, ms) in steps {
                now += Duration::from_millis(ms);
                twcc.record(wire, now);
                prop_assert!(twcc.arrivals.len() as u64 <= MAX_SPAN);
                out.clear();
                let mut written = 0;
                while twcc.write_feedback(&mut out, 1, 2, now) {
                    written += 1;
                    prop_assert!(written <= 8);
                }
                prop_assert!(packets(&out).all(|packet| packet.is_ok()));
            }
        }
    }

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// (number, arrival in ms) of all feedback that is due.
    fn feedback(twcc: &mut TwccReceiver, now: Instant) -> Vec<(u16, Option<u32>)> {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while twcc.write_feedback(&mut out, 1, 2, now) {}
        for packet in packets(&out) {
            let RtcpPacket::TransportCc(feedback) = packet.unwrap() else { panic!("not feedback") };
            all.extend(feedback.statuses().map(|PacketStatus { sequence, arrival }| (sequence, arrival.map(|time| time.0 / 4))));
        }
        all
    }

    /// (number, arrival in ms) of what arrived, as the other implementation has it.
    fn their_arrivals(feedback: &TransportLayerCc) -> Vec<(u16, i64)> {
        let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => vec![run.packet_status_symbol; usize::from(run.run_length)],
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        });
        let mut deltas = feedback.recv_deltas.iter();
        let mut time_us = i64::from(feedback.reference_time) * 64_000;
        (0..feedback.packet_status_count)
            .zip(symbols)
            .filter(|(_, symbol)| *symbol != SymbolTypeTcc::PacketNotReceived)
            .map(|(offset, _)| {
                time_us += deltas.next().unwrap().delta;
                (feedback.base_sequence_number.wrapping_add(offset), time_us / 1_000)
            })
            .collect()
    }
}
