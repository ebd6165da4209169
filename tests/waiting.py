"""Waiting for what happens in the background, without a fixed sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool] | bool], limit_s: float = 10.0) -> None:
    """Returns when `condition` holds; raises TimeoutError where it does not within the limit."""
    async with asyncio.timeout(limit_s):
        while True:
            outcome = condition()
            if outcome if isinstance(outcome, bool) else await outcome:
                return
            await asyncio.sleep(0.002)


def until_true(condition: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    """The same for tests without an event loop; the failure names `what` was waited for."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {limit_s:.0f} s still not: {what}")
        time.sleep(0.01)
