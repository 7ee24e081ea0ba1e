//! Fuzz targets of the TURN server: one function for each thing that a stranger can send.
//!
//! In: any bytes. Out: nothing, or a panic, which is a bug of ours. A target asserts more than survival: what is written reads back,
//! ranges stay inside, what was not allowed has no effect, nothing is left behind.
//!
//! They run in two ways: `cargo test -p fuzz-targets` replays the committed corpus, and `tools/fuzz.sh` explores under libFuzzer.

mod messages;
mod operations;

/// A target by its name, which is also the name of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("turn_channel_data", messages::channel_data),
    ("turn_message", messages::message),
    ("turn_operations", operations::operations),
    ("turn_stream", messages::stream),
];

/// The target with this name.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(own, _)| *own == name).map(|&(_, run)| run)
}
