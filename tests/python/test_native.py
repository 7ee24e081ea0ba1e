"""Native SDK participants among themselves."""

from __future__ import annotations

import asyncio

import pytest
from livekit import rtc

from waiting import until


@pytest.mark.parametrize("codec", [rtc.VideoCodec.VP8, rtc.VideoCodec.H264], ids=["vp8", "h264"])
async def test_two_native_participants_see_and_hear_each_other(peer, codec):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    await asyncio.gather(alice.publish_picture(11, codec=codec), bob.publish_picture(12, codec=codec), alice.publish_tone(440), bob.publish_tone(660))
    await asyncio.gather(bob.sees("alice", 11), alice.sees("bob", 12), bob.hears("alice", 440), alice.hears("bob", 660))


MODES = pytest.mark.parametrize("single", [True, False], ids=["one-connection", "two-connections"])


@MODES
async def test_with_one_peer_connection_or_two_everything_goes_both_ways(peer, single):
    people = alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(*(who.join(options=rtc.RoomOptions(single_peer_connection=single)) for who in people))
    await asyncio.gather(alice.publish_picture(17), bob.publish_picture(18), alice.publish_tone(440), bob.publish_tone(660))
    await asyncio.gather(bob.sees("alice", 17), alice.sees("bob", 18), bob.hears("alice", 440), alice.hears("bob", 660))
    for sender, receiver in ((alice, bob), (bob, alice)):

        async def arrives(sender=sender, receiver=receiver) -> bool:
            await sender.room.local_participant.publish_data(b"hello", reliable=True)
            return any(m.participant and m.participant.identity == sender.identity for m in receiver.messages)

        await until(f"{receiver.identity} is greeted", arrives, poll_s=0.2)


@MODES
async def test_a_native_watcher_of_many_gets_every_track(peer, single):
    watcher = peer("watcher")
    await watcher.join(options=rtc.RoomOptions(single_peer_connection=single))
    people = [peer(f"p{number}") for number in range(5)]
    await asyncio.gather(*(who.join(options=rtc.RoomOptions(single_peer_connection=single, auto_subscribe=False)) for who in people))
    await asyncio.gather(*(who.publish_picture(60 + number, fps=8) for number, who in enumerate(people)))
    await asyncio.gather(*(who.publish_tone(400 + 100 * number) for number, who in enumerate(people)))
    await asyncio.gather(*(watcher.sees(who.identity, 60 + number) for number, who in enumerate(people)))
    await asyncio.gather(*(watcher.hears(who.identity, 400 + 100 * number) for number, who in enumerate(people)))


@MODES
async def test_a_native_subscription_can_be_left_and_taken_again(peer, single):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(*(who.join(options=rtc.RoomOptions(single_peer_connection=single)) for who in (alice, bob)))
    publication = await alice.publish_picture(19)
    await bob.sees("alice", 19)
    for _ in range(4):
        remote = bob.remote("alice").track_publications[publication.sid]
        remote.set_subscribed(False)
        await until("it is gone", lambda remote=remote: remote.track is None)
        remote.set_subscribed(True)
        await until("it is back", lambda remote=remote: remote.track is not None)
        await bob.sees("alice", 19)


async def test_a_late_native_joiner_sees_and_hears_who_is_there(peer):
    alice = peer("alice")
    await alice.join()
    await asyncio.gather(alice.publish_picture(13), alice.publish_tone(440))
    late = peer("late")
    await late.join()
    await asyncio.gather(late.sees("alice", 13), late.hears("alice", 440))


async def test_a_muted_track_is_announced_and_silent_until_it_is_unmuted(peer):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    publication = await alice.publish_tone(440)
    await bob.hears("alice", 440)
    publication.track.mute()
    await until("bob is told", lambda: publication.sid in bob.muted)
    await until("bob hears nothing", lambda: bob.tone("alice")[1] == 0.0)
    publication.track.unmute()
    await until("bob is told", lambda: publication.sid not in bob.muted)
    await bob.hears("alice", 440)


async def test_an_unpublished_track_is_gone(peer):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    publication = await alice.publish_picture(14)
    await bob.sees("alice", 14)
    await alice.room.local_participant.unpublish_track(publication.sid)
    await until("the track is gone", lambda: publication.sid not in bob.remote("alice").track_publications)


@pytest.mark.parametrize("reliable", [True, False], ids=["reliable", "lossy"])
async def test_data_packets_go_both_ways(peer, reliable):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    await until("they see each other", lambda: alice.remote("bob") and bob.remote("alice"))
    for sender, receiver in ((alice, bob), (bob, alice)):
        text = f"from {sender.identity}".encode()

        async def arrives(sender=sender, receiver=receiver, text=text) -> bool:
            await sender.room.local_participant.publish_data(text, reliable=reliable, topic="greeting")
            return any(m.data == text and m.participant and m.participant.identity == sender.identity and m.topic == "greeting" for m in receiver.messages)

        await until(f"{text!r} arrives", arrives, poll_s=0.2)


async def test_metadata_name_and_attributes_reach_the_others(peer):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    await until("bob sees alice", lambda: bob.remote("alice"))
    me = alice.room.local_participant
    # The SDK's next request repeats what it knows of its profile, so each change has to have come back.
    await me.set_metadata("seat 7")
    await until("alice knows her metadata", lambda: me.metadata == "seat 7")
    await me.set_name("Alice A.")
    await until("alice knows her name", lambda: me.name == "Alice A.")
    await me.set_attributes({"hand": "up"})

    def is_seen() -> bool:
        seen = bob.remote("alice")
        return bool(seen) and (seen.metadata, seen.name, seen.attributes.get("hand")) == ("seat 7", "Alice A.", "up")

    await until("bob sees all three", is_seen)


async def test_participants_of_another_room_are_neither_seen_nor_heard(peer, room):
    alice, bob, stranger = peer("alice"), peer("bob"), peer("stranger", f"{room}-other")
    await asyncio.gather(alice.join(), bob.join(), stranger.join())
    await asyncio.gather(alice.publish_picture(15), stranger.publish_picture(16))
    await bob.sees("alice", 15)
    assert set(bob.room.remote_participants) == {"alice"}
    assert not stranger.room.remote_participants
    assert bob.picture("stranger").readable == 0


async def test_a_participant_who_leaves_is_gone_soon(peer):
    alice, bob = peer("alice"), peer("bob")
    await asyncio.gather(alice.join(), bob.join())
    await until("bob sees alice", lambda: bob.remote("alice"))
    await alice.room.disconnect()
    await until("alice is gone", lambda: bob.remote("alice") is None, within_s=5)
