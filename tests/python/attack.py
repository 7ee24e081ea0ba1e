"""What a hostile client sends: raw signaling, forged STUN, garbage datagrams."""

from __future__ import annotations

import asyncio
import binascii
import os
import random
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

from livekit.protocol import rtc as protocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from server import Server

STUN_COOKIE = 0x2112A442
BURST = 100
BURST_PAUSE_S = 0.005


class RawSignaling:
    """A WebSocket that speaks the protocol only as far as the test wants."""

    def __init__(self, server: Server, token: str, sdk: str = "python") -> None:
        self._url = f"{server.ws_url}/rtc?access_token={token}&auto_subscribe=1&sdk={quote(sdk)}&protocol=16&version={quote(sdk)}"
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> RawSignaling:
        self._socket = await connect(self._url, max_size=None, compression=None)
        return self

    async def __aexit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if self._socket:
            await self._socket.close()

    async def send(self, message: bytes | str | protocol.SignalRequest) -> None:
        """Sends bytes or text as they are, a request as protobuf."""
        assert self._socket
        await self._socket.send(message.SerializeToString() if isinstance(message, protocol.SignalRequest) else message)

    async def receive(self, kind: str, within_s: float = 10.0) -> protocol.SignalResponse:
        """The next message of that kind; others are skipped."""
        assert self._socket
        async with asyncio.timeout(within_s):
            while True:
                data = await self._socket.recv()
                response = protocol.SignalResponse.FromString(data if isinstance(data, bytes) else data.encode())
                if response.WhichOneof("message") == kind:
                    return response

    async def close_code(self, within_s: float = 10.0) -> int | None:
        """Waits until the server closes; its code."""
        assert self._socket
        async with asyncio.timeout(within_s):
            while True:
                try:
                    await self._socket.recv()
                except ConnectionClosed as closed:
                    return closed.rcvd.code if closed.rcvd else None

    async def is_alive(self) -> bool:
        """The server answers a ping of the protocol."""
        await self.send(protocol.SignalRequest(ping_req=protocol.Ping(timestamp=1)))
        await self.receive("pong_resp")
        return True


@dataclass(frozen=True)
class Victim:
    """What an eavesdropper of the signaling knows about a transport."""

    address: tuple[str, int]
    server_ufrag: str
    client_ufrag: str
    ssrcs: tuple[int, ...]

    @classmethod
    def of(cls, transports: list[dict[str, Any]]) -> list[Victim]:
        """From `window.lab.serverIce()`."""
        return [cls(_udp_address(each["candidates"]), each["ufrag"], each["localUfrag"], tuple(each["ssrcs"])) for each in transports]


def forged_binding_request(victim: Victim, rng: random.Random) -> bytes:
    """A Binding request that nominates the sender's address, with the right names and a signature of a wrong password."""
    username = f"{victim.server_ufrag}:{victim.client_ufrag}".encode()
    attributes = (
        _attribute(0x0006, username) + _attribute(0x0024, struct.pack("!I", 1)) + _attribute(0x802A, rng.randbytes(8)) + _attribute(0x0025, b"") + _attribute(0x0008, rng.randbytes(20))
    )
    header = struct.pack("!HHI", 0x0001, len(attributes) + 8, STUN_COOKIE) + rng.randbytes(12)
    message = header + attributes
    return message + _attribute(0x8028, struct.pack("!I", (binascii.crc32(message) & 0xFFFFFFFF) ^ 0x5354554E))


def forged_rtp(victim: Victim, rng: random.Random) -> bytes:
    """An RTP packet with one of the victim's own SSRCs."""
    ssrc = rng.choice(victim.ssrcs or (1,))
    return struct.pack("!BBHII", 0x80, 96, rng.randrange(65536), rng.randrange(2**32), ssrc) + rng.randbytes(200)


def garbage(rng: random.Random) -> bytes:
    """Any first byte: STUN, DTLS, TURN channels, RTP and what is none of them."""
    return rng.randbytes(rng.randrange(1, 1400))


async def shoot(address: tuple[str, int], packets: list[bytes]) -> list[bytes]:
    """Sends from one new address at a bounded rate and returns what came back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gun:
        gun.setblocking(False)
        for at in range(0, len(packets), BURST):
            for packet in packets[at : at + BURST]:
                try:
                    gun.sendto(packet, address)
                except BlockingIOError:
                    break
            await asyncio.sleep(BURST_PAUSE_S)
        return _received(gun)


def seeded() -> random.Random:
    """One seed for the run; ATTACK_SEED repeats it."""
    seed = int(os.environ.get("ATTACK_SEED", random.SystemRandom().randrange(2**32)))
    print(f"ATTACK_SEED={seed}")
    return random.Random(seed)


def _received(gun: socket.socket) -> list[bytes]:
    answers = []
    while True:
        try:
            answers.append(gun.recv(2048))
        except (BlockingIOError, ConnectionRefusedError):
            return answers


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _udp_address(candidates: list[str]) -> tuple[str, int]:
    fields = [candidate.split() for candidate in candidates]
    addresses = [(each[4], int(each[5])) for each in fields if each[2].lower() == "udp" and ":" not in each[4]]
    return next((each for each in addresses if each[0] == "127.0.0.1"), addresses[0])
