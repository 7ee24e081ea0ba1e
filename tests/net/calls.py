"""Calls between participants in namespaces, with content that only the right sender can have made."""

from __future__ import annotations

import asyncio

from node import HTTP_PORT
from remote import RemotePeer

PICTURES = {"alice": 101, "bob": 102}
TONES_HZ = {"alice": 440, "bob": 660}


def url(address: str) -> str:
    """WebSocket URL of the server at this address."""
    return f"ws://{address}:{HTTP_PORT}"


async def call(alice: RemotePeer, bob: RemotePeer, alice_url: str, bob_url: str | None = None) -> None:
    """Both join, publish picture and tone, and see and hear each other."""
    await asyncio.gather(alice.join(url=alice_url), bob.join(url=bob_url or alice_url))
    await publish(alice, bob)
    await talk(alice, bob)


async def publish(*participants: RemotePeer) -> None:
    """Each publishes its picture and tone."""
    orders = [each.publish_picture(picture_id=PICTURES[each.identity]) for each in participants]
    await asyncio.gather(*orders, *(each.publish_tone(frequency_hz=TONES_HZ[each.identity]) for each in participants))


async def talk(alice: RemotePeer, bob: RemotePeer) -> None:
    """They see and hear each other."""
    ways = ((alice, bob), (bob, alice))
    await asyncio.gather(
        *(viewer.sees(identity=sender.identity, picture_id=PICTURES[sender.identity]) for viewer, sender in ways),
        *(listener.hears(identity=sender.identity, frequency_hz=TONES_HZ[sender.identity]) for listener, sender in ways),
    )
