"""A real Prometheus scrapes a real server while a link goes bad: exactly the right alerts fire, and they end with the cause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calls import PICTURES, TONES_HZ, url
from link import Direction
from namespaces import Namespace
from node import HTTP_PORT
from server import Server
from topology import IPV4, Network
from waiting import until
from watch import FASTER, Prometheus

WINDOW_S = 5 * 60 / FASTER
"""The window of the rules about media; a state is known in full after it."""
BAD = Direction(delay_ms=20, jitter_ms=600, loss_percent=20)
"""Half of the sound comes over this link, so 10 % of all packets are lost. On a link that keeps the order, RFC 3550's jitter is at most
twice the time between packets: 40 ms of sound, but about 200 ms, a third of the link's, of three pictures a second."""
PICTURE = {"picture_id": PICTURES["alice"], "width": 128, "height": 72, "fps": 3}
SETTLING_S = 60
FIRING = {("SluicePacketLoss", "in"), ("SluiceJitter", "in"), ("SluiceJitter", "out"), ("SluiceLowMos", "in"), ("SluiceLowMos", "out")}
"""What alice sends suffers on its way to the server; bob hears it as it came, and loses nothing himself."""


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[[Namespace], Prometheus]]:
    """Starts Prometheus in a namespace."""
    started: list[Prometheus] = []

    def start(namespace: Namespace) -> Prometheus:
        started.append(Prometheus(namespace, tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.stop()


async def test_a_bad_link_fires_its_alerts_and_no_other_and_they_end_with_it(lab, serve, participant, watch):
    network = Network.make(lab, families=(IPV4,))
    near = network.client("near")
    far, link = network.far_client("far")
    node = serve(network.server, urgent=True)
    prometheus = watch(network.server)
    await prometheus.is_scraping()
    alice, bob = await participant(far, "alice"), await participant(near, "bob")
    await asyncio.gather(alice.join(url=url(network.address())), bob.join(url=url(network.address())))
    await asyncio.gather(alice.publish_picture(**PICTURE), *(each.publish_tone(frequency_hz=TONES_HZ[each.identity]) for each in (alice, bob)))
    await asyncio.gather(alice.hears(identity="bob", frequency_hz=TONES_HZ["bob"]), bob.hears(identity="alice", frequency_hz=TONES_HZ["alice"]))

    began = time.monotonic()
    # what Prometheus reads on the server is not for everybody, whatever a stranger says of itself
    for pretence in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "::1"}):
        assert near.call(lambda headers=pretence: Server(f"http://{network.address()}:{HTTP_PORT}").get("/metrics", headers))[0] == 403
    await passed(began, WINDOW_S)
    assert prometheus.value('sum by (direction) (rate(sfu_rtp_packets_total{direction="in"}[5s]))') > 50, "there is too little traffic for an alert"
    await prometheus.fires(set(), within_s=SETTLING_S)
    assert prometheus.fired(SETTLING_S) == set(), "on a clean link"

    link.set(back=BAD)
    await prometheus.fires(FIRING, within_s=SETTLING_S)
    assert prometheus.fired(round(time.monotonic() - began)) == FIRING

    link.set(back=Direction())
    await prometheus.fires(set(), within_s=SETTLING_S)
    assert prometheus.fired(round(time.monotonic() - began)) == FIRING

    node.stop()
    await prometheus.fires({("SluiceNodeDown", "")}, within_s=SETTLING_S)


async def passed(began: float, seconds: float) -> None:
    """Prometheus looks back over a window: what is to be seen in it takes that long."""
    await until("the window is over", lambda: time.monotonic() - began >= seconds, within_s=seconds + 5, poll_s=0.5)
