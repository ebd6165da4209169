"""Snapshots that are ready to be cloned on this worker, loaded from the store once and kept while there is room."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

logger = logging.getLogger(__name__)


class Resident(Protocol):
    """A snapshot in memory: its size in bytes, and its end."""

    @property
    def size(self) -> int: ...

    async def close(self) -> None: ...


R = TypeVar("R", bound=Resident)


@dataclass(slots=True, eq=False)
class _Place(Generic[R]):
    """One snapshot's place; `users` clones are being made from it right now, and it is not closed meanwhile."""

    loading: asyncio.Task[R]
    users: int = 0
    dropped: bool = False


class Residents(Generic[R]):
    """At most about `limit` bytes of snapshots; beyond that the one that was used longest ago is closed.

    The limit is not a reason to refuse: snapshots that are in use at this moment stay, whatever their size.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: OrderedDict[str, _Place[R]] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """Bytes of all snapshots that are loaded."""
        return sum(resident.size for place in self._places.values() if (resident := _loaded(place)) is not None)

    @asynccontextmanager
    async def hold(self, key: str, load: Callable[[], Awaitable[R]]) -> AsyncIterator[R]:
        """The snapshot named `key`, loaded by whoever asks first; raises what `load` raises, to all who wait."""
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(asyncio.ensure_future(_run(load)))
            place.loading.add_done_callback(lambda task: self._loaded(key, task))
        self._places.move_to_end(key)
        place.users += 1
        try:
            yield await asyncio.shield(place.loading)
        finally:
            place.users -= 1
            if place.dropped and not place.users:
                self._close(place)

    def drop(self, key: str) -> None:
        """Closes a snapshot, now or when the last clone that is being made from it is done."""
        place = self._places.pop(key, None)
        if place is not None:
            place.dropped = True
            if not place.users:
                self._close(place)

    async def close(self) -> None:
        """Closes all."""
        for key in list(self._places):
            self.drop(key)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _loaded(self, key: str, task: asyncio.Task[R]) -> None:
        if task.cancelled() or task.exception() is not None:
            place = self._places.get(key)
            if place is not None and place.loading is task:
                del self._places[key]  # the next call tries again
            return
        self._make_room()

    def _make_room(self) -> None:
        size = self.size
        for key, place in list(self._places.items())[:-1]:
            if size <= self._limit:
                return
            resident = _loaded(place)
            if resident is not None and not place.users:
                size -= resident.size
                self.drop(key)

    def _close(self, place: _Place[R]) -> None:
        task = asyncio.create_task(_end(place.loading))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _run(load: Callable[[], Awaitable[R]]) -> R:
    return await load()


def _loaded(place: _Place[R]) -> R | None:
    task = place.loading
    return task.result() if task.done() and not task.cancelled() and task.exception() is None else None


async def _end(loading: asyncio.Task[R]) -> None:
    loading.cancel()
    try:
        resident = await loading
    except (asyncio.CancelledError, Exception):
        return  # it never became resident; whoever asked for it was told why
    try:
        await resident.close()
    except Exception:
        logger.exception("a resident snapshot could not be closed")
