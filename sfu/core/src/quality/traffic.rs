//! What happened to packets between two looks, from counters that only grow.
//!
//! Uplink: expected by sequence numbers, against what is in the ring in the end, by whichever way it came.
//! Downlink: where the client says by transport-wide numbers what arrives, the share of that for each stream. Otherwise what the
//! client reports as lost, without the packets that we had not sent because the publisher's were missing,
//! nor those that came late and were on their way when the client reported; what we resent counts as repaired as often as
//! the path lets packets through.

use std::ops::AddAssign;
use std::time::Duration;

use super::rating::Path;
use crate::bandwidth::passage::Passage;

/// Packets of one kind of media in one direction.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Traffic {
    /// Sent, lost ones included.
    pub packets: u64,
    /// Lost at first.
    pub lost: u64,
    /// Lost and not repaired.
    pub residual: u64,
    /// Highest jitter of the streams.
    pub jitter: Duration,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.lost = self.lost.saturating_add(other.lost);
        self.residual = self.residual.saturating_add(other.residual);
        self.jitter = self.jitter.max(other.jitter);
    }
}

impl Traffic {
    /// As shares, with the delay of the path.
    #[must_use]
    pub fn path(&self, round_trip: Duration) -> Path {
        let share = |part: u64| (float(part) / float(self.packets.max(1))).min(1.0);
        Path { round_trip, jitter: self.jitter, lost: share(self.lost), residual: share(self.residual) }
    }
}

/// Counters of an encoding that a client sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UplinkCounters {
    /// By sequence numbers.
    pub expected: u64,
    /// Arrived at first.
    pub received: u64,
    /// Arrived in any way.
    pub stored: u64,
}

/// Counters of a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DownlinkCounters {
    /// Reports that the client has sent.
    pub reports: u64,
    /// Lost packets by these.
    pub reported_lost: i64,
    /// Numbers given out but not sent when the newest report came.
    pub never_sent: u64,
    /// Packets sent.
    pub sent: u64,
    /// Of these, those that came late from the publisher.
    pub late: u64,
    /// Packets sent again.
    pub resent: u64,
}

/// Remembers an encoding's counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct UplinkMeter {
    before: UplinkCounters,
    /// Of packets lost at the last look; late ones and repairs may still come.
    missing_before: u64,
}

/// Remembers a subscription's counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct DownlinkMeter {
    before: DownlinkCounters,
    /// Losses at the last two reports: our counters are ahead of the client's, so the higher one counts.
    lost_before: [i64; 2],
    /// Packets sent until the last look, reported or not.
    sent_before: u64,
}

impl UplinkMeter {
    /// What happened since the last call.
    pub fn take(&mut self, counters: UplinkCounters, jitter: Duration) -> Traffic {
        let UplinkCounters { expected, received, stored } = counters;
        // The sender has begun a new stream.
        if expected < self.before.expected || received < self.before.received {
            *self = Self::default();
        }
        let packets = expected - self.before.expected;
        let missing = expected.saturating_sub(stored);
        let traffic = Traffic {
            packets,
            lost: packets.saturating_sub(received - self.before.received),
            residual: missing.saturating_sub(self.missing_before).min(packets),
            jitter,
        };
        self.before = counters;
        self.missing_before = missing;
        traffic
    }
}

impl DownlinkMeter {
    /// Whether packets were sent since the last call.
    pub fn is_sending(&mut self, sent: u64) -> bool {
        std::mem::replace(&mut self.sent_before, sent) != sent
    }

    /// What happened since the last call to the packets of a stream, on a transport of which this is known.
    pub fn take_share(&mut self, counters: DownlinkCounters, passage: &Passage) -> Traffic {
        let packets = counters.sent.saturating_sub(self.before.sent);
        let resent = counters.resent.saturating_sub(self.before.resent);
        self.before = counters;
        let lost = passage.lost_of(packets);
        let repaired = resent - passage.lost_of(resent);
        Traffic { packets, lost, residual: lost.saturating_sub(repaired), jitter: passage.jitter }
    }

    /// What happened since the last report that was looked at; nothing if there is no newer one. `in_flight` is the share
    /// of the time between two looks for which a report is old when it comes, 0.0 to 1.0.
    pub fn take(&mut self, counters: DownlinkCounters, in_flight: f64, jitter: Duration) -> Traffic {
        if counters.reports == self.before.reports {
            return Traffic::default();
        }
        let lost_total = counters.reported_lost.saturating_sub(i64::try_from(counters.never_sent).unwrap_or(i64::MAX));
        let [newer, older] = self.lost_before;
        let packets = counters.sent.saturating_sub(self.before.sent);
        let late = part_of(counters.late.saturating_sub(self.before.late), in_flight);
        let lost = u64::try_from(lost_total.saturating_sub(newer.max(older))).unwrap_or(0).saturating_sub(late).min(packets);
        let resent = counters.resent.saturating_sub(self.before.resent);
        let repaired = resent.saturating_mul(packets - lost).checked_div(packets).unwrap_or(0);
        self.lost_before = [lost_total, newer];
        self.before = counters;
        Traffic { packets, lost, residual: lost.saturating_sub(repaired), jitter }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count of packets")]
fn part_of(count: u64, share: f64) -> u64 {
    (float(count) * share.clamp(0.0, 1.0)).ceil() as u64
}

#[expect(clippy::cast_precision_loss, reason = "counts of packets in a few seconds")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplink(expected: u64, received: u64, stored: u64) -> UplinkCounters {
        UplinkCounters { expected, received, stored }
    }

    #[test]
    fn repaired_packets_are_lost_but_not_residual() {
        let mut meter = UplinkMeter::default();
        let first = meter.take(uplink(100, 90, 98), Duration::ZERO);
        assert_eq!((first.packets, first.lost, first.residual), (100, 10, 2));
        // The two come late, and everything else in order.
        let second = meter.take(uplink(200, 190, 200), Duration::ZERO);
        assert_eq!((second.packets, second.lost, second.residual), (100, 0, 0));
    }

    #[test]
    fn a_new_stream_starts_from_zero() {
        let mut meter = UplinkMeter::default();
        meter.take(uplink(1000, 1000, 1000), Duration::ZERO);
        let traffic = meter.take(uplink(10, 9, 9), Duration::ZERO);
        assert_eq!((traffic.packets, traffic.lost, traffic.residual), (10, 1, 1));
    }

    #[test]
    fn what_the_publisher_lost_is_not_the_subscribers_loss() {
        let mut meter = DownlinkMeter::default();
        // 100 numbers, 20 of them never came from the publisher; the client misses these and one more.
        let counters = DownlinkCounters { reports: 1, reported_lost: 21, never_sent: 20, sent: 80, ..Default::default() };
        let traffic = meter.take(counters, 0.0, Duration::ZERO);
        assert_eq!((traffic.packets, traffic.lost, traffic.residual), (80, 1, 1));
        // A gap of which the client has not reported yet does not become a loss when it does.
        let ahead = DownlinkCounters { reports: 2, reported_lost: 21, never_sent: 30, sent: 170, ..Default::default() };
        assert_eq!(meter.take(ahead, 0.0, Duration::ZERO).lost, 0);
        let caught_up = DownlinkCounters { reports: 3, reported_lost: 31, never_sent: 30, sent: 180, ..Default::default() };
        assert_eq!(meter.take(caught_up, 0.0, Duration::ZERO).lost, 0);
        // Ten came late; the client reported a tenth of the time before that reached it.
        let repaired = DownlinkCounters { reports: 4, reported_lost: 22, never_sent: 20, sent: 280, late: 10, ..Default::default() };
        assert_eq!(meter.take(repaired, 0.1, Duration::ZERO).lost, 0);
    }

    #[test]
    fn a_stream_fares_as_all_that_is_sent_does() {
        let mut meter = DownlinkMeter::default();
        let passage = Passage { packets: 200, lost: 20, jitter: Duration::from_millis(3), ..Passage::default() };
        let counters = DownlinkCounters { sent: 100, resent: 5, ..Default::default() };
        let expected = Traffic { packets: 100, lost: 10, residual: 6, jitter: Duration::from_millis(3) };
        assert_eq!(meter.take_share(counters, &passage), expected, "one of the five got lost as well");
        assert_eq!(meter.take_share(counters, &passage).packets, 0);
    }

    #[test]
    fn what_was_resent_counts_as_repaired_if_it_gets_through() {
        let mut meter = DownlinkMeter::default();
        let counters = DownlinkCounters { reports: 1, reported_lost: 50, sent: 100, resent: 50, ..Default::default() };
        let traffic = meter.take(counters, 0.0, Duration::ZERO);
        assert_eq!((traffic.lost, traffic.residual), (50, 25));
        assert_eq!(meter.take(counters, 0.0, Duration::ZERO), Traffic::default(), "no newer report");
    }
}
