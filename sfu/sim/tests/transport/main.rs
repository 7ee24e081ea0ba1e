//! A transport of the server and a client's transport, joined by a network in virtual time.
#![allow(clippy::unwrap_used, missing_docs)]

mod data;
mod handshake;
mod hostile;
mod paths;
mod rtc_dtls_client;
mod world;
