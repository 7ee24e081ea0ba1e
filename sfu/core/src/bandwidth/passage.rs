//! What became of a transport's packets since it was last asked: shares and times of the last second, not an estimate.
//!
//! In: every report of the client on what arrived. Out: a [`Passage`], for who judges the connection.
//! Feedback comes some ten times a second, also from clients whose receiver reports are seconds apart; so a change is known at once.
//! Invariant: a packet that was missing in one report and there in a later one is not lost.

use std::time::Duration;

use super::history::SentAt;

/// Fewer packets say nothing; they are counted with the next ones.
const MIN_PACKETS: u64 = 5;
/// The client waits for so long with a report on what came last, where so little comes: then the time says more of that than of the way.
const MIN_PACKETS_TIMED: u64 = 10;

/// What became of the packets on which was reported.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Passage {
    /// Packets that were reported on.
    pub packets: u64,
    /// Those that did not arrive.
    pub lost: u64,
    /// Shortest time from sending a packet to the report on it; None: not known.
    pub round_trip: Option<Duration>,
    /// Mean difference of the times that two packets took after each other.
    pub jitter: Duration,
}

impl Passage {
    /// So many of `count` packets, rounded, if they fare as those that were reported on do.
    #[must_use]
    pub fn lost_of(&self, count: u64) -> u64 {
        let half = self.packets / 2;
        count.saturating_mul(self.lost).saturating_add(half).checked_div(self.packets).unwrap_or(0).min(count)
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassageMeter {
    arrived: u64,
    missing: u64,
    recovered: u64,
    round_trip: Option<Duration>,
    before: Option<(SentAt, i64)>,
    differences_us: u64,
    differences: u32,
}

impl PassageMeter {
    /// A packet arrived that took so long, up to a constant.
    pub fn on_arrival(&mut self, sent_at: SentAt, transit_us: i64, was_missing: bool) {
        *if was_missing { &mut self.recovered } else { &mut self.arrived } += 1;
        match self.before {
            // The rest of a train waits for its beginning at the narrowest place of the way, which is no jitter.
            Some((before, _)) if before == sent_at => return,
            Some((_, before_us)) => {
                self.differences_us = self.differences_us.saturating_add(transit_us.abs_diff(before_us));
                self.differences += 1;
            }
            None => {}
        }
        self.before = Some((sent_at, transit_us));
    }

    /// A packet has not arrived so far.
    pub fn on_missing(&mut self) {
        self.missing += 1;
    }

    /// The newest packet of a report was sent so long ago.
    pub fn time(&mut self, round_trip: Duration) {
        self.round_trip = Some(self.round_trip.map_or(round_trip, |known| known.min(round_trip)));
    }

    /// What there is since the last call; None if that is too little.
    pub fn take(&mut self) -> Option<Passage> {
        let packets = self.arrived + self.missing;
        if packets < MIN_PACKETS {
            return None;
        }
        let Self { missing, recovered, round_trip, before, differences_us, differences, .. } = *self;
        *self = Self { before, ..Self::default() };
        Some(Passage {
            packets,
            lost: missing.saturating_sub(recovered),
            round_trip: round_trip.filter(|_| packets >= MIN_PACKETS_TIMED),
            jitter: Duration::from_micros(differences_us.checked_div(differences.into()).unwrap_or(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many arrived, so many did not, so many did that had been missing.
    fn add(meter: &mut PassageMeter, arrived: u32, missing: u32, recovered: u32) {
        (0..arrived).for_each(|_| meter.on_arrival(SentAt(0), 0, false));
        (0..missing).for_each(|_| meter.on_missing());
        (0..recovered).for_each(|_| meter.on_arrival(SentAt(0), 0, true));
    }

    #[test]
    fn few_packets_wait_for_more() {
        let mut meter = PassageMeter::default();
        add(&mut meter, 3, 1, 0);
        assert_eq!(meter.take(), None);
        add(&mut meter, 16, 0, 0);
        let passage = meter.take().unwrap_or_default();
        assert_eq!((passage.packets, passage.lost), (20, 1));
        assert_eq!([0, 9, 10, 40, 1_000].map(|count| passage.lost_of(count)), [0, 0, 1, 2, 50]);
        assert_eq!(meter.take(), None, "it is told once");
    }

    #[test]
    fn what_comes_late_is_not_lost_though_it_comes_after_the_question() {
        let mut meter = PassageMeter::default();
        add(&mut meter, 90, 10, 2);
        assert_eq!(meter.take().map(|passage| passage.lost), Some(8));
        add(&mut meter, 97, 3, 8);
        assert_eq!(meter.take().map(|passage| passage.lost), Some(0));
        add(&mut meter, 97, 6, 0);
        assert_eq!(meter.take().map(|passage| passage.lost), Some(6));
    }

    #[test]
    fn the_shortest_time_of_many_packets_is_the_round_trip() {
        let mut meter = PassageMeter::default();
        for ms in [60, 41, 90] {
            add(&mut meter, 5, 0, 0);
            meter.time(Duration::from_millis(ms));
        }
        assert_eq!(meter.take().and_then(|passage| passage.round_trip), Some(Duration::from_millis(41)));
        add(&mut meter, 5, 0, 0);
        meter.time(Duration::from_millis(300));
        assert_eq!(meter.take().map(|passage| passage.round_trip), Some(None), "so few that the client waits with its report");
    }

    #[test]
    fn packets_of_a_train_have_no_jitter_and_uneven_ones_have() {
        let mut meter = PassageMeter::default();
        for train in 0..5_u32 {
            (0..4).for_each(|packet| meter.on_arrival(SentAt(train * 1_000), 10_000 + packet * 3_000, false));
        }
        assert_eq!(meter.take().map(|passage| passage.jitter), Some(Duration::ZERO));
        (0..20_u32).for_each(|packet| meter.on_arrival(SentAt(10_000 + packet * 1_000), 10_000 + i64::from(packet % 2) * 8_000, false));
        let jitter = meter.take().unwrap_or_default().jitter;
        assert!((Duration::from_micros(7_000)..=Duration::from_micros(8_000)).contains(&jitter), "{jitter:?}");
    }
}
