//! Fuzz targets: one function for each parser that reads what a stranger sends.
//!
//! In: any bytes. Out: nothing, or a panic, which is a bug of ours. A target asserts more than survival: what is written
//! reads back, what is refused changes nothing, what was not authenticated has no effect, sizes stay within their bounds.
//! Every target is deterministic as far as its libraries are.
//!
//! They run in two ways: `cargo test -p fuzz-targets` replays the committed corpus, and `tools/fuzz.sh` explores under
//! libFuzzer (`libfuzzer/`, a workspace of its own). A find becomes a file in `corpus/` and a unit test where the bug was.

mod framing;
mod payload;
mod rtp;
mod sctp;
mod sdp;
mod signaling;
mod tokens;
mod transport;

/// A target by its name, which is also the name of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("access_token", tokens::access_token),
    ("agent_worker", signaling::agent_worker),
    ("av1", payload::av1),
    ("data_packet", signaling::data_packet),
    ("demux", transport::demux),
    ("dependency_descriptor", payload::dependency_descriptor),
    ("dtls", transport::dtls),
    ("forwarded_for", signaling::forwarded_for),
    ("h264", payload::h264),
    ("h265", payload::h265),
    ("join_query", signaling::join_query),
    ("join_request", signaling::join_request),
    ("red", payload::red),
    ("room_service", signaling::room_service),
    ("rtcp", rtp::rtcp),
    ("rtp", rtp::rtp),
    ("sctp", sctp::sctp),
    ("sdp_answer", sdp::sdp_answer),
    ("sdp_offer", sdp::sdp_offer),
    ("sdp_single", sdp::sdp_single),
    ("signal_json", signaling::signal_json),
    ("signal_request", signaling::signal_request),
    ("srtp", rtp::srtp),
    ("stun", transport::stun),
    ("tcp_framing", framing::tcp_framing),
    ("vp8", payload::vp8),
    ("vp9", payload::vp9),
];

/// The target with this name.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(own, _)| *own == name).map(|&(_, run)| run)
}

/// Splits an input into messages: a 16-bit length before each, the last one as long as the input.
fn messages(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (message, rest) = rest.split_at(length);
        data = rest;
        Some(message)
    })
}
