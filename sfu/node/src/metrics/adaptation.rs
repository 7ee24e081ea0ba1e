//! Families of congestion control and of the layers that it chooses.

use prometheus::proto::MetricFamily;
use sfu_core::telemetry::adaptation::{Downlinks, Switches};

use super::family::{counter, counts, distributions};

/// Summed over the shards.
pub(super) fn families(downlinks: &Downlinks, switches: &Switches) -> Vec<MetricFamily> {
    vec![
        distributions(
            "sfu_bwe_bits_per_second",
            "What congestion control lets be sent to a subscriber; one observation per transport and second. Where nothing is limited, less may have been shown to fit than does.",
            [(Vec::new(), &downlinks.targets_bps)],
        ),
        counter(
            "sfu_bwe_overuse_total",
            "How often congestion control sent less to a subscriber, by what it saw: a queue (delay), or loss.",
            counts(Downlinks::SIGNALS.into_iter().zip(downlinks.lowered).map(|(signal, count)| (vec![("signal", signal)], count))),
        ),
        counter(
            "sfu_layer_switches_total",
            "Switches between encodings of video, to a smaller (down) or larger one (up): because of the subscriber's wish, of what the publisher sends, or of the subscriber's bandwidth.",
            counts(switches.each().map(|(direction, reason, count)| (vec![("direction", direction), ("reason", reason)], count))),
        ),
    ]
}
