//! Session descriptions of the clients, on top of those of the simulated ones.

use std::net::SocketAddr;

use rand::{Rng, RngExt as _};
use sfu_core::media::Codec;
use sfu_core::net::Protocol;
use sfu_core::transport::params::RemoteParams;
use sfu_sim::sdp::{self, ClientLine, PublishedMedia};

use crate::media::link::{ReceiveTrack, Remote, SendEncoding, SendTrack};
use crate::plan::Participant;

/// Tracks of a participant as they are sent, with random SSRCs: audio first. `first_mid` is the mid of the first one.
pub fn send_tracks(participant: &Participant, first_mid: usize, rng: &mut impl Rng) -> Vec<SendTrack> {
    let mut tracks = Vec::new();
    let mut encoding = |rid| SendEncoding { rid, ssrc: rng.random_range(1..u32::MAX), rtx_ssrc: rng.random_range(1..u32::MAX) };
    let mut push = |codec: Codec, encodings: Vec<SendEncoding>| {
        let payload_type = sdp::payload_type(codec);
        let rtx_payload_type = codec.is_video().then_some(payload_type + 1);
        tracks.push(SendTrack { mid: (first_mid + tracks.len()).to_string(), codec, payload_type, rtx_payload_type, encodings });
    };
    if participant.audio.is_some() {
        push(Codec::Opus, vec![encoding(None)]);
    }
    if let Some(video) = &participant.video {
        push(video.codec, video.encodings.iter().map(|plan| encoding(plan.rid)).collect());
    }
    tracks
}

/// An offer of these tracks. `cid` names a track in signaling. Data channels, if `local` has them, are the first m-line (mid 0).
#[must_use]
pub fn offer(tracks: &[SendTrack], cid: impl Fn(&SendTrack) -> String, local: &RemoteParams, version: u32) -> String {
    let line = |track: &SendTrack| {
        let rids: Vec<_> = track.encodings.iter().filter_map(|encoding| encoding.rid).collect();
        let ssrcs = track.encodings.first().filter(|_| rids.is_empty()).map(|encoding| (encoding.ssrc, encoding.rtx_ssrc));
        ClientLine::Send(PublishedMedia { cid: cid(track), codec: track.codec, rids, ssrcs, is_sending: true, has_red: false })
    };
    sdp::publisher_offer(&tracks.iter().map(line).collect::<Vec<_>>(), local, version)
}

/// Accepts everything of a server's offer. Without `with_feedback` congestion control is refused: a client that does not read
/// its media has nothing to say about it.
#[must_use]
pub fn answer(offer: &str, local: &RemoteParams, with_feedback: bool) -> String {
    let refused: &[&str] = if with_feedback { &[] } else { &["transport-cc", "transport-wide-cc", "goog-remb"] };
    sdp::subscriber_answer(&sending_only(offer), local, &[], refused)
}

/// The server's end, as its offer or answer says. `None` if it lacks ICE credentials or a SHA-256 fingerprint.
#[must_use]
pub fn remote(description: &str) -> Option<(Remote, Vec<SocketAddr>)> {
    let params = sdp::local_params(description)?;
    let udp = params.candidates.iter().filter(|candidate| candidate.protocol == Protocol::Udp);
    Some((Remote { ice: params.ice, fingerprint: params.fingerprint }, udp.map(|candidate| candidate.address).collect()))
}

/// Tracks of a server's offer.
#[must_use]
pub fn receive_tracks(offer: &str) -> Vec<ReceiveTrack> {
    let media = sdp::offered_media(&sending_only(offer)).into_iter();
    let track = |media: sdp::OfferedMedia| ReceiveTrack {
        name: media.track_id,
        codec: media.codec,
        ssrc: media.ssrc,
        rtx_ssrc: media.rtx_ssrc,
        formats: media.formats,
        transport_cc: media.transport_cc,
    };
    media.map(track).collect()
}

/// The address of a trickled UDP candidate (`candidate:...`, with or without `a=`).
#[must_use]
pub fn candidate(line: &str) -> Option<SocketAddr> {
    let line = line.trim().trim_start_matches("a=");
    let parts: Vec<&str> = line.strip_prefix("candidate:")?.split(' ').collect();
    match parts[..] {
        [_, "1", protocol, _, address, port, ..] if protocol.eq_ignore_ascii_case("udp") => {
            Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
        }
        _ => None,
    }
}

/// Servers that can both send and receive on an m-line offer that; here nothing is ever sent on a server's m-line.
fn sending_only(offer: &str) -> String {
    offer.replace("a=sendrecv\r\n", "a=sendonly\r\n")
}
