"""Blocking work in threads, which is never abandoned half-way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(threads: Executor, work: Callable[[], Result]) -> Result:
    """What `work` returns, run in one of `threads`.

    A thread cannot be cancelled. If the caller is, this waits for the work's end before it passes the cancellation
    on: otherwise a file could appear after its save was undone, or bytes arrive in a descriptor that was closed and
    given to something else.
    """
    future = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _end_of(future)
        if not future.cancelled():
            future.exception()  # the caller is gone and will not ask for it
        raise


async def _end_of(future: asyncio.Future[Result]) -> None:
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue  # cancelled again, as by a group that ends: the thread still runs, and the first one is passed on


class Buffers:
    """A buffer of `size` bytes for each thread: fresh memory for every chunk would cost more than opening it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._local = threading.local()

    def own(self) -> bytearray:
        """This thread's."""
        if not hasattr(self._local, "buffer"):
            self._local.buffer = bytearray(self._size)
        buffer: bytearray = self._local.buffer
        return buffer
