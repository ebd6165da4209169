"""A response that reaches its caller while the function still produces it.

::

    stream = ResponseStream()
    calling = asyncio.create_task(environment.invoke(invocation, stream))
    if await stream.begins_before(calling):
        async for piece in stream.pieces(): ...
    result = await calling  # of a response that did not come as a stream, `result.payload` is all

What the caller has not taken yet is bounded: beyond that the function's own write waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol

# Bytes that may wait for the caller before the function has to.
HIGH_WATER = 1 << 20
LOW_WATER = HIGH_WATER // 4


class Source(Protocol):
    """The connection on which a response comes in."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class ResponseStream:
    """One response; `content_type` is what the function declared. Belongs to one event loop."""

    def __init__(self) -> None:
        self.content_type = ""
        self._began = asyncio.Event()
        self._changed = asyncio.Event()
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._ended = False
        self._source: Source | None = None

    @property
    def began(self) -> bool:
        """Whether the function chose to stream."""
        return self._began.is_set()

    def begin(self, content_type: str, source: Source) -> None:
        """The function declared a streamed response; `source` is held back where the caller is slow."""
        self.content_type = content_type
        self._source = source
        self._began.set()

    def write(self, piece: bytes) -> None:
        """The next bytes; dropped where the call has ended."""
        if self._ended:
            return
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._changed.set()
        if self._waiting > HIGH_WATER and self._source is not None:
            self._source.pause()

    def end(self) -> None:
        """Nothing follows; idempotent."""
        self._ended = True
        self._changed.set()
        self._let_go()

    async def begins_before(self, calling: asyncio.Future[Any]) -> bool:
        """Waits until the function streams or the call has ended; whether it streams."""
        beginning = asyncio.ensure_future(self._began.wait())
        try:
            await asyncio.wait((beginning, calling), return_when=asyncio.FIRST_COMPLETED)
        finally:
            beginning.cancel()
        return self.began

    async def pieces(self) -> AsyncIterator[bytes]:
        """What arrives, until the end."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                if self._waiting < LOW_WATER:
                    self._let_go()
                yield piece
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _let_go(self) -> None:
        if self._source is not None:
            self._source.resume()
