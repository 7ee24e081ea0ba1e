//! What the loop hands out once a second: plain values.

use turn_proto::counters::{Census, Counters};

use crate::tcp::StreamCounters;
use crate::udp::UdpCounters;

/// State and counters of a server at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What the core counts.
    pub core: Counters,
    /// What there is.
    pub census: Census,
    /// What the kernel did with datagrams.
    pub udp: UdpCounters,
    /// What happened to streams of clients.
    pub streams: StreamCounters,
    /// Streams of clients that are open.
    pub open_streams: usize,
    /// No new allocations are made.
    pub is_draining: bool,
}
