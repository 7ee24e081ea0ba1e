#!/usr/bin/env python3
"""Measures Sluice alone against the figures that it has to reach, and writes benches/results/bars.md with a plot.

    benches/bars.py [--runs N] [--only NAME,...] [--list]

Needs release binaries (`cargo build --release --locked --workspace --bins`; CARGO_TARGET_DIR is heard) and a quiet machine with two cores or
more: the server is on SERVER_CORE (1), the load on CLIENT_CORE (0). Each step says how long it takes; all of them with five runs take about
ten minutes. What was measured before and is not measured again stays in benches/results/bars.json.
Only the standard library.
"""

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results"
sys.path.insert(0, str(RESULTS))
import render  # noqa: E402  the plots of the comparison

BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
SERVER_CORE, CLIENT_CORE = os.environ.get("SERVER_CORE", "1"), os.environ.get("CLIENT_CORE", "0")
# a step that hangs is worth no more than this
PATIENCE_S = 140


def command(*words):
    return [str(word) for word in words]


def run(words):
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode not in (0, 2):
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def load(scenario, *options):
    """A report of sluice-load about a Sluice of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = command(BINARIES / "sluice-load", "--sluice", BINARIES / "sluice", "--shards", 1, "--server-core", SERVER_CORE)
        run(words + command("--client-core", CLIENT_CORE, "--json", report, f"benches/scenarios/{scenario}.toml", *options))
        return json.loads(report.read_text())[0]


def sockets(who, *options):
    """What `sockets` prints: a name and a value on each line."""
    out = run(command(BINARIES / "sockets", who, "--core", SERVER_CORE, *options))
    values = {}
    for name, value in re.findall(r"^(\w+) ([\d.]+)$", out, re.M):
        values[name] = float(value)
    for share, value in re.findall(r"(p[\d.]+) <= (\d+)", out):
        values[share] = float(value)
    return values


def storm():
    report = load("join-storm-500", "--steady", "3s")
    during = report["storm"]
    if during["joins"]["succeeded"] < during["joins"]["count"]:
        raise RuntimeError("not everybody has joined")
    return {
        "media p99 while 500 join (ms)": during["media"]["latency"]["p99_ms"],
        "join CPU in the storm, whole process (ms)": during["joins"]["server_cpu_ms"],
        "join p95 in the storm (ms)": during["joins"]["connected"]["p95_ms"],
    }


def rest():
    steady = load("broadcast-500", "--steady", "3s")["steady"]
    return {
        "media p99 in a room of 500 at rest (ms)": steady["latency"]["p99_ms"],
        "media p50 there (ms)": steady["latency"]["p50_ms"],
        "CPU per packet there (us)": steady["server_cpu_ns_per_packet"] / 1e3,
    }


def joins():
    report = load("audio-room-1-500", "--steady", "3s")
    threads = dict(report["joins"]["server_threads_ms"])
    count = report["joins"]["count"]
    return {
        "join CPU in a room of 500, whole process (ms)": report["joins"]["server_cpu_ms"],
        "join CPU of the shard's thread (ms)": threads.get("sfu-shard-0", 0.0) / count,
        "memory per participant, whole process (kB)": report["joins"]["server_rss_kb"],
    }


def engine_joins():
    out = run(command(BINARIES / "joins", "--subscribers", 500))
    value = lambda name: float(re.search(rf"^{name} ([\d.]+)$", out, re.M).group(1))
    return {"join CPU of the engine (ms)": value("join_us") / 1e3, "heap of the engine per subscriber (kB)": value("heap_bytes_per_subscriber") / 1e3}


def capacity():
    """The loop of one shard, fed as fast as it can forward, beside the least that forwarding costs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "forwarding.json"
        options = ("--subscribers", 100, "--bursts", "1,8", "--rounds", 5, "--json", file)
        run(command("taskset", "-c", SERVER_CORE, BINARIES / "forwarding", *options))
        rows = {row["burst"]: row for row in json.loads(file.read_text())}
    found = {}
    for burst, name in ((1, "unbatched"), (8, "frames of 8")):
        found[f"packets/s out, {name}"] = 1e9 / rows[burst]["engine_median_ns"]
        found[f"packets/s out of the floor, {name}"] = 1e9 / rows[burst]["floor_median_ns"]
        found[f"CPU per packet by the floor's, {name}"] = rows[burst]["ratio_median"]
    return found


def latency():
    found = {}
    for subscribers, rate in ((10, 120_000), (100, 150_000)):
        values = sockets("engine", "--subscribers", subscribers, "--rate", rate, "--seconds", 4)
        found[f"load, 1 to {subscribers} (% of a core)"] = values["cpu_percent"]
        found[f"latency p50 at that load, 1 to {subscribers} (us, bucket's upper end)"] = values["p50"]
        found[f"latency p99 at that load, 1 to {subscribers} (us, bucket's upper end)"] = values["p99"]
    # the least that this fan-out takes: what the sends alone do to the median
    floor = sockets("floor", "--subscribers", 100, "--rate", 150_000, "--seconds", 4)
    found["latency p50 of the floor, 1 to 100, without its wake-up (us, bucket's upper end)"] = floor["p50"]
    return found


def shards():
    out = run(command(BINARIES / "shards", "--runs", 1, "--seconds", 12))
    cpu = {count: float(ns) for count, ns in re.findall(r"^\| ([^|]+) \| \d+ \| (\d+) \|$", out, re.M)}
    ratio = {name: float(value) for name, value in re.findall(r"^median_ratio(\S*) ([\d.]+)$", out, re.M)}
    return {
        "two shards by one (packets/s)": ratio[""],
        "two shards by one, by processor time of the busier": ratio["_by_cpu"],
        "CPU per packet, two shards by one": cpu["2"] / cpu["1"],
        # what the machine gives: two rooms on two threads that share nothing
        "two rooms apart by one (packets/s)": ratio["_apart"],
        "CPU per packet, two rooms apart by one": cpu["2 apart"] / cpu["1"],
        "two shards by two rooms apart (packets/s)": ratio[""] / ratio["_apart"],
    }


def overload():
    report = load("audio-room-10-1000", "--steady", "6s")
    steady = report["steady"]
    return {
        "packets/s out of 500,000 wanted": steady["packets_out"],
        "latency p50 beyond capacity (ms)": steady["latency"]["p50_ms"],
        "latency p99 beyond capacity (ms)": steady["latency"]["p99_ms"],
        "loss beyond capacity (%)": steady["loss"] * 100,
    }


# name: (what is run, seconds of one run, about)
STEPS = {
    "storm": (storm, 15),
    "rest": (rest, 22),
    "joins": (joins, 17),
    "engine-joins": (engine_joins, 5),
    "capacity": (capacity, 8),
    "latency": (latency, 27),
    "shards": (shards, 18),
    "overload": (overload, 45),
}
# measure: (goal, less is better)
GOALS = {
    "media p99 while 500 join (ms)": (5.0, True),
    "join CPU in a room of 500, whole process (ms)": (0.6, True),
    "join CPU of the engine (ms)": (0.6, True),
    "memory per participant, whole process (kB)": (120.0, True),
    "packets/s out, unbatched": (650_000.0, False),
    "packets/s out, frames of 8": (1_200_000.0, False),
    "CPU per packet by the floor's, unbatched": (1.35, True),
    "CPU per packet by the floor's, frames of 8": (1.35, True),
    "latency p50 at that load, 1 to 10 (us, bucket's upper end)": (100.0, True),
    "latency p99 at that load, 1 to 10 (us, bucket's upper end)": (1_000.0, True),
    "latency p50 at that load, 1 to 100 (us, bucket's upper end)": (100.0, True),
    "latency p99 at that load, 1 to 100 (us, bucket's upper end)": (1_000.0, True),
    "two shards by one (packets/s)": (1.9, False),
    "two shards by one, by processor time of the busier": (1.9, False),
}


def machine():
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    return f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, Linux {render.kernel_version()}"


def words_of(*words):
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def page(data):
    out = [
        "# Sluice against its own bars",
        "",
        "Written by `benches/bars.py`; do not edit. What the bars mean and how to read them: [README.md](README.md).",
        "",
        "| step | measure | median | range | goal |",
        "|---|---|---|---|---|",
    ]
    for step in STEPS:
        for name, values in data.get(step, {}).get("values", {}).items():
            middle = statistics.median(values)
            goal = ""
            if name in GOALS:
                bar, is_less = GOALS[name]
                goal = f"{bar:,.10g} {'met' if (middle <= bar if is_less else middle >= bar) else 'missed'}"
            out.append(f"| {step} | {name} | {number(middle)} | {number(min(values))} to {number(max(values))} | {goal} |")
    out += ["", "## How it was measured", ""]
    for step in STEPS:
        if step in data:
            record = data[step]
            out.append(f"- {step}: `{record['command']}`, {record['runs']} runs, {record['date']}, commit {record['commit']}; {record['machine']}")
    return "\n".join(out + ["", "![bars](bars.svg)"]) + "\n"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(data):
    """Each measure that has a goal, as a share of it."""
    bars = []
    for step in STEPS:
        for name, values in data.get(step, {}).get("values", {}).items():
            if name in GOALS:
                bar, is_less = GOALS[name]
                shares = [value / bar if is_less else bar / max(value, 1e-9) for value in values]
                bars.append((name, statistics.median(shares), min(shares), max(shares)))
    return render.bar_chart("Measured by the goal, 1 and below is met", [("", bars)], left=420)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default=",".join(STEPS))
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        for name, (_, seconds) in STEPS.items():
            print(f"{name}: about {seconds} s a run")
        return
    path = RESULTS / "bars.json"
    data = json.loads(path.read_text()) if path.exists() else {}
    for name in args.only.split(","):
        step, _ = STEPS[name]
        values = {}
        began = time.monotonic()
        for _ in range(args.runs):
            for measure, value in step().items():
                values.setdefault(measure, []).append(value)
        for measure, found in values.items():
            print(f"{name}: {measure}: {', '.join(number(value) for value in found)}", file=sys.stderr)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        data[name] = {
            "command": f"benches/bars.py --runs {args.runs} --only {name}",
            "runs": args.runs,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "commit": words_of("git", "rev-parse", "--short", "HEAD"),
            "machine": machine(),
            "values": values,
        }
        path.write_text(json.dumps(data, indent=1) + "\n")
        (RESULTS / "bars.md").write_text(page(data))
        (RESULTS / "bars.svg").write_text(plot(data))


if __name__ == "__main__":
    main()
