"""The link between namespaces is what it says, and a subscriber behind a narrow one has a picture."""

import socket
import time

from calls import call, url
from link import Direction
from topology import IPV4, Network
from waiting import until

PORT = 7
"""Echo (RFC 862)."""
PATIENCE_S = 2


def socket_in(namespace, port: int = 0) -> socket.socket:
    """A UDP socket of a namespace, wherever it is used."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("0.0.0.0", port))
        made.settimeout(PATIENCE_S)
        return made

    return namespace.call(make)


def round_trips_ms(client: socket.socket, server: socket.socket, address: str, count: int) -> list[float]:
    """How long the answers to so many datagrams took; those that did not come are left out."""
    times = []
    for number in range(count):
        sent = time.monotonic()
        client.sendto(bytes([number]), (address, PORT))
        try:
            server.sendto(*server.recvfrom(100))
            client.recv(100)
        except TimeoutError:
            continue
        times.append((time.monotonic() - sent) * 1e3)
    return times


def test_a_link_delays_and_loses_as_it_is_told(lab):
    network = Network.make(lab, families=(IPV4,))
    host, link = network.far_client("far")
    client, server = socket_in(host), socket_in(network.server, PORT)
    assert len(round_trips_ms(client, server, network.address(), 10)) == 10
    link.set(Direction(delay_ms=40), Direction(delay_ms=30))
    delayed = round_trips_ms(client, server, network.address(), 10)
    assert len(delayed) == 10 and min(delayed) >= 70
    link.set(back=Direction(loss_percent=100))
    assert not round_trips_ms(client, server, network.address(), 1)
    assert link.counters()["back"]["lost"] == 1


def test_a_full_queue_drops_and_what_passes_has_the_rate(lab):
    network = Network.make(lab, families=(IPV4,))
    host, link = network.far_client("far")
    client, server = socket_in(host, PORT), socket_in(network.server)
    link.set(forward=Direction(rate_bps=1_000_000, queue_ms=100))
    # 50 packets of 1,228 bytes at once are 491 ms of 1 Mbit/s: some ten of them fit.
    for _ in range(50):
        server.sendto(bytes(1200), ("10.1.0.2", PORT))
    first = client.recv(2000)
    began, passed = time.monotonic(), len(first)
    for _ in range(8):
        passed += len(client.recv(2000))
    took = time.monotonic() - began
    assert passed == 9 * 1200
    # Eight packets behind the first; it may take longer on a busy machine, but not less.
    assert took >= 8 * 1228 * 8 / 1_000_000 * 0.8
    assert 30 <= link.counters()["forward"]["dropped"] <= 45


async def test_a_subscriber_behind_two_megabits_sees_the_picture(lab, serve, participant):
    network = Network.make(lab, families=(IPV4,))
    serve(network.server)
    host, link = network.far_client("bob")
    link.set(Direction(rate_bps=2_000_000, delay_ms=25), Direction(delay_ms=25))
    alice, bob = await participant(network.client("alice"), "alice"), await participant(host, "bob")
    await call(alice, bob, url(network.address()))
    await until("media goes over the link", lambda: _packets(link, 300), within_s=30, poll_s=0.5)


async def _packets(link, count: int) -> bool:
    return link.counters()["forward"]["packets"] > count
