#!/usr/bin/env python3
"""Turns the reports of benches/compare.sh into comparison.md and plots.

`--collect FOLDER` puts the reports of a run together as comparison.json; without it the tables and plots are made of that file.
Only the standard library; the plots are SVG written by hand.
"""

import argparse
import json
import platform
import re
import statistics
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE / "comparison.json"
ORDER = ["sluice", "mediasoup", "janus", "livekit"]
COLOURS = {"sluice": "#1f6f8b", "mediasoup": "#b0762c", "janus": "#7d5ba6", "livekit": "#a23b4a", "floor": "#8a8a8a"}
# (scenario, peer): Sluice's cost is to be at most this share of the peer's
GOALS = {
    ("reference-unbatched", "mediasoup"): 0.65,
    ("reference-frames-of-8", "mediasoup"): 0.35,
    ("reference-unbatched", "janus"): 0.2,
    ("reference-frames-of-8", "janus"): 0.2,
    ("reference-unbatched", "livekit"): 0.15,
    ("reference-frames-of-8", "livekit"): 0.15,
}
FLOOR_GOAL = 1.35
# from few to many subscribers, rooms or tracks
FLAT_GOAL = 1.15

# what is compared: heading, unit, value of a report, decimals; in all of them less is better
MEASURES = [
    ("CPU per packet sent", "us", lambda r: scaled(r["steady"]["server_cpu_ns_per_packet"], 1e-3), 2),
    ("latency p50", "ms", lambda r: r["steady"]["latency"]["p50_ms"], 2),
    ("latency p99", "ms", lambda r: r["steady"]["latency"]["p99_ms"], 2),
    ("CPU per join", "ms", lambda r: r["joins"]["server_cpu_ms"], 2),
    ("memory per participant", "kB", lambda r: r["joins"]["server_rss_kb"], 0),
    ("loss", "%", lambda r: r["steady"]["loss"] * 100, 2),
]


def kernel_version():
    """Of the kernel, without the name of its build."""
    return re.match(r"[\d.]*", platform.release()).group().rstrip(".")


def scaled(value, factor):
    return None if value is None else value * factor


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--collect", type=Path)
    for name in ("command", "date", "commit"):
        parser.add_argument(f"--{name}", default="")
    args = parser.parse_args()
    if args.collect:
        collect(args)
        return
    data = json.loads(DATA.read_text())
    (HERE / "comparison.md").write_text(page(data))
    for name, bars in plots(data).items():
        (HERE / f"{name}.svg").write_text(bars)


def collect(args):
    reports = []
    for path in sorted(args.collect.glob("[0-9]*.json")):
        for report in json.loads(path.read_text()):
            # What the plots and tables need; the counters of all kinds are for people at work.
            report["steady"].pop("counters", None)
            report["server_command"] = re.sub(r"\S*/(?=\S)", "", report["server_command"] or "")
            reports.append(report)
    forwarding = args.collect / "forwarding"
    machine = reports[0]["machine"] if reports else {"kernel": kernel_version(), "processor": "", "cores": 0}
    lines = lambda name: [line for line in (args.collect / name).read_text().splitlines() if line]
    data = {
        "command": args.command,
        "date": args.date,
        "commit": args.commit,
        "machine": machine,
        "versions": lines("versions"),
        "missing": lines("missing"),
        "reports": reports,
        "forwarding": json.loads(forwarding.read_text()) if forwarding.exists() else [],
    }
    DATA.write_text(json.dumps(data, indent=1) + "\n")


def runs_of(data, scenario, peer):
    return [r for r in data["reports"] if r["scenario"] == scenario and r["adapter"] == peer]


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def scenarios_of(data):
    names = dict.fromkeys(r["scenario"] for r in data["reports"])
    return [name for name in names if not name.startswith("shape-")], [name for name in names if name.startswith("shape-")]


def peers_of(data, scenario):
    present = {r["adapter"] for r in data["reports"] if r["scenario"] == scenario}
    return [peer for peer in ORDER if peer in present]


def ratio(data, scenario, peer, measure):
    """Median over the rounds of Sluice's value by the peer's in the same round."""
    ours, theirs = runs_of(data, scenario, "sluice"), runs_of(data, scenario, peer)
    pairs = [(measure(a), measure(b)) for a, b in zip(ours, theirs)]
    return median([a / b for a, b in pairs if a is not None and b])


def number(value, decimals):
    return "–" if value is None else f"{value:,.{decimals}f}"


def page(data):
    machine = data["machine"]
    main_scenarios, shapes = scenarios_of(data)
    out = [
        "# Sluice beside its peers",
        "",
        "Written by `benches/results/render.py`; do not edit. How to read it, and what it does not say: [README.md](README.md).",
        "",
        f"- Command: `{data['command']}`, {data['date']}, commit {data['commit']}",
        f"- Machine: {machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}; server on core {machine.get('server_core')}, "
        f"load on core {machine.get('client_core')}, all on loopback",
        f"- Versions: {'; '.join(data['versions'])}",
    ]
    if data["missing"]:
        out.append(f"- Not measured because not installed: {', '.join(data['missing'])}")
    behind = []
    for scenario in main_scenarios:
        peers = peers_of(data, scenario)
        about = next(r["about"] for r in data["reports"] if r["scenario"] == scenario)
        out += ["", f"## {scenario}", "", f"{about}. Medians of {max(len(runs_of(data, scenario, p)) for p in peers)} runs, alternating.", ""]
        out.append("| | packets/s out | " + " | ".join(f"{name} ({unit})" for name, unit, _, _ in MEASURES) + " | problems |")
        out.append("|---|" + "---|" * (len(MEASURES) + 2))
        for peer in peers:
            runs = runs_of(data, scenario, peer)
            cells = [number(median([r["steady"]["packets_out"] for r in runs]), 0)]
            for _, _, measure, decimals in MEASURES:
                cells.append(number(median([measure(r) for r in runs]), decimals))
            problems = sum(1 for r in runs if r["problems"])
            cells.append(f"in {problems} of {len(runs)} runs" if problems else "none")
            out.append(f"| {peer} | " + " | ".join(cells) + " |")
        others = [peer for peer in peers if peer != "sluice"]
        if "sluice" in peers and others:
            out += ["", "Sluice's share of the peer's, median over rounds:", "", "| | " + " | ".join(n for n, _, _, _ in MEASURES[:5]) + " | goal (CPU) |", "|---|---|---|---|---|---|---|"]
            for peer in others:
                cells = []
                for name, _, measure, _ in MEASURES[:5]:
                    share = ratio(data, scenario, peer, measure)
                    cells.append("–" if share is None else f"{share:.2g}")
                    if share is not None and share > 1:
                        behind.append(f"{scenario}, {name}: {peer} is better, by {(share - 1) * 100:.0f} %")
                goal = GOALS.get((scenario, peer))
                share = ratio(data, scenario, peer, MEASURES[0][2])
                verdict = "–" if goal is None or share is None else f"{goal} {'met' if share <= goal else 'missed'}"
                out.append(f"| {peer} | " + " | ".join(cells) + f" | {verdict} |")
            found = sorted({f"{r['adapter']}: {p}" for r in data["reports"] if r["scenario"] == scenario for p in r["problems"]})
            if found:
                out += ["", "Problems that the load generator saw:", ""] + [f"- {problem}" for problem in found[:12]]
    out += ["", "## Where a peer is better", ""]
    out += [f"- {line}" for line in behind] or ["Nowhere in this run."]
    if shapes:
        out += ["", "## The shape of the cost", "", "Sluice alone; CPU per packet sent, at the same number of packets per second.", "", "| | us | by reference-unbatched |", "|---|---|---|"]
        base = median([MEASURES[0][2](r) for r in runs_of(data, "reference-unbatched", "sluice")])
        kinds = {}
        for shape in shapes:
            runs = runs_of(data, shape, "sluice")
            value = median([MEASURES[0][2](r) for r in runs])
            share = value / base if value and base else None
            out.append(f"| {runs[0]['about'].split(': ', 1)[-1]} | {number(value, 2)} | {number(share, 2)} |")
            _, kind, count = shape.split("-")
            kinds.setdefault(kind, {})[int(count)] = value
        out.append("")
        for kind, values in kinds.items():
            few, many = min(values), max(values)
            if few != many and values[few] and values[many]:
                growth = values[many] / values[few]
                verdict = "met" if growth <= FLAT_GOAL else "missed"
                out.append(f"- From {few} to {many:,} {kind}: {growth:.2f} times the cost per packet (goal {FLAT_GOAL}: {verdict}).")
    if data["forwarding"]:
        out += [
            "",
            "## Engine and floor",
            "",
            "The loop of one shard, fed as fast as it can forward, beside the least that forwarding costs on this machine "
            "(`benches/micro/src/floor.rs`); thread CPU time, 1,190 bytes, AES-128-GCM, sockets that nobody reads.",
            "",
            "| subscribers | packets in a frame | engine ns | floor ns | engine / floor | engine Mpps | goal |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in data["forwarding"]:
            goal = "" if row["subscribers"] < 10 else f"{FLOOR_GOAL} {'met' if row['ratio_median'] <= FLOOR_GOAL else 'missed'}"
            out.append(
                f"| {row['subscribers']} | {row['burst']} | {row['engine_median_ns']:.0f} | {row['floor_median_ns']:.0f} "
                f"| {row['ratio_median']:.2f} | {1e3 / row['engine_median_ns']:.2f} | {goal} |"
            )
    out += ["", "## Plots", ""] + [f"![{name}]({name}.svg)" for name in plots(data)]
    return "\n".join(out) + "\n"


def plots(data):
    made = {}
    main_scenarios, _ = scenarios_of(data)
    for key, title, index in (("cpu", "CPU per packet sent (us)", 0), ("latency", "Latency p99 (ms)", 2), ("memory", "Memory per participant (kB)", 4)):
        groups = []
        for scenario in main_scenarios:
            bars = []
            for peer in peers_of(data, scenario):
                values = [v for v in (MEASURES[index][2](r) for r in runs_of(data, scenario, peer)) if v is not None]
                if values:
                    bars.append((peer, statistics.median(values), min(values), max(values)))
            groups.append((scenario, bars))
        if any(bars for _, bars in groups):
            made[key] = bar_chart(title, groups)
    if data["forwarding"]:
        groups = []
        for row in data["forwarding"]:
            bars = [(name, row[f"{key}_median_ns"] / 1e3, min(row[f"{key}_ns"]) / 1e3, max(row[f"{key}_ns"]) / 1e3) for name, key in (("sluice", "engine"), ("floor", "floor"))]
            groups.append((f"1 to {row['subscribers']}, {row['burst']} in a frame", bars))
        made["floor"] = bar_chart("Engine and floor: CPU per packet sent (us)", groups)
    return made


def bar_chart(title, groups, left=250):
    """Horizontal bars with the range of the runs as a line; the scale ends at the largest median. Names have `left` pixels."""
    row, width = 20, 480
    top = max((value for _, bars in groups for _, value, _, _ in bars), default=1) or 1
    y = 44
    body = []
    for name, bars in groups:
        body.append(f'<text x="10" y="{y + 14}" font-weight="bold">{name}</text>')
        for peer, value, low, high in bars:
            length = value / top * width
            start, end = (min(v / top, 1.08) * width + left for v in (low, high))
            body.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{peer}</text>')
            body.append(f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{row - 6}" fill="{COLOURS.get(peer, "#444")}"/>')
            body.append(f'<line x1="{start:.1f}" y1="{y + row / 2}" x2="{end:.1f}" y2="{y + row / 2}" stroke="#222" stroke-width="1"/>')
            body.append(f'<text x="{max(left + length, end) + 6:.1f}" y="{y + 14}">{value:.3g}</text>')
            y += row
        y += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 130}" height="{y}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n<text x="10" y="24" font-size="15">{title}: less is better; bars are medians, lines the range of the runs</text>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
