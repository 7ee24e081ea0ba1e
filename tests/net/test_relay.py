"""Calls of clients that reach the media ports by no way of their own: through the embedded TURN server, on one port or another."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import subprocess
from pathlib import Path

import pytest

from calls import PICTURES, publish, call, talk, url
from test_nat import SYMMETRIC, nat
from topology import IPV4, SERVER_PORT, Network, forwarding
from waiting import until

TURN_PORT = 3478
PUBLIC = "203.0.113.2"
NO_UDP = forwarding("meta l4proto udp drop")
ONLY_443 = forwarding(f'oifname "{SERVER_PORT}" tcp dport != 443 drop\n oifname "{SERVER_PORT}" meta l4proto != tcp drop')
OPTIONS = {"turn__enabled": "true"}


async def test_without_udp_and_without_ice_tcp_a_call_goes_over_turn_in_tcp(lab, serve, participant):
    network = Network.make(lab, families=(IPV4,))
    home = network.client("home")
    network.router.rules(NO_UDP)
    node = serve(network.server, media__tcp="false", **OPTIONS)
    alice, bob = await participant(home, "alice"), await participant(home, "bob")
    await call(alice, bob, url(network.address()))
    await until("both have relays over TCP", lambda: node.allocations("tcp") >= 2, poll_s=0.5)
    assert node.allocations("udp") == 0, "the firewall lets no UDP through"
    await until("media is relayed", lambda: node.relayed_bytes() > 100_000, poll_s=0.5)


async def test_behind_symmetric_nats_on_both_sides_the_relays_port_is_enough(lab, serve, participant):
    network = Network.make(lab, families=(IPV4,))
    home, office = network.client("home"), network.client("office")
    network.router.rules(nat(SYMMETRIC).replace(f'iifname "{SERVER_PORT}" ct state new counter drop', f'iifname "{SERVER_PORT}" ct state new counter drop\n oifname "{SERVER_PORT}" udp dport != {TURN_PORT} drop', 1))
    node = serve(network.server, media__tcp="false", **OPTIONS)
    alice, bob = await participant(home, "alice"), await participant(office, "bob")
    await call(alice, bob, url(network.address()))
    await until("both have relays over UDP", lambda: node.allocations("udp") >= 2, poll_s=0.5)
    await until("media is relayed", lambda: node.relayed_bytes() > 100_000, poll_s=0.5)


def certificate(folder: Path, address: str) -> tuple[dict[str, str], str]:
    """A certificate for an address, as options, and the digest of its key."""
    chain, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=sluice", "-addext", f"subjectAltName=IP:{address}", "-days", "30", "-nodes"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *subject, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
    return {"tls__certificate": str(chain), "tls__key": str(key)}, base64.b64encode(hashlib.sha256(public).digest()).decode()


@pytest.mark.parametrize("ice_tcp", [False, True], ids=["turn-tls", "ice-tcp"])
async def test_where_only_443_is_open_everything_goes_through_it(lab, serve, participant, tmp_path, ice_tcp):
    """Page, WebSocket and media of a browser on one TCP port. libwebrtc takes candidates with port 443 at public addresses only."""
    network = Network.make(lab, families=(IPV4,))
    home = network.client("home")
    network.server.ip("address", "add", f"{PUBLIC}/32", "dev", "lo")
    network.router.ip("route", "add", f"{PUBLIC}/32", "via", network.address())
    network.router.rules(ONLY_443)
    tls, key = certificate(tmp_path, PUBLIC)
    node = serve(network.server, server__listen="[::]:443", server__one_port="true", media__tcp=str(ice_tcp).lower(), turn__enabled=str(not ice_tcp).lower(), turn__domain=PUBLIC, media__advertise=PUBLIC, **tls)
    alice, bob = await participant(home, "alice", "chromium"), await participant(home, "bob", "chromium")
    address = f"wss://{PUBLIC}"
    await asyncio.gather(alice.join(url=address, trusted_key=key), bob.join(url=address, trusted_key=key))
    await publish(alice, bob)
    await talk(alice, bob)
    paths = [path for each in (alice, bob) for path in await each.paths()]
    if ice_tcp:
        assert {(path["local"], path["protocol"]) for path in paths} <= {("host", "tcp"), ("prflx", "tcp")}, paths
        await until("media flows over ICE-TCP", lambda: node.kinds() == {("tcp", IPV4)}, poll_s=0.5)
    else:
        assert {(path["local"], path["relayProtocol"]) for path in paths} == {("relay", "tls")}, paths
        await until("both have relays over TLS", lambda: node.allocations("tls") >= 2, poll_s=0.5)
        await until("media is relayed", lambda: node.relayed_bytes() > 100_000, poll_s=0.5)
        assert node.metrics()["turn_certificate_expiry_seconds"] > 86_400 * 20


async def test_a_relay_behind_a_one_to_one_nat_finds_its_own_media(lab, serve, participant):
    """Clients name the media by its public address, which the relay can't reach without a hairpin that this NAT does not have."""
    network = Network.make(lab, families=(IPV4,))
    outside = lab.host("outside")
    lab.cable(outside, "eth0", ["203.0.113.50/24"], network.router, "outside0", ["203.0.113.9/24"])
    network.router.rules("""
        table ip nat {
            chain inward { type nat hook prerouting priority dstnat
                iifname "outside0" ip daddr 203.0.113.9 dnat to 10.0.0.2
            }
            chain outward { type nat hook postrouting priority srcnat
                ip saddr 10.0.0.2 oifname "outside0" snat to 203.0.113.9
            }
        }""")
    node = serve(network.server, media__advertise="203.0.113.9", media__tcp="false", **OPTIONS)
    alice, bob = await participant(outside, "alice", "chromium"), await participant(outside, "bob")
    await asyncio.gather(alice.join(url=url("203.0.113.9"), relay_only=True), bob.join(url=url("203.0.113.9")))
    await publish(alice, bob)
    await talk(alice, bob)
    # the media sees the relay at its inner address and says so: for the browser that is one more, which it has found out by asking
    paths = await alice.paths()
    assert paths and all(path["local"] in ("relay", "prflx") and path["relayProtocol"] == "udp" for path in paths), paths
    assert node.allocations("udp") >= 1
    assert PICTURES["alice"] in (await bob.report(identity="alice"))["ids"]
