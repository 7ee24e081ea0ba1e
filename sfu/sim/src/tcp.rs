//! A competitor: a TCP connection with CUBIC (RFC 9438), as far as a queue feels it.
//!
//! In: segments that passed the bottleneck, the time. Out: segments to be sent. Acknowledgements come back after the
//! connection's own delay. What overtakes a missing segment by three shows that it is lost (RFC 5681 section 3.2).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Bytes of a segment with all headers.
const SEGMENT: usize = 1_500;
/// RFC 9438 section 4.1 and 4.6.
const C: f64 = 0.4;
const BETA: f64 = 0.7;
/// RFC 6928.
const FIRST_WINDOW: f64 = 10.0;
/// Segments that overtake.
const DUPLICATES: u64 = 3;
const MIN_TIMEOUT: Duration = Duration::from_millis(400);

/// A connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpConfig {
    /// When it begins to send.
    pub start: Duration,
    /// Segments that it has to send; `None`: it never ends.
    pub segments: Option<u64>,
    /// There and back without the queue.
    pub round_trip: Duration,
}

/// On its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    number: u64,
    sent: Instant,
    /// With all headers.
    pub bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Tcp {
    config: TcpConfig,
    begins: Instant,
    next_number: u64,
    /// Sent and not acknowledged, by number; when.
    in_flight: BTreeMap<u64, Instant>,
    acks: VecDeque<(Instant, Segment)>,
    window: f64,
    threshold: f64,
    window_before: f64,
    epoch: Option<Instant>,
    /// Losses of what was sent before this number belong to the last cut.
    recover: u64,
    smoothed: Duration,
    delivered: u64,
}

impl Tcp {
    /// A connection that has sent nothing yet.
    #[must_use]
    pub fn new(config: TcpConfig, now: Instant) -> Self {
        Self {
            config,
            begins: now + config.start,
            next_number: 0,
            in_flight: BTreeMap::new(),
            acks: VecDeque::new(),
            window: FIRST_WINDOW,
            threshold: f64::INFINITY,
            window_before: 0.0,
            epoch: None,
            recover: 0,
            smoothed: config.round_trip,
            delivered: 0,
        }
    }

    /// A segment has passed the bottleneck.
    pub fn on_passed(&mut self, now: Instant, segment: Segment) {
        self.acks.push_back((now + self.config.round_trip, segment));
    }

    /// When [`Self::poll`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let begin = (self.next_number == 0).then_some(self.begins);
        let timeout = self.in_flight.values().min().map(|&sent| sent + self.timeout());
        [begin, self.acks.front().map(|(at, _)| *at), timeout].into_iter().flatten().min()
    }

    /// Takes acknowledgements that have come.
    pub fn poll(&mut self, now: Instant) {
        while self.acks.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, segment)) = self.acks.pop_front() else { break };
            self.on_ack(now, segment);
        }
        if self.in_flight.values().min().is_some_and(|&sent| now >= sent + self.timeout()) {
            // RFC 5681 section 3.1.
            self.threshold = (self.window / 2.0).max(2.0);
            (self.window, self.epoch, self.recover) = (1.0, None, self.next_number);
            self.in_flight.clear();
        }
    }

    /// What may be sent now.
    pub fn next_segment(&mut self, now: Instant) -> Option<Segment> {
        let is_open = now >= self.begins && self.config.segments.is_none_or(|all| self.delivered + (self.in_flight.len() as u64) < all);
        if !is_open || self.in_flight.len() >= whole(self.window) {
            return None;
        }
        let segment = Segment { number: self.next_number, sent: now, bytes: SEGMENT };
        self.in_flight.insert(segment.number, now);
        self.next_number += 1;
        Some(segment)
    }

    /// Bytes acknowledged.
    #[must_use]
    pub fn delivered_bytes(&self) -> u64 {
        self.delivered * SEGMENT as u64
    }

    fn on_ack(&mut self, now: Instant, segment: Segment) {
        if self.in_flight.remove(&segment.number).is_none() {
            return;
        }
        self.delivered += 1;
        self.smoothed = (self.smoothed * 7 + (now - segment.sent)) / 8;
        let lost: Vec<u64> = self.in_flight.range(..segment.number.saturating_sub(DUPLICATES - 1)).map(|(&number, _)| number).collect();
        if lost.iter().any(|&number| number >= self.recover) {
            self.window_before = self.window;
            self.window = (self.window * BETA).max(2.0);
            (self.threshold, self.epoch, self.recover) = (self.window, None, self.next_number);
        }
        for number in lost {
            self.in_flight.remove(&number);
        }
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let epoch = *self.epoch.get_or_insert(now);
        let before = self.window_before.max(self.window);
        let turning = ((before - self.window_before * BETA).max(0.0) / C).cbrt();
        let since = (now - epoch + self.smoothed).as_secs_f64() - turning;
        let target = (C * since.powi(3) + before).clamp(self.window, self.window * 1.5);
        self.window += (target - self.window) / self.window;
    }

    fn timeout(&self) -> Duration {
        (self.smoothed * 3).max(MIN_TIMEOUT)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
fn whole(window: f64) -> usize {
    window as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::Clock;
    use crate::link::LinkConfig;
    use crate::road::{Road, RoadConfig};
    use crate::seed::Seed;

    #[test]
    fn a_connection_fills_a_road_and_shares_it_with_another() {
        let mut clock = Clock::new();
        let long = TcpConfig { start: Duration::ZERO, segments: None, round_trip: Duration::from_millis(100) };
        let config = RoadConfig {
            rates: vec![(Duration::ZERO, 2_000_000)],
            queue: Duration::from_millis(300),
            link: LinkConfig::default(),
            tcp: vec![long, long],
        };
        let mut road: Road<()> = Road::new(config, 0, clock.now(), Seed::new(1).rng("road"));
        while clock.elapsed() < Duration::from_secs(60) {
            let _ = road.poll(clock.now());
            clock.advance_to(road.next_event().unwrap().max(clock.now() + Duration::from_micros(100)));
        }
        let bits = road.tcp_bytes() * 8;
        assert!((108_000_000..=120_000_000).contains(&bits), "{bits}");
        let first = road.tcp_share(0);
        assert!((0.25..0.75).contains(&first), "{first}");
    }

    #[test]
    fn a_short_connection_ends() {
        let mut clock = Clock::new();
        let short = TcpConfig { start: Duration::from_secs(1), segments: Some(100), round_trip: Duration::from_millis(50) };
        let config = RoadConfig {
            rates: vec![(Duration::ZERO, 2_000_000)],
            queue: Duration::from_millis(50),
            link: LinkConfig::default(),
            tcp: vec![short],
        };
        let mut road: Road<()> = Road::new(config, 0, clock.now(), Seed::new(1).rng("road"));
        while let Some(next) = road.next_event() {
            clock.advance_to(next.max(clock.now() + Duration::from_micros(100)));
            let _ = road.poll(clock.now());
        }
        assert_eq!(road.tcp_bytes(), 150_000);
        assert!(clock.elapsed() < Duration::from_secs(10));
    }
}
