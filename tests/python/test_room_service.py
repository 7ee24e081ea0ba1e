"""LiveKit's server API, called by its released Python server SDK while native participants are in the room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from livekit import api, rtc
from livekit.api.twirp_client import TwirpError
from livekit.protocol.models import DataPacket, ParticipantPermission

from peer import access_token
from waiting import until


@pytest_asyncio.fixture
async def service(server) -> AsyncIterator[api.LiveKitAPI]:
    """The SDK with the key of the server under test."""
    async with api.LiveKitAPI(server.http_url, "devkey", "secret") as running:
        yield running


async def refusal(call) -> tuple[int, str]:
    """Status and Twirp code of a call that fails."""
    with pytest.raises(TwirpError) as caught:
        await call
    assert caught.value.message
    return caught.value.status, caught.value.code


async def stops(receiver, identity: str) -> None:
    """Waits until no new frame of that participant has come in ten looks."""
    last, looks = -1, 0

    def is_still() -> bool:
        nonlocal last, looks
        readable = receiver.picture(identity).readable
        last, looks = readable, looks + 1 if readable == last else 0
        return looks >= 10

    await until(f"{receiver.identity} sees no more of {identity}", is_still)


def named(room: str, identity: str) -> api.RoomParticipantIdentity:
    return api.RoomParticipantIdentity(room=room, identity=identity)


async def test_a_room_that_was_created_is_listed_joined_and_deleted(service, peer, room):
    created = await service.room.create_room(api.CreateRoomRequest(name=room, empty_timeout=60, departure_timeout=5, max_participants=1, metadata="m"))
    assert (created.name, created.empty_timeout, created.departure_timeout, created.max_participants, created.metadata) == (room, 60, 5, 1, "m")
    assert created.sid.startswith("RM_") and created.creation_time > 0 and created.enabled_codecs
    alice, bob = peer("alice"), peer("bob")
    await alice.join()
    assert alice.room.metadata == "m" and await alice.room.sid == created.sid
    with pytest.raises(rtc.ConnectError):
        await bob.join()
    listed = (await service.room.list_rooms(api.ListRoomsRequest(names=[room, f"{room}-missing"]))).rooms
    assert [(each.name, each.num_participants) for each in listed] == [(room, 1)]
    assert room in {each.name for each in (await service.room.list_rooms(api.ListRoomsRequest())).rooms}
    ends: list[int] = []
    alice.room.on("disconnected", ends.append)
    await service.room.delete_room(api.DeleteRoomRequest(room=room))
    await until("alice is sent away", lambda: ends == [rtc.DisconnectReason.ROOM_DELETED])
    assert not (await service.room.list_rooms(api.ListRoomsRequest(names=[room]))).rooms
    assert await refusal(service.room.delete_room(api.DeleteRoomRequest(room=room))) == (404, "not_found")


async def test_participants_are_listed_with_what_they_publish(service, peer, room):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    publication = await alice.publish_picture(21)
    await bob.sees("alice", 21)
    everybody = {each.identity: each for each in (await service.room.list_participants(api.ListParticipantsRequest(room=room))).participants}
    assert set(everybody) == {"alice", "bob"}
    found = await service.room.get_participant(named(room, "alice"))
    assert found.sid == everybody["alice"].sid == alice.room.local_participant.sid
    assert [track.sid for track in found.tracks] == [publication.sid]
    assert found.is_publisher and found.permission.can_publish and found.joined_at > 0
    assert await refusal(service.room.get_participant(named(room, "nobody"))) == (404, "not_found")
    assert not (await service.room.list_participants(api.ListParticipantsRequest(room=f"{room}-missing"))).participants


async def test_a_track_that_the_server_mutes_is_silent_and_only_its_owner_opens_it(service, peer, room):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    publication = await alice.publish_tone(440)
    await bob.hears("alice", 440)
    muted = await service.room.mute_published_track(api.MuteRoomTrackRequest(room=room, identity="alice", track_sid=publication.sid, muted=True))
    assert muted.track.muted
    await until("bob is told", lambda: publication.sid in bob.muted)
    await until("bob hears nothing", lambda: bob.tone("alice")[1] == 0.0)
    await until("alice is told", lambda: publication.muted)
    unmute = api.MuteRoomTrackRequest(room=room, identity="alice", track_sid=publication.sid, muted=False)
    assert await refusal(service.room.mute_published_track(unmute)) == (412, "failed_precondition")
    publication.track.unmute()
    await bob.hears("alice", 440)
    wrong = api.MuteRoomTrackRequest(room=room, identity="alice", track_sid="TR_nonsense", muted=True)
    assert await refusal(service.room.mute_published_track(wrong)) == (404, "not_found")


async def test_name_metadata_and_attributes_are_changed_for_everybody(service, peer, room):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    update = api.UpdateParticipantRequest(room=room, identity="alice", name="Alice A.", metadata="seat 7", attributes={"snake_case": "1", "camelCase": "2"})
    answer = await service.room.update_participant(update)
    assert (answer.name, answer.metadata, dict(answer.attributes)) == ("Alice A.", "seat 7", {"snake_case": "1", "camelCase": "2"})
    await until("bob sees it", lambda: bob.remote("alice") and bob.remote("alice").metadata == "seat 7" and bob.remote("alice").name == "Alice A.")
    await until("alice knows it", lambda: alice.room.local_participant.attributes == {"snake_case": "1", "camelCase": "2"})
    await service.room.update_participant(api.UpdateParticipantRequest(room=room, identity="alice", attributes={"snake_case": ""}))
    await until("an empty attribute is gone", lambda: bob.remote("alice").attributes == {"camelCase": "2"})
    long = api.UpdateParticipantRequest(room=room, identity="alice", metadata="x" * 64_001)
    assert await refusal(service.room.update_participant(long)) == (400, "invalid_argument")


async def test_rights_that_are_taken_end_tracks_and_subscriptions_and_come_back(service, peer, room):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    await alice.publish_picture(22)
    await bob.sees("alice", 22)

    def allow(identity: str, **rights: bool) -> api.UpdateParticipantRequest:
        permission = ParticipantPermission(**{"can_publish": True, "can_subscribe": True, "can_publish_data": True, **rights})
        return api.UpdateParticipantRequest(room=room, identity=identity, permission=permission)

    await service.room.update_participant(allow("bob", can_subscribe=False))
    await stops(bob, "alice")
    await service.room.update_participant(allow("bob"))
    await bob.sees("alice", 22)
    answer = await service.room.update_participant(allow("alice", can_publish=False))
    assert not answer.tracks and not answer.permission.can_publish
    await until("the track is gone", lambda: not bob.remote("alice").track_publications)
    await service.room.update_participant(allow("alice"))
    # Whether its own client has taken note of the end of its track already is the client's affair: another one is new in any case.
    await alice.publish_tone(440)
    await bob.hears("alice", 440)


async def test_the_server_subscribes_and_unsubscribes_a_participant(service, peer, room):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    publication = await alice.publish_picture(23)
    await bob.sees("alice", 23)
    await service.room.update_subscriptions(api.UpdateSubscriptionsRequest(room=room, identity="bob", track_sids=[publication.sid], subscribe=False))
    await stops(bob, "alice")
    await service.room.update_subscriptions(api.UpdateSubscriptionsRequest(room=room, identity="bob", track_sids=[publication.sid], subscribe=True))
    await bob.sees("alice", 23)


@pytest.mark.parametrize("kind", [DataPacket.RELIABLE, DataPacket.LOSSY], ids=["reliable", "lossy"])
async def test_data_of_the_server_reaches_everybody_or_those_that_are_named(service, peer, room, kind):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())

    def seen(receiver, text: bytes) -> bool:
        return any(m.data == text and m.participant is None and m.topic == "news" for m in receiver.messages)

    async def everybody_has_it() -> bool:
        await service.room.send_data(api.SendDataRequest(room=room, data=b"to all", kind=kind, topic="news"))
        return seen(alice, b"to all") and seen(bob, b"to all")

    await until("both have it", everybody_has_it, poll_s=0.2)

    async def bob_has_it() -> bool:
        await service.room.send_data(api.SendDataRequest(room=room, data=b"to bob", kind=kind, topic="news", destination_identities=["bob"]))
        return seen(bob, b"to bob")

    await until("bob has it", bob_has_it, poll_s=0.2)
    await service.room.send_data(api.SendDataRequest(room=room, data=b"end", kind=DataPacket.RELIABLE, topic="news"))
    await until("the last is everywhere", lambda: seen(alice, b"end") and seen(bob, b"end"))
    assert not seen(alice, b"to bob")
    missing = api.SendDataRequest(room=f"{room}-missing", data=b"x")
    assert await refusal(service.room.send_data(missing)) == (404, "not_found")


async def test_metadata_of_the_room_reaches_everybody(service, peer, room):
    alice = peer("alice")
    await alice.join()
    answer = await service.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata="topic"))
    assert answer.metadata == "topic"
    await until("alice knows", lambda: alice.room.metadata == "topic")


async def test_who_is_removed_does_not_come_back_with_the_same_token(service, peer, server, room):
    alice, bob = peer("alice"), peer("bob")
    ticket = access_token(room, "alice")
    await asyncio.gather(alice.join(ticket), bob.join())
    ends: list[int] = []
    alice.room.on("disconnected", ends.append)
    await until("bob sees alice", lambda: bob.remote("alice"))
    await service.room.remove_participant(named(room, "alice"))
    await until("alice is sent away", lambda: ends == [rtc.DisconnectReason.PARTICIPANT_REMOVED])
    await until("bob sees her go", lambda: bob.remote("alice") is None)
    again = peer("alice")
    with pytest.raises(rtc.ConnectError):
        await again.join(ticket)
    assert await refusal(service.room.remove_participant(named(room, "alice"))) == (404, "not_found")


async def test_a_participant_that_is_moved_is_seen_and_heard_in_the_other_room(service, peer, room):
    there = f"{room}-there"
    alice, bob, carol = peer("alice"), peer("bob"), peer("carol", there)
    await asyncio.gather(alice.join(), bob.join(), carol.join())
    await asyncio.gather(alice.publish_picture(24), alice.publish_tone(440), carol.publish_tone(660))
    await bob.sees("alice", 24)
    moves: list[None] = []
    alice.room.on("moved", lambda *_: moves.append(None))
    await service.room.move_participant(api.MoveParticipantRequest(room=room, identity="alice", destination_room=there))
    await asyncio.gather(carol.sees("alice", 24), carol.hears("alice", 440), alice.hears("carol", 660))
    await until("bob sees her go", lambda: bob.remote("alice") is None)
    assert set(alice.room.remote_participants) == {"carol"}
    assert {each.identity for each in (await service.room.list_participants(api.ListParticipantsRequest(room=there))).participants} == {"alice", "carol"}
    same = api.MoveParticipantRequest(room=there, identity="alice", destination_room=there)
    assert await refusal(service.room.move_participant(same)) == (400, "invalid_argument")
    forward = api.ForwardParticipantRequest(room=there, identity="alice", destination_room=room)
    assert await refusal(service.room.forward_participant(forward)) == (501, "unimplemented")


async def test_the_server_calls_a_method_of_a_participant(peer, server, room):
    alice = peer("alice")
    await alice.join()

    @alice.room.local_participant.register_rpc_method("greet")
    async def greet(call: rtc.RpcInvocationData) -> str:
        return f"hello {call.payload}"

    token = api.AccessToken("devkey", "secret").with_grants(api.VideoGrants(room_admin=True, room=room)).to_jwt()

    async def call(method: str) -> tuple[int, dict]:
        body = {"room": room, "destination_identity": "alice", "method": method, "payload": "world"}
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session, session.post(f"{server.http_url}/twirp/livekit.RoomService/PerformRpc", json=body, headers=headers) as response:
            return response.status, await response.json()

    # The data channel may not be open yet when the join returns.
    await until("alice answers", lambda: answered(call("greet"), {"payload": "hello world"}))
    status, error = await call("dance")
    assert (status, error["code"]) == (400, "invalid_argument") and "1400" in error["msg"]


async def answered(call, body: dict) -> bool:
    status, answer = await call
    return status == 200 and answer == body


async def test_tokens_and_bodies_that_are_wrong_are_refused(server, room):
    async with api.LiveKitAPI(server.http_url, "devkey", "guess") as stranger:
        assert await refusal(stranger.room.list_rooms(api.ListRoomsRequest())) == (401, "unauthenticated")
    async with api.LiveKitAPI(server.http_url, "nobody", "secret") as stranger:
        assert await refusal(stranger.room.create_room(api.CreateRoomRequest(name=room))) == (401, "unauthenticated")
    other = api.AccessToken("devkey", "secret").with_grants(api.VideoGrants(room_admin=True, room=f"{room}-other")).to_jwt()
    headers = {"Authorization": f"Bearer {other}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(server.http_url, headers=headers) as session:
        for method, body, expected in [
            ("ListParticipants", json.dumps({"room": room}), (401, "unauthenticated")),
            ("ListParticipants", "{", (400, "malformed")),
            ("Dance", "{}", (404, "bad_route")),
        ]:
            async with session.post(f"/twirp/livekit.RoomService/{method}", data=body) as response:
                assert (response.status, (await response.json())["code"]) == expected
        async with session.post("/twirp/livekit.Egress/ListEgress", data="{}") as response:
            assert (response.status, (await response.json())["code"]) == (501, "unimplemented")
