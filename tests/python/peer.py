"""A participant on the native LiveKit SDK: publishes the known picture and tone, reads back what others publish."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import numpy as np
from livekit import api, rtc

from picture import STEP_BACK_LIMIT, PictureReport, paint
from server import Server
from waiting import until

SAMPLE_RATE_HZ = 48_000
AUDIO_CHUNK = SAMPLE_RATE_HZ // 100
SMALLEST_WIDTH = 64
SPECTRUM_SAMPLES = 9600
"""A fifth of a second: 5 Hz a bin."""


def access_token(room: str, identity: str, key: str = "devkey", secret: str = "secret", ttl: timedelta = timedelta(minutes=10), **grants: bool) -> str:
    """A token as an application's own server would mint it."""
    video = api.VideoGrants(room_join=grants.pop("room_join", True), room=room, can_update_own_metadata=True, **grants)
    return api.AccessToken(key, secret).with_identity(identity).with_name(identity).with_ttl(ttl).with_grants(video).to_jwt()


class Peer:
    """Joins with `join`, ends with `leave`; in between it keeps what it saw and heard per (identity, source)."""

    def __init__(self, server: Server, room: str, identity: str) -> None:
        self.server, self.room_name, self.identity = server, room, identity
        self.room = rtc.Room()
        self.pictures: dict[tuple[str, int], PictureReport] = {}
        self.sound: dict[str, np.ndarray] = {}
        self.messages: list[rtc.DataPacket] = []
        self.muted: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listen()

    async def join(self, token: str | None = None, options: rtc.RoomOptions | None = None) -> None:
        """Connects; raises `rtc.ConnectError` when refused."""
        jwt = access_token(self.room_name, self.identity) if token is None else token
        await self.room.connect(self.server.ws_url, jwt, options or rtc.RoomOptions())

    async def leave(self) -> None:
        """Says goodbye and stops all tasks."""
        await self.room.disconnect()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def publish_picture(
        self, picture_id: int, *, width: int = 320, height: int = 180, fps: int = 15, codec: rtc.VideoCodec.ValueType = rtc.VideoCodec.VP8, simulcast: bool = False,
        max_bitrate_bps: int = 600_000, noise: int = 0,
    ) -> rtc.LocalTrackPublication:
        """Publishes a camera that shows the known picture; with `noise` it takes the bitrate that it may have."""
        source = rtc.VideoSource(width, height)
        track = rtc.LocalVideoTrack.create_video_track("picture", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, video_codec=codec, simulcast=simulcast)
        options.video_encoding.max_framerate = fps
        options.video_encoding.max_bitrate = max_bitrate_bps
        self._start(self._paint(source, picture_id, width, height, fps, noise))
        return await self.room.local_participant.publish_track(track, options)

    async def publish_tone(self, frequency_hz: int, *, red: bool | None = None) -> rtc.LocalTrackPublication:
        """Publishes a microphone that plays one tone; `red`: with redundancy (the SDK's own choice if None)."""
        source = rtc.AudioSource(SAMPLE_RATE_HZ, 1, queue_size_ms=200)
        track = rtc.LocalAudioTrack.create_audio_track("tone", source)
        self._start(self._play(source, frequency_hz))
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        if red is not None:
            options.red = red
        return await self.room.local_participant.publish_track(track, options)

    def picture(self, identity: str, source: int = rtc.TrackSource.SOURCE_CAMERA) -> PictureReport:
        """What was seen of that participant."""
        return self.pictures.setdefault((identity, source), PictureReport())

    async def sees(self, identity: str, picture_id: int, frames: int = 15, source: int = rtc.TrackSource.SOURCE_CAMERA) -> PictureReport:
        """Waits until that picture is read and has moved on by `frames` frames."""
        report = self.picture(identity, source)
        await until(f"{self.identity} sees {identity}", lambda: report.readable > 0)
        start, first_number = report.readable, report.last_number
        await until(f"{self.identity} sees {frames} frames of {identity}", lambda: report.readable >= start + frames)
        assert report.ids == {picture_id}, f"the camera of {identity} shows its own picture"
        limit = STEP_BACK_LIMIT if len(report.sizes) > 1 else 0
        assert report.backward_by <= limit, f"frame numbers grow: {report}"
        assert report.last_number > first_number, "the picture moves"
        return report

    async def hears(self, identity: str, frequency_hz: int) -> None:
        """Waits until the strongest tone of that participant is this one."""
        await until(f"{self.identity} hears {frequency_hz} Hz from {identity}, last {self.tone(identity)}", lambda: abs(self.tone(identity)[0] - frequency_hz) <= 10)

    def tone(self, identity: str) -> tuple[float, float]:
        """Strongest frequency and its level (0..1) of the last fifth of a second; (0, 0) for silence."""
        samples = self.sound.get(identity)
        if samples is None or len(samples) < SPECTRUM_SAMPLES:
            return 0.0, 0.0
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) / len(samples) * 4
        peak = int(spectrum.argmax())
        return (peak * SAMPLE_RATE_HZ / len(samples), float(spectrum[peak])) if spectrum[peak] > 0.01 else (0.0, 0.0)

    def remote(self, identity: str) -> rtc.RemoteParticipant | None:
        """That participant, while there."""
        return self.room.remote_participants.get(identity)

    def _listen(self) -> None:
        @self.room.on("track_subscribed")
        def _(track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
            if track.kind == rtc.TrackKind.KIND_VIDEO:
                self._start(self._watch(track, self.picture(participant.identity, publication.source)))
            else:
                self._start(self._hear(track, participant.identity))

        @self.room.on("data_received")
        def _(packet: rtc.DataPacket) -> None:
            self.messages.append(packet)

        @self.room.on("track_muted")
        def _(_participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
            self.muted.add(publication.sid)

        @self.room.on("track_unmuted")
        def _(_participant: rtc.Participant, publication: rtc.TrackPublication) -> None:
            self.muted.discard(publication.sid)

    def _start(self, work) -> None:  # noqa: ANN001
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _paint(self, source: rtc.VideoSource, picture_id: int, width: int, height: int, fps: int, noise: int) -> None:
        number, started = 0, time.monotonic()
        while True:
            source.capture_frame(rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, paint(width, height, picture_id, number, noise)))
            number += 1
            await asyncio.sleep(max(0.0, started + number / fps - time.monotonic()))

    async def _play(self, source: rtc.AudioSource, frequency_hz: int) -> None:
        at = 0
        while True:
            phase = 2 * np.pi * frequency_hz * np.arange(at, at + AUDIO_CHUNK) / SAMPLE_RATE_HZ
            samples = (12_000 * np.sin(phase)).astype(np.int16)
            await source.capture_frame(rtc.AudioFrame(samples.tobytes(), SAMPLE_RATE_HZ, 1, AUDIO_CHUNK))
            at += AUDIO_CHUNK

    async def _watch(self, track: rtc.Track, report: PictureReport) -> None:
        stream = rtc.VideoStream(track, format=rtc.VideoBufferType.I420)
        try:
            async for event in stream:
                frame = event.frame
                # A muted or ending track shows black frames of two pixels.
                if frame.width >= SMALLEST_WIDTH:
                    luma = np.frombuffer(frame.data, np.uint8)[: frame.width * frame.height].reshape(frame.height, frame.width)
                    report.take(luma, time.monotonic())
        finally:
            await stream.aclose()

    async def _hear(self, track: rtc.Track, identity: str) -> None:
        stream = rtc.AudioStream(track, sample_rate=SAMPLE_RATE_HZ, num_channels=1)
        kept = np.zeros(0, np.float32)
        try:
            async for event in stream:
                kept = np.concatenate([kept, np.frombuffer(event.frame.data, np.int16) / 32768])[-SPECTRUM_SAMPLES:]
                self.sound[identity] = kept
        finally:
            await stream.aclose()
