"""A client that speaks protobuf's JSON form in text frames gets the same answers in the same form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from livekit.protocol import rtc as protocol

from attack import RawSignaling
from peer import Peer, access_token
from waiting import until


async def answer(socket: ClientConnection, kind: str, within_s: float = 10.0) -> Any:
    """The next message of that kind, which has to be text; others are skipped."""
    async with asyncio.timeout(within_s):
        while True:
            frame = await socket.recv()
            message = json.loads(frame) if isinstance(frame, str) else {}
            if kind in message:
                return message[kind]


async def ask(socket: ClientConnection, **message: Any) -> None:
    """Sends one request as JSON."""
    await socket.send(json.dumps(message))


def url(server: Any, token: str) -> str:
    return f"{server.ws_url}/rtc?access_token={token}&auto_subscribe=1&sdk=unknown&protocol=16&version=0"


async def test_text_is_answered_with_text_in_camel_case(server, room):
    async with connect(url(server, access_token(room, "jason")), compression=None) as socket:
        first = await socket.recv()
        assert isinstance(first, bytes), "until a client has spoken it is spoken to in protobuf"
        assert protocol.SignalResponse.FromString(first).join.participant.identity == "jason"
        await ask(socket, pingReq={"timestamp": "77", "rtt": "1"})
        pong = await answer(socket, "pongResp")
        assert pong["lastPingTimestamp"] == "77" and int(pong["timestamp"]) > 0, "64-bit numbers are strings"
        await ask(socket, updateMetadata={"name": "Jason", "metadata": "m", "attributes": {"hat": "red"}, "requestId": 9})
        update = await answer(socket, "update")
        participant = update["participants"][0]
        assert (participant["name"], participant["metadata"], participant["attributes"]) == ("Jason", "m", {"hat": "red"})
        reply = await answer(socket, "requestResponse")
        assert reply["requestId"] == 9 and reply.get("reason", "OK") == "OK"


async def test_enums_are_names_or_numbers_and_unknown_fields_are_skipped(server, room):
    async with connect(url(server, access_token(room, "jason")), compression=None) as socket:
        for cid, kind in (("by-name", "AUDIO"), ("by-number", 0)):
            await ask(socket, addTrack={"cid": cid, "type": kind, "source": "MICROPHONE", "ofTheFuture": {"a": [1]}})
            published = await answer(socket, "trackPublished")
            assert published["cid"] == cid and published["track"]["source"] == "MICROPHONE"
            assert published["track"]["sid"].startswith("TR_AM")


async def test_a_json_client_and_an_sdk_see_each_other(server, room, peer):
    alice: Peer = peer("alice")
    await alice.join()
    async with connect(url(server, access_token(room, "jason")), compression=None) as socket:
        await ask(socket, ping="1")
        await until("alice sees jason", lambda: alice.remote("jason") is not None)
        await alice.room.local_participant.set_metadata("seen")
        update = await answer(socket, "update")
        while update["participants"][0].get("metadata") != "seen":
            update = await answer(socket, "update")
        assert update["participants"][0]["identity"] == "alice"
        await ask(socket, leave={"reason": "CLIENT_INITIATED"})
        await until("jason is gone", lambda: alice.remote("jason") is None)


async def test_bad_text_is_as_bad_as_bad_bytes(server, room):
    for nonsense in ("{not json", '{"pingReq":7}', "[]", "null"):
        async with RawSignaling(server, access_token(room, "mallory")) as mallory:
            await mallory.receive("join")
            for _ in range(20):
                await mallory.send(nonsense)
            assert await mallory.close_code() == 1007, nonsense


async def test_a_client_may_change_its_form(server, room):
    async with connect(url(server, access_token(room, "both")), compression=None) as socket:
        await ask(socket, pingReq={"timestamp": "1"})
        assert (await answer(socket, "pongResp"))["lastPingTimestamp"] == "1"
        await socket.send(protocol.SignalRequest(ping_req=protocol.Ping(timestamp=2)).SerializeToString())
        async with asyncio.timeout(10):
            while True:
                frame = await socket.recv()
                if isinstance(frame, bytes) and protocol.SignalResponse.FromString(frame).HasField("pong_resp"):
                    return
