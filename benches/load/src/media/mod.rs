//! Everything about media: one thread that has the sockets, the transports, the sources and the measurement of all participants.

pub mod addresses;
pub mod link;
