"""The scorecard of congestion control in real time (performance.md section D, tier 2): a real server, real sockets, real clocks.

    cargo build -p sluice -p bench-load
    .cache/venv/bin/python tests/net/scorecard.py --bin target/debug [--rounds 1] [NAME...]

writes `benches/results/links.md`. Needs root, for networks of its own; a machine that is busy with something else shows in the
figures. The load generator publishes eight cameras in three sizes each and a microphone; another one watches them all behind the
link of `link.py`, which notes every packet that comes to its queue. Scenarios are those of `sfu/sim/src/scorecard/scenarios.rs`,
made shorter. What may be used of a link is what all cameras together come to, so nobody but the allocation decides what is sent.
"""

from __future__ import annotations

import argparse
import bisect
import os
import platform
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from link import TCP, UDP, Direction, Seen
from namespaces import Lab, LabError, Namespace, require
from node import HTTP_PORT, KEY, OUT, SECRET, Node
from server import ROOT
from topology import IPV4, Network

RESULTS = ROOT / "benches/results/links.md"
MBIT, KBIT = 1_000_000, 1_000
CAMERAS, SIZES_KBPS = 8, (100, 250, 600)
WANTED_BPS = CAMERAS * SIZES_KBPS[-1] * KBIT * 1.05 + 50 * KBIT
"""With headers."""
MICROPHONE = "[[group]]\nname = 'speaker'\ncount = 1\naudio = {}\n"
STAGE = f"""
[[group]]
name = "camera"
count = {CAMERAS}
video = {{ fps = 20.0, encodings = [
    {{ width = 320, height = 180, kbps = {SIZES_KBPS[0]} }},
    {{ width = 640, height = 360, kbps = {SIZES_KBPS[1]} }},
    {{ width = 960, height = 540, kbps = {SIZES_KBPS[2]} }},
] }}
"""
VIEWER = "[[group]]\nname = 'viewer-{number}'\ncount = 1\nsubscribes = true\n"
SETTLING_S = 4.0
"""The beginning of a phase in which utilisation and fairness do not count."""
WINDOW_S = 0.5
DOWN_WINDOW_S = 0.3
START_LIMIT_S = 20
TCP_PORT = 5001
TCP_CHUNK = bytes(16_384)


@dataclass(frozen=True)
class Bars:
    """What has to be reached, as in the scenario of tier 1; None: only reported."""

    utilisation: float | None = None
    queue_p95_ms: float | None = None
    dropped: float | None = None
    down_s: float | None = None
    up_s: float | None = None
    fairness: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class Scenario:
    """A link and who uses it."""

    name: str
    length_s: float
    rates: tuple[tuple[float, int], ...]
    """Each from a time on."""
    delay_ms: float = 50
    """One way."""
    queue_ms: float = 300
    jitter_ms: float = 0
    loss_percent: float = 0
    starts_s: tuple[float, ...] = (0.0,)
    """When each viewer joins."""
    tcp_from_s: float | None = None
    bars: Bars = field(default=Bars())

    def rate_bps(self, at_s: float) -> int:
        return self.rates[bisect.bisect_right([since for since, _ in self.rates], at_s) - 1][1]

    def possible_bps(self, at_s: float) -> float:
        """What the viewers of that time could get."""
        return min(self.rate_bps(at_s), WANTED_BPS * sum(start <= at_s for start in self.starts_s))

    def phases(self) -> list[tuple[float, float, int]]:
        """From when to when, and the rate."""
        ends = [at for at, _ in self.rates[1:]] + [self.length_s]
        return [(at, end, bps) for (at, bps), end in zip(self.rates, ends)]


VARIABLE = ((0, MBIT), (16, 5 * MBIT // 2), (28, 600 * KBIT), (40, MBIT))
RISING = ((0, MBIT), (12, 5 * MBIT // 2))
STANDARD = Bars(utilisation=85, queue_p95_ms=120, dropped=2, down_s=1.5, up_s=8)
SCENARIOS = (
    Scenario("5.1, 50 ms", 52, VARIABLE, bars=STANDARD),
    Scenario("5.1 rising, 2 % loss", 26, RISING, loss_percent=2, bars=Bars(utilisation=80)),
    Scenario("5.1 rising, 10 % loss", 26, RISING, loss_percent=10, bars=Bars(utilisation=60)),
    Scenario("5.1 rising, 30 ms of jitter", 26, RISING, jitter_ms=30, bars=Bars(utilisation=60)),
    Scenario("4, 1, 4 Mbit/s", 42, ((0, 4 * MBIT), (14, MBIT), (28, 4 * MBIT)), delay_ms=25, bars=Bars(utilisation=85, down_s=1.5, up_s=8)),
    Scenario("queue of 50 ms", 24, ((0, 2 * MBIT),), queue_ms=50, bars=Bars(utilisation=80, dropped=3)),
    Scenario("5.4, three viewers", 40, ((0, 7 * MBIT // 2),), starts_s=(0, 6, 12), bars=Bars(utilisation=80, fairness=0.9)),
    Scenario("5.6, one long TCP", 36, ((0, 2 * MBIT),), tcp_from_s=8, bars=Bars(share=25)),
    Scenario("300 kbit/s", 24, ((0, 300 * KBIT),), bars=Bars(utilisation=75, queue_p95_ms=120)),
    Scenario("3 % loss, 200 ms round trip", 24, ((0, 2 * MBIT),), delay_ms=100, loss_percent=3, bars=Bars(utilisation=75)),
)
SHORT = Scenario("1 Mbit/s, then 600 kbit/s", 18, ((0, MBIT), (8, 600 * KBIT)), delay_ms=25)
"""For the test that all of this works."""


@dataclass
class Card:
    """A row of the table."""

    utilisation: list[float]
    """Percent of what was possible, of each phase."""
    queue_p50_ms: float
    queue_p95_ms: float
    dropped: float
    """Percent, by the queue."""
    down_s: float | None
    """From the worst fall until no more is sent than passes."""
    up_s: float | None
    """From the worst rise, or the first join, until 80 % of what is possible passes."""
    fairness: float | None
    """Jain's index of the viewers' rates in the last phase."""
    share: float | None
    """Percent of the link that the viewer has beside TCP in the last phase."""

    HEAD = "| scenario | utilisation % | queue p50/p95 ms | dropped % | down s | up s | Jain | share % |\n|---|---|---|---|---|---|---|---|\n"

    @classmethod
    def of(cls, scenario: Scenario, seen: list[Seen], began: float) -> Card:
        """Measures a run whose time 0 was `began`."""
        media = [(at - began, flow, size, waited) for at, flow, size, waited in seen if flow >> 16 == UDP]

        def bits(from_s: float, to_s: float, dropped_too: bool = False) -> float:
            first, last = (bisect.bisect_left(media, (at,)) for at in (from_s, to_s))
            return sum(size for _, _, size, waited in media[first:last] if dropped_too or waited >= 0) * 8

        phases = scenario.phases()
        settled = [(max(at, scenario.starts_s[0]) + SETTLING_S, end) for at, end, _ in phases]
        utilisation = [100 * bits(at, end) / (scenario.possible_bps(at) * (end - at)) for at, end in settled if end > at]
        downs = [_first(at, end, DOWN_WINDOW_S, lambda t, bps=bps: bits(t, t + DOWN_WINDOW_S, True) <= 1.02 * bps * DOWN_WINDOW_S) for (_, _, before), (at, end, bps) in zip(phases, phases[1:]) if bps < before]
        rises = [(at, end) for (_, _, before), (at, end, bps) in zip(phases, phases[1:]) if bps > before] + [phases[0][:2]]
        ups = [_first(at, end, WINDOW_S, lambda t: bits(t, t + WINDOW_S) >= 0.8 * scenario.possible_bps(t) * WINDOW_S) for at, end in rises]
        waits = sorted(waited for *_, waited in media if waited >= 0)
        last_s = max(phases[-1][0], scenario.starts_s[-1], scenario.tcp_from_s or 0) + SETTLING_S
        flows: dict[int, int] = defaultdict(int)
        for at, flow, size, waited in media:
            flows[flow] += size if at >= last_s and waited >= 0 else 0
        rates = sorted(flows.values(), reverse=True)[: len(scenario.starts_s)]
        capacity = phases[-1][2] * (scenario.length_s - last_s)
        return cls(
            utilisation=utilisation,
            queue_p50_ms=_percentile(waits, 50),
            queue_p95_ms=_percentile(waits, 95),
            dropped=100 * (1 - len(waits) / max(len(media), 1)),
            down_s=max(downs, default=None),
            up_s=max(ups, default=None),
            fairness=sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates)) if len(scenario.starts_s) > 1 else None,
            share=None if scenario.tcp_from_s is None else 100 * bits(last_s, scenario.length_s) / capacity,
        )

    def missed(self, bars: Bars) -> list[str]:
        """Bars that are not reached, in words."""
        least = [("utilisation", min(self.utilisation), bars.utilisation), ("fairness", self.fairness, bars.fairness), ("share", self.share, bars.share)]
        most = [("queue p95", self.queue_p95_ms, bars.queue_p95_ms), ("dropped", self.dropped, bars.dropped), ("down", self.down_s, bars.down_s), ("up", self.up_s, bars.up_s)]
        return [f"{name} {value:.2f} is below {bar}" for name, value, bar in least if bar is not None and value < bar] + [
            f"{name} {value:.2f} is above {bar}" for name, value, bar in most if bar is not None and value > bar
        ]

    def row(self, name: str) -> str:
        """In Markdown."""
        last = [(self.down_s, 1), (self.up_s, 1), (self.fairness, 2), (self.share, 0)]
        cells = [name, " ".join(f"{percent:.0f}" for percent in self.utilisation), f"{self.queue_p50_ms:.0f} / {self.queue_p95_ms:.0f}", f"{self.dropped:.1f}"]
        return "| " + " | ".join(cells + ["-" if value is None else f"{value:.{digits}f}" for value, digits in last]) + " |"


def _first(at_s: float, end_s: float, window_s: float, is_so: Callable[[float], bool]) -> float:
    """Seconds until the end of the first window of which that is so."""
    steps = (at_s + 0.1 * step for step in range(int((end_s - at_s - window_s) * 10) + 1))
    return next((from_s + window_s - at_s for from_s in steps if is_so(from_s)), end_s - at_s)


def _percentile(ascending: list[float], percent: int) -> float:
    return ascending[min(len(ascending) * percent // 100, len(ascending) - 1)] if ascending else 0.0


def require_all(binaries: Path) -> None:
    """Raises `LabError` with what is missing."""
    require()
    for name in ("sluice", "sluice-load"):
        if not (binaries / name).exists():
            raise LabError(f"{binaries / name} is missing: cargo build -p sluice -p bench-load")


def play(scenario: Scenario, binaries: Path) -> Card:
    """Plays a scenario in a network of its own, in real time."""
    with ExitStack() as cleanup:
        lab = Lab()
        cleanup.callback(lab.close)
        network = Network.make(lab, families=(IPV4,))
        stage = network.client("stage")
        viewers, link = network.far_client("viewers")
        os.environ["SLUICE_BIN"] = str(binaries / "sluice")
        node = Node.start_in(network.server, "scorecard", urgent=True, log__level="warn")
        cleanup.callback(node.stop)
        room = secrets.token_hex(4)

        def join(namespace: Namespace, address: str, name: str, groups: str) -> None:
            cleanup.enter_context(_generator(namespace, binaries, network.address(), address, room, name, groups))

        join(stage, "10.1.0.2", "stage", STAGE + MICROPHONE)
        deadline = time.monotonic() + START_LIMIT_S
        while sum(value for name, value in node.metrics().items() if name.startswith('sfu_rtp_packets_total{direction="in"')) < 500:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing is published; see {OUT}/scorecard-stage.log")
            time.sleep(0.1)

        def set_rate(bps: int) -> None:
            forward = Direction(rate_bps=bps, queue_ms=scenario.queue_ms, delay_ms=scenario.delay_ms, jitter_ms=scenario.jitter_ms, loss_percent=scenario.loss_percent)
            link.set(forward, Direction(delay_ms=scenario.delay_ms))

        events: list[tuple[float, Callable[[], None]]] = [(at, lambda bps=bps: set_rate(bps)) for at, bps in scenario.rates]
        for number, at in enumerate(scenario.starts_s):
            events.append((at, lambda number=number: join(viewers, "10.2.0.2", f"viewer-{number}", VIEWER.format(number=number))))
        if scenario.tcp_from_s is not None:
            events.append((scenario.tcp_from_s, lambda: cleanup.enter_context(_download(network.server, viewers))))
        link.record()
        began = time.monotonic()
        for at, do in sorted(events, key=lambda event: event[0]):
            time.sleep(max(0.0, began + at - time.monotonic()))
            do()
        time.sleep(max(0.0, began + scenario.length_s - time.monotonic()))
        return Card.of(scenario, link.recorded(), began)


@contextmanager
def _generator(namespace: Namespace, binaries: Path, server: str, address: str, room: str, name: str, groups: str) -> Iterator[None]:
    """Participants of the load generator, while the context lasts."""
    OUT.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file, (OUT / f"scorecard-{name}.log").open("wb") as log:
        file.write(f'name = "scorecard"\nabout = "{name}"\nsteady = "10m"\n{groups}')
        file.flush()
        where = ["--url", f"ws://{server}:{HTTP_PORT}", "--client-ip", address, "--key", KEY, "--secret", SECRET, "--meet", room]
        process = subprocess.Popen(namespace.command("nice", "-n", "-15", str(binaries / "sluice-load"), *where, file.name), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _download(server: Namespace, viewers: Namespace) -> Iterator[None]:
    """A TCP connection (of the kernel's own kind) that takes what it can get, while the context lasts."""

    def listen() -> socket.socket:
        return socket.create_server(("10.2.0.2", TCP_PORT))

    listener = viewers.call(listen)
    sender = server.call(lambda: socket.create_connection(("10.2.0.2", TCP_PORT), timeout=10))
    receiver, _ = listener.accept()

    def send() -> None:
        try:
            while True:
                sender.sendall(TCP_CHUNK)
        except OSError:
            return

    def receive() -> None:
        try:
            while receiver.recv(65_536):
                pass
        except OSError:
            return

    threads = [threading.Thread(target=each, daemon=True) for each in (send, receive)]
    sender.settimeout(None)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for each in (sender, receiver, listener):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()
        for thread in threads:
            thread.join(5)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--bin", type=Path, default=ROOT / "target/debug", help="folder of sluice and sluice-load")
    options.add_argument("--results", type=Path, default=RESULTS)
    options.add_argument("names", nargs="*", help="only scenarios whose names begin so; nothing is written then")
    arguments = options.parse_args()
    try:
        require_all(arguments.bin)
    except LabError as error:
        print(f"skipped: {error}")
        return 0
    chosen = [each for each in SCENARIOS if not arguments.names or any(each.name.startswith(name) for name in arguments.names)]
    rows, missed = [], []
    loads = [os.getloadavg()[0]]
    for scenario in chosen:
        card = play(scenario, arguments.bin.resolve())
        rows.append(card.row(scenario.name))
        missed += [f"{scenario.name}: {words}" for words in card.missed(scenario.bars)]
        loads.append(os.getloadavg()[0])
        print(rows[-1], *missed[-1:] if card.missed(scenario.bars) else [], flush=True)
    if not arguments.names:
        arguments.results.write_text(page(rows, missed, max(loads)))
    return 0


def page(rows: list[str], missed: list[str], load: float) -> str:
    """The committed file."""
    goals = "".join(f"- {words}\n" for words in missed) or "- none\n"
    return f"""# Congestion control in real time

Written by `.cache/venv/bin/python tests/net/scorecard.py`: the real server behind the link emulator, in network namespaces, with {CAMERAS} cameras
in three sizes ({', '.join(map(str, SIZES_KBPS))} kbit/s) and a microphone. What the columns mean is said in that file; utilisation is of
each phase without its first {SETTLING_S:.0f} s. Steps between sizes are up to {SIZES_KBPS[2] - SIZES_KBPS[1]} kbit/s, so what is left of a narrow link is often too little for
the next one. What is dropped and waits at first counts too. Tier 1, in virtual time and with an encoder that follows, is `sfu/sim/scorecard.md`.
{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} cores, load up to {load:.1f}. One run.

{Card.HEAD}{chr(10).join(rows)}

Bars that are not reached:

{goals}"""


if __name__ == "__main__":
    sys.exit(main())
