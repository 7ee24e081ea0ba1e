"""Hostile clients: each is refused or counted, and a running call does not notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import jwt
import pytest
import pytest_asyncio
from livekit import rtc
from livekit.protocol import rtc as protocol

from attack import RawSignaling, Victim, forged_binding_request, forged_rtp, garbage, seeded, shoot
from peer import Peer, access_token
from waiting import until

GAP_LIMIT_S = 1.5
MEBIBYTE = 1024 * 1024
FLOOD_PACKETS = 20_000
FORGERIES = 500
MEMORY_GROWTH_LIMIT = 4 * MEBIBYTE


def signed(claims: dict) -> str:
    """Claims that no SDK would sign."""
    return jwt.encode(claims, "secret", "HS256")


BAD_TOKENS = {
    "none": lambda room: "",
    "not a token": lambda room: "a.b.c",
    "a wrong signature": lambda room: access_token(room, "mallory", secret="wrong"),
    "an unknown key": lambda room: access_token(room, "mallory", key="stranger"),
    "expired": lambda room: access_token(room, "mallory", ttl=timedelta(seconds=-3600)),
    "without the grant to join": lambda room: access_token(room, "mallory", room_join=False),
    "without an identity": lambda room: signed({"iss": "devkey", "exp": int(time.time()) + 60, "video": {"roomJoin": True, "room": room}}),
    "without an end": lambda room: signed({"iss": "devkey", "sub": "mallory", "video": {"roomJoin": True, "room": room}}),
    "unsigned": lambda room: jwt.encode({"iss": "devkey", "sub": "mallory", "exp": int(time.time()) + 60, "video": {"roomJoin": True, "room": room}}, "", "none"),
}


@pytest_asyncio.fixture
async def call(peer) -> AsyncIterator[tuple[Peer, Peer]]:
    """Alice publishes picture 31 and 440 Hz, bob receives both."""
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    await asyncio.gather(alice.publish_picture(31), alice.publish_tone(440))
    await asyncio.gather(bob.sees("alice", 31), bob.hears("alice", 440))
    yield alice, bob


@asynccontextmanager
async def unaffected(bob: Peer, identity: str = "alice", picture_id: int = 31) -> AsyncIterator[None]:
    """The picture goes on while the body runs and after it, undamaged and without a gap."""
    bob.picture(identity).reset()
    yield
    report = await bob.sees(identity, picture_id)
    assert report.unreadable == 0, "no damaged frame"
    assert report.longest_gap_s < GAP_LIMIT_S, f"the picture stood still for {report.longest_gap_s:.2f} s"


@pytest.mark.parametrize("fault", BAD_TOKENS)
async def test_a_token_that_is_refused(server, room, fault):
    token = BAD_TOKENS[fault](room)
    status, body = server.get(f"/rtc/validate?access_token={token}")
    assert status in (400, 401, 403), f"{status}: {body}"
    assert body.strip(), "the refusal says why"
    with pytest.raises(rtc.ConnectError):
        await Peer(server, room, "mallory").join(token)


async def test_a_good_token_is_valid_and_the_reason_of_a_bad_one_names_no_secret(server, room):
    assert server.get(f"/rtc/validate?access_token={access_token(room, 'someone')}")[0] == 200
    _, body = server.get(f"/rtc/validate?access_token={access_token(room, 'x', secret='my-other-secret')}")
    assert "my-other-secret" not in body


async def test_garbage_instead_of_protobuf_closes_that_connection_only(server, room, call):
    async with unaffected(call[1]):
        async with RawSignaling(server, access_token(room, "mallory")) as mallory:
            await mallory.receive("join")
            for _ in range(20):
                await mallory.send(b"\xff" * 100)
            assert await mallory.close_code() == 1007


async def test_garbage_as_text_closes_that_connection_only(server, room, call):
    async with unaffected(call[1]):
        async with RawSignaling(server, access_token(room, "mallory")) as mallory:
            await mallory.receive("join")
            for _ in range(20):
                await mallory.send("{not json")
            assert await mallory.close_code() == 1007


async def test_unknown_and_out_of_place_messages_are_ignored(server, room, call):
    unknown_field = b"\xba\x3e\x03abc"  # field 999, length-delimited
    out_of_place = [
        protocol.SignalRequest(answer=protocol.SessionDescription(type="answer", sdp="v=0", id=77)),
        protocol.SignalRequest(trickle=protocol.TrickleRequest(candidateInit="{}", target=protocol.SignalTarget.PUBLISHER)),
        protocol.SignalRequest(trickle=protocol.TrickleRequest(candidateInit="not json", target=protocol.SignalTarget.SUBSCRIBER)),
        protocol.SignalRequest(mute=protocol.MuteTrackRequest(sid="TR_nobody", muted=True)),
        protocol.SignalRequest(subscription=protocol.UpdateSubscription(track_sids=["TR_nobody"], subscribe=True)),
        protocol.SignalRequest(track_setting=protocol.UpdateTrackSettings(track_sids=["TR_nobody"], width=2**32 - 1, height=2**32 - 1)),
    ]
    async with unaffected(call[1]):
        async with RawSignaling(server, access_token(room, "mallory")) as mallory:
            await mallory.receive("join")
            await mallory.send(unknown_field)
            for message in out_of_place:
                await mallory.send(message)
            assert await mallory.is_alive()


async def test_a_broken_offer_does_not_hurt_others(server, room, call):
    async with unaffected(call[1]):
        async with RawSignaling(server, access_token(room, "mallory")) as mallory:
            await mallory.receive("join")
            for sdp in ("", "v=0\r\n", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF " + "96 " * 5000, "m=" * 20_000):
                await mallory.send(protocol.SignalRequest(offer=protocol.SessionDescription(type="offer", sdp=sdp, id=1)))
        async with RawSignaling(server, access_token(room, "another")) as another:
            await another.receive("join")
            assert await another.is_alive()


async def test_a_frame_of_one_megabyte_closes_that_connection_only(server, room, call):
    async with unaffected(call[1]):
        async with RawSignaling(server, access_token(room, "mallory")) as mallory:
            await mallory.receive("join")
            await mallory.send(bytes(MEBIBYTE))
            assert await mallory.close_code() == 1009


async def test_a_flood_of_garbage_on_the_media_port_is_counted_and_memory_stays_flat(server, call, page):
    [victim, *_] = Victim.of(await _transports(page, call))
    rng = seeded()
    packets = [garbage(rng) for _ in range(FLOOD_PACKETS)]
    before = _drops(server)
    async with unaffected(call[1]):
        await shoot(victim.address, packets)
    await _counted(server, before, FLOOD_PACKETS)
    warm = server.rss_bytes()
    async with unaffected(call[1]):
        for _ in range(3):
            await shoot(victim.address, packets)
    after = server.rss_bytes()
    if warm is not None and after is not None:
        assert after - warm < MEMORY_GROWTH_LIMIT, f"memory grew from {warm} to {after} bytes"


async def test_forged_stun_takes_over_no_transport_and_gets_no_answer(server, peer, page):
    chromium, bob = await page("chromium"), peer("bob")
    await asyncio.gather(chromium.join(), bob.join())
    await chromium.lab("publishPicture", {"id": 32})
    await bob.sees("chromium", 32)
    rng = seeded()
    before = _drops(server)
    async with unaffected(bob, "chromium", 32):
        for victim in Victim.of(await chromium.lab("serverIce")):
            answers = await shoot(victim.address, [forged_binding_request(victim, rng) for _ in range(FORGERIES)])
            successes = [answer for answer in answers if answer[:2] == b"\x01\x01"]
            assert not successes, "no forged check succeeds"
    await _counted(server, before, FORGERIES)


async def test_rtp_from_a_stranger_with_the_publishers_ssrc_is_dropped(server, peer, page):
    chromium, bob = await page("chromium"), peer("bob")
    await asyncio.gather(chromium.join(), bob.join())
    await chromium.lab("publishPicture", {"id": 33})
    await bob.sees("chromium", 33)
    rng = seeded()
    before = _drops(server)
    async with unaffected(bob, "chromium", 33):
        victims = [each for each in Victim.of(await chromium.lab("serverIce")) if each.ssrcs]
        for victim in victims:
            answers = await shoot(victim.address, [forged_rtp(victim, rng) for _ in range(FORGERIES)])
            assert not answers, "nothing is sent to a stranger"
    await _counted(server, before, FORGERIES * len(victims))


async def test_a_client_with_a_wrong_dtls_fingerprint_neither_sends_nor_receives(call, page):
    alice, bob = call
    mallory = await page("mallory")
    async with unaffected(bob):
        await mallory.lab("sendWrongFingerprints")
        # The client's own side of the handshake may end before the server refuses, so the join's result decides nothing.
        await mallory.try_join(peerConnectionTimeout=4000, options={"singlePeerConnection": False})
        await mallory.lab("tryPublishPicture", {"id": 34})
        await bob.sees("alice", 31, frames=45)
        seen = await mallory.lab("picture", "alice")
        assert seen is None or seen["readable"] == 0, "nothing is sent to a client that cannot prove who it is"
        assert bob.picture("mallory").readable == 0, "nothing is taken from it"


async def _transports(page, call) -> list[dict]:
    """An ordinary participant's view of the media port."""
    viewer = await page("viewer")
    await viewer.join()
    await viewer.sees(call[0].identity, 31)
    return await viewer.lab("serverIce")


def _drops(server) -> float:
    """Packets that the server says it dropped, in its own code or in the kernel."""
    counted = ("sfu_dropped_packets_total", "sfu_socket_receive_drops_total")
    return sum(value for name, value in server.metrics().items() if name.startswith(counted))


async def _counted(server, before: float, packets: int) -> None:
    if server.metrics():
        await until(f"{packets} drops are counted", lambda: _drops(server) - before >= packets * 0.9, within_s=10, poll_s=0.5)
