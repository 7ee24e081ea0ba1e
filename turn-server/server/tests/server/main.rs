//! The `sluice-turn` binary with clients of others (coturn's tools) and of our own.
#![allow(clippy::unwrap_used)]

mod attacks;
mod bursts;
mod client;
mod coturn;
mod life;
mod process;
mod tls;
