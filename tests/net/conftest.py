"""Each test has a lab of its own: networks, one server, participants; all of it ends with the test."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from namespaces import Lab, Namespace
from node import Node
from remote import RemotePeer

_rooms = itertools.count(1)


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


@pytest.fixture
def serve(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Callable[..., Node]]:
    """Starts the server of the test in a namespace."""
    started: list[Node] = []

    def start(namespace: Namespace, **options: str | bool) -> Node:
        started.append(Node.start_in(namespace, request.node.name, **options))
        return started[-1]

    yield start
    for node in started:
        node.stop()


@pytest_asyncio.fixture
async def participant(lab: Lab) -> AsyncIterator[Callable[..., RemotePeer]]:
    """Starts participants of one room in namespaces."""
    room = f"net-{os.getpid()}-{next(_rooms)}"
    started: list[RemotePeer] = []

    async def start(namespace: Namespace, identity: str, kind: str = "native", urgent: bool = False) -> RemotePeer:
        started.append(await RemotePeer(namespace, room, identity, kind, urgent).start())
        return started[-1]

    yield start
    await asyncio.gather(*(each.stop() for each in started))
