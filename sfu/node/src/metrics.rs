//! Turns the shards' reports into Prometheus metrics, summed over all shards, when somebody asks.
//!
//! Labels are words of a closed list: never ids, names or addresses. Counters start at zero with the node.

use std::collections::HashMap;
use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily, MetricType};
use sfu_core::error::Discard;
use sfu_core::net::Protocol;
use sfu_core::snapshot::PathKind;
use sfu_core::transport::DtlsVersion;
use sfu_core::transport::srtp::SrtpProfile;

use crate::node::NodeHandle;
use crate::stats::{Histogram, ShardReport};

/// Makes the node's metrics part of a registry.
///
/// # Errors
/// The registry has metrics of another node.
pub fn register(registry: &prometheus::Registry, node: NodeHandle) -> prometheus::Result<()> {
    registry.register(Box::new(NodeCollector::new(node)?))
}

/// Places of [`sfu_core::snapshot::LayerUsage`].
const LAYER_LABELS: [&str; 4] = ["0", "1", "2", "3"];

struct NodeCollector {
    node: NodeHandle,
    descriptions: Vec<Desc>,
}

impl NodeCollector {
    fn new(node: NodeHandle) -> prometheus::Result<Self> {
        let describe = |f: &MetricFamily| Desc::new(f.name().to_owned(), f.help().to_owned(), Vec::new(), HashMap::new());
        let descriptions = families(&[], 0).iter().map(describe).collect::<prometheus::Result<_>>()?;
        Ok(Self { node, descriptions })
    }
}

impl Collector for NodeCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        families(&self.node.snapshots(), socket_drops(self.node.udp_ports()))
    }
}

/// Every metric of the node.
fn families(reports: &[ShardReport], socket_drops: u64) -> Vec<MetricFamily> {
    let sum = |value: fn(&ShardReport) -> u64| reports.iter().map(value).sum::<u64>();
    let count = |value: fn(&ShardReport) -> usize| reports.iter().map(value).sum::<usize>() as u64;
    let transports: [u64; SrtpProfile::ALL.len()] = per_kind(reports, |r| r.engine.transports);
    let dtls: [u64; DtlsVersion::ALL.len()] = per_kind(reports, |r| r.engine.dtls);
    let paths: [u64; PathKind::ALL.len()] = per_kind(reports, |r| r.engine.paths);
    let dropped = Discard::ALL
        .iter()
        .map(|&reason| (reason.label(), reports.iter().map(|r| r.engine.discards.get(reason)).sum()))
        .chain([
            ("unanswerable", sum(|r| r.udp.refused_messages)),
            ("send-buffer-full", sum(|r| r.udp.dropped_full)),
            ("unreachable", sum(|r| r.udp.dropped_unreachable)),
            ("tcp-media-behind", sum(|r| r.tcp.dropped_media)),
            ("tcp-buffer-full", sum(|r| r.tcp.dropped_full)),
            ("tcp-connection-gone", sum(|r| r.tcp.dropped_gone)),
        ])
        .map(|(reason, value)| (vec![("reason", reason)], value))
        .collect::<Vec<_>>();
    let layers = [("current", "size"), ("current", "rate"), ("wanted", "size"), ("wanted", "rate")]
        .into_iter()
        .flat_map(|(state, of)| {
            let usage = move |r: &ShardReport| {
                let usage = if state == "current" { r.engine.layers_current } else { r.engine.layers_wanted };
                if of == "size" { usage.sizes } else { usage.temporal }
            };
            let counts: [u64; LAYER_LABELS.len()] = per_kind(reports, usage);
            LAYER_LABELS.iter().zip(counts).map(move |(&layer, count)| (vec![("state", state), ("of", of), ("layer", layer)], count))
        })
        .collect::<Vec<_>>();
    let path = |direction, transport| vec![("direction", direction), ("transport", transport)];

    vec![
        gauge("sfu_shards", "Shards that have reported.", plain(reports.len() as u64)),
        gauge("sfu_rooms", "Rooms with participants.", plain(count(|r| r.engine.rooms))),
        gauge("sfu_participants", "Participants in rooms.", plain(count(|r| r.engine.participants))),
        gauge(
            "sfu_tracks",
            "Published tracks.",
            vec![(vec![("kind", "audio")], count(|r| r.engine.audio_tracks)), (vec![("kind", "video")], count(|r| r.engine.video_tracks))],
        ),
        gauge(
            "sfu_subscriptions",
            "Subscriptions; media flows through those that are live.",
            vec![
                (vec![("state", "live")], count(|r| r.engine.live_subscriptions)),
                (vec![("state", "waiting")], count(|r| r.engine.subscriptions.saturating_sub(r.engine.live_subscriptions))),
            ],
        ),
        gauge("sfu_video_layers", "Live video subscriptions by the size and frame rate that they get, and that they should get.", layers),
        gauge(
            "sfu_srtp_transports",
            "Transports that are up, by SRTP protection profile.",
            SrtpProfile::ALL.iter().zip(transports).map(|(profile, up)| (vec![("profile", profile.label())], up)).collect(),
        ),
        gauge(
            "sfu_dtls_transports",
            "Transports that are up, by DTLS version.",
            DtlsVersion::ALL.iter().zip(dtls).map(|(version, up)| (vec![("version", version.label())], up)).collect(),
        ),
        gauge(
            "sfu_transport_paths",
            "Transports that are up, by the path that media takes.",
            PathKind::ALL.iter().zip(paths).map(|(kind, up)| (path_labels(*kind), up)).collect(),
        ),
        counter(
            "sfu_transport_path_changes_total",
            "How often a transport that was up went on by another path.",
            plain(sum(|r| r.engine.path_changes)),
        ),
        counter(
            "sfu_oversized_packets_total",
            "Packets made that are too large for the smallest MTU of IPv6.",
            plain(sum(|r| r.engine.oversized)),
        ),
        counter("sfu_rtp_packets_total", "RTP packets forwarded.", labelled("direction", "out", sum(|r| r.engine.forwarded.packets))),
        counter("sfu_rtp_bytes_total", "Bytes of forwarded RTP packets.", labelled("direction", "out", sum(|r| r.engine.forwarded.bytes))),
        counter("sfu_rtp_retransmitted_packets_total", "RTP packets resent on request.", plain(sum(|r| r.engine.retransmitted))),
        counter("sfu_layer_switches_total", "Switches between encodings of a track.", plain(sum(|r| r.engine.forwarded.switches))),
        counter("sfu_dropped_packets_total", "Packets dropped, by reason.", dropped),
        counter(
            "sfu_packets_total",
            "Packets of all protocols.",
            vec![
                (path("in", "udp"), sum(|r| r.udp.received_datagrams)),
                (path("in", "tcp"), sum(|r| r.tcp.received_packets)),
                (path("out", "udp"), sum(|r| r.udp.sent_datagrams)),
                (path("out", "tcp"), sum(|r| r.tcp.sent_packets)),
            ],
        ),
        counter(
            "sfu_bytes_total",
            "Payload bytes of packets of all protocols.",
            vec![
                (path("in", "udp"), sum(|r| r.udp.received_bytes)),
                (path("in", "tcp"), sum(|r| r.tcp.received_bytes)),
                (path("out", "udp"), sum(|r| r.udp.sent_bytes)),
                (path("out", "tcp"), sum(|r| r.tcp.sent_bytes)),
            ],
        ),
        counter("sfu_udp_receives_total", "Messages received; one holds several datagrams.", plain(sum(|r| r.udp.received_messages))),
        counter("sfu_udp_sends_total", "System calls that sent datagrams.", plain(sum(|r| r.udp.sends))),
        counter("sfu_socket_receive_drops_total", "Datagrams that the kernel dropped on full sockets.", plain(socket_drops)),
        gauge(
            "sfu_socket_buffer_bytes",
            "Smallest socket buffer granted by the kernel.",
            vec![
                (vec![("direction", "in")], reports.iter().map(|r| r.socket_buffers.receive_bytes as u64).min().unwrap_or(0)),
                (vec![("direction", "out")], reports.iter().map(|r| r.socket_buffers.send_bytes as u64).min().unwrap_or(0)),
            ],
        ),
        gauge("sfu_tcp_connections", "Open ICE-TCP connections.", plain(count(|r| r.tcp.connections))),
        counter(
            "sfu_tcp_connections_total",
            "ICE-TCP connections, by what became of them.",
            vec![
                (vec![("result", "opened")], sum(|r| r.tcp.opened)),
                (vec![("result", "refused")], sum(|r| r.accept.refused)),
                (vec![("result", "unroutable")], sum(|r| r.accept.unroutable)),
                (vec![("result", "silent")], sum(|r| r.accept.silent)),
                (vec![("result", "unproven")], sum(|r| r.tcp.unproven)),
            ],
        ),
        counter("sfu_commands_total", "Commands from signaling.", plain(sum(|r| r.turns.commands))),
        counter("sfu_events_dropped_total", "Events to signaling that were lost.", plain(sum(|r| r.turns.events_dropped))),
        counter("sfu_loop_turns_total", "Turns of the shards' loops.", plain(sum(|r| r.turns.turns))),
        histogram(
            "sfu_forward_latency_seconds",
            "Of every datagram sent: from the kernel's receive time of the oldest packet of its turn to the end of its send.",
            reports.iter().map(|r| &r.turns.forward_latency),
        ),
        histogram("sfu_loop_lag_seconds", "How late timers ran.", reports.iter().map(|r| &r.turns.lag)),
        histogram("sfu_loop_turn_seconds", "Time that a turn of the loop took.", reports.iter().map(|r| &r.turns.turn)),
    ]
}

/// Sums of what is counted by kind.
fn per_kind<const N: usize>(reports: &[ShardReport], counts: impl Fn(&ShardReport) -> [usize; N]) -> [u64; N] {
    let mut totals = [0; N];
    for report in reports {
        for (total, count) in totals.iter_mut().zip(counts(report)) {
            *total += count as u64;
        }
    }
    totals
}

fn path_labels(kind: PathKind) -> Vec<(&'static str, &'static str)> {
    let transport = match kind.protocol {
        Protocol::Udp => "udp",
        Protocol::Tcp => "tcp",
    };
    vec![("transport", transport), ("family", if kind.is_ipv6 { "ipv6" } else { "ipv4" })]
}

type Samples = Vec<(Vec<(&'static str, &'static str)>, u64)>;

fn plain(value: u64) -> Samples {
    vec![(Vec::new(), value)]
}

fn labelled(name: &'static str, label: &'static str, value: u64) -> Samples {
    vec![(vec![(name, label)], value)]
}

fn gauge(name: &str, help: &str, samples: Samples) -> MetricFamily {
    let metric = |value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        Metric::from_gauge(gauge)
    };
    family(name, help, MetricType::GAUGE, samples.into_iter().map(|(labels, value)| with_labels(metric(value as f64), &labels)).collect())
}

fn counter(name: &str, help: &str, samples: Samples) -> MetricFamily {
    let metric = |value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::default();
        metric.set_counter(counter);
        metric
    };
    family(name, help, MetricType::COUNTER, samples.into_iter().map(|(labels, value)| with_labels(metric(value as f64), &labels)).collect())
}

fn histogram<'a>(name: &str, help: &str, shards: impl Iterator<Item = &'a Histogram>) -> MetricFamily {
    let total = shards.fold(Histogram::default(), |total, shard| total.plus(shard));
    let bucket = |(bound, count): (std::time::Duration, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = HistogramProto::default();
    histogram.set_bucket(total.cumulative().map(bucket).collect());
    histogram.set_sample_count(total.count());
    histogram.set_sample_sum(total.sum().as_secs_f64());
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family(name, help, MetricType::HISTOGRAM, vec![metric])
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn with_labels(mut metric: Metric, labels: &[(&str, &str)]) -> Metric {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    metric.set_label(labels.iter().map(pair).collect());
    metric
}

/// Datagrams that the kernel has dropped because nobody read them in time: the last column of its socket tables.
fn socket_drops(ports: &[u16]) -> u64 {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| drops_of(line, ports)).sum()
}

/// `sl local_address ... drops`, the address as hexadecimal `ip:port`.
fn drops_of(line: &str, ports: &[u16]) -> Option<u64> {
    let mut columns = line.split_ascii_whitespace();
    let (_, port) = columns.nth(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    columns.next_back().filter(|_| ports.contains(&port))?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;
    use std::time::Duration;

    use prometheus::TextEncoder;

    use super::*;
    use crate::stats::tests::report;

    #[test]
    fn shards_are_summed() {
        let (mut first, mut second) = (report(0), report(1));
        first.engine.participants = 2;
        second.engine.participants = 3;
        first.udp.sent_datagrams = 10;
        second.udp.sent_datagrams = 5;
        first.engine.discards.add(Discard::SrtpReplay);
        first.turns.forward_latency.observe(Duration::from_micros(60), 4);
        let text = text(&[first, second], 7);
        for line in [
            "sfu_shards 2",
            "sfu_participants 5",
            "sfu_packets_total{direction=\"out\",transport=\"udp\"} 15",
            "sfu_dropped_packets_total{reason=\"srtp-replay\"} 1",
            "sfu_dropped_packets_total{reason=\"unreachable\"} 0",
            "sfu_socket_receive_drops_total 7",
            "sfu_forward_latency_seconds_bucket{le=\"0.00005\"} 0",
            "sfu_forward_latency_seconds_bucket{le=\"0.0001\"} 4",
            "sfu_forward_latency_seconds_count 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_node_without_reports_has_all_metrics_at_zero() {
        let names = |reports: &[ShardReport]| -> HashSet<String> {
            text(reports, 0).lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0.to_owned()).collect()
        };
        assert_eq!(names(&[]), names(&[report(0)]));
    }

    #[test]
    fn no_sample_is_there_twice() {
        let text = text(&[report(0)], 0);
        let samples: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(samples.iter().collect::<HashSet<_>>().len(), samples.len());
    }

    #[test]
    fn the_kernels_drops_are_found_by_port() {
        let line =
            " 5583: 0100007F:1ECA 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 46486 2 00000000269ab210 42";
        assert_eq!(drops_of(line, &[7882]), Some(42));
        assert_eq!(drops_of(line, &[7883]), None);
        assert_eq!(drops_of("", &[7882]), None);
    }

    fn text(reports: &[ShardReport], socket_drops: u64) -> String {
        TextEncoder::new().encode_to_string(&families(reports, socket_drops)).unwrap()
    }
}
