//! A load generator for WebRTC servers: real clients, many on one thread, and what they measured.
//!
//! Read [`adapters`] for how servers differ, [`media`] for what all have in common, [`run`] for the course of a measurement.

pub mod adapters;
pub mod histogram;
pub mod media;
pub mod plan;
pub mod process;
pub mod report;
pub mod run;
pub mod scenario;
pub mod sdp;
pub mod server;
