"""Hostile TCP connections on the media port."""

from __future__ import annotations

import asyncio
import random
import socket
import struct

from attack import Victim, forged_binding_request, forged_rtp
from calls import PICTURES, call, url
from node import TCP_PORT
from topology import IPV4, Network
from waiting import until

CONNECTIONS = 20
PROOF_S = 10


async def test_connections_that_prove_nothing_are_closed_and_a_call_does_not_notice(lab, serve, participant):
    """They know the user name of a shard of ours and keep sending, so that neither silence nor a wrong address ends them."""
    network = Network.make(lab, families=(IPV4,))
    home, darknet = network.client("home"), network.client("darknet")
    node = serve(network.server)
    alice, bob = await participant(home, "alice"), await participant(home, "bob")
    await call(alice, bob, url(network.address()))
    await bob.reset(identity="alice")
    rng = random.Random(1)
    victim = Victim((network.address(), TCP_PORT), "aaforged", "them", ())

    def attack() -> list[socket.socket]:
        opened = [socket.create_connection(victim.address) for _ in range(CONNECTIONS)]
        for each in opened:
            each.sendall(_framed(forged_binding_request(victim, rng)))
        return opened

    opened = darknet.call(attack)
    await until("all are open", lambda: node.tcp_connections() == CONNECTIONS, poll_s=0.5)
    closed: set[int] = set()

    def all_are_closed() -> bool:
        for index, each in enumerate(opened):
            try:
                each.sendall(_framed(forged_rtp(victim, rng)))
            except OSError:
                closed.add(index)
        return len(closed) == CONNECTIONS

    await until("all are closed, although they send", all_are_closed, within_s=PROOF_S + 5, poll_s=0.5)
    await until("they are counted", lambda: node.metrics()['sfu_tcp_connections_total{result="unproven"}'] == CONNECTIONS, poll_s=0.5)
    for each in opened:
        each.close()
    report = await bob.sees(identity="alice", picture_id=PICTURES["alice"])
    assert report["longest_gap_s"] < 1.5 and report["unreadable"] == 0


def _framed(packet: bytes) -> bytes:
    """RFC 4571."""
    return struct.pack("!H", len(packet)) + packet
