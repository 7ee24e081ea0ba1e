"""How good a connection is: what clients are told of it, and what REST and metrics say of its direction and cause."""

from __future__ import annotations

import json
import time
from typing import Any

from calls import call, url
from link import Direction
from node import KEY, SECRET, Node
from peer import access_token
from remote import RemotePeer
from topology import IPV4, Network
from waiting import until

NOTICED_WITHIN_S = 15
"""On a machine that is busy with other tests. In virtual time it is less than 5 s (`sfu/sim/tests/engine/quality.rs`, whose clients report audio each second;
browsers do each five); here it is printed."""
BAD = Direction(loss_percent=20)
DEAD = Direction(loss_percent=100)
WELL = Direction()


async def test_every_change_of_a_link_is_told_in_time_and_explained(lab, serve, participant):
    """Bob's uplink, then its downlink loses packets; then nothing comes of it. Alice is told of bob; her own is another matter."""
    network = Network.make(lab, families=(IPV4,))
    node = serve(network.server, urgent=True)
    far, link = network.far_client("far")
    alice, bob = await participant(network.client("near"), "alice", urgent=True), await participant(far, "bob", urgent=True)
    room = alice._log.removesuffix("-alice")
    await call(alice, bob, url(network.address()))
    for who in (alice, bob):
        await until("both are excellent", lambda: all_are(who, {"alice": "excellent", "bob": "excellent"}), within_s=20)

    for name, change, level, direction, cause in (
        ("uplink loss", {"back": BAD}, "poor", "up", "loss"),
        ("recovery", {"back": WELL}, "excellent", "neither", "none"),
        ("downlink loss", {"forward": BAD}, "poor", "down", "loss"),
        ("recovery", {"forward": WELL}, "excellent", "neither", "none"),
        ("silence", {"back": DEAD}, "lost", "up", "silence"),
    ):
        link.set(**change)
        began = time.monotonic()
        # who is cut off is told nothing
        for who in (alice,) if level == "lost" else (alice, bob):
            await until(f"{who.identity} knows of {name}", lambda: all_are(who, {"bob": level}), within_s=NOTICED_WITHIN_S, poll_s=0.1)
        told = (await alice.qualities())[-1][0] - began
        print(f"{name}: told after {told:.1f} s", flush=True)
        found = await until("REST says the same", lambda: connection(node, room, (level, direction, cause)), within_s=NOTICED_WITHIN_S)
        assert found["since"] <= time.time() and (level == "excellent") == (found["score"] > 4), found
        await until(
            "metrics say the same",
            lambda: node.metrics()[f'sfu_connection_quality_participants{{cause="{cause}",direction="{direction}",level="{level}"}}'] >= 1,
            within_s=NOTICED_WITHIN_S,
        )
    assert not {"poor", "lost"} & {level for _, whose, level in await alice.qualities() if whose == "alice"}


async def all_are(who: RemotePeer, expected: dict[str, str]) -> bool:
    """What somebody was told last is this."""
    newest = {whose: level for _, whose, level in await who.qualities()}
    return newest.items() >= expected.items()


def connection(node: Node, room: str, expected: tuple[str, str, str]) -> dict[str, Any] | None:
    """What the REST API says of bob, once it is this."""
    token = access_token(room, "doctor", KEY, SECRET, room_admin=True)
    status, body = node.get(f"/v1/rooms/{room}/participants/bob/quality", {"Authorization": f"Bearer {token}"})
    assert status == 200, body
    found = json.loads(body)["connection"]
    return found if (found["level"], found["direction"], found["cause"]) == expected else None
