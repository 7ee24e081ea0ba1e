"""The embedded relay with another client stack (aioice): over UDP, TCP and TLS, for whom it relays, and how it drains with the server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aioice import stun, turn
from livekit import rtc

from peer import Peer
from server import Server, binary, free_port
from waiting import until

LOOPBACK = "127.0.0.1"
TRANSPORTS = ["udp", "tcp", "tls"]


class Echo(asyncio.DatagramProtocol):
    """A peer that sends back what it gets, to whoever sent it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.sources: set[tuple[str, int]] = set()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.sources.add(addr)
        self.transport.sendto(data, addr)  # type: ignore[attr-defined]


class Receiver(asyncio.DatagramProtocol):
    """The client's side of a relay: keeps what comes and what was refused."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, tuple[str, int]]] = []
        self.errors: list[Exception] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)


class Relay(Server):
    """A server of its own, whose relay may reach one port beside the media."""

    ports: dict[str, int]
    echo_port: int
    environment: dict[str, str]

    @classmethod
    def start_with_tls(cls, folder: Path) -> Relay:
        chain, key = folder / "certificate.pem", folder / "key.pem"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2", "-nodes"]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *subject, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
        ports = {name: free_port() for name in (*TRANSPORTS, "media")}
        echo_port = free_port()
        options = {
            "turn__udp_port": str(ports["udp"]),
            "turn__tcp_port": str(ports["tcp"]),
            "turn__tls_port": str(ports["tls"]),
            "turn__allow": json.dumps([f"{LOOPBACK}:{echo_port}"]),
            "media__udp_port": str(ports["media"]),
            "media__shards": "1",
            "tls__certificate": str(chain),
            "tls__key": str(key),
        }
        server = cls.start("turn", **options)
        assert isinstance(server, Relay)
        server.ports, server.echo_port = ports, echo_port
        server.environment = {f"SLUICE_{name.upper()}": value for name, value in options.items()}
        return server

    def credentials(self, user: str) -> tuple[str, str]:
        """As an operator gets them."""
        printed = subprocess.run([binary(), "turn-credentials", "--user", user, "--json"], env={**os.environ, **self.environment}, check=True, capture_output=True).stdout
        told = json.loads(printed)
        return told["username"], told["password"]

    @asynccontextmanager
    async def allocation(self, transport: str = "udp", user: str = "app") -> AsyncIterator[tuple[turn.TurnTransport, Receiver]]:
        """A relayed address; raises `stun.TransactionFailed` when it is refused."""
        context = ssl.create_default_context(cafile=self.environment["SLUICE_TLS__CERTIFICATE"]) if transport == "tls" else None
        host = "localhost" if transport == "tls" else LOOPBACK
        name, password = self.credentials(user)
        made, receiver = await turn.create_turn_endpoint(Receiver, (host, self.ports[transport]), name, password, ssl=context, transport="udp" if transport == "udp" else "tcp")
        try:
            yield made, receiver
        finally:
            made.close()

    def total(self, name: str) -> float:
        return sum(value for sample, value in self.metrics().items() if sample.startswith(name))


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    running = Relay.start_with_tls(tmp_path_factory.mktemp("relay"))
    yield running
    running.stop()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_another_stack_sends_through_the_relay_comes_back(relay: Relay, transport: str) -> None:
    loop = asyncio.get_running_loop()
    listening, echo = await loop.create_datagram_endpoint(Echo, local_addr=(LOOPBACK, relay.echo_port))
    try:
        async with relay.allocation(transport) as (made, receiver):
            messages = [f"{transport} {number}".encode() * (number + 1) for number in range(20)]
            for message in messages:
                made.sendto(message, (LOOPBACK, relay.echo_port))
            await until("everything is back", lambda: len(receiver.received) >= len(messages) or receiver.errors)
            assert not receiver.errors
            assert receiver.received == [(message, (LOOPBACK, relay.echo_port)) for message in messages]
            assert {port for _, port in echo.sources} == {made.get_extra_info("sockname")[1]}, "the peer sees the relayed port"
            await until("it is counted", lambda: relay.total(f'turn_allocations{{transport="{transport}"') == 1, poll_s=0.3)
    finally:
        listening.close()
    await until("the allocation is given back", lambda: relay.total("turn_allocations{") == 0, poll_s=0.3)


async def test_nothing_of_this_machine_but_media_is_reached_through_the_relay(relay: Relay) -> None:
    http_port = int(relay.http_url.rsplit(":", 1)[1])
    [advertised] = {ip for ip in advertised_addresses(relay)} or {LOOPBACK}
    denied = [(LOOPBACK, http_port), (LOOPBACK, relay.ports["udp"]), (LOOPBACK, 22), (advertised, http_port), (advertised, relay.ports["udp"]), (advertised, relay.ports["tcp"])]
    denied += [("169.254.169.254", 80), ("0.0.0.0", relay.ports["media"]), ("10.0.0.1", 53), ("224.0.0.1", 5353), ("8.8.8.8", 53)]
    before = relay.total("turn_denied_peers_total{"), relay.total('turn_relayed_packets_total{direction="to-peer"')
    async with relay.allocation() as (made, receiver):
        for count, address in enumerate(denied, start=1):
            made.sendto(b"GET / HTTP/1.1\r\n\r\n", address)
            await until("it is refused", lambda count=count: len(receiver.errors) >= count)
            error = receiver.errors[-1]
            assert isinstance(error, stun.TransactionFailed) and error.response.attributes["ERROR-CODE"][0] == 403, (address, error)
    await until("each is counted", lambda: relay.total("turn_denied_peers_total{") >= before[0] + len(denied), poll_s=0.3)
    assert relay.total('turn_relayed_packets_total{direction="to-peer"') == before[1]


def advertised_addresses(relay: Relay) -> set[str]:
    """Where clients send media: the address of the way out, which `sluice dev` finds by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return {probe.getsockname()[0]}
        except OSError:
            return set()


async def test_a_wrong_password_is_refused(relay: Relay) -> None:
    name, password = relay.credentials("app")
    with pytest.raises(stun.TransactionFailed) as refused:
        await turn.create_turn_endpoint(Receiver, (LOOPBACK, relay.ports["udp"]), name, password + "x")
    assert refused.value.response.attributes["ERROR-CODE"][0] == 401


async def test_the_relay_drains_with_the_server_and_is_open_to_who_has_a_seat(relay: Relay, room: str) -> None:
    assert relay.process is not None
    alice, bob = Peer(relay, room, "alice"), Peer(relay, room, "bob")
    relayed = rtc.RoomOptions(rtc_config=rtc.RtcConfiguration(ice_transport_type=rtc.IceTransportType.TRANSPORT_RELAY))
    try:
        await alice.join()
        async with relay.allocation() as (kept, _):
            relay.process.send_signal(signal.SIGUSR1)
            await until("the relay drains", lambda: relay.metrics().get("turn_draining") == 1, poll_s=0.3)
            with pytest.raises(stun.TransactionFailed) as refused:
                async with relay.allocation():
                    pass
            assert refused.value.response.attributes["ERROR-CODE"][0] == 508
            assert kept.get_extra_info("sockname"), "what there is stays"
            # the room is open and may be joined, so its participants get relays
            await bob.join(options=relayed)
            await until("bob has a relay", lambda: relay.total("turn_allocations{") >= 2, poll_s=0.3)
        assert relay.metrics()['turn_allocations_total{result="draining"}'] >= 1
        relay.process.send_signal(signal.SIGUSR2)
        await until("the drain is undone", lambda: relay.metrics().get("turn_draining") == 0, poll_s=0.3)
        async with relay.allocation():
            pass
    finally:
        # Others use this server after a failure, too.
        relay.process.send_signal(signal.SIGUSR2)
        await asyncio.gather(alice.leave(), bob.leave())
    await until("nothing is left", lambda: relay.total("turn_allocations{") == 0, poll_s=0.3)
