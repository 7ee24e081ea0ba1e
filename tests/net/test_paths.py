"""Calls over networks of one family, without UDP, with loss and with small packets."""

from __future__ import annotations

import asyncio

import pytest

from calls import call, publish, talk, url
from node import TCP_PORT
from topology import BOTH, IPV4, IPV6, IPV6_LEAST_MTU, Network, forwarding
from waiting import until

NO_UDP = forwarding("meta l4proto udp drop")
NO_UDP_FROM_HOME = forwarding('iifname "home0" meta l4proto udp drop')
CUT_TCP = forwarding(f'iifname "home0" meta l4proto udp drop\n tcp dport {TCP_PORT} reject with tcp reset\n tcp sport {TCP_PORT} reject with tcp reset')
LOSSY = forwarding("meta l4proto udp numgen random mod 100 < 25 counter drop")


@pytest.mark.parametrize("family", BOTH)
async def test_without_udp_a_call_goes_over_tcp(lab, serve, participant, family):
    network = Network.make(lab, families=(family,))
    home = network.client("home")
    network.router.rules(NO_UDP)
    node = serve(network.server)
    alice, bob = await participant(home, "alice"), await participant(home, "bob")
    await call(alice, bob, url(network.address(family)))
    assert node.packets("udp") == 0, "the firewall lets no UDP through"
    await until("media flows both ways", lambda: min(node.packets("tcp"), node.packets("tcp", "out")) > 100, poll_s=0.5)
    await until("all media flows over TCP", lambda: node.kinds() == {("tcp", family)}, poll_s=0.5)


async def test_a_tcp_connection_that_is_cut_is_replaced(lab, serve, participant):
    """A firewall resets the media connections once; the client opens new ones, and the server forgets the old."""
    network = Network.make(lab, families=(IPV4,))
    home, elsewhere = network.client("home"), network.client("elsewhere")
    network.router.rules(NO_UDP_FROM_HOME)
    node = serve(network.server)
    alice, bob = await participant(home, "alice"), await participant(elsewhere, "bob")
    await call(alice, bob, url(network.address()))
    opened = node.metrics()['sfu_tcp_connections_total{result="opened"}']
    network.router.rules(CUT_TCP)
    await until("the connections are gone", lambda: node.tcp_connections() == 0, poll_s=0.5)
    network.router.rules(NO_UDP_FROM_HOME)
    await until("there are new ones", lambda: ("tcp", IPV4) in node.kinds(), within_s=25, poll_s=0.5)
    assert node.metrics()['sfu_tcp_connections_total{result="opened"}'] >= opened + 1
    await talk(alice, bob)


async def test_chromium_without_udp_goes_over_tcp(lab, serve, participant):
    network = Network.make(lab, families=(IPV4,))
    home, elsewhere = network.client("home"), network.client("elsewhere")
    network.router.rules(NO_UDP_FROM_HOME)
    node = serve(network.server)
    alice, bob = await participant(home, "alice", "chromium"), await participant(elsewhere, "bob")
    await call(alice, bob, url(network.address()))
    await until("media flows over TCP for one of them", lambda: node.kinds() == {("tcp", IPV4), ("udp", IPV4)}, poll_s=0.5)


async def test_ipv6_alone_is_enough_at_its_smallest_mtu(lab, serve, participant):
    network = Network.make(lab, families=(IPV6,), mtu=IPV6_LEAST_MTU)
    home, elsewhere = network.client("home"), network.client("elsewhere")
    node = serve(network.server)
    alice, bob = await participant(home, "alice", "chromium"), await participant(elsewhere, "bob")
    await call(alice, bob, url(network.address(IPV6)))
    await until("media flows over IPv6", lambda: node.kinds() == {("udp", IPV6)}, poll_s=0.5)
    assert node.oversized_packets() == 0
    assert node.dtls_transports("1.3") >= 1, "Chromium offers it"


async def test_clients_of_either_family_meet_on_a_dual_stack_server(lab, serve, participant):
    network = Network.make(lab)
    old, new = network.client("old", (IPV4,)), network.client("new", (IPV6,))
    node = serve(network.server)
    alice, bob = await participant(old, "alice"), await participant(new, "bob")
    await call(alice, bob, url(network.address(IPV4)), url(network.address(IPV6)))
    await until("each has a path of its family", lambda: node.kinds() == {("udp", IPV4), ("udp", IPV6)}, poll_s=0.5)


async def test_a_handshake_gets_through_a_network_that_loses_every_fourth_packet(lab, serve, participant):
    network = Network.make(lab, families=(IPV4,))
    home = network.client("home")
    node = serve(network.server, media__tcp="false")
    network.router.rules(LOSSY)
    alice, bob = await participant(home, "alice"), await participant(home, "bob")
    await asyncio.gather(alice.join(url=url(network.address())), bob.join(url=url(network.address())))
    await publish(alice, bob)
    await until("both are connected", lambda: node.kinds() == {("udp", IPV4)}, within_s=20, poll_s=0.5)
    lost = network.router.run("nft", "list", "ruleset")
    assert "packets 0 " not in lost, f"the network loses packets: {lost}"
    network.router.rules("")
    await talk(alice, bob)
