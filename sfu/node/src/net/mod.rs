//! Sockets: batched UDP (`udp`), ICE-TCP framing (`framing`), established TCP connections (`tcp`), their acceptor (`accept`),
//! and all of one shard together (`sockets`).
//!
//! Everything here is non-blocking and is driven by the one loop in `worker`; nothing here reads a clock.

pub(crate) mod accept;
pub(crate) mod control;
pub(crate) mod framing;
pub(crate) mod sockets;
pub(crate) mod tcp;
pub(crate) mod udp;
