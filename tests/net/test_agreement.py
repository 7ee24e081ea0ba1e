"""What metrics and the REST API say of a participant agrees with what its browser says of itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from calls import PICTURES, TONES_HZ, url
from link import Direction
from node import KEY, SECRET, Node
from peer import access_token
from topology import IPV4, Network
from waiting import until

TOLERANCE = 0.10
WINDOW_S = 20
LEAST_LOSS = {"audio": 0.015, "video": 0.01}
"""Absolute: a share of some hundred packets wanders by so much, and Chromium reports on audio every five seconds only."""


def close(mine: float, theirs: float, least: float = 0) -> bool:
    """Within ten percent."""
    return abs(mine - theirs) <= max(TOLERANCE * abs(theirs), least)


async def test_round_trip_loss_and_bitrate_are_those_of_get_stats(lab, serve, participant):
    """Bob's Chromium is behind a link with 150 ms each way and 3 % loss on the way to it."""
    network = Network.make(lab, families=(IPV4,))
    near = network.client("near")
    far, link = network.far_client("far")
    link.set(forward=Direction(delay_ms=150, loss_percent=3), back=Direction(delay_ms=150))
    # who waits for a core has another round trip, and browser and server need not wait equally long
    node = serve(network.server, urgent=True)
    alice, bob = await participant(near, "alice"), await participant(far, "bob", "chromium", urgent=True)
    room = alice._log.removesuffix("-alice")
    await asyncio.gather(alice.join(url=url(network.address())), bob.join(url=url(network.address())))
    await asyncio.gather(alice.publish_picture(picture_id=PICTURES["alice"]), alice.publish_tone(frequency_hz=TONES_HZ["alice"]))
    await bob.sees(identity="alice", picture_id=PICTURES["alice"])

    before_all, began = await bob.stats(), time.monotonic()
    first = _inbound(before_all)
    before = node.metrics()
    assert subprocess.run(["promtool", "check", "metrics"], input=node.get("/metrics")[1], text=True, capture_output=True).stdout == ""
    await until("the window is over", lambda: time.monotonic() - began >= WINDOW_S, within_s=WINDOW_S + 5, poll_s=0.5)
    # as an app reports it, from what its SDK gives it
    assert node.post(f"/v1/rooms/{room}/participants/bob/stats", access_token(room, "bob", KEY, SECRET), report(first, await bob.stats(), node, room)) == 204
    await until("the report is in the timeline", lambda: "clientFps" in outbound(node, room)["video"], within_s=5, poll_s=0.5)
    stats = await bob.stats()
    last, passed = _inbound(stats), time.monotonic() - began
    after = node.metrics()

    tracks = outbound(node, room, round(passed))
    for kind in ("audio", "video"):
        said, (old, new) = tracks[kind], (first[kind], last[kind])
        # what came once more, by RTX, is counted apart here
        kbps = (received_once(new) - received_once(old)) * 8 / 1000 / passed
        mine = sum(said["kbps"]) / len(said["kbps"])
        # what was lost was sent all the same
        assert close(mine * 0.97, kbps), f"{kind}: {mine} kbit/s, the browser says {kbps}"
        # Chromium does not take back what a retransmission brought
        packets, lost = new["packetsReceived"] - old["packetsReceived"], new["packetsLost"] - old["packetsLost"]
        seen = lost / (packets + lost)
        mine = sum(said["lost"]) / sum(said["packets"])
        assert close(mine, seen, LEAST_LOSS[kind]), f"{kind}: loss {mine}, the browser says {seen}"
        name = f'sfu_rtp_bytes_total{{direction="out",kind="{kind}"}}'
        scraped = (after[name] - before[name]) * 8 / 1000 / passed
        assert close(scraped * 0.97, kbps), f"{kind}: {scraped} kbit/s in metrics, the browser says {kbps}"
    assert any(value for value in tracks["video"]["clientFps"] if value), "what the client says of itself is there too"
    said = [value for value in tracks["audio"]["clientJitterBufferMs"] if value is not None]
    heard = (last["audio"]["jitterBufferDelay"] - first["audio"]["jitterBufferDelay"]) / (last["audio"]["jitterBufferEmittedCount"] - first["audio"]["jitterBufferEmittedCount"])
    assert said and said[0] > 0 and heard > 0
    pairs = list(_round_trips_ms(before_all, stats))
    known = [value for value in tracks["video"]["rttMs"] if value is not None]
    assert len(known) > WINDOW_S / 2
    round_trip = sum(known) / len(known)
    assert any(close(round_trip, pair) for pair in pairs), f"{round_trip} ms, the browser says {pairs}"
    count, total = (after[f"sfu_rtt_seconds_{part}"] - before[f"sfu_rtt_seconds_{part}"] for part in ("count", "sum"))
    assert count > WINDOW_S * 0.8 and total > 0


def received_once(inbound: dict[str, Any]) -> int:
    """Payload bytes without retransmissions."""
    return inbound["bytesReceived"] - inbound.get("retransmittedBytesReceived", 0)


def outbound(node: Node, room: str, seconds: int = WINDOW_S) -> dict[str, dict[str, Any]]:
    """What the REST API says of the last seconds of what bob receives, by kind."""
    token = access_token(room, "doctor", KEY, SECRET, room_admin=True)
    status, body = node.get(f"/v1/rooms/{room}/participants/bob/quality?seconds={seconds}", {"Authorization": f"Bearer {token}"})
    assert status == 200, body
    return {track["kind"]: track for track in json.loads(body)["tracks"] if track["direction"] == "out"}


def report(first: dict[str, dict[str, Any]], stats: list[dict[str, Any]], node: Node, room: str) -> dict[str, Any]:
    """The body of a report: names and meaning of WebRTC's statistics, per track, as differences."""
    last, sids = _inbound(stats), {kind: track["sid"] for kind, track in outbound(node, room).items()}
    grown = lambda kind, name: last[kind].get(name, 0) - first[kind].get(name, 0)  # noqa: E731
    audio = {
        "sid": sids["audio"],
        "direction": "out",
        "jitterBufferDelay": grown("audio", "jitterBufferDelay") / grown("audio", "jitterBufferEmittedCount"),
        "concealedRatio": (grown("audio", "concealedSamples") - grown("audio", "silentConcealedSamples")) / grown("audio", "totalSamplesReceived"),
    }
    video = {"sid": sids["video"], "direction": "out", "freezeDuration": grown("video", "totalFreezesDuration"), "framesPerSecond": last["video"].get("framesPerSecond", 0)}
    return {"tracks": [audio, video]}


def _round_trips_ms(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[float]:
    """Means over the window of the connectivity checks of every path in use."""
    old = {each["id"]: each for each in before if each["type"] == "candidate-pair"}
    for pair in after:
        if pair["type"] == "candidate-pair" and pair.get("nominated") and pair["id"] in old:
            answers = pair["responsesReceived"] - old[pair["id"]]["responsesReceived"]
            if answers:
                yield (pair["totalRoundTripTime"] - old[pair["id"]]["totalRoundTripTime"]) / answers * 1000


def _inbound(stats: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in stats if each["type"] == "inbound-rtp" and each["packetsReceived"] > 0}
