"""Waiting for a condition with a deadline; no test sleeps blindly."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

POLL_S = 0.05


async def until(claim: str, probe: Callable[[], Any | Awaitable[Any]], within_s: float = 15.0, poll_s: float = POLL_S) -> Any:
    """Polls `probe` until it is true and returns its value; the error names the claim and the last value."""
    deadline = time.monotonic() + within_s
    while True:
        value = probe()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {claim}; last seen: {value!r}"
        await asyncio.sleep(poll_s)
