"""One server for all tests of a run; peers and pages that end with their test."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from chromium import Browser, Page
from peer import Peer
from server import Server

_rooms = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    running = Server.start()
    yield running
    running.stop()


@pytest.fixture
def room() -> str:
    """A room that no other test uses."""
    return f"python-{os.getpid()}-{next(_rooms)}"


@pytest_asyncio.fixture
async def peer(server: Server, room: str) -> AsyncIterator[Callable[..., Peer]]:
    """Makes native participants who leave with the test."""
    made: list[Peer] = []

    def make(identity: str, in_room: str | None = None) -> Peer:
        made.append(Peer(server, in_room or room, identity))
        return made[-1]

    yield make
    for each in made:
        await each.leave()


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with Browser() as running:
        yield running


@pytest_asyncio.fixture
async def page(browser: Browser, server: Server, room: str) -> AsyncIterator[Callable[..., Page]]:
    """Makes Chromium participants who leave with the test."""
    made: list[Page] = []

    async def make(identity: str) -> Page:
        made.append(await browser.page(server, room, identity))
        return made[-1]

    yield make
    for each in made:
        await each.close()
