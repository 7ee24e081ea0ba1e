"""The test's end of an `agent.py`: a participant in a namespace as an object with methods."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from namespaces import Namespace

from node import OUT

AGENT = Path(__file__).resolve().parent / "agent.py"
ORDER_LIMIT_S = 45
STOP_LIMIT_S = 5


class AgentError(AssertionError):
    """An order failed over there."""


class RemotePeer:
    """Every method of the agent is one here: `await alice.sees(identity="bob", picture_id=7)`."""

    def __init__(self, namespace: Namespace, room: str, identity: str, kind: str = "native", urgent: bool = False) -> None:
        self.identity = identity
        self._command = namespace.command(*(["nice", "-n", "-15"] if urgent else []), sys.executable, str(AGENT), kind, room, identity)
        self._log = f"{room}-{identity}"
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def start(self) -> RemotePeer:
        """Starts the process; orders may follow at once."""
        OUT.mkdir(exist_ok=True)
        with (OUT / f"{self._log}.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log)
        self._reader = asyncio.create_task(self._read())
        return self

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)

        async def order(**args: Any) -> Any:
            number = next(self._ids)
            waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
            assert self._process.stdin
            self._process.stdin.write(json.dumps({"id": number, "method": method, "args": args}).encode() + b"\n")
            await self._process.stdin.drain()
            async with asyncio.timeout(ORDER_LIMIT_S):
                answer = await waiting
            if "error" in answer:
                raise AgentError(f"{self.identity}.{method}({args}): {answer['error']}")
            return answer["result"]

        return order

    async def stop(self) -> None:
        """Leaves and ends the process."""
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await self.leave()
        except (AgentError, TimeoutError, ConnectionError, AttributeError):
            pass
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._reader.cancel()

    async def _read(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            # An order that took too long is cancelled here, but not over there.
            if not waiting.done():
                waiting.set_result(answer)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(AgentError(f"{self.identity}: the agent ended; see {self._log}.log"))
