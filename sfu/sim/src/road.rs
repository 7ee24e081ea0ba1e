//! A bottleneck that several flows share, with what competes there and what is measured there.
//!
//! In: datagrams of flows ([`Road::send`]), the time. Out: the same datagrams behind the bottleneck ([`Road::poll`]); each
//! flow's own delay comes after it. TCP connections ([`crate::tcp`]) take their part of the queue. The road's rate changes by
//! a timetable.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use crate::link::{Link, LinkConfig};
use crate::tcp::{Segment, Tcp, TcpConfig};

/// What a road is like.
#[derive(Clone, PartialEq, Debug)]
pub struct RoadConfig {
    /// Rates in bits per second, each from a time since the road's start on; the first is from zero on.
    pub rates: Vec<(Duration, u64)>,
    /// Longest time that a packet waits: the queue has so many bytes at the current rate.
    pub queue: Duration,
    /// Everything but rate and queue.
    pub link: LinkConfig,
    /// Who competes.
    pub tcp: Vec<TcpConfig>,
}

/// What passes.
#[derive(Clone, Debug)]
enum Passing<P> {
    Datagram(usize, P),
    Tcp(usize, Segment),
}

/// What happened to a flow's packets, in tenths of a second.
#[derive(Clone, Debug, Default)]
pub struct FlowMeter {
    /// Bytes that were sent into the road, with IP and UDP headers.
    pub sent_bytes: Vec<u64>,
    /// Bytes that came out of it.
    pub passed_bytes: Vec<u64>,
    /// Packets sent.
    pub packets: u64,
    /// Packets that the full queue dropped.
    pub dropped: u64,
    /// Packets lost on the wire.
    pub lost: u64,
    /// When a packet was sent, and how long it waited (microseconds); a dropped one counts as if it had waited for all of it.
    pub waits: Vec<(Duration, u32)>,
}

/// Length of a bin of [`FlowMeter`].
pub const BIN: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct Road<P> {
    config: RoadConfig,
    started: Instant,
    next_rate: usize,
    link: Link<Passing<P>>,
    tcp: Vec<Tcp>,
    meters: Vec<FlowMeter>,
}

impl<P: Clone> Road<P> {
    /// A road for so many flows, which begins now.
    #[must_use]
    pub fn new(config: RoadConfig, flows: usize, now: Instant, rng: StdRng) -> Self {
        let tcp = config.tcp.iter().map(|tcp| Tcp::new(*tcp, now)).collect();
        let link = Link::new(config.link, rng);
        let mut road = Self { config, started: now, next_rate: 0, link, tcp, meters: vec![FlowMeter::default(); flows] };
        road.change_rate(now);
        road
    }

    /// Puts a datagram of `bytes` (with all headers) on the road.
    pub fn send(&mut self, now: Instant, flow: usize, bytes: usize, packet: P) {
        self.change_rate(now);
        let before = self.link.counters();
        let wait = self.link.wait(now);
        self.link.send(now, bytes, Passing::Datagram(flow, packet));
        let after = self.link.counters();
        let Some(meter) = self.meters.get_mut(flow) else { return };
        let since = now.saturating_duration_since(self.started);
        count(&mut meter.sent_bytes, since, bytes);
        meter.packets += 1;
        meter.lost += after.lost - before.lost;
        let is_dropped = after.tail_dropped > before.tail_dropped;
        meter.dropped += u64::from(is_dropped);
        let wait = if is_dropped { self.config.queue } else { wait };
        meter.waits.push((since, u32::try_from(wait.as_micros()).unwrap_or(u32::MAX)));
    }

    /// When something happens next.
    #[must_use]
    pub fn next_event(&self) -> Option<Instant> {
        let tcp = self.tcp.iter().filter_map(Tcp::next_timeout);
        let rate = self.config.rates.get(self.next_rate).map(|(at, _)| self.started + *at);
        tcp.chain(self.link.next_arrival()).chain(rate).min()
    }

    /// Lets everything happen that is due; returns what came out, with its flow.
    pub fn poll(&mut self, now: Instant) -> Vec<(usize, usize, P)> {
        self.change_rate(now);
        let mut passed = Vec::new();
        while let Some((bytes, packet)) = self.link.receive_sized(now) {
            match packet {
                Passing::Datagram(flow, packet) => {
                    let since = now.saturating_duration_since(self.started);
                    count(&mut self.meters[flow].passed_bytes, since, bytes);
                    passed.push((flow, bytes, packet));
                }
                Passing::Tcp(index, segment) => self.tcp[index].on_passed(now, segment),
            }
        }
        for (index, tcp) in self.tcp.iter_mut().enumerate() {
            tcp.poll(now);
            while let Some(segment) = tcp.next_segment(now) {
                self.link.send(now, segment.bytes, Passing::Tcp(index, segment));
            }
        }
        passed
    }

    /// What a flow's packets met.
    #[must_use]
    pub fn meter(&self, flow: usize) -> &FlowMeter {
        &self.meters[flow]
    }

    /// Bytes that competitors got through.
    #[must_use]
    pub fn tcp_bytes(&self) -> u64 {
        self.tcp.iter().map(Tcp::delivered_bytes).sum()
    }

    /// A competitor's part of what all of them got through.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^52")]
    pub fn tcp_share(&self, index: usize) -> f64 {
        self.tcp[index].delivered_bytes() as f64 / self.tcp_bytes().max(1) as f64
    }

    fn change_rate(&mut self, now: Instant) {
        while let Some(&(at, rate_bps)) = self.config.rates.get(self.next_rate)
            && self.started + at <= now
        {
            self.next_rate += 1;
            let queue_bytes = usize::try_from(u128::from(rate_bps) * self.config.queue.as_micros() / 8_000_000).unwrap_or(usize::MAX);
            self.link.reconfigure(LinkConfig { rate_bps: Some(rate_bps), queue_bytes, ..self.config.link });
        }
    }
}

fn count(bins: &mut Vec<u64>, since: Duration, bytes: usize) {
    let bin = usize::try_from(since.as_millis() / BIN.as_millis()).unwrap_or(0);
    if bins.len() <= bin {
        bins.resize(bin + 1, 0);
    }
    bins[bin] += bytes as u64;
}
