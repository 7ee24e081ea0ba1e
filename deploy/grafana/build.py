#!/usr/bin/env python3
"""Writes the dashboards (*.json) that Grafana loads. Panels are listed here; run it after a change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLUMNS, WIDTH, HEIGHT = 24, 8, 8
SOURCE = {"type": "prometheus", "uid": "${source}"}
NODE = 'instance=~"$node"'
RATE = "$__rate_interval"
COUNTED_JOINS = 'result!="abandoned", reason!~"token-.+|rate-limited"'
"""As in the alert SluiceJoinsFail."""


@dataclass(frozen=True)
class Panel:
    """One graph: `lines` are pairs of a query and its legend; `threshold` is where its alert begins."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    threshold: float | None = None
    threshold_is_floor: bool = False
    description: str = ""


def rate(metric: str, by: str, labels: str = "") -> str:
    """Per second, summed by some labels."""
    return f"sum by ({by}) (rate({metric}{{{labels_with(labels)}}}[{RATE}]))"


def total(metric: str, by: str, labels: str = "") -> str:
    """A gauge, summed by some labels."""
    return f"sum by ({by}) ({metric}{{{labels_with(labels)}}})"


def quantile(q: float, metric: str, by: str = "", labels: str = "") -> str:
    """A quantile of a histogram."""
    kept = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, sum by ({kept}) (rate({metric}_bucket{{{labels_with(labels)}}}[{RATE}])))"


def ratio(part: str, whole: str) -> str:
    """One query divided by another."""
    return f"{part} / {whole}"


def labels_with(labels: str) -> str:
    return f"{NODE}, {labels}" if labels else NODE


DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "overview": (
        "Sluice: overview",
        (
            Panel("Rooms", "short", ((total("sfu_rooms", "instance"), "{{instance}}"),)),
            Panel("Participants", "short", ((total("sfu_participants", "instance"), "{{instance}}"),)),
            Panel("Tracks and subscriptions", "short", ((total("sfu_tracks", "kind"), "{{kind}} tracks"), (total("sfu_subscriptions", "state"), "{{state}} subscriptions"))),
            Panel(
                "Joins that succeed",
                "percentunit",
                ((ratio(rate("sfu_joins_total", "instance", 'result="ok"'), rate("sfu_joins_total", "instance", COUNTED_JOINS)), "{{instance}}"),),
                threshold=0.95,
                threshold_is_floor=True,
                description="Of those with a good token that nobody gave up: as in the alert SluiceJoinsFail.",
            ),
            Panel("Time to first picture", "s", tuple((quantile(q, "sfu_time_to_first_frame_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.95)), threshold=3),
            Panel("Voice quality (MOS), worst tenth", "none", ((quantile(0.1, "sfu_mos", "direction"), "{{direction}}"),), threshold=3.5, threshold_is_floor=True),
            Panel("Media", "bps", ((f"8 * {rate('sfu_bytes_total', 'direction')}", "{{direction}}"),)),
            Panel("Packets", "pps", ((rate("sfu_packets_total", "direction, transport"), "{{direction}} {{transport}}"),)),
            Panel("Headroom", "percentunit", ((total("sfu_node_headroom_ratio", "instance"), "{{instance}}"),), threshold=0.2, threshold_is_floor=True),
        ),
    ),
    "quality": (
        "Sluice: quality",
        (
            Panel("Round trip", "s", tuple((quantile(q, "sfu_rtt_seconds"), f"p{int(q * 100)}") for q in (0.5, 0.9, 0.99))),
            Panel("Jitter, worst tenth", "s", ((quantile(0.9, "sfu_jitter_seconds", "direction, kind"), "{{direction}} {{kind}}"),), threshold=0.1),
            Panel(
                "Loss",
                "percentunit",
                ((ratio(rate("sfu_rtp_lost_packets_total", "direction"), rate("sfu_rtp_packets_total", "direction")), "{{direction}}"),),
                threshold=0.05,
            ),
            Panel("Loss after repair, worst tenth", "percentunit", ((quantile(0.9, "sfu_residual_loss_ratio", "direction, kind"), "{{direction}} {{kind}}"),)),
            Panel("Voice quality (MOS)", "none", tuple((quantile(q, "sfu_mos", "direction"), f"{{{{direction}}}} p{int(q * 100)}") for q in (0.1, 0.5)), threshold=3.5, threshold_is_floor=True),
            Panel("Video score", "none", ((quantile(0.1, "sfu_video_score", "direction"), "{{direction}} p10"),)),
            Panel(
                "Connections that are not excellent",
                "short",
                ((total("sfu_connection_quality_participants", "level, cause, direction", 'level!="excellent"'), "{{level}}: {{cause}} {{direction}}"),),
                description="Participants, by what ails their connections most, and in which direction.",
            ),
            Panel("Layers of live subscriptions", "short", ((total("sfu_video_layers", "state, layer", 'of="size"'), "{{state}} {{layer}}"),)),
            Panel("Layer switches", "cps", ((rate("sfu_layer_switches_total", "instance"), "{{instance}}"),)),
            Panel("Retransmissions", "pps", ((rate("sfu_rtp_retransmitted_packets_total", "instance"), "{{instance}}"),)),
        ),
    ),
    "connectivity": (
        "Sluice: connectivity and TURN",
        (
            Panel("Joins by result", "cps", ((rate("sfu_joins_total", "result, reason"), "{{result}} {{reason}}"),)),
            Panel("Phases of a join, worst tenth", "s", ((quantile(0.9, "sfu_join_phase_seconds", "phase"), "{{phase}}"),)),
            Panel("Paths in use", "short", ((total("sfu_transport_paths", "transport, family"), "{{transport}} {{family}}"),)),
            Panel("Relay allocations", "short", ((total("turn_allocations", "transport"), "{{transport}}"),)),
            Panel("Relay ports in use", "percentunit", ((f"max by (instance) (turn_relay_ports_used_ratio{{{NODE}}})", "{{instance}}"),), threshold=0.8),
            Panel("Relayed", "bps", ((f"8 * {rate('turn_relayed_bytes_total', 'direction')}", "{{direction}}"),)),
            Panel("Relay refusals", "cps", ((rate("turn_auth_failures_total", "reason"), "auth: {{reason}}"), (rate("turn_denied_peers_total", "instance"), "denied peers"), (rate("turn_quota_rejections_total", "quota"), "quota: {{quota}}"))),
            Panel("Certificate expires in", "s", ((f"min by (instance) (tls_certificate_expiry_seconds{{{NODE}}})", "{{instance}}"),), threshold=14 * 86400, threshold_is_floor=True),
            Panel("Resumes", "cps", ((rate("signaling_resumes_total", "result, reason"), "{{result}} {{reason}}"),)),
        ),
    ),
    "node": (
        "Sluice: node",
        (
            Panel("Forwarding latency", "s", tuple((quantile(q, "sfu_forward_latency_seconds", "instance"), f"{{{{instance}}}} p{int(q * 100)}") for q in (0.5, 0.99)), threshold=0.002),
            Panel("Loop lag, worst hundredth", "s", ((quantile(0.99, "sfu_loop_lag_seconds", "instance"), "{{instance}}"),)),
            Panel("Processor", "short", ((rate("process_cpu_seconds_total", "instance"), "{{instance}}"),), description="Cores in use by the process."),
            Panel("Memory", "bytes", ((total("process_resident_memory_bytes", "instance"), "{{instance}}"),)),
            Panel("Dropped packets", "pps", ((rate("sfu_dropped_packets_total", "reason") + " > 0", "{{reason}}"),)),
            Panel("Dropped by full socket buffers", "pps", ((rate("sfu_socket_receive_drops_total", "instance"), "{{instance}}"),), threshold=1),
            Panel("Datagrams a system call", "short", ((ratio(rate("sfu_packets_total", "instance", 'direction="out", transport="udp"'), rate("sfu_udp_sends_total", "instance")), "sent, {{instance}}"),)),
            Panel("Open WebSockets", "short", ((total("signaling_ws_connections", "instance"), "{{instance}}"),)),
            Panel("Open files", "short", ((total("process_open_fds", "instance"), "{{instance}}"),)),
        ),
    ),
}


def panel_json(index: int, panel: Panel) -> dict[str, object]:
    """One panel in its place of the grid."""
    per_row = COLUMNS // WIDTH
    steps: list[dict[str, object]] = [{"color": "green", "value": None}]
    if panel.threshold is not None:
        steps = [{"color": "red" if panel.threshold_is_floor else "green", "value": None}, {"color": "green" if panel.threshold_is_floor else "red", "value": panel.threshold}]
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": index % per_row * WIDTH, "y": index // per_row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": None if panel.threshold_is_floor else 0,
                "custom": {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "thresholdsStyle": {"mode": "line" if panel.threshold is not None else "off"}},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [{"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": query, "legendFormat": legend} for at, (query, legend) in enumerate(panel.lines)],
    }


def dashboard_json(name: str) -> dict[str, object]:
    """A whole dashboard."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"sluice-{name}",
        "title": title,
        "tags": ["sluice"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["sluice"], "title": "Sluice", "asDropdown": False, "includeVars": True, "keepTime": True}],
        "templating": {
            "list": [
                {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus", "current": {"text": "Prometheus", "value": "prometheus"}},
                {"name": "node", "label": "Node", "type": "query", "datasource": SOURCE, "query": "label_values(sfu_shards, instance)", "refresh": 2, "includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}},
            ]
        },
        "panels": [panel_json(index, panel) for index, panel in enumerate(panels)],
    }


def render(name: str) -> str:
    """The file's text."""
    return json.dumps(dashboard_json(name), indent=1) + "\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (HERE / f"{each}.json").write_text(render(each))
