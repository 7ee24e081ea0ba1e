"""How good a connection is: what clients are told of it, how soon, and what REST and metrics say of its direction and cause."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple

from calls import TONES_HZ, call, url
from link import Direction, Link
from node import KEY, SECRET, Node
from peer import access_token
from remote import RemotePeer
from topology import IPV4, Network
from waiting import until

GOAL_S = 5
"""From a change of the link until another participant has been told. Held to in virtual time (`sfu/sim/tests/engine/noticing.rs`)."""
TOLD_WITHIN_S = GOAL_S + 1.5
"""What is asserted here: with slack for a machine on which other tests run."""
SETTLED_WITHIN_S = 20
"""Who is behind a link that loses what it is told learns it by what is sent again."""
BAD = Direction(loss_percent=20)
DEAD = Direction(loss_percent=100)
FAR = Direction(delay_ms=400)
NARROW = Direction(rate_bps=100_000)
WELL = Direction()


class Change(NamedTuple):
    """What becomes of the link from bob (back) and to him (forward), and what is to be said of him."""

    name: str
    back: Direction
    forward: Direction
    levels: set[str]
    reasons: set[tuple[str, str]]


RECOVERY = Change("recovery", WELL, WELL, {"excellent"}, {("neither", "none")})
LOSS_UP = Change("uplink loss", BAD, WELL, {"poor"}, {("up", "loss")})
LOSS_DOWN = Change("downlink loss", WELL, BAD, {"poor"}, {("down", "loss")})
LONG = Change("a long way", FAR, FAR, {"good", "poor"}, {("both", "delay")})
"""At first it looks like a queue, and layers are left out for that: until they are back nothing is said of the next change."""
SILENCE = Change("silence", DEAD, WELL, {"lost"}, {("up", "silence")})
DEAF = Change("nothing arrives", WELL, DEAD, {"lost"}, {("down", "silence"), ("up", "silence")})
CONGESTION = Change("congestion", WELL, NARROW, {"good", "poor"}, {("down", "bandwidth"), ("down", "loss"), ("both", "delay")})


async def test_every_change_of_a_link_is_told_in_time_and_explained(lab, serve, participant):
    """Alice, whose own connection is another matter, is told of bob's, with sound and picture both ways."""
    network = Network.make(lab, families=(IPV4,))
    node = serve(network.server, urgent=True)
    far, link = network.far_client("far")
    alice, bob = await participant(network.client("near"), "alice", urgent=True), await participant(far, "bob", urgent=True)
    await call(alice, bob, url(network.address()))
    for who in (alice, bob):
        await until("both are excellent", lambda: all_are(who, {"alice": "excellent", "bob": "excellent"}), within_s=SETTLED_WITHIN_S)
    for told_to_bob, before in ((LOSS_UP, []), (RECOVERY, []), (RECOVERY, [LOSS_DOWN]), (CONGESTION, [LONG, RECOVERY, DEAF, RECOVERY])):
        await assert_told(node, link, alice, [*before, told_to_bob])
        await until(f"bob has been told of {told_to_bob.name} too", lambda change=told_to_bob: knows(bob, "bob", change.levels), within_s=SETTLED_WITHIN_S)
    await assert_told(node, link, alice, [SILENCE])


async def test_where_only_sound_flows_it_is_told_as_soon(lab, serve, participant):
    """A browser reports on sound each five seconds."""
    network = Network.make(lab, families=(IPV4,))
    node = serve(network.server, urgent=True)
    far, link = network.far_client("far")
    alice, bob = await participant(network.client("near"), "alice", urgent=True), await participant(far, "bob", kind="chromium", urgent=True)
    await asyncio.gather(*(who.join(url=url(network.address())) for who in (alice, bob)))
    await asyncio.gather(*(who.publish_tone(frequency_hz=TONES_HZ[who.identity]) for who in (alice, bob)))
    await asyncio.gather(alice.hears(identity="bob", frequency_hz=TONES_HZ["bob"]), bob.hears(identity="alice", frequency_hz=TONES_HZ["alice"]))
    await until("both are excellent", lambda: all_are(alice, {"alice": "excellent", "bob": "excellent"}), within_s=SETTLED_WITHIN_S)
    await assert_told(node, link, alice, [LOSS_DOWN, RECOVERY, LONG, RECOVERY, DEAF, RECOVERY, SILENCE])


async def assert_told(node: Node, link: Link, alice: RemotePeer, changes: list[Change]) -> None:
    """Makes the changes one after the other; each is told in time, and REST and metrics agree. What was late is named at the end."""
    room, late = alice._log.removesuffix("-alice"), []
    for number, change in enumerate(changes):
        link.set(back=change.back, forward=change.forward)
        began = time.monotonic()
        await until(f"alice knows of {change.name}", lambda: knows(alice, "bob", change.levels), within_s=SETTLED_WITHIN_S, poll_s=0.1)
        took_s = max(at for at, whose, _ in await alice.qualities() if whose == "bob") - began
        print(f"{change.name}: told after {took_s:.1f} s (goal: {GOAL_S} s)", flush=True)
        if took_s > TOLD_WITHIN_S:
            late.append(f"{number}, {change.name}: {took_s:.1f} s")
        found = await until("REST says the same", lambda: connection(node, room, change), within_s=SETTLED_WITHIN_S)
        assert found["since"] <= time.time() and (found["level"] == "excellent") == (found["score"] > 4), found
        labels = f'cause="{found["cause"]}",direction="{found["direction"]}",level="{found["level"]}"'
        await until("metrics say the same", lambda: node.metrics()[f"sfu_connection_quality_participants{{{labels}}}"] >= 1, within_s=SETTLED_WITHIN_S)
    assert not late, f"told later than after {TOLD_WITHIN_S} s: {late}"
    assert not {"poor", "lost"} & {level for _, whose, level in await alice.qualities() if whose == "alice"}


async def all_are(who: RemotePeer, expected: dict[str, str]) -> bool:
    """What somebody was told last is this."""
    newest = {whose: level for _, whose, level in await who.qualities()}
    return newest.items() >= expected.items()


async def knows(who: RemotePeer, whose: str, levels: set[str]) -> bool:
    """What somebody was told last of somebody is one of these."""
    return {told: level for _, told, level in await who.qualities()}.get(whose) in levels


def connection(node: Node, room: str, change: Change) -> dict[str, Any] | None:
    """What the REST API says of bob, once it is this."""
    token = access_token(room, "doctor", KEY, SECRET, room_admin=True)
    status, body = node.get(f"/v1/rooms/{room}/participants/bob/quality", {"Authorization": f"Bearer {token}"})
    assert status == 200, body
    found = json.loads(body)["connection"]
    return found if found["level"] in change.levels and (found["direction"], found["cause"]) in change.reasons else None
