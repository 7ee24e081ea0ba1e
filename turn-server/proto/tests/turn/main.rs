//! The server as clients and peers see it, in virtual time. Names begin with the section of the RFC where there is one.
#![allow(clippy::unwrap_used)]

mod allocating;
mod authenticating;
mod bounds;
mod policy;
mod relaying;
mod streams;
mod vectors;
mod world;
