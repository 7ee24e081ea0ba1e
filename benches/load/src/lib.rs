//! A load generator for WebRTC servers: real clients, many on one thread, and what they measured.
//!
//! Read [`adapters`] for how servers differ, [`media`] for what all have in common.

pub mod adapters;
pub mod media;
pub mod plan;
pub mod sdp;
