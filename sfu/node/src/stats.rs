//! What a shard's loop counts, and the report of it that leaves the thread once a second.
//!
//! The loop adds to plain integers; nothing here is shared between threads.

use std::time::{Duration, Instant};

use sfu_core::snapshot::Snapshot;

pub use crate::net::accept::AcceptCounters;
pub use crate::net::tcp::TcpCounters;
pub use crate::net::udp::{SocketBuffers, UdpCounters};

/// Distribution of durations from 10 µs to 0.5 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Upper bounds of the buckets; one more bucket has none.
    pub const BOUNDS: [Duration; 21] = [
        Duration::from_micros(10),
        Duration::from_micros(20),
        Duration::from_micros(30),
        Duration::from_micros(50),
        Duration::from_micros(75),
        Duration::from_micros(100),
        Duration::from_micros(150),
        Duration::from_micros(200),
        Duration::from_micros(300),
        Duration::from_micros(500),
        Duration::from_micros(750),
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(3),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(200),
        Duration::from_millis(500),
    ];

    /// Adds `times` observations of one value.
    pub fn observe(&mut self, value: Duration, times: u32) {
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < value);
        self.counts[bucket] += u64::from(times);
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
        self
    }

    /// Observations so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of all observations.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// Upper bound and number of observations up to it, for each bucket that has a bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        Self::BOUNDS.into_iter().zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }

    /// Bound of the bucket in which the given share (0.0 to 1.0) of observations is reached; None without observations or
    /// beyond the last bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = (share * count as f64).ceil().max(1.0);
        self.cumulative().find_map(|(bound, below)| (count > 0 && below as f64 >= wanted).then_some(bound))
    }
}

/// What the loop itself counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopCounters {
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that had datagrams.
    pub batches: u64,
    /// Commands handled.
    pub commands: u64,
    /// Events that were lost because nobody took them.
    pub events_dropped: u64,
    /// Of every datagram that was sent: from the kernel's receive time of the oldest one that its turn took to a moment after
    /// the system call that sent it. Turns without received datagrams do not count.
    pub forward_latency: Histogram,
    /// How late timers ran.
    pub lag: Histogram,
    /// Time a turn took, without waiting.
    pub turn: Histogram,
}

/// All counters of one shard.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Which shard.
    pub shard: u16,
    /// When the report was made.
    pub taken_at: Instant,
    /// Share of the time since the report before in which the loop did not wait, 0.0 to 1.0.
    pub busy_ratio: f64,
    /// Of the engine.
    pub engine: Snapshot,
    /// Of the loop.
    pub turns: LoopCounters,
    /// Of UDP.
    pub udp: UdpCounters,
    /// Buffers of the shard's first UDP socket.
    pub socket_buffers: SocketBuffers,
    /// Of ICE-TCP connections of this shard.
    pub tcp: TcpCounters,
    /// Of connections that have no shard yet; all zero but on the shard that accepts.
    pub accept: AcceptCounters,
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A report of a shard that has done nothing.
    pub(crate) fn report(shard: u16) -> ShardReport {
        ShardReport {
            shard,
            taken_at: Instant::now(),
            busy_ratio: 0.0,
            engine: Snapshot::default(),
            turns: LoopCounters::default(),
            udp: UdpCounters::default(),
            socket_buffers: SocketBuffers::default(),
            tcp: TcpCounters::default(),
            accept: AcceptCounters::default(),
        }
    }

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_micros(10), 1);
        histogram.observe(Duration::from_micros(11), 2);
        histogram.observe(Duration::from_secs(9), 1);
        let cumulative: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative, [[1].as_slice(), &[3; 20]].concat());
        assert_eq!((histogram.count(), histogram.sum()), (4, Duration::from_micros(9_000_032)));
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.observe(Duration::from_micros(70), 99);
        histogram.observe(Duration::from_micros(700), 1);
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(75)));
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_micros(75)));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_micros(750)));
    }
}
