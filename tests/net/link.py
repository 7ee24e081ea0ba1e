"""A cable with a rate, a queue, a delay, jitter and loss, for kernels without netem: two TUN devices and a program between.

As a program, `link.py NAMESPACE DEVICE NAMESPACE DEVICE`: makes the devices and carries packets between them. Standard input
has a line of JSON per order, {"id": 1, "forward": {...}, "back": {...}} with fields of `Direction`, and each is answered by
a line with the counters of both directions. As a module, `Link` is the other end of that.

A packet that finds the queue full is dropped; loss and delay come behind the queue. Packets stay in order. On request it
keeps what came to the queue of the way forward, packet by packet.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
NAMES = Path("/run/netns")
MTU = 1500
BATCH = 64
"""Packets read before the others get their turn."""


@dataclass(frozen=True)
class Direction:
    """What one direction is like; the default is perfect."""

    rate_bps: int = 0
    """Bits per second of whole IP packets; 0: no limit."""
    queue_ms: float = 300
    """The longest time that a packet waits for the wire."""
    delay_ms: float = 0
    jitter_ms: float = 0
    """Uniformly up to this much on top of the delay."""
    loss_percent: float = 0


@dataclass
class Counters:
    """What became of the packets of one direction."""

    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    """At the full queue."""
    lost: int = 0
    waited_ms: deque[float] = field(default_factory=lambda: deque(maxlen=20_000))

    def plain(self) -> dict[str, float]:
        waits = sorted(self.waited_ms)
        percentile = lambda percent: waits[min(len(waits) * percent // 100, len(waits) - 1)] if waits else 0.0  # noqa: E731
        return {"packets": self.packets, "bytes": self.bytes, "dropped": self.dropped, "lost": self.lost, "waited_ms_p50": percentile(50), "waited_ms_p95": percentile(95)}


Seen = tuple[float, int, int, float]
"""A packet: when it came to the queue (`time.monotonic`), its flow, its bytes, and the milliseconds that it waited; -1: dropped there."""

TCP, UDP = 6, 17


def flow_of(packet: bytes) -> int:
    """The protocol (RFC 791) and the port that it goes to, in one number; 0 for what is no IPv4."""
    if packet[0] >> 4 != 4:
        return 0
    at = (packet[0] & 0x0F) * 4
    return packet[9] << 16 | int.from_bytes(packet[at + 2 : at + 4], "big")


class Half:
    """One direction: from one device to the other."""

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        self.is_like, self.counters = Direction(), Counters()
        self.seen: list[Seen] | None = None
        self._free_at = self._newest_release = 0.0
        self._flying: list[tuple[float, int, bytes]] = []

    def take(self, now: float) -> None:
        """Reads what has come and says when it is to arrive."""
        for _ in range(BATCH):
            try:
                packet = os.read(self.source, MTU + 100)
            except BlockingIOError:
                return
            like, counters = self.is_like, self.counters
            counters.packets += 1
            counters.bytes += len(packet)
            wait = max(0.0, self._free_at - now)
            if like.rate_bps:
                if wait > like.queue_ms / 1e3:
                    counters.dropped += 1
                    self._keep(now, packet, -1)
                    continue
                self._free_at = now + wait + len(packet) * 8 / like.rate_bps
            counters.waited_ms.append(wait * 1e3)
            self._keep(now, packet, wait * 1e3)
            if random.uniform(0, 100) < like.loss_percent:
                counters.lost += 1
                continue
            release = max(now, self._free_at if like.rate_bps else now) + (like.delay_ms + random.uniform(0, like.jitter_ms)) / 1e3
            self._newest_release = release = max(release, self._newest_release)
            heapq.heappush(self._flying, (release, counters.packets, packet))

    def _keep(self, now: float, packet: bytes, waited_ms: float) -> None:
        if self.seen is not None:
            self.seen.append((round(now, 5), flow_of(packet), len(packet), round(waited_ms, 2)))

    def release(self, now: float) -> None:
        """Writes what has arrived."""
        while self._flying and self._flying[0][0] <= now:
            packet = heapq.heappop(self._flying)[2]
            try:
                os.write(self.target, packet)
            except OSError:
                # The device has gone down or its queue is full: a packet less.
                self.counters.lost += 1

    def next_release(self) -> float | None:
        return self._flying[0][0] if self._flying else None


def open_device(namespace: str, name: str) -> int:
    """A TUN device in a namespace. The calling thread is in that namespace afterwards."""
    with (NAMES / namespace).open("rb") as entered:
        if ctypes.CDLL(None, use_errno=True).setns(entered.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def carry(near: int, far: int) -> None:
    """Carries packets and out orders until standard input ends."""
    halves = {"forward": Half(near, far), "back": Half(far, near)}
    orders = b""
    while True:
        releases = [at for half in halves.values() if (at := half.next_release()) is not None]
        timeout = max(0.0, min(releases) - time.monotonic()) if releases else None
        ready, _, _ = select.select([near, far, 0], [], [], timeout)
        now = time.monotonic()
        for half in halves.values():
            if half.source in ready:
                half.take(now)
            half.release(time.monotonic())
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, orders = (orders + chunk).split(b"\n")
            for line in lines:
                order = json.loads(line)
                for name, half in halves.items():
                    half.is_like = replace(half.is_like, **order.get(name, {}))
                    if order.get("reset"):
                        half.counters = Counters()
                answer = {name: half.counters.plain() for name, half in halves.items()}
                if "record" in order:
                    answer["seen"] = halves["forward"].seen or []
                    halves["forward"].seen = [] if order["record"] else None
                print(json.dumps({"id": order["id"], **answer}), flush=True)


class Link:
    """A link between two namespaces of a lab, made of the devices `near` in one and `far` in the other."""

    def __init__(self, near: tuple[str, str], far: tuple[str, str]) -> None:
        # before everything else on the machine: a link that waits for a core has a delay of its own
        self._process = subprocess.Popen(["chrt", "--fifo", "1", sys.executable, __file__, *near, *far], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._orders = 0
        self.set()

    def set(self, forward: Direction | None = None, back: Direction | None = None) -> None:
        """Changes one or both directions; what is under way is not affected. Forward is from near to far."""
        self._order(**{name: asdict(direction) for name, direction in (("forward", forward), ("back", back)) if direction})

    def counters(self, reset: bool = False) -> dict[str, dict[str, float]]:
        """What became of the packets of both directions since the start or the last reset."""
        return self._order(reset=reset)

    def record(self) -> None:
        """Keeps what comes to the queue of the way forward, until `recorded` takes it."""
        self._order(record=True)

    def recorded(self) -> list[Seen]:
        """What was kept, the oldest first; no more is."""
        return [tuple(each) for each in self._order(record=False)["seen"]]

    def stop(self) -> None:
        """Ends it; the devices go with it."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(10)

    def _order(self, **order: object) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._orders += 1
        self._process.stdin.write(json.dumps({"id": self._orders, **order}).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the link has ended with code {self._process.wait()}")
        return {name: counters for name, counters in json.loads(answer).items() if name != "id"}


if __name__ == "__main__":
    near_namespace, near_device, far_namespace, far_device = sys.argv[1:]
    carry(open_device(near_namespace, near_device), open_device(far_namespace, far_device))
