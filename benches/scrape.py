#!/usr/bin/env python3
"""What scraping costs with many participants: time of one scrape, and forwarding latency with scrapes and without.

    cargo build --release -p sluice -p bench-load
    benches/scrape.py [--bin target/release] [--participants 1000] [--json FILE]

One microphone of 50 packets a second, everybody else listens; most are sinks of the load generator. Windows without scrapes
alternate with windows of four scrapes a second (sixty times as often as Prometheus does by default); a scrape before and
after each window tells from `sfu_forward_latency_seconds` what happened in between. Needs nothing but Python and two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

SECRET = "secret-of-the-load-generator-0123456789"
WINDOW_S, ROUNDS, PAUSE_S = 4.0, 6, 0.25
JOIN_LIMIT_S = 60
SCENARIO = """
name = "scrape"
about = "one speaker, {listeners} listeners"
joins_per_second = 100.0
holds_media = true
[[group]]
name = "speaker"
count = 1
audio = {{}}
[[group]]
name = "listener"
count = {listeners}
sinks = {sinks}
subscribes = true
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Page:
    """/metrics of a server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self.times_s: list[float] = []
        self.bytes = 0

    def read(self) -> dict[str, float]:
        began = time.perf_counter()
        with urllib.request.urlopen(self._url, timeout=10) as response:
            text = response.read().decode()
        self.times_s.append(time.perf_counter() - began)
        self.bytes = len(text)
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}


def quantile_s(before: dict[str, float], after: dict[str, float], rank: float) -> float:
    """Of the forwarding latencies between two readings, as `histogram_quantile` does it."""
    bucket = re.compile(r'sfu_forward_latency_seconds_bucket\{le="([^"]+)"\}')
    grown = sorted((float(found[1].replace("+Inf", "inf")), after[name] - before[name]) for name in after if (found := bucket.match(name)))
    total = grown[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in grown:
        if count >= rank * total:
            return lower if bound == float("inf") else lower + (bound - lower) * (rank * total - below) / max(count - below, 1)
        lower, below = bound, count
    return lower


def window(page: Page, pause_s: float | None) -> tuple[float, float]:
    """99th percentile and packets a second of a window; `pause_s` between scrapes, None: there are none."""
    before, began = page.read(), time.monotonic()
    while time.monotonic() < began + WINDOW_S:
        time.sleep(pause_s or WINDOW_S)
        if pause_s:
            page.read()
    # the metrics of the last second of the window are there a second later
    time.sleep(1.1)
    after = page.read()
    sent = 'sfu_packets_total{direction="out",transport="udp"}'
    return quantile_s(before, after, 0.99), (after[sent] - before[sent]) / (time.monotonic() - began)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bin", type=Path, default=Path("target/release"))
    arguments.add_argument("--participants", type=int, default=1000)
    arguments.add_argument("--json", type=Path)
    args = arguments.parse_args()
    port = free_port()
    options = {"SERVER__LISTEN": f"127.0.0.1:{port}", "AUTH__KEYS": f"devkey: {SECRET}", "MEDIA__UDP_PORT": "0", "MEDIA__TCP": "false", "MEDIA__SHARDS": "1", "MEDIA__LOOPBACK": "true", "TURN__ENABLED": "false", "LOG__LEVEL": "warn"}
    options |= {"LIMITS__SOCKETS_PER_IP": "10000", "LIMITS__JOINS_PER_IP_BURST": "10000", "MEDIA__LISTEN": '["127.0.0.1"]', "MEDIA__SHARD_PARTICIPANTS": "10000"}
    page = Page(port)
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "scrape.toml"
        listeners = args.participants - 1
        scenario.write_text(SCENARIO.format(listeners=listeners, sinks=max(listeners - 100, 0)))
        server = subprocess.Popen(["taskset", "-c", "0", args.bin / "sluice", "serve"], env={**os.environ, **{f"SLUICE_{name}": value for name, value in options.items()}})
        load = None
        try:
            deadline = time.monotonic() + JOIN_LIMIT_S
            while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
                assert time.monotonic() < deadline and server.poll() is None, "the server does not start"
                time.sleep(0.1)
            seconds = ROUNDS * 2 * (WINDOW_S + 1.5) + 10
            load = subprocess.Popen(["taskset", "-c", "1", args.bin / "sluice-load", "--url", f"ws://127.0.0.1:{port}", "--server-pid", str(server.pid), "--steady", f"{seconds:.0f}s", scenario], stdout=subprocess.DEVNULL)
            while (live := page.read()['sfu_subscriptions{kind="audio",state="live"}']) < listeners:
                assert time.monotonic() < deadline and load.poll() is None, f"{live} of {listeners} listen"
                time.sleep(0.5)
            time.sleep(3)
            page.times_s.clear()
            rounds = [(window(page, None), window(page, PAUSE_S)) for _ in range(ROUNDS)]
        finally:
            for process in (load, server):
                if process and process.poll() is None:
                    process.kill()
                    process.wait()
    quiet, scraped = ([each[place][0] * 1e3 for each in rounds] for place in (0, 1))
    times_ms = sorted(second * 1e3 for second in page.times_s)
    result = {
        "participants": args.participants,
        "packets_per_second": round(statistics.median(each[place][1] for each in rounds for place in (0, 1))),
        "scrapes": len(times_ms),
        "bytes": page.bytes,
        "scrape_ms_p50": round(times_ms[len(times_ms) // 2], 2),
        "scrape_ms_max": round(times_ms[-1], 2),
        "forward_p99_ms_without": [round(each, 3) for each in quiet],
        "forward_p99_ms_with": [round(each, 3) for each in scraped],
        "ratio_of_medians": round(statistics.median(scraped) / statistics.median(quiet), 3),
    }
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
