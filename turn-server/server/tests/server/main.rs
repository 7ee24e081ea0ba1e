//! The `sluice-turn` binary with clients of others (coturn's tools) and of our own.
#![allow(clippy::unwrap_used)]

mod coturn;
mod life;
mod process;
