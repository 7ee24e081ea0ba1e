"""A participant that lives in a namespace: takes orders as lines of JSON on standard input, answers on standard output.

Order: {"id": 1, "method": "sees", "args": {...}}; answer: {"id": 1, "result": ...} or {"id": 1, "error": "..."}. Orders run
side by side. The participant is `peer.Peer` (native SDK) or `chromium.Page`; `remote.py` is the other end of this.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from livekit import rtc  # noqa: E402

import chromium  # noqa: E402
from peer import Peer, access_token  # noqa: E402
from server import Server  # noqa: E402

from node import KEY, SECRET  # noqa: E402


QUALITIES = {
    rtc.ConnectionQuality.QUALITY_EXCELLENT: "excellent",
    rtc.ConnectionQuality.QUALITY_GOOD: "good",
    rtc.ConnectionQuality.QUALITY_POOR: "poor",
    rtc.ConnectionQuality.QUALITY_LOST: "lost",
}


class NativeAgent:
    """Orders for the native SDK."""

    def __init__(self, room: str, identity: str) -> None:
        self._token = access_token(room, identity, KEY, SECRET)
        self._room, self._identity = room, identity

    async def join(self, url: str) -> None:
        self.peer = Peer(Server(url), self._room, self._identity)
        self.states: list[str] = []
        for name in ("reconnecting", "reconnected", "disconnected"):
            self.peer.room.on(name, lambda *_, name=name: self.states.append(name))
        self.told: list[tuple[float, str, str]] = []
        self.peer.room.on("connection_quality_changed", lambda who, quality: self.told.append((time.monotonic(), who.identity, QUALITIES[quality])))
        await self.peer.join(self._token)

    async def publish_picture(self, **options: Any) -> None:
        self._camera = await self.peer.publish_picture(**options)

    async def publish_tone(self, frequency_hz: int) -> None:
        self._microphone = await self.peer.publish_tone(frequency_hz)

    async def mute(self, muted: bool) -> None:
        for publication in (self._camera, self._microphone):
            publication.track.mute() if muted else publication.track.unmute()

    async def sees(self, identity: str, picture_id: int, frames: int = 15) -> dict[str, Any]:
        return _plain(await self.peer.sees(identity, picture_id, frames))

    async def hears(self, identity: str, frequency_hz: int) -> None:
        await self.peer.hears(identity, frequency_hz)

    async def report(self, identity: str) -> dict[str, Any]:
        return _plain(self.peer.picture(identity))

    async def reset(self, identity: str) -> None:
        self.peer.picture(identity).reset()

    async def room_states(self) -> list[str]:
        return self.states

    async def qualities(self) -> list[tuple[float, str, str]]:
        """Every quality of a connection that it was told: when by the monotonic clock, whose, which."""
        return self.told

    async def listen_for_files(self) -> None:
        """Keeps the digest of every byte stream on the topic `file` and the numbers of all reliable packets."""
        self._files: list[str] = []
        self._readers: set[asyncio.Task[None]] = set()

        async def read(reader: rtc.ByteStreamReader) -> None:
            digest = hashlib.sha256()
            async for chunk in reader:
                digest.update(chunk)
            self._files.append(digest.hexdigest())

        self.peer.room.register_byte_stream_handler("file", lambda reader, _identity: self._readers.add(asyncio.create_task(read(reader))))

    async def files(self) -> list[str]:
        return self._files

    async def send_file(self, size: int) -> str:
        """Streams noise; its digest."""
        noise = random.Random(size).randbytes(size)
        writer = await self.peer.room.local_participant.stream_bytes("noise.bin", total_size=size, topic="file")
        await writer.write(noise)
        await writer.aclose()
        return hashlib.sha256(noise).hexdigest()

    async def answer_calls(self) -> None:
        """Answers `reverse` with the payload reversed."""

        @self.peer.room.local_participant.register_rpc_method("reverse")
        async def _(data: rtc.RpcInvocationData) -> str:
            return data.payload[::-1]

    async def ask(self, identity: str, payload: str) -> str:
        return await self.peer.room.local_participant.perform_rpc(destination_identity=identity, method="reverse", payload=payload)

    async def leave(self) -> None:
        await self.peer.leave()


class ChromiumAgent:
    """Orders for a page in Chromium. It asks no resolver: the network has none."""

    def __init__(self, room: str, identity: str) -> None:
        self._room, self._identity = room, identity
        chromium.FLAGS[:] = [flag for flag in chromium.FLAGS if not flag.startswith("--host-resolver-rules")]

    async def join(self, url: str, trusted_key: str | None = None, relay_only: bool = False) -> None:
        """`trusted_key`: SHA-256 of the public key of a certificate that nobody has signed."""
        if trusted_key:
            chromium.FLAGS.append(f"--ignore-certificate-errors-spki-list={trusted_key}")
        self._browser = await chromium.Browser().__aenter__()
        self._page = await self._browser.page(Server(url), self._room, self._identity)
        policy = {"rtcConfig": {"iceTransportPolicy": "relay"}} if relay_only else {}
        result = await self._page.lab("join", {"url": self._page.server.ws_url, "token": access_token(self._room, self._identity, KEY, SECRET), **policy})
        assert result["ok"], result
        await self._page.evaluate("() => window.features.listen()")

    async def received(self, identity: str, source: str) -> dict[str, Any]:
        """What the browser's statistics say of a track."""
        return await self._page.lab("received", identity, source)

    async def report(self, identity: str) -> dict[str, Any]:
        return await self._page.lab("picture", identity)

    async def reset(self, identity: str) -> None:
        await self._page.lab("resetPicture", identity)

    async def stream_states(self) -> list[str]:
        """Every change of a track from `active` to `paused` and back."""
        return [each["state"] for each in await self._page.evaluate("() => window.features.streamStates()")]

    async def publish_picture(self, picture_id: int, **options: Any) -> None:
        await self._page.lab("publishPicture", {"id": picture_id, **options})

    async def publish_tone(self, frequency_hz: int) -> None:
        await self._page.lab("publishTone", frequency_hz)

    async def sees(self, identity: str, picture_id: int, frames: int = 15) -> dict[str, Any]:
        return await self._page.sees(identity, picture_id, frames)

    async def hears(self, identity: str, frequency_hz: int) -> None:
        await self._page.hears(identity, frequency_hz)

    async def paths(self) -> list[dict[str, str]]:
        """What `getStats` says of the paths that are in use."""
        return await self._page.lab("paths")
    async def stats(self) -> list[dict[str, Any]]:
        return await self._page.stats()

    async def leave(self) -> None:
        await self._browser.__aexit__()


def _plain(report: Any) -> dict[str, Any]:
    return {**asdict(report), "ids": sorted(report.ids)}


async def _serve(agent: NativeAgent | ChromiumAgent) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        order = json.loads(line)
        task = asyncio.create_task(_carry_out(agent, order))
        running.add(task)
        task.add_done_callback(running.discard)


async def _carry_out(agent: NativeAgent | ChromiumAgent, order: dict[str, Any]) -> None:
    try:
        answer = {"result": await getattr(agent, order["method"])(**order["args"])}
    except Exception as error:  # noqa: BLE001: every fault belongs to the test that gave the order
        answer = {"error": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"}
    print(json.dumps({"id": order["id"], **answer}), flush=True)


if __name__ == "__main__":
    kind, room, identity = sys.argv[1:]
    asyncio.run(_serve({"native": NativeAgent, "chromium": ChromiumAgent}[kind](room, identity)))
