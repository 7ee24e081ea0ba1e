//! What a node is told at its start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addresses::Advertised;

/// Settings of a node. Everything has a default that suits production.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// Number of shards, each a thread with a UDP port of its own. None: one per core that the process may use.
    pub shards: Option<usize>,
    /// UDP port of the first shard; each further one has the next number. 0: any free ports, for tests.
    pub udp_port: u16,
    /// TCP port for clients that can't use UDP, shared by all shards. None: no ICE-TCP. 0: any free port.
    pub tcp_port: Option<u16>,
    /// TCP port of somebody else's listener, whose connections for this node come through `NodeHandle::adopt_tcp`. Clients are told
    /// of it as of `tcp_port`.
    pub shared_tcp_port: Option<u16>,
    /// Local addresses to listen on; unspecified ones stand for all of their family. An unspecified IPv6 address is left out on
    /// a machine without IPv6.
    pub bind: Vec<IpAddr>,
    /// Addresses that clients are told.
    pub advertised: Advertised,
    /// Keeps each shard's thread on a core of its own.
    pub pin_threads: bool,
    /// Events that wait for whoever takes them.
    pub event_queue: usize,
    /// When further participants of a room are put on another shard.
    pub sharing: Sharing,
}

/// How large a room's part on one shard becomes before the room goes on on another shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sharing {
    /// Participants of one room on one shard.
    pub participants: usize,
    /// Share of its time that a shard may be busy, in percent.
    pub busy_percent: u32,
}

impl Default for Sharing {
    /// Everything a shard has to do for 250 participants fits a core with ease; one that is busier than this takes no burst any
    /// more.
    fn default() -> Self {
        Self { participants: 250, busy_percent: 85 }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            shards: None,
            udp_port: 7882,
            tcp_port: Some(7881),
            shared_tcp_port: None,
            bind: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            advertised: Advertised::Detected { include_loopback: false, stun_server: None },
            pin_threads: true,
            event_queue: 4_096,
            sharing: Sharing::default(),
        }
    }
}
