//! One direction of a network path in virtual time: rate and queue, delay, jitter, loss, duplication.
//!
//! In: packets with their size ([`Link::send`]). Out: the same packets later, or never ([`Link::receive`]). Order of effects:
//! tail drop at the queue, serialisation at the rate (or policing), loss on the wire, delay with jitter, duplication. Same seed
//! and same calls give the same packets at the same times.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

/// A probability.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Chance(f64);

impl Chance {
    /// # Panics
    /// Outside of 0.0 to 1.0.
    #[must_use]
    pub fn new(probability: f64) -> Self {
        assert!((0.0..=1.0).contains(&probability), "{probability} is no probability");
        Self(probability)
    }

    /// From percent.
    #[must_use]
    pub fn percent(percent: f64) -> Self {
        Self::new(percent / 100.0)
    }

    fn happens(self, rng: &mut StdRng) -> bool {
        self.0 > 0.0 && rng.random_bool(self.0)
    }
}

/// How delays vary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Jitter {
    /// They don't.
    #[default]
    None,
    /// Up to this much more, uniformly; packets stay in order.
    Ordered(Duration),
    /// Up to this much more, uniformly; packets overtake each other.
    Reordering(Duration),
}

/// How packets are lost on the wire.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Loss {
    /// They aren't.
    #[default]
    None,
    /// Each on its own.
    Random(Chance),
    /// Gilbert-Elliott: a good and a bad state with their own loss; the state may change before each packet.
    Bursts {
        /// From good to bad.
        to_bad: Chance,
        /// From bad to good; its inverse is the mean length of a burst in packets.
        to_good: Chance,
        /// Loss in the good state.
        in_good: Chance,
        /// Loss in the bad state.
        in_bad: Chance,
    },
}

/// What a link is like. The default is perfect: at once, everything, in order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LinkConfig {
    /// Bits per second; `None`: no limit.
    pub rate_bps: Option<u64>,
    /// Bytes that may wait for the wire, the packet on it included; what comes on top is dropped.
    pub queue_bytes: usize,
    /// One way.
    pub delay: Duration,
    /// On top of the delay.
    pub jitter: Jitter,
    /// On the wire.
    pub loss: Loss,
    /// A packet arrives twice.
    pub duplication: Chance,
    /// The rate is policed: what fits into the queue passes at once, as with a bucket of tokens, so that there is loss but no
    /// delay.
    pub is_policed: bool,
}

impl Default for LinkConfig {
    fn default() -> Self {
        let (delay, jitter, loss, duplication) = (Duration::ZERO, Jitter::None, Loss::None, Chance::default());
        Self { rate_bps: None, queue_bytes: usize::MAX, delay, jitter, loss, duplication, is_policed: false }
    }
}

impl LinkConfig {
    /// Perfect but for its delay.
    #[must_use]
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }
}

/// What became of the packets so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkCounters {
    /// Given to the link.
    pub sent: u64,
    /// Dropped at the full queue.
    pub tail_dropped: u64,
    /// Lost on the wire.
    pub lost: u64,
    /// Extra copies made.
    pub duplicated: u64,
    /// Came out, copies included.
    pub delivered: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Link<P> {
    config: LinkConfig,
    rng: StdRng,
    /// When each waiting packet has left, and its size.
    waiting: VecDeque<(Instant, usize)>,
    waiting_bytes: usize,
    is_bad: bool,
    last_arrival: Option<Instant>,
    in_flight: BinaryHeap<Reverse<Flight<P>>>,
    next_number: u64,
    counters: LinkCounters,
}

#[derive(Debug)]
struct Flight<P> {
    arrives: Instant,
    /// Breaks ties, so that equal times keep their order.
    number: u64,
    bytes: usize,
    packet: P,
}

impl<P> PartialEq for Flight<P> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<P> Eq for Flight<P> {}

impl<P> PartialOrd for Flight<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Ord for Flight<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.arrives, self.number).cmp(&(other.arrives, other.number))
    }
}

impl<P: Clone> Link<P> {
    /// An empty link.
    #[must_use]
    pub fn new(config: LinkConfig, rng: StdRng) -> Self {
        Self {
            config,
            rng,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            is_bad: false,
            last_arrival: None,
            in_flight: BinaryHeap::new(),
            next_number: 0,
            counters: LinkCounters::default(),
        }
    }

    /// Changes the link; packets that are on their way are not affected.
    pub fn reconfigure(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// Current configuration.
    #[must_use]
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// What became of the packets so far.
    #[must_use]
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Puts a packet of `bytes` (with all headers) on the link.
    pub fn send(&mut self, now: Instant, bytes: usize, packet: P) {
        self.counters.sent += 1;
        let Some(left) = self.enqueue(now, bytes) else {
            self.counters.tail_dropped += 1;
            return;
        };
        if self.is_lost() {
            self.counters.lost += 1;
            return;
        }
        if self.config.duplication.happens(&mut self.rng) {
            self.counters.duplicated += 1;
            self.fly(left, bytes, packet.clone());
        }
        self.fly(left, bytes, packet);
    }

    /// When the next packet arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(flight)| flight.arrives)
    }

    /// The next packet that has arrived by now.
    pub fn receive(&mut self, now: Instant) -> Option<P> {
        self.receive_sized(now).map(|(_, packet)| packet)
    }

    /// The same with its bytes.
    pub fn receive_sized(&mut self, now: Instant) -> Option<(usize, P)> {
        if self.next_arrival()? > now {
            return None;
        }
        self.counters.delivered += 1;
        self.in_flight.pop().map(|Reverse(flight)| (flight.bytes, flight.packet))
    }

    /// How long a packet that came now would wait for the wire.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        if self.config.is_policed {
            return Duration::ZERO;
        }
        self.waiting.back().map_or(Duration::ZERO, |&(left, _)| left.saturating_duration_since(now))
    }

    /// When the packet has left the queue; `None` if it did not fit.
    fn enqueue(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate_bps) = self.config.rate_bps else { return Some(now) };
        while let Some(&(left, size)) = self.waiting.front()
            && left <= now
        {
            self.waiting.pop_front();
            self.waiting_bytes -= size;
        }
        if self.waiting_bytes.saturating_add(bytes) > self.config.queue_bytes {
            return None;
        }
        let starts = self.waiting.back().map_or(now, |&(left, _)| left);
        let left = starts + serialisation(bytes, rate_bps);
        self.waiting.push_back((left, bytes));
        self.waiting_bytes += bytes;
        Some(if self.config.is_policed { now } else { left })
    }

    fn is_lost(&mut self) -> bool {
        match self.config.loss {
            Loss::None => false,
            Loss::Random(chance) => chance.happens(&mut self.rng),
            Loss::Bursts { to_bad, to_good, in_good, in_bad } => {
                let change = if self.is_bad { to_good } else { to_bad };
                self.is_bad ^= change.happens(&mut self.rng);
                let loss = if self.is_bad { in_bad } else { in_good };
                loss.happens(&mut self.rng)
            }
        }
    }

    fn fly(&mut self, left: Instant, bytes: usize, packet: P) {
        let mut arrives = left + self.config.delay;
        match self.config.jitter {
            Jitter::None => {}
            Jitter::Ordered(most) | Jitter::Reordering(most) => arrives += self.rng.random_range(Duration::ZERO..=most),
        }
        if !matches!(self.config.jitter, Jitter::Reordering(_)) {
            arrives = self.last_arrival.map_or(arrives, |last| arrives.max(last));
            self.last_arrival = Some(arrives);
        }
        self.in_flight.push(Reverse(Flight { arrives, number: self.next_number, bytes, packet }));
        self.next_number += 1;
    }
}

fn serialisation(bytes: usize, rate_bps: u64) -> Duration {
    let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
    Duration::from_nanos(bits.saturating_mul(1_000_000_000) / rate_bps.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::seed::Seed;

    const MS: Duration = Duration::from_millis(1);

    fn link(config: LinkConfig) -> (Link<u32>, Clock) {
        (Link::new(config, Seed::new(1).rng("link")), Clock::new())
    }

    /// Sends one packet of 1250 bytes each `every`, then everything that arrives with its time since the start.
    fn run(config: LinkConfig, count: u32, every: Duration) -> (Vec<(u32, Duration)>, LinkCounters) {
        let (mut link, mut clock) = link(config);
        let mut arrived = Vec::new();
        for number in 0..count {
            clock.advance_to(clock.at(every * number));
            link.send(clock.now(), 1250, number);
        }
        while let Some(at) = link.next_arrival() {
            let since_start = at - clock.at(Duration::ZERO);
            arrived.extend(link.receive(at).map(|packet| (packet, since_start)));
        }
        (arrived, link.counters())
    }

    #[test]
    fn a_perfect_link_delivers_everything_at_once_in_order() {
        let (arrived, _) = run(LinkConfig::default(), 3, MS);
        assert_eq!(arrived, [(0, Duration::ZERO), (1, MS), (2, 2 * MS)]);
    }

    #[test]
    fn a_packet_is_not_received_before_its_time() {
        let (mut link, clock) = link(LinkConfig::delayed(10 * MS));
        link.send(clock.now(), 100, 1);
        assert_eq!(link.receive(clock.at(9 * MS)), None);
        assert_eq!(link.receive(clock.at(10 * MS)), Some(1));
    }

    #[test]
    fn the_rate_spaces_packets_and_the_queue_drops_its_tail() {
        // 1250 bytes at 10 Mbit/s take 1 ms.
        let config = LinkConfig { rate_bps: Some(10_000_000), queue_bytes: 3 * 1250, ..LinkConfig::delayed(5 * MS) };
        let (arrived, counters) = run(config, 5, Duration::ZERO);
        assert_eq!(arrived, [(0, 6 * MS), (1, 7 * MS), (2, 8 * MS)]);
        assert_eq!(counters.tail_dropped, 2);
    }

    #[test]
    fn a_policer_drops_what_is_too_much_and_delays_nothing() {
        let config = LinkConfig { rate_bps: Some(10_000_000), queue_bytes: 3 * 1250, is_policed: true, ..LinkConfig::delayed(5 * MS) };
        let (arrived, counters) = run(config, 8, MS / 2);
        assert!(arrived.iter().all(|&(number, at)| at == MS / 2 * number + 5 * MS), "{arrived:?}");
        assert_eq!((arrived.len(), counters.tail_dropped), (6, 2));
    }

    #[test]
    fn a_queue_empties_at_the_rate() {
        let config = LinkConfig { rate_bps: Some(10_000_000), queue_bytes: 1250, ..LinkConfig::default() };
        assert_eq!(run(config, 5, MS).1.tail_dropped, 0);
        assert_eq!(run(config, 5, MS / 2).1.tail_dropped, 2);
    }

    #[test]
    fn ordered_jitter_varies_times_and_keeps_the_order() {
        let config = LinkConfig { jitter: Jitter::Ordered(20 * MS), ..LinkConfig::default() };
        let (arrived, _) = run(config, 500, MS);
        assert!(arrived.is_sorted());
        assert!(arrived.iter().any(|&(number, at)| at > MS * number + 10 * MS));
    }

    #[test]
    fn reordering_jitter_lets_packets_overtake() {
        let config = LinkConfig { jitter: Jitter::Reordering(20 * MS), ..LinkConfig::default() };
        let (arrived, counters) = run(config, 500, MS);
        assert!(!arrived.iter().map(|&(number, _)| number).is_sorted());
        assert_eq!(counters.delivered, 500);
    }

    #[test]
    fn bursts_lose_as_much_as_their_states_say_and_in_runs() {
        // Bad one packet in ten of the time: 0.01 / (0.01 + 0.09); all is lost there, in runs of 1 / 0.09.
        let loss = Loss::Bursts {
            to_bad: Chance::percent(1.0),
            to_good: Chance::percent(9.0),
            in_good: Chance::default(),
            in_bad: Chance::new(1.0),
        };
        let count = 50_000;
        let (arrived, counters) = run(LinkConfig { loss, ..LinkConfig::default() }, count, MS);
        assert!((4_000..6_000).contains(&counters.lost), "{counters:?}");
        let runs = arrived.windows(2).filter(|pair| pair[1].0 > pair[0].0 + 1).count() as u64;
        assert!((8..15).contains(&(counters.lost / runs)), "{} in {runs} runs", counters.lost);
    }

    #[test]
    fn duplicates_are_counted_and_delivered() {
        let config = LinkConfig { duplication: Chance::new(1.0), ..LinkConfig::default() };
        let (arrived, counters) = run(config, 2, MS);
        assert_eq!(arrived.iter().map(|&(number, _)| number).collect::<Vec<_>>(), [0, 0, 1, 1]);
        assert_eq!(counters, LinkCounters { sent: 2, duplicated: 2, delivered: 4, ..LinkCounters::default() });
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let loss = Loss::Random(Chance::percent(10.0));
        let config = LinkConfig { loss, jitter: Jitter::Reordering(20 * MS), duplication: Chance::percent(5.0), ..LinkConfig::default() };
        assert_eq!(run(config, 300, MS), run(config, 300, MS));
    }
}
