"""Data over networks that lose packets."""

from __future__ import annotations

from calls import call, url
from topology import IPV4, Network, forwarding
from waiting import until

MEGABYTE = 1_000_000
LOSS_PERCENT = 5
CALLS = 10


async def test_a_megabyte_and_rpc_calls_are_intact_under_five_percent_loss(lab, serve, participant):
    """Every twentieth UDP packet is lost on the router, whichever way it goes; nobody but retransmission mends it."""
    network = Network.make(lab, families=(IPV4,))
    serve(network.server)
    alice, bob = await participant(network.client("home"), "alice"), await participant(network.client("office"), "bob")
    await call(alice, bob, url(network.address()))
    await bob.listen_for_files()
    await bob.answer_calls()
    network.router.rules(forwarding(f"meta l4proto udp numgen random mod 100 < {LOSS_PERCENT} counter drop"))
    # Before the file: it goes the same way in the same order, and a call that waits behind it times out.
    for number in range(CALLS):
        assert await alice.ask(identity="bob", payload=f"call {number}") == f"call {number}"[::-1]
    sent = await alice.send_file(size=MEGABYTE)
    await until("the file arrives", lambda: bob.files(), within_s=60, poll_s=0.5)
    assert await bob.files() == [sent]
