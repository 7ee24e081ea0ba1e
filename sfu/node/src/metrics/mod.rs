//! Turns the shards' reports into Prometheus metrics, summed over all shards, when somebody asks.
//!
//! Labels are words of a closed list: never ids, names or addresses. Counters start at zero with the node.

mod adaptation;
mod family;
mod media;
mod process;

use std::collections::HashMap;
use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use sfu_core::error::Discard;
use sfu_core::net::Protocol;
use sfu_core::snapshot::PathKind;
use sfu_core::telemetry::adaptation::Switches;
use sfu_core::telemetry::totals::Measured;
use sfu_core::transport::DtlsVersion;
use sfu_core::transport::srtp::SrtpProfile;

use self::family::{Samples, counter, counts, durations, gauge, numbered, plain, ratio};
use crate::node::NodeHandle;
use crate::stats::ShardReport;

/// Makes the node's metrics part of a registry.
///
/// # Errors
/// The registry has metrics of another node.
pub fn register(registry: &prometheus::Registry, node: NodeHandle) -> prometheus::Result<()> {
    registry.register(Box::new(NodeCollector::new(node)?))
}

/// Places of [`sfu_core::snapshot::LayerUsage`].
const LAYER_LABELS: [&str; 4] = ["0", "1", "2", "3"];

/// Signaling has other phases of it: a registry merges what two collectors collect under one name, but would not take a
/// second description.
const SHARED: &str = "sfu_join_phase_seconds";

/// Every metric of a node with these reports: without any as documentation wants it, with some as a bench does.
#[must_use]
pub fn catalogue(reports: &[ShardReport]) -> Vec<MetricFamily> {
    families(reports, 0)
}

struct NodeCollector {
    node: NodeHandle,
    descriptions: Vec<Desc>,
}

impl NodeCollector {
    fn new(node: NodeHandle) -> prometheus::Result<Self> {
        let describe = |f: &MetricFamily| Desc::new(f.name().to_owned(), f.help().to_owned(), Vec::new(), HashMap::new());
        let own = families(&[], 0);
        let descriptions = own.iter().filter(|f| f.name() != SHARED).map(describe).collect::<prometheus::Result<_>>()?;
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
        .map(|(reason, value)| (vec![("reason", reason)], value))
        .collect::<Vec<_>>();
    let undelivered = [
        ("unanswerable", sum(|r| r.udp.refused_messages)),
        ("send-buffer-full", sum(|r| r.udp.dropped_full)),
        ("unreachable", sum(|r| r.udp.dropped_unreachable)),
        ("tcp-media-behind", sum(|r| r.tcp.dropped_media)),
        ("tcp-buffer-full", sum(|r| r.tcp.dropped_full)),
        ("tcp-connection-gone", sum(|r| r.tcp.dropped_gone)),
        ("relay-full", sum(|r| r.engine.relay_dropped)),
    ];
    let (mut measured, mut switches) = (Measured::default(), Switches::default());
    for report in reports {
        measured.add(&report.engine.measured);
        switches.add(&report.engine.forwarded.switches);
    }
    let busy: Vec<(u16, f64)> = reports.iter().map(|r| (r.shard, r.busy_ratio)).collect();
    let busiest = busy.iter().map(|(_, ratio)| *ratio).fold(0.0, f64::max);
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

    let mut families = vec![
        gauge("sfu_shards", "Shards that have reported.", plain(reports.len() as u64)),
        gauge("sfu_rooms", "Rooms with participants.", plain(count(|r| r.engine.rooms))),
        gauge(
            "sfu_participants",
            "Participants in rooms: those that publish a track, and those that only receive.",
            counts([
                (vec![("role", "publisher")], count(|r| r.engine.publishers)),
                (vec![("role", "subscriber")], count(|r| r.engine.participants.saturating_sub(r.engine.publishers))),
            ]),
        ),
        gauge("sfu_subscriptions", "Subscriptions; media flows through those that are live.", subscriptions(reports)),
        gauge(
            "sfu_video_paused",
            "Subscriptions to video that are wanted and do not flow, by cause.",
            counts([
                (vec![("reason", "stalled")], count(|r| r.engine.paused[0])),
                (vec![("reason", "bandwidth")], count(|r| r.engine.paused[1])),
            ]),
        ),
        gauge(
            "sfu_video_layers",
            "Live video subscriptions by the size and frame rate that they get, and that they should get.",
            counts(layers),
        ),
        gauge(
            "sfu_srtp_transports",
            "Transports that are up, by SRTP protection profile.",
            counts(SrtpProfile::ALL.iter().zip(transports).map(|(profile, up)| (vec![("profile", profile.label())], up))),
        ),
        gauge(
            "sfu_dtls_transports",
            "Transports that are up, by DTLS version.",
            counts(DtlsVersion::ALL.iter().zip(dtls).map(|(version, up)| (vec![("version", version.label())], up))),
        ),
        gauge(
            "sfu_transport_paths",
            "Transports that are up, by the path that media takes.",
            counts(PathKind::ALL.iter().zip(paths).map(|(kind, up)| (path_labels(*kind), up))),
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
        counter("sfu_rtp_relayed_packets_total", "RTP packets between shards that share a room.", plain(sum(|r| r.engine.relayed))),
        counter("sfu_dropped_packets_total", "Received packets that were dropped, by reason.", counts(dropped)),
        counter(
            "sfu_egress_dropped_packets_total",
            "Packets that could not be sent, by reason.",
            counts(undelivered.map(|(reason, value)| (vec![("reason", reason)], value))),
        ),
        counter(
            "sfu_packets_total",
            "Packets of all protocols.",
            counts([
                (path("in", "udp"), sum(|r| r.udp.received_datagrams)),
                (path("in", "tcp"), sum(|r| r.tcp.received_packets)),
                (path("out", "udp"), sum(|r| r.udp.sent_datagrams)),
                (path("out", "tcp"), sum(|r| r.tcp.sent_packets)),
            ]),
        ),
        counter(
            "sfu_bytes_total",
            "Payload bytes of packets of all protocols.",
            counts([
                (path("in", "udp"), sum(|r| r.udp.received_bytes)),
                (path("in", "tcp"), sum(|r| r.tcp.received_bytes)),
                (path("out", "udp"), sum(|r| r.udp.sent_bytes)),
                (path("out", "tcp"), sum(|r| r.tcp.sent_bytes)),
            ]),
        ),
        counter("sfu_udp_receives_total", "Messages received; one holds several datagrams.", plain(sum(|r| r.udp.received_messages))),
        counter("sfu_udp_sends_total", "System calls that sent datagrams.", plain(sum(|r| r.udp.sends))),
        counter("sfu_socket_receive_drops_total", "Datagrams that the kernel dropped on full sockets.", plain(socket_drops)),
        gauge(
            "sfu_socket_buffer_bytes",
            "Smallest socket buffer granted by the kernel.",
            counts([
                (vec![("direction", "in")], reports.iter().map(|r| r.socket_buffers.receive_bytes as u64).min().unwrap_or(0)),
                (vec![("direction", "out")], reports.iter().map(|r| r.socket_buffers.send_bytes as u64).min().unwrap_or(0)),
            ]),
        ),
        gauge("sfu_tcp_connections", "Open ICE-TCP connections.", plain(count(|r| r.tcp.connections))),
        counter(
            "sfu_tcp_connections_total",
            "ICE-TCP connections, by what became of them.",
            counts([
                (vec![("result", "opened")], sum(|r| r.tcp.opened)),
                (vec![("result", "refused")], sum(|r| r.accept.refused)),
                (vec![("result", "unroutable")], sum(|r| r.accept.unroutable)),
                (vec![("result", "silent")], sum(|r| r.accept.silent)),
                (vec![("result", "unproven")], sum(|r| r.tcp.unproven)),
            ]),
        ),
        counter("sfu_commands_total", "Commands from signaling.", plain(sum(|r| r.turns.commands))),
        counter("sfu_events_dropped_total", "Events to signaling that were lost.", plain(sum(|r| r.turns.events_dropped))),
        counter("sfu_loop_turns_total", "Turns of the shards' loops.", plain(sum(|r| r.turns.turns))),
        durations(
            "sfu_forward_latency_seconds",
            "Of every datagram sent: from the kernel's receive time of the oldest packet of its turn to the end of its send.",
            reports.iter().map(|r| &r.turns.forward_latency),
        ),
        durations("sfu_loop_lag_seconds", "How late timers ran.", reports.iter().map(|r| &r.turns.lag)),
        durations("sfu_loop_turn_seconds", "Time that a turn of the loop took.", reports.iter().map(|r| &r.turns.turn)),
        numbered("sfu_shard_busy_ratio", "Share of the last second in which a shard's loop did not wait, 0 to 1.", "shard", &busy),
        gauge("sfu_node_headroom_ratio", "What the busiest shard has left of its core, 0 to 1.", ratio(1.0 - busiest)),
    ];
    families.extend(adaptation::families(&measured.downlinks, &switches));
    families.extend(media::families(&measured, sum(|r| r.engine.retransmitted)));
    families.extend(process::families());
    families
}

fn subscriptions(reports: &[ShardReport]) -> Samples {
    let sum = |value: &dyn Fn(&ShardReport) -> usize| reports.iter().map(value).sum::<usize>() as u64;
    let labels = |kind, state| vec![("kind", kind), ("state", state)];
    let audio = [sum(&|r| r.engine.audio_subscriptions[0]), sum(&|r| r.engine.audio_subscriptions[1])];
    let video = [sum(&|r| r.engine.subscriptions) - audio[0], sum(&|r| r.engine.live_subscriptions).saturating_sub(audio[1])];
    counts(
        [("audio", audio), ("video", video)]
            .into_iter()
            .flat_map(|(kind, [all, live])| [(labels(kind, "live"), live), (labels(kind, "waiting"), all.saturating_sub(live))]),
    )
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
            "sfu_participants{role=\"publisher\"} 0",
            "sfu_participants{role=\"subscriber\"} 5",
            "sfu_egress_dropped_packets_total{reason=\"unreachable\"} 0",
            "sfu_packets_total{direction=\"out\",transport=\"udp\"} 15",
            "sfu_dropped_packets_total{reason=\"srtp-replay\"} 1",
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
