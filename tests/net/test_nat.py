"""Calls through network address translation, on either side."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from attack import STUN_COOKIE
from calls import PICTURES, call, talk, url
from namespaces import Namespace
from topology import IPV4, SERVER_PORT, Network
from waiting import until

MASQUERADE = "masquerade"
SYMMETRIC = "masquerade random,fully-random"
BINDING_S = 6
"""Life of an unused UDP binding in these tests. Clients check each path every 2.5 s or more often, so whatever lives through
this lives through the 30 s of real routers with a margin twelve times as large."""
IDLE_BINDINGS = 2
STUN_PORT = 3478
STUN_LIFE_S = 30


@contextmanager
def stun_server(host: Namespace, address: str) -> Iterator[None]:
    """Tells everybody who asks where it sees them (RFC 8489 section 14.2)."""

    def opened() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, STUN_PORT))
        made.settimeout(STUN_LIFE_S)
        return made

    with host.call(opened) as server:

        def answer() -> None:
            while True:
                try:
                    request, (ip, port) = server.recvfrom(2048)
                except OSError:
                    return
                mapped = struct.pack("!BBHI", 0, 1, port ^ (STUN_COOKIE >> 16), int.from_bytes(socket.inet_aton(ip)) ^ STUN_COOKIE)
                attribute = struct.pack("!HH", 0x0020, len(mapped)) + mapped
                server.sendto(struct.pack("!HHI", 0x0101, len(attribute), STUN_COOKIE) + request[8:20] + attribute, (ip, port))

        Thread(target=answer, daemon=True).start()
        yield


def nat(kind: str) -> str:
    """Everybody behind the router shares its address towards the server, and nothing comes in that nobody asked for."""
    return f"""
        table ip nat {{
            chain outward {{ type nat hook postrouting priority srcnat
                oifname "{SERVER_PORT}" {kind}
            }}
        }}
        table inet firewall {{
            chain forward {{ type filter hook forward priority 0
                iifname "{SERVER_PORT}" ct state new counter drop
            }}
            chain input {{ type filter hook input priority 0
                iifname "{SERVER_PORT}" ct state new meta l4proto {{ tcp, udp }} counter drop
            }}
        }}"""


@pytest.mark.parametrize("kind", [MASQUERADE, SYMMETRIC], ids=["endpoint-independent", "symmetric"])
async def test_clients_behind_a_nat(lab, serve, participant, kind):
    network = Network.make(lab, families=(IPV4,))
    home, office = network.client("home"), network.client("office")
    network.router.rules(nat(kind))
    node = serve(network.server, media__tcp="false")
    alice, bob = await participant(home, "alice"), await participant(office, "bob")
    await call(alice, bob, url(network.address()))
    await until("media flows over UDP", lambda: node.kinds() == {("udp", IPV4)}, poll_s=0.5)


async def test_bindings_of_a_nat_outlive_silence(lab, serve, participant):
    """Muted participants send nothing but checks. A binding that ended would come back with another port, and show."""
    network = Network.make(lab, families=(IPV4,))
    home, office = network.client("home"), network.client("office")
    network.router.rules(nat(SYMMETRIC))
    for kind in ("udp_timeout", "udp_timeout_stream"):
        network.router.sysctl(f"net.netfilter.nf_conntrack_{kind}", BINDING_S)
    node = serve(network.server, media__tcp="false")
    alice, bob = await participant(home, "alice"), await participant(office, "bob")
    await call(alice, bob, url(network.address()))
    await asyncio.gather(alice.mute(muted=True), bob.mute(muted=True))
    changes = node.path_changes()

    async def is_silent() -> bool:
        before = node.media_packets()
        await asyncio.sleep(1.5)
        return node.media_packets() == before

    await until("no media flows", is_silent)
    # Silence is what is tested here, so there is nothing to wait for but time.
    await asyncio.sleep(BINDING_S * IDLE_BINDINGS)
    assert node.kinds() == {("udp", IPV4)}
    await asyncio.gather(alice.mute(muted=False), bob.mute(muted=False))
    await talk(alice, bob)
    assert node.path_changes() == changes, "every binding is the one from before the silence"


HOW_ADVERTISED = {
    "several": {"media__advertise": "203.0.113.77,203.0.113.9"},
    "translated": {"media__advertise": "203.0.113.9=>10.0.0.2"},
    "detected": {"media__detect_address_with": "stun:203.0.113.50:3478"},
}


@pytest.mark.parametrize("how", HOW_ADVERTISED)
async def test_a_server_behind_a_one_to_one_nat_is_reached_at_its_public_address(lab, serve, participant, how):
    """The client knows no way to the server's own address; the first of several advertised ones leads nowhere."""
    network = Network.make(lab, families=(IPV4,))
    outside = lab.host("outside")
    lab.cable(outside, "eth0", ["203.0.113.50/24"], network.router, "outside0", ["203.0.113.9/24"])
    network.router.rules("""
        table ip nat {
            chain inward { type nat hook prerouting priority dstnat
                ip daddr 203.0.113.9 dnat to 10.0.0.2
            }
            chain outward { type nat hook postrouting priority srcnat
                ip saddr 10.0.0.2 oifname "outside0" snat to 203.0.113.9
            }
        }""")
    with stun_server(outside, "203.0.113.50"):
        node = serve(network.server, **HOW_ADVERTISED[how])
    alice, bob = await participant(outside, "alice"), await participant(outside, "bob")
    await call(alice, bob, url("203.0.113.9"))
    await until("media flows over UDP", lambda: node.kinds() == {("udp", IPV4)}, poll_s=0.5)
    assert PICTURES["alice"] in (await bob.report(identity="alice"))["ids"]
