//! Sans-IO media engine of Sluice: bytes and commands in, bytes and events out, time as an argument.
//!
//! One [`Shard`](shard::Shard) is driven by one thread (`sfu-node`) or by a simulation (`sfu-sim`). Start reading at
//! [`shard`], then `ingress` (the packet's journey in) and `egress` (its journey out).

pub mod allocation;
pub mod audio;
pub mod backlog;
pub mod bandwidth;
mod codecs;
mod control;
mod data_tracks;
pub mod demux;
mod descriptions;
mod downlink;
pub mod egress;
pub mod error;
mod feedback;
mod handshakes;
pub mod ids;
mod ingress;
mod lifecycle;
pub mod limits;
pub mod media;
pub mod negotiate;
pub mod net;
mod pacing;
pub mod peer;
pub mod publish;
pub mod quality;
pub mod relay;
mod reports;
pub mod room;
mod route;
pub mod rtp;
pub mod shard;
pub mod snapshot;
mod stray;
pub mod subscribe;
pub mod telemetry;
pub mod timers;
pub mod transport;
