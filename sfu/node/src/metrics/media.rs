//! Families of what the engine measures: packets and losses by direction and kind, scores, phases of joins, layers.

use prometheus::proto::MetricFamily;
use sfu_api::MediaKind;
use sfu_api::emodel::MODEL;
use sfu_api::telemetry::{Direction, LayerLimit, VIDEO_MODEL};
use sfu_core::telemetry::distribution::Distribution;
use sfu_core::telemetry::totals::{Measured, Totals, WORST};

use super::family::{Labels, Samples, counter, counts, distributions, gauge, plain};

const RANKS: [&str; WORST] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
const KINDS: [(MediaKind, &str); 2] = [(MediaKind::Audio, "audio"), (MediaKind::Video, "video")];

/// Everything that is measured of tracks and transports, summed over the shards.
pub(super) fn families(measured: &Measured, retransmitted: u64) -> Vec<MetricFamily> {
    let by_kind =
        |value: fn(&Totals) -> u64| counts(each().map(|(labels, direction, kind)| (labels, value(measured.media(direction, kind)))));
    let distribution = |value: fn(&Totals) -> &Distribution| {
        each().map(move |(labels, direction, kind)| (labels, value(measured.media(direction, kind)))).collect::<Vec<_>>()
    };
    let video_only = |value: fn(&Totals) -> u64| {
        counts(Direction::ALL.map(|direction| (direction_labels(direction), value(measured.media(direction, MediaKind::Video)))))
    };
    let scores = |kind: &'static str, model: &'static str, of: &'static str| {
        Direction::ALL.map(|direction| {
            let labels = vec![("kind", kind), ("direction", direction.label()), ("model", model)];
            let all = if of == "mos" { &measured.opinion } else { &measured.video_score };
            (labels, &all[direction as usize])
        })
    };
    vec![
        counter(
            "sfu_rtp_packets_total",
            "RTP packets that arrived (in) or were forwarded (out), without retransmissions. Counted once a second.",
            by_kind(|t| t.packets),
        ),
        counter(
            "sfu_rtp_bytes_total",
            "Payload bytes of RTP packets, without headers and padding. Counted once a second.",
            by_kind(|t| t.bytes),
        ),
        counter(
            "sfu_rtp_lost_packets_total",
            "RTP packets lost on their first way: by sequence numbers (in), by receiver reports (out).",
            by_kind(|t| t.lost),
        ),
        counter(
            "sfu_rtp_residual_lost_packets_total",
            "RTP packets that repair (NACK, redundancy) did not bring back either.",
            by_kind(|t| t.residual),
        ),
        counter("sfu_rtp_retransmitted_packets_total", "RTP packets resent on request of subscribers.", plain(retransmitted)),
        counter(
            "sfu_rtcp_nack_total",
            "Packets asked for again by NACK: of publishers by this node (in), of this node by subscribers (out).",
            by_kind(|t| t.nacks),
        ),
        counter(
            "sfu_rtcp_pli_total",
            "Keyframes asked for by PLI or FIR: of publishers by this node (in), of this node by subscribers (out).",
            video_only(|t| t.keyframe_requests),
        ),
        distributions(
            "sfu_rtt_seconds",
            "Round trip between client and node by its receiver reports; one observation per participant and second.",
            [(Vec::new(), &measured.round_trip)],
        ),
        distributions(
            "sfu_jitter_seconds",
            "Interarrival jitter (RFC 3550) of the worst stream; one observation per participant and second.",
            distribution(|t| &t.jitter),
        ),
        distributions(
            "sfu_loss_ratio",
            "Share of packets lost on their first way, 0 to 1; one observation per participant and second.",
            distribution(|t| &t.loss),
        ),
        distributions(
            "sfu_residual_loss_ratio",
            "Share of packets that repair did not bring back either, 0 to 1; one observation per participant and second.",
            distribution(|t| &t.residual_loss),
        ),
        distributions(
            "sfu_mos",
            "Mean opinion score of audio by the E-model, 1 to 4.5; one observation per track and second. Out: from mouth to ear.",
            scores("audio", MODEL, "mos"),
        ),
        distributions(
            "sfu_video_score",
            "Score of video, 0 to 100; no mean opinion score. One observation per track and second.",
            scores("video", VIDEO_MODEL, "score"),
        ),
        gauge(
            "sfu_worst_participant_mos",
            "Lowest mean opinion scores of participants in the last second, 1 the worst; 0: there are not so many.",
            worst(measured),
        ),
        distributions(
            "sfu_join_phase_seconds",
            "Steps of a join: token (checked), ws (request until the answer), ice (transport opened until it has a path), dtls (until it has keys), first_rtp (until the client's first packet).",
            [
                (vec![("phase", "ice")], &measured.ice),
                (vec![("phase", "dtls")], &measured.dtls),
                (vec![("phase", "first_rtp")], &measured.first_rtp),
            ],
        ),
        distributions(
            "sfu_time_to_first_frame_seconds",
            "From a subscription to video until its first frame is sent; tracks that are muted or not wanted do not count.",
            [(Vec::new(), &measured.first_frame)],
        ),
        counter(
            "sfu_ice_restarts_total",
            "ICE restarts that were begun, and those after which the transport was connected again.",
            counts(["begun", "recovered"].into_iter().zip(measured.ice_restarts).map(|(result, count)| (vec![("result", result)], count))),
        ),
        counter(
            "sfu_layer_limited_seconds_total",
            "Seconds of video subscriptions, by what keeps them from a better layer.",
            counts(
                LayerLimit::ALL.into_iter().zip(measured.limited_seconds).map(|(limit, count)| (vec![("reason", limit.label())], count)),
            ),
        ),
        counter("sfu_samples_dropped_total", "Samples for timelines that nobody took in time.", plain(measured.samples_dropped)),
    ]
}

fn worst(measured: &Measured) -> Samples {
    let score = |rank: usize| measured.worst.get(rank).copied().unwrap_or(0.0);
    RANKS.into_iter().enumerate().map(|(place, rank)| (vec![("rank", rank)], f64::from(score(place)))).collect()
}

fn each() -> impl Iterator<Item = (Labels, Direction, MediaKind)> {
    Direction::ALL
        .into_iter()
        .flat_map(|direction| KINDS.map(|(kind, word)| (vec![("direction", direction.label()), ("kind", word)], direction, kind)))
}

fn direction_labels(direction: Direction) -> Labels {
    vec![("direction", direction.label())]
}
