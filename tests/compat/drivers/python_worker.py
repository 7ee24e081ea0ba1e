"""Participants on the Python SDK for the Node side of the suite: the methods of `window.lab` that this SDK has.

In: one JSON object per line on standard input, `{id, who, method, args}`; `who` names a participant of this process, or a
client of the server's API where it starts with "api".
Out: one line per answer on file descriptor 3, `{id, result}` or `{id, error}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "python"), str(Path(__file__).resolve().parent)]

from livekit import rtc  # noqa: E402
from livekit.rtc.participant import PublishTrackError  # noqa: E402
from peer import Peer  # noqa: E402
from python_api import Api  # noqa: E402
from server import Server  # noqa: E402
from waiting import until  # noqa: E402

CODECS = {"vp8": rtc.VideoCodec.VP8, "vp9": rtc.VideoCodec.VP9, "h264": rtc.VideoCodec.H264, "av1": rtc.VideoCodec.AV1, "h265": rtc.VideoCodec.H265}
SOURCES = {"camera": rtc.TrackSource.SOURCE_CAMERA, "microphone": rtc.TrackSource.SOURCE_MICROPHONE, "screen_share": rtc.TrackSource.SOURCE_SCREENSHARE}
NAMES = {number: name for name, number in SOURCES.items()}
QUALITIES = {"LOW": rtc.VideoQuality.VIDEO_QUALITY_LOW, "MEDIUM": rtc.VideoQuality.VIDEO_QUALITY_MEDIUM, "HIGH": rtc.VideoQuality.VIDEO_QUALITY_HIGH}
SCENARIOS = {
    "signal-reconnect": rtc.SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT,
    "full-reconnect": rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT,
    "node-failure": rtc.SimulateScenarioKind.SIMULATE_NODE_FAILURE,
    "server-leave": rtc.SimulateScenarioKind.SIMULATE_SERVER_LEAVE,
    "migration": rtc.SimulateScenarioKind.SIMULATE_MIGRATION,
}


def pattern(size: int, seed: int) -> bytes:
    """The bytes of tests/e2e/lib/pattern.js."""
    at = np.arange(size)
    return ((at * 31 + (at >> 8) * 17 + (at >> 16) * 7 + seed) & 0xFF).astype(np.uint8).tobytes()


def seed_of(data: bytes) -> int | None:
    """The seed with which `data` is the pattern, or None when it is damaged."""
    seed = data[0] if data else 0
    return seed if data == pattern(len(data), seed) else None


class Lab:
    """One participant; each public coroutine is a method that the tests call by its name in the page."""

    def __init__(self) -> None:
        self._peer: Peer | None = None
        self._published: dict[str, rtc.LocalTrackPublication] = {}
        self._arrived: list[dict[str, Any]] = []
        self._data_tracks: dict[str, rtc.LocalDataTrack] = {}
        self._data_frames: list[dict[str, Any]] = []
        self._transcriptions: list[dict[str, Any]] = []
        self._spoke: set[str] = set()
        self._speaking: list[str] = []
        self._events: list[dict[str, Any]] = []
        self._qualities: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, request: dict[str, Any]) -> dict[str, Any]:
        options = rtc.RoomOptions(auto_subscribe=request.get("autoSubscribe", True))
        wanted = request.get("options") or {}
        if "singlePeerConnection" in wanted:
            options.single_peer_connection = wanted["singlePeerConnection"]
        if "passphrase" in request:
            options.encryption = rtc.E2EEOptions(key_provider_options=rtc.KeyProviderOptions(shared_key=request["passphrase"].encode()))
        self._peer = Peer(Server(request["url"]), "", "")
        self._listen(self._peer.room)
        try:
            await self._peer.join(request["token"], options)
        except rtc.ConnectError as error:
            return {"ok": False, "reason": "", "status": 0, "message": str(error.message)}
        return {"ok": True, "sid": await self._peer.room.sid, "identity": self._me.identity, "tookMs": 0}

    async def leave(self) -> None:
        if self._peer:
            await self._peer.leave()
        for task in list(self._tasks):
            task.cancel()

    # ---- publishing ----

    async def publishPicture(self, request: dict[str, Any]) -> str:
        options = request.get("options") or {}
        codec = CODECS[options.get("videoCodec", "vp8")]
        size = {name: request[name] for name in ("width", "height", "fps") if name in request}
        publication = await self._joined.publish_picture(request["id"], codec=codec, simulcast=options.get("simulcast", False), **size)
        self._published["camera"] = publication
        return publication.sid

    async def refusedPublish(self, request: dict[str, Any]) -> str:
        try:
            await self.publishPicture(request)
        except PublishTrackError as error:
            return error.message or "refused"
        return ""

    async def publishTone(self, frequency_hz: int, options: dict[str, Any] | None = None) -> str:
        publication = await self._joined.publish_tone(frequency_hz, red=(options or {}).get("red"))
        self._published["microphone"] = publication
        return publication.sid

    async def setMuted(self, source: str, is_muted: bool) -> None:
        track = self._published[source].track
        track.mute() if is_muted else track.unmute()

    async def unpublish(self, source: str) -> None:
        await self._me.unpublish_track(self._published.pop(source).sid)

    async def describe(self, wanted: dict[str, Any]) -> None:
        # Each request of this SDK repeats the rest of the profile as it knows it, and what the last one changed it knows a moment
        # after the answer: without waiting, the next one may set that back.
        if "name" in wanted:
            await self._me.set_name(wanted["name"])
            await until("its own name is known", lambda: self._me.name == wanted["name"])
        if "metadata" in wanted:
            await self._me.set_metadata(wanted["metadata"])
            await until("its own metadata is known", lambda: self._me.metadata == wanted["metadata"])
        if "attributes" in wanted:
            await self._me.set_attributes(wanted["attributes"])

    # ---- data, RPC, streams ----

    async def send(self, text: str, options: dict[str, Any]) -> None:
        await self._me.publish_data(text.encode(), reliable=options["reliable"], topic=options.get("topic", ""), destination_identities=options.get("destinationIdentities", []))

    async def messages(self) -> list[dict[str, str]]:
        return [{"from": m.participant.identity if m.participant else "", "text": m.data.decode(), "topic": m.topic or ""} for m in self._joined.messages]

    async def serveRpc(self, method: str) -> None:
        async def answer(call: rtc.RpcInvocationData) -> str:
            if call.payload == "fail":
                raise ValueError("failed as asked")
            return f"{self._me.identity} heard {call.caller_identity}: {call.payload}"

        self._me.register_rpc_method(method, answer)

    async def callRpc(self, destination: str, method: str, payload: str) -> dict[str, Any]:
        try:
            return {"answer": await self._me.perform_rpc(destination_identity=destination, method=method, payload=payload)}
        except rtc.RpcError as error:
            return {"code": int(error.code)}

    async def takeStreams(self, topic: str) -> None:
        async def take_text(reader: rtc.TextStreamReader, identity: str) -> None:
            text = await reader.read_all()
            self._arrived.append({"from": identity, "topic": topic, "text": text, "attributes": dict(reader.info.attributes or {})})

        async def take_bytes(reader: rtc.ByteStreamReader, identity: str) -> None:
            data = b"".join([chunk async for chunk in reader])
            info = reader.info
            self._arrived.append({"from": identity, "topic": topic, "attributes": dict(info.attributes or {}), "name": info.name, "size": len(data), "seed": seed_of(data)})

        self._joined.room.register_text_stream_handler(topic, lambda reader, identity: self._start(take_text(reader, identity)))
        self._joined.room.register_byte_stream_handler(topic, lambda reader, identity: self._start(take_bytes(reader, identity)))

    async def sendText(self, topic: str, text: str, attributes: dict[str, str] | None = None) -> None:
        await self._me.send_text(text, topic=topic, attributes=attributes or {})

    async def sendBytes(self, topic: str, name: str, size: int, seed: int, compress: bool = False) -> None:
        await self._me.send_bytes(pattern(size, seed), name=name, topic=topic, compress=compress)

    async def arrived(self) -> list[dict[str, Any]]:
        return self._arrived

    async def publishDataTrack(self, name: str) -> None:
        self._data_tracks[name] = await self._me.publish_data_track(name=name)

    async def pushDataFrame(self, name: str, size: int, seed: int) -> None:
        self._data_tracks[name].try_push(rtc.DataTrackFrame(payload=pattern(size, seed)))

    async def dataFrames(self) -> list[dict[str, Any]]:
        return self._data_frames

    async def publishTranscription(self, identity: str, track_sid: str, text: str) -> None:
        segment = rtc.TranscriptionSegment(id="segment", text=text, start_time=0, end_time=100, language="en", final=True)
        await self._me.publish_transcription(rtc.Transcription(participant_identity=identity, track_sid=track_sid, segments=[segment]))

    async def transcriptions(self) -> list[dict[str, Any]]:
        return self._transcriptions

    # ---- what this participant sees ----

    async def picture(self, identity: str, source: str = "camera") -> dict[str, Any] | None:
        report = self._joined.pictures.get((identity, SOURCES[source]))
        if report is None:
            return None
        sizes = [f"{width}x{height}" for width, height in report.sizes]
        counts = {"readable": report.readable, "unreadable": report.unreadable, "backward": report.backward, "backwardBy": report.backward_by}
        seen = {"ids": sorted(report.ids), "size": f"{report.size[0]}x{report.size[1]}", "sizes": sizes, "lastNumber": report.last_number}
        return {**counts, **seen, "longestGapMs": int(report.longest_gap_s * 1000)}

    async def resetPicture(self, identity: str, source: str = "camera") -> None:
        self._joined.picture(identity, SOURCES[source]).reset()

    async def tone(self, identity: str) -> dict[str, float] | None:
        hz, level = self._joined.tone(identity)
        return {"hz": hz, "db": 20 * float(np.log10(level))} if level > 0 else None

    async def remote(self, identity: str) -> dict[str, Any] | None:
        who = self._joined.remote(identity)
        if who is None:
            return None
        tracks = {
            NAMES.get(p.source, ""): {"sid": p.sid, "isMuted": p.muted, "isSubscribed": p.track is not None, "mimeType": p.mime_type} for p in who.track_publications.values()
        }
        return {
            "identity": identity, "sid": who.sid, "name": who.name, "metadata": who.metadata, "attributes": dict(who.attributes), "isSpeaking": identity in self._speaking, "tracks": tracks,
        }  # fmt: skip

    async def received(self, identity: str, source: str) -> dict[str, Any] | None:
        publication = self._publication(identity, source)
        if publication.track is None:
            return None
        stats = await publication.track.get_stats()
        codecs = {s.codec.rtc.id: s.codec.codec.mime_type for s in stats if s.HasField("codec")}
        for each in stats:
            if each.HasField("inbound_rtp"):
                inbound = each.inbound_rtp
                return {"mimeType": codecs.get(inbound.stream.codec_id, ""), "frameWidth": inbound.inbound.frame_width, "frameHeight": inbound.inbound.frame_height}
        return None

    async def state(self) -> dict[str, Any]:
        room = self._joined.room
        connection = "connected" if room.connection_state == rtc.ConnectionState.CONN_CONNECTED else "other"
        return {"connection": connection, "identity": self._me.identity, "remotes": sorted(room.remote_participants)}

    async def roomState(self) -> dict[str, Any]:
        room = self._joined.room
        return {"sid": await room.sid, "name": room.name, "metadata": room.metadata, "participants": room.num_participants}

    async def me(self) -> dict[str, Any]:
        me = self._me
        allowed = me.permissions
        tracks = [{"source": NAMES.get(p.source, ""), "sid": p.sid, "isMuted": p.muted} for p in me.track_publications.values()]
        return {
            "identity": me.identity, "name": me.name, "metadata": me.metadata, "attributes": dict(me.attributes), "tracks": tracks,
            "canPublish": allowed.can_publish, "canSubscribe": allowed.can_subscribe, "canPublishData": allowed.can_publish_data,
        }  # fmt: skip

    async def events(self) -> list[dict[str, Any]]:
        return self._events

    async def spoke(self) -> list[str]:
        return sorted(self._spoke)

    async def speaking(self) -> list[str]:
        return self._speaking

    async def quality(self, identity: str) -> str:
        return self._qualities.get(identity, "unknown")

    async def setSubscribed(self, identity: str, source: str, is_subscribed: bool) -> None:
        self._publication(identity, source).set_subscribed(is_subscribed)

    async def setQualityOf(self, identity: str, source: str, quality: str) -> None:
        self._publication(identity, source).set_video_quality(QUALITIES[quality])

    async def allowSubscribers(self, identities: list[str] | None) -> None:
        permissions = [rtc.ParticipantTrackPermission(participant_identity=identity, allow_all=True) for identity in identities or []]
        self._me.set_track_subscription_permissions(allow_all_participants=identities is None, participant_permissions=permissions)

    async def setPassphrase(self, passphrase: str) -> None:
        self._joined.room.e2ee_manager.key_provider.set_shared_key(passphrase.encode(), 0)

    async def simulate(self, scenario: str) -> None:
        await self._joined.room.simulate_scenario(SCENARIOS[scenario])

    # ---- parts ----

    @property
    def _joined(self) -> Peer:
        assert self._peer, "not joined"
        return self._peer

    @property
    def _me(self) -> rtc.LocalParticipant:
        return self._joined.room.local_participant

    def _publication(self, identity: str, source: str) -> rtc.RemoteTrackPublication:
        who = self._joined.remote(identity)
        assert who, f"{identity} is not there"
        return next(p for p in who.track_publications.values() if p.source == SOURCES[source])

    def _start(self, work) -> None:  # noqa: ANN001
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _listen(self, room: rtc.Room) -> None:
        for name in ("connected", "disconnected", "reconnecting", "reconnected", "participant_connected", "participant_disconnected", "moved", "local_track_republished"):
            room.on(name, lambda *_details, name=name: self._events.append({"name": name, "atMs": 0, "detail": []}))

        @room.on("active_speakers_changed")
        def _(speakers: list[rtc.Participant]) -> None:
            self._speaking = sorted(who.identity for who in speakers)
            self._spoke.update(self._speaking)

        @room.on("connection_quality_changed")
        def _(participant: rtc.Participant, quality: rtc.ConnectionQuality) -> None:
            self._qualities[participant.identity] = rtc.ConnectionQuality(quality).name.removeprefix("QUALITY_").lower()

        @room.on("transcription_received")
        def _(segments: list[rtc.TranscriptionSegment], participant: rtc.Participant | None, _publication: rtc.TrackPublication | None) -> None:
            self._transcriptions.extend({"from": participant.identity if participant else "", "text": s.text, "isFinal": s.final} for s in segments)

        @room.on("data_track_published")
        def _(track: rtc.RemoteDataTrack) -> None:
            self._start(self._read_data_track(track))

    async def _read_data_track(self, track: rtc.RemoteDataTrack) -> None:
        async for frame in track.subscribe():
            data = bytes(frame.payload)
            self._data_frames.append({"from": track.publisher_identity, "topic": track.info.name, "attributes": {}, "size": len(data), "seed": seed_of(data)})


async def main() -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    answers = os.fdopen(3, "w", buffering=1)
    labs: dict[str, Lab | Api] = {}
    running: set[asyncio.Task[None]] = set()

    async def serve(call: dict[str, Any]) -> None:
        try:
            who = call["who"]
            lab = labs.setdefault(who, Api() if who.startswith("api") else Lab())
            answer = {"id": call["id"], "result": await getattr(lab, call["method"])(*call["args"])}
        except Exception as error:  # noqa: BLE001 whatever it is, the caller's test is to show it
            answer = {"id": call["id"], "error": f"{type(error).__name__}: {error}"}
        if call["method"] == "leave":
            labs.pop(call["who"], None)
        print(json.dumps(answer), file=answers)

    while line := await reader.readline():
        task = asyncio.create_task(serve(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
    for lab in labs.values():
        await lab.leave()


if __name__ == "__main__":
    asyncio.run(main())
