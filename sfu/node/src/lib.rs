//! A media node: threads, sockets and the clock around the sans-IO engine of `sfu-core`.
//!
//! [`Node::start`] opens one UDP port per shard and one TCP port for all, and runs a thread per shard ([`worker`], the loop to
//! read first). Commands go in through [`NodeHandle::send`], events come out of a channel, counters come once a second as values
//! ([`ShardReport`]) and become Prometheus metrics in [`metrics`].
//! Not here: what a packet means (`sfu-core`), who may do what (`signaling`).

mod addresses;
#[doc(hidden)]
pub mod bench;
mod clock;
mod config;
mod control;
mod events;
#[doc(hidden)]
pub mod fuzzing;
mod lanes;
mod mailbox;
pub mod metrics;
mod net;
mod node;
mod reflexive;
mod stats;
mod worker;

pub use addresses::{Advertised, AdvertisedAddress, interface_addresses};
pub use config::{NodeConfig, Sharing};
pub use control::CommandError;
pub use net::udp::SOCKET_BUFFER_BYTES;
pub use node::{Node, NodeError, NodeHandle};
pub use stats::{AcceptCounters, Histogram, LoopCounters, ShardReport, SocketBuffers, TcpCounters, UdpCounters};
