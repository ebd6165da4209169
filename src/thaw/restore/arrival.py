"""A memory image on its way: which pieces of it are here, and who waits for one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from thaw.errors import RestoreFailed, ThawError

Put = Callable[[int, memoryview], None]
"""Takes the index and the content of a piece; the content is not used after it returns."""


class ImageSource(Protocol):
    """Where the memory image comes from."""

    @property
    def size(self) -> int:
        """Bytes of the image."""

    @property
    def piece(self) -> int:
        """Bytes that arrive together."""

    async def read(self, put: Put, pieces: Sequence[int], arrived: Callable[[int], None]) -> None:
        """Hand the content of pieces to `put`, in any thread, then `arrived(index)` for each, on the event loop.

        Pieces that are zero need no `put`. Raises StoreError.
        """


Reading = Callable[[Put, Sequence[int], Callable[[int], None]], Awaitable[None]]


async def _nothing_is_missing(put: Put, pieces: Sequence[int], arrived: Callable[[int], None]) -> None:
    raise RestoreFailed(f"Pieces {list(pieces)} of a complete memory image were asked for.", step="image")


class Arrival:
    """The memory image as a memfd that fills up; remembers what is there and fetches every piece once.

    `place(piece, content)`, where there is one, may put a piece where it is needed instead: it is called in a thread,
    and says whether it did. Such a piece has arrived, but is not in the memfd.
    """

    def __init__(self, memory: int, piece: int, read: Reading) -> None:
        """`memory` is a memfd of the image's size, which is closed with this; `read` is as `ImageSource.read`."""
        self.memory = memory
        self.size = os.fstat(memory).st_size
        self.piece = piece
        self.count = -(-self.size // piece)
        self._read_pieces = read
        self.listeners: list[Callable[[int], None]] = []
        self.place: Callable[[int, memoryview], bool] | None = None
        self.placed: set[int] = set()
        """Pieces that `place` has put in place."""
        self._arrived: set[int] = set()
        self._under_way: dict[int, asyncio.Future[None]] = {}

    @classmethod
    def of(cls, source: ImageSource) -> Arrival:
        """An image of which nothing has arrived."""
        memory = os.memfd_create("thaw-memory-image")
        os.ftruncate(memory, source.size)
        return cls(memory, source.piece, source.read)

    @classmethod
    def complete(cls, memory: int, piece: int) -> Arrival:
        """An image that is here already, in a memfd that stays the caller's."""
        arrival = cls(os.dup(memory), piece, _nothing_is_missing)
        arrival._arrived.update(range(arrival.count))
        return arrival

    @property
    def arrived(self) -> set[int]:
        """Pieces that are there."""
        return self._arrived

    def has(self, piece: int) -> bool:
        """Whether a piece is there."""
        return piece in self._arrived

    async def fetch(self, pieces: Iterable[int]) -> None:
        """Bring these pieces; those that are under way already are waited for. Raises StoreError."""
        wanted = [piece for piece in dict.fromkeys(pieces) if piece not in self._arrived]
        own = [piece for piece in wanted if piece not in self._under_way]
        others = [self._under_way[piece] for piece in wanted if piece in self._under_way]
        if own:
            await self._read(own)
        for other in others:
            await asyncio.shield(other)

    async def _read(self, pieces: list[int]) -> None:
        loop = asyncio.get_running_loop()
        for piece in pieces:
            self._under_way[piece] = loop.create_future()
        failure: ThawError | None = None
        try:
            await self._read_pieces(self._put, pieces, self._note)
        except ThawError as error:
            failure = error
            raise
        finally:
            for piece in pieces:
                waiting = self._under_way.pop(piece)
                if not waiting.done():
                    waiting.set_exception(failure or RestoreFailed("A piece of the memory image was not fetched."))
                    waiting.exception()  # whoever waits gets it

    def _put(self, piece: int, content: memoryview) -> None:
        if self.place is not None and self.place(piece, content):
            self.placed.add(piece)
            return
        try:
            done = 0
            while done < len(content):
                done += os.pwrite(self.memory, content[done:], piece * self.piece + done)
        except OSError as error:
            raise RestoreFailed(
                f"The memory image does not fit into this worker's memory ({error.strerror}): free some, or call fewer "
                "versions at once.",
                step="image",
                errno=error.errno or 0,
            ) from error

    def _note(self, piece: int) -> None:
        self._arrived.add(piece)
        if (waiting := self._under_way.get(piece)) is not None and not waiting.done():
            waiting.set_result(None)
        for listener in self.listeners:
            listener(piece)

    def close(self) -> None:
        """Release our descriptor of the image."""
        os.close(self.memory)
