"""Agents by explicit dispatch: a worker that speaks the released protocol, called by the released server SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from livekit import api, rtc
from livekit.protocol import agent as protocol
from livekit.protocol import agent_dispatch

from peer import access_token
from server import Server
from waiting import until

LIMIT_S = 15


class Worker:
    """One worker's connection, as livekit-agents keeps it: registers, answers, gets assignments."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.id = ""

    async def say(self, **message) -> None:  # noqa: ANN003
        await self.socket.send_bytes(protocol.WorkerMessage(**message).SerializeToString())

    async def hear(self, kind: str):  # noqa: ANN201
        """The next message, which must be of this kind."""
        message = protocol.ServerMessage.FromString(await self.socket.receive_bytes(timeout=LIMIT_S))
        assert message.WhichOneof("message") == kind, message
        return getattr(message, kind)

    async def register(self, name: str, job_type: protocol.JobType.ValueType = protocol.JT_ROOM) -> None:
        await self.say(register=protocol.RegisterWorkerRequest(type=job_type, agent_name=name, version="1.0.0"))
        self.id = (await self.hear("register")).worker_id

    async def take_job(self, identity: str) -> protocol.JobAssignment:
        """Accepts the job that it is asked to do."""
        request = await self.hear("availability")
        await self.say(availability=protocol.AvailabilityResponse(job_id=request.job.id, available=True, participant_identity=identity, participant_name="Robot"))
        return await self.hear("assignment")


@pytest_asyncio.fixture
async def service(server: Server) -> AsyncIterator[api.LiveKitAPI]:
    async with api.LiveKitAPI(server.http_url, "devkey", "secret") as running:
        yield running


@pytest_asyncio.fixture
async def hire(server: Server) -> AsyncIterator:
    """Makes workers that are gone with the test."""
    token = api.AccessToken("devkey", "secret").with_grants(api.VideoGrants(agent=True)).to_jwt()
    async with aiohttp.ClientSession() as session:

        async def make(name: str, job_type: protocol.JobType.ValueType = protocol.JT_ROOM) -> Worker:
            worker = Worker(await session.ws_connect(f"{server.ws_url}/agent", headers={"Authorization": f"Bearer {token}"}, heartbeat=30))
            await worker.register(name, job_type)
            return worker

        yield make


async def test_an_agent_that_is_dispatched_is_heard_and_leaves_when_the_dispatch_is_deleted(service, hire, peer, room):
    worker, alice, robot = await hire(f"echo-{room}"), peer("alice"), peer("robot")
    await alice.join()
    created = await service.agent_dispatch.create_dispatch(api.CreateAgentDispatchRequest(room=room, agent_name=f"echo-{room}", metadata="m"))
    assignment = await worker.take_job("robot")
    assert (assignment.job.dispatch_id, assignment.job.metadata, assignment.job.room.name) == (created.id, "m", room)
    await robot.join(assignment.token)
    await robot.publish_tone(880)
    await alice.hears("robot", 880)
    seen = alice.remote("robot")
    assert seen.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT and seen.attributes["lk.agent_name"] == f"echo-{room}"
    listed = await service.agent_dispatch.list_dispatch(room)
    jobs = [each.state.jobs for each in listed if each.id == created.id]
    assert [(job.state.status, job.state.worker_id, job.state.participant_identity) for job in jobs[0]] == [(protocol.JS_RUNNING, worker.id, "robot")]
    await service.agent_dispatch.delete_dispatch(created.id, room)
    assert (await worker.hear("termination")).job_id == assignment.job.id
    await until("the agent is sent away", lambda: alice.remote("robot") is None)
    assert created.id not in {each.id for each in await service.agent_dispatch.list_dispatch(room)}


async def test_a_token_calls_the_agents_of_its_room(hire, peer, room):
    worker, alice = await hire(f"greeter-{room}"), peer("alice")
    configuration = api.RoomConfiguration(agents=[agent_dispatch.RoomAgentDispatch(agent_name=f"greeter-{room}", metadata="hello")])
    grants = api.VideoGrants(room_join=True, room=room)
    token = api.AccessToken("devkey", "secret").with_identity("alice").with_grants(grants).with_room_config(configuration).to_jwt()
    await alice.join(token)
    request = await worker.hear("availability")
    assert (request.job.room.name, request.job.metadata) == (room, "hello")


async def test_a_job_that_is_declined_goes_to_another_worker(service, hire, room):
    name = f"shy-{room}"
    workers = [await hire(name), await hire(name)]
    await service.agent_dispatch.create_dispatch(api.CreateAgentDispatchRequest(room=room, agent_name=name))
    asked = [asyncio.create_task(worker.hear("availability")) for worker in workers]
    done, _ = await asyncio.wait(asked, timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
    first = asked.index(next(iter(done)))
    job_id = (await asked[first]).job.id
    await workers[first].say(availability=protocol.AvailabilityResponse(job_id=job_id, available=False))
    assert (await asked[1 - first]).job.id == job_id


async def test_an_agent_comes_for_each_publisher(hire, peer, room, service):
    worker, alice = await hire(f"scribe-{room}", protocol.JT_PUBLISHER), peer("alice")
    await service.agent_dispatch.create_dispatch(api.CreateAgentDispatchRequest(room=room, agent_name=f"scribe-{room}"))
    await alice.join()
    await alice.publish_tone(440)
    request = await worker.hear("availability")
    assert (request.job.type, request.job.participant.identity) == (protocol.JT_PUBLISHER, "alice")


async def test_a_token_without_the_agent_grant_registers_no_worker(server, room):
    headers = {"Authorization": f"Bearer {access_token(room, 'alice')}"}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{server.ws_url}/agent", headers=headers)
    assert refused.value.status == 403
