"""One clone of a snapshot in use, forked before its call comes.

A fork costs page tables, a sandbox's mounts and copies of the pages that every clone writes: about half of a restore.
Paid between calls, nobody waits for it. The clone has not run one instruction of the function: it still has its
clocks, timers, hooks and randomness before it, so a call cannot tell it from one that was forked for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from thaw.errors import ThawError

logger = logging.getLogger(__name__)

DELAY_S = 0.02
"""After the last restore; calls that come together are served first, and a short invocation is over by then."""
KEPT_S = 60.0
"""A snapshot that nobody called for so long gets its clone when it is called."""


class Waiting(Protocol):
    """A clone that has not begun."""

    @property
    def waiting(self) -> bool: ...

    async def close(self) -> None: ...


W = TypeVar("W", bound=Waiting)


class ForkedAhead(Generic[W]):
    """The waiting clone of one snapshot, if there is one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._clone: W | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def take(self, suits: Callable[[W], bool]) -> W | None:
        """The waiting clone, which is the caller's from now on; None where there is none, or none that suits."""
        clone, self._clone = self._clone, None
        if clone is None:
            return None
        if clone.waiting and suits(clone):
            return clone
        self._in_background(clone.close())
        return None

    def renew(self, fork: Callable[[], Awaitable[W | None]]) -> None:
        """A restore is over: `fork` the next one in a moment, unless another restore comes first."""
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(DELAY_S, lambda: self._in_background(self._fork(fork)))

    async def _fork(self, fork: Callable[[], Awaitable[W | None]]) -> None:
        if self._clone is None:
            try:
                clone = await fork()
            except ThawError as error:
                logger.warning("No clone could be forked ahead of its call, so the call will fork it: %s", error)
                return
            if clone is None:
                return
            if self._closed or self._clone is not None:
                await clone.close()
                return
            self._clone = clone
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(KEPT_S, self._give_up)

    def _give_up(self) -> None:
        self.take(lambda clone: False)

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ends the waiting clone. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._give_up()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
