//! Deterministic world for tests of the engine: time, links, cameras, receivers. One seed per run.
//!
//! Whole calls take place in a [`world::World`]. Its parts serve alone too: a scenario takes a [`seed::Seed`], moves a [`clock::Clock`], carries datagrams over [`link::Link`]s, feeds frames of a
//! [`video::VideoSource`] in at one end and asserts what a [`freeze::VideoReceiver`] reports at the other.

pub mod audio;
pub mod client;
pub mod clock;
pub mod frame;
pub mod freeze;
pub mod link;
pub mod packetize;
pub mod packetize_layered;
pub mod participant;
pub mod player;
pub mod reorder;
pub mod road;
pub mod scalability;
pub mod scorecard;
pub mod sdp;
pub mod seed;
pub mod tcp;
pub mod video;
pub mod world;
