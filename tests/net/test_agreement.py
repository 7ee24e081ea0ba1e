"""What metrics and the REST API say of a participant agrees with what its browser says of itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from typing import Any

from calls import PICTURES, TONES_HZ, url
from link import Direction
from node import KEY, SECRET
from peer import access_token
from topology import IPV4, Network
from waiting import until

TOLERANCE = 0.10
WINDOW_S = 20
LEAST_LOSS = 0.01
"""Absolute: a share of some hundred packets wanders by so much."""


def close(mine: float, theirs: float, least: float = 0) -> bool:
    """Within ten percent."""
    return abs(mine - theirs) <= max(TOLERANCE * abs(theirs), least)


async def test_round_trip_loss_and_bitrate_are_those_of_get_stats(lab, serve, participant):
    """Bob's Chromium is behind a link with 60 ms each way and 3 % loss on the way to it."""
    network = Network.make(lab, families=(IPV4,))
    near = network.client("near")
    far, link = network.far_client("far")
    link.set(forward=Direction(delay_ms=60, loss_percent=3), back=Direction(delay_ms=60))
    node = serve(network.server)
    alice, bob = await participant(near, "alice"), await participant(far, "bob", "chromium")
    room = alice._log.removesuffix("-alice")
    await asyncio.gather(alice.join(url=url(network.address())), bob.join(url=url(network.address())))
    await asyncio.gather(alice.publish_picture(picture_id=PICTURES["alice"]), alice.publish_tone(frequency_hz=TONES_HZ["alice"]))
    await bob.sees(identity="alice", picture_id=PICTURES["alice"])

    first, began = _inbound(await bob.stats()), time.monotonic()
    before = node.metrics()
    assert subprocess.run(["promtool", "check", "metrics"], input=node.get("/metrics")[1], text=True, capture_output=True).stdout == ""
    await until("the window is over", lambda: time.monotonic() - began >= WINDOW_S, within_s=WINDOW_S + 5, poll_s=0.5)
    stats = await bob.stats()
    last, passed = _inbound(stats), time.monotonic() - began
    after = node.metrics()

    token = access_token(room, "doctor", KEY, SECRET, room_admin=True)
    status, body = node.get(f"/v1/rooms/{room}/participants/bob/quality?seconds={WINDOW_S}", {"Authorization": f"Bearer {token}"})
    assert status == 200, body
    tracks = {track["kind"]: track for track in json.loads(body)["tracks"] if track["direction"] == "out"}
    for kind in ("audio", "video"):
        said, (old, new) = tracks[kind], (first[kind], last[kind])
        kbps = (new["bytesReceived"] - old["bytesReceived"]) * 8 / 1000 / passed
        mine = sum(said["kbps"]) / len(said["kbps"])
        # what was lost was sent all the same
        assert close(mine * 0.97, kbps), f"{kind}: {mine} kbit/s, the browser says {kbps}"
        # Chromium does not take back what a retransmission brought
        packets, lost = new["packetsReceived"] - old["packetsReceived"], new["packetsLost"] - old["packetsLost"]
        seen = lost / (packets + lost)
        mine = sum(said["lost"]) / sum(said["packets"])
        assert close(mine, seen, LEAST_LOSS), f"{kind}: loss {mine}, the browser says {seen}"
        name = f'sfu_rtp_bytes_total{{direction="out",kind="{kind}"}}'
        scraped = (after[name] - before[name]) * 8 / 1000 / passed
        assert close(scraped * 0.97, kbps), f"{kind}: {scraped} kbit/s in metrics, the browser says {kbps}"
    pairs = [s["currentRoundTripTime"] * 1000 for s in stats if s["type"] == "candidate-pair" and s.get("nominated") and s.get("currentRoundTripTime")]
    known = [value for value in tracks["video"]["rttMs"] if value is not None]
    assert len(known) > WINDOW_S / 2
    round_trip = sum(known) / len(known)
    assert any(close(round_trip, pair) for pair in pairs), f"{round_trip} ms, the browser says {pairs}"
    count, total = (after[f"sfu_rtt_seconds_{part}"] - before[f"sfu_rtt_seconds_{part}"] for part in ("count", "sum"))
    assert count > WINDOW_S * 0.8 and total > 0


def _inbound(stats: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in stats if each["type"] == "inbound-rtp" and each["packetsReceived"] > 0}
