//! The server from outside: a real one on a port of its own, `tokio-tungstenite` as the client, a media node that is a
//! pair of channels.

#![allow(clippy::unwrap_used)]

mod agents;
mod door;
mod frames;
mod harness;
mod holdings;
mod operating;
mod pages;
mod patience;
mod sessions;
mod single;
mod tls;
mod twirp;
