//! Metrics of a server in Prometheus' form, made from its latest [`Snapshot`] when they are asked for.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, Result};
use turn_proto::Transport;
use turn_proto::counters::{Allocated, AuthFailure, Dropped, Quota};
use turn_proto::policy::Denied;

use crate::TurnHandle;
use crate::stats::Snapshot;

/// Adds a server's metrics to a registry.
///
/// # Errors
/// The registry has metrics of these names already.
pub fn register(registry: &Registry, server: TurnHandle) -> Result<()> {
    let describe = |family: &MetricFamily| Desc::new(family.name().to_owned(), family.help().to_owned(), Vec::new(), HashMap::new());
    let descriptions = families(&Snapshot::default(), false, None).iter().map(describe).collect::<Result<_>>()?;
    registry.register(Box::new(TurnCollector { server, descriptions }))
}

struct TurnCollector {
    server: TurnHandle,
    descriptions: Vec<Desc>,
}

impl Collector for TurnCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = self.server.certificate_expires_at().map(|at| seconds_between(now, at));
        families(&self.server.snapshot(), self.server.has_failed(), left)
    }
}

/// Negative: it is over.
fn seconds_between(now: Duration, at: Duration) -> f64 {
    at.as_secs_f64() - now.as_secs_f64()
}

/// All families without a server, for documentation.
#[must_use]
pub fn catalogue() -> Vec<MetricFamily> {
    families(&Snapshot::default(), false, Some(0.0))
}

type Samples = Vec<(Vec<(&'static str, &'static str)>, f64)>;

#[allow(clippy::cast_precision_loss)]
fn families(snapshot: &Snapshot, has_failed: bool, certificate_seconds: Option<f64>) -> Vec<MetricFamily> {
    let Snapshot { core, census, udp, streams, open_streams, is_draining } = snapshot;
    let plain = |value: f64| vec![(Vec::new(), value)];
    let by = |name: &'static str, labels: Vec<&'static str>, values: &[u64]| -> Samples {
        labels.into_iter().zip(values).map(|(label, value)| (vec![(name, label)], *value as f64)).collect()
    };
    let families_of = |transport: Transport| {
        ["ipv4", "ipv6"]
            .into_iter()
            .zip(census.allocations[transport as usize])
            .map(move |(family, count)| (vec![("transport", transport.label()), ("family", family)], count as f64))
    };
    let ratio = |(used, all): (usize, usize)| if all == 0 { 0.0 } else { used as f64 / all as f64 };
    let directions = |to_peers: u64, to_clients: u64| {
        vec![(vec![("direction", "to-peer")], to_peers as f64), (vec![("direction", "to-client")], to_clients as f64)]
    };
    let mut dropped = by("reason", Dropped::ALL.map(Dropped::label).to_vec(), &core.dropped);
    dropped.extend([
        (vec![("reason", "send-buffer-full")], udp.dropped_full as f64),
        (vec![("reason", "unreachable")], udp.dropped_unreachable as f64),
        (vec![("reason", "stream-behind")], streams.dropped as f64),
    ]);
    let mut families = vec![
        gauge(
            "turn_allocations",
            "Relayed addresses there are, by the client's transport and the family of the address.",
            Transport::ALL.into_iter().flat_map(families_of).collect(),
        ),
        counter(
            "turn_allocations_total",
            "Allocate requests of known users, by how they ended.",
            by("result", Allocated::ALL.map(Allocated::label).to_vec(), &core.allocated),
        ),
        gauge("turn_permissions", "Permissions of all allocations.", plain(census.permissions as f64)),
        gauge("turn_channels", "Channels of all allocations.", plain(census.channels as f64)),
        gauge("turn_peer_connections", "TCP connections to peers (RFC 6062).", plain(census.streams as f64)),
        gauge(
            "turn_relay_ports_used_ratio",
            "Share of the relay ports that is in use, of the family that has the least left.",
            plain(ratio(census.ports)),
        ),
        gauge(
            "turn_allocations_used_ratio",
            "Share of the allocations that there may be in all; they can run out before the ports do.",
            plain(ratio((census.total, census.most))),
        ),
        counter("turn_relayed_bytes_total", "Payload relayed.", directions(core.to_peers.bytes, core.to_clients.bytes)),
        counter("turn_relayed_packets_total", "Datagrams relayed.", directions(core.to_peers.packets, core.to_clients.packets)),
        counter("turn_dropped_packets_total", "Packets that were not relayed or answered.", dropped),
        counter(
            "turn_auth_failures_total",
            "Requests that were not authenticated. Every client begins with one that is challenged.",
            by("reason", AuthFailure::ALL.map(AuthFailure::label).to_vec(), &core.auth_failures),
        ),
        counter(
            "turn_denied_peers_total",
            "Peers that clients wanted and may not have.",
            by("reason", Denied::ALL.map(Denied::label).to_vec(), &core.denied_peers),
        ),
        counter(
            "turn_quota_rejections_total",
            "Allocations refused because of a quota.",
            by("quota", Quota::ALL.map(Quota::label).to_vec(), &core.quota_rejections),
        ),
        counter("turn_binding_requests_total", "STUN Binding requests answered.", plain(core.bindings as f64)),
        gauge("turn_streams", "TCP and TLS connections of clients.", plain(*open_streams as f64)),
        counter(
            "turn_streams_total",
            "TCP and TLS connections of clients, by what became of them.",
            vec![
                (vec![("result", "accepted")], streams.accepted as f64),
                (vec![("result", "refused")], streams.refused as f64),
                (vec![("result", "expelled")], streams.expelled as f64),
            ],
        ),
        counter(
            "turn_udp_sends_total",
            "System calls that sent datagrams; fewer than datagrams where they left in trains.",
            plain(udp.sends as f64),
        ),
        gauge(
            "turn_draining",
            "1: new allocations are refused, but for participants of calls that go on.",
            plain(f64::from(u8::from(*is_draining))),
        ),
        gauge(
            "turn_failed",
            "1: the server's thread has ended though nobody told it to, and the process is about to.",
            plain(f64::from(u8::from(has_failed))),
        ),
    ];
    // without a certificate there is nothing that could expire
    families.push(gauge(
        "turn_certificate_expiry_seconds",
        "Time until the certificate ends; absent without one.",
        certificate_seconds.map(|seconds| (Vec::new(), seconds)).into_iter().collect(),
    ));
    families
}

fn gauge(name: &str, help: &str, samples: Samples) -> MetricFamily {
    let metric = |value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::default();
        metric.set_gauge(gauge);
        metric
    };
    family(name, help, MetricType::GAUGE, samples, metric)
}

fn counter(name: &str, help: &str, samples: Samples) -> MetricFamily {
    let metric = |value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::default();
        metric.set_counter(counter);
        metric
    };
    family(name, help, MetricType::COUNTER, samples, metric)
}

fn family(name: &str, help: &str, kind: MetricType, samples: Samples, metric: impl Fn(f64) -> Metric) -> MetricFamily {
    let with_labels = |(labels, value): (Vec<(&str, &str)>, f64)| {
        let mut metric = metric(value);
        let pair = |(name, value): (&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        metric.set_label(labels.into_iter().map(pair).collect());
        metric
    };
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples.into_iter().map(with_labels).collect());
    family
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let mut snapshot = Snapshot::default();
        snapshot.census.allocations[Transport::Tls as usize] = [2, 1];
        snapshot.census.ports = (25, 100);
        (snapshot.census.total, snapshot.census.most) = (3, 4);
        snapshot.core.to_peers.bytes = 1200;
        snapshot.core.denied_peers[Denied::Metadata as usize] = 3;
        snapshot.core.quota_rejections[Quota::User as usize] = 4;
        snapshot.core.auth_failures[AuthFailure::Revoked as usize] = 5;
        let text = TextEncoder::new().encode_to_string(&families(&snapshot, false, Some(60.0))).unwrap();
        for line in [
            "turn_allocations{transport=\"tls\",family=\"ipv4\"} 2",
            "turn_allocations{transport=\"tls\",family=\"ipv6\"} 1",
            "turn_allocations{transport=\"udp\",family=\"ipv4\"} 0",
            "turn_relay_ports_used_ratio 0.25",
            "turn_allocations_used_ratio 0.75",
            "turn_relayed_bytes_total{direction=\"to-peer\"} 1200",
            "turn_denied_peers_total{reason=\"metadata\"} 3",
            "turn_quota_rejections_total{quota=\"user\"} 4",
            "turn_auth_failures_total{reason=\"revoked\"} 5",
            "turn_certificate_expiry_seconds 60",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing in\n{text}");
        }
    }
}
