//! SDP offer and answer: what is agreed with a client, as values that the packet path reads.
//!
//! [`PublisherSession`] answers a client's offers, [`SubscriberSession`] makes offers to a client; with one peer connection
//! the former answers with what is sent too, from [`DownLines`]. All are values without clock, randomness or IO; a description that can't be used changes nothing. Inside: `parse` and `simulcast` read,
//! `codecs` and `extensions` decide, `write` prints. This module is the only one that names `rtc-sdp`.
//!
//! Not here: transports (`transport`), binding of streams to tracks by packet (`publish`).

mod codecs;
mod error;
mod extensions;
mod parse;
mod profiles;
mod publisher;
mod simulcast;
mod single;
mod subscriber;
mod wanted;
mod write;

pub use codecs::{EncodingWish, assumed_fmtp};
pub use error::NegotiationError;
pub use publisher::{AnnouncedTrack, PublisherAnswer, PublisherSession, UpMedia};
pub use single::{Count, DownLines};
pub use subscriber::{DownChoice, DownFormat, DownMedia, DownMediaState, Offer, SubscriberAnswer, SubscriberSession, configuration};

use crate::media::Codec;

/// First ICE user name fragment of a description, before it is parsed as a whole: a new one asks for new credentials of
/// ours, which have to exist before the description is answered.
#[must_use]
pub fn ice_ufrag(description: &str) -> Option<&str> {
    description.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).map(str::trim)
}

/// As in `a=rtpmap`.
const fn encoding_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus/48000/2",
        Codec::Vp8 => "VP8/90000",
        Codec::H264 => "H264/90000",
        Codec::Vp9 => "VP9/90000",
        Codec::Av1 => "AV1/90000",
        Codec::H265 => "H265/90000",
        Codec::Pcmu => "PCMU/8000",
        Codec::Pcma => "PCMA/8000",
    }
}
