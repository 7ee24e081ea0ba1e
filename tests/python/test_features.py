"""What the native SDK offers beside audio and video: RPC, streams, data tracks, connection quality."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest
from livekit import rtc

from peer import Peer
from waiting import until

MEGABYTE = 1_000_000


async def two(peer) -> tuple[Peer, Peer]:
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    await until("they see each other", lambda: alice.remote("bob") and bob.remote("alice"))
    return alice, bob


async def test_a_call_is_answered_or_refused(peer):
    alice, bob = await two(peer)

    @bob.room.local_participant.register_rpc_method("reverse")
    async def _(data: rtc.RpcInvocationData) -> str:
        if not data.payload:
            raise rtc.RpcError(101, "nothing to reverse")
        return f"{data.caller_identity}:{data.payload[::-1]}"

    caller = alice.room.local_participant
    for payload in ("abc", "é" * 5000):
        assert await caller.perform_rpc(destination_identity="bob", method="reverse", payload=payload) == f"alice:{payload[::-1]}"
    with pytest.raises(rtc.RpcError) as refused:
        await caller.perform_rpc(destination_identity="bob", method="reverse", payload="")
    assert (refused.value.code, refused.value.message) == (101, "nothing to reverse")


async def test_a_text_and_a_megabyte_of_bytes_arrive_whole(peer):
    alice, bob = await two(peer)
    texts: list[tuple[str, str]] = []
    files: list[tuple[str, str, str]] = []
    tasks: set[asyncio.Task[None]] = set()

    async def read_text(reader: rtc.TextStreamReader, identity: str) -> None:
        texts.append((identity, await reader.read_all()))

    async def read_file(reader: rtc.ByteStreamReader, identity: str) -> None:
        digest = hashlib.sha256()
        async for chunk in reader:
            digest.update(chunk)
        files.append((identity, reader.info.name, digest.hexdigest()))

    bob.room.register_text_stream_handler("text", lambda reader, identity: tasks.add(asyncio.create_task(read_text(reader, identity))))
    bob.room.register_byte_stream_handler("file", lambda reader, identity: tasks.add(asyncio.create_task(read_file(reader, identity))))
    text = " ".join(f"{number}. 日本語" for number in range(9000))
    await alice.room.local_participant.send_text(text, topic="text")
    await until("the text arrives", lambda: texts)
    assert texts == [("alice", text)]
    noise = random.Random(1).randbytes(MEGABYTE)
    writer = await alice.room.local_participant.stream_bytes("noise.bin", total_size=len(noise), topic="file")
    await writer.write(noise)
    await writer.aclose()
    await until("the file arrives", lambda: files, within_s=60)
    assert files == [("alice", "noise.bin", hashlib.sha256(noise).hexdigest())]


async def test_frames_of_a_data_track_arrive(peer):
    alice, bob = await two(peer)
    found: list[rtc.RemoteDataTrack] = []
    bob.room.on("data_track_published", found.append)
    track = await alice.room.local_participant.publish_data_track(name="position")
    await until("the track is seen", lambda: found)
    assert (found[0].info.name, found[0].publisher_identity) == ("position", "alice")
    stream = found[0].subscribe()
    frames: list[bytes] = []

    async def read() -> None:
        async for frame in stream:
            frames.append(bytes(frame.payload))

    reading = asyncio.create_task(read())
    try:
        for payload in (b"north", bytes(range(256)) * 100):

            def pushed(payload: bytes = payload) -> bool:
                track.try_push(rtc.DataTrackFrame(payload=payload))
                return payload in frames

            # Packets are lossy and nobody says when a subscription is up, so the frame is repeated until it comes.
            await until("the frame arrives", pushed, poll_s=0.2)
    finally:
        reading.cancel()
        stream.close()
    await track.unpublish()


async def test_a_good_connection_is_called_excellent(peer):
    alice, bob = peer("alice"), peer("bob")
    told: list[tuple[str, int]] = []
    bob.room.on("connection_quality_changed", lambda participant, quality: told.append((participant.identity, quality)))
    await asyncio.gather(alice.join(), bob.join())
    await asyncio.gather(alice.publish_picture(15), alice.publish_tone(440))
    await bob.sees("alice", 15)
    await until("both are excellent", lambda: {identity for identity, quality in told if quality == rtc.ConnectionQuality.QUALITY_EXCELLENT} >= {"alice", "bob"}, within_s=20)
