"""Several stores as one: the nearest that has a content gives it, and the ones before it get it, too.

::

    open: L1 ── has it? ──► opens? ──► done
          │ no, or it does not open (then it is evicted)
          L2 ── has it? ──► opens? ──► done, and into L1
          │
          L3 ── the origin: what it lacks, or what does not open there, is an error      → into L2 and L1

Trouble with a cache is counted and logged, and never more than that. A content goes into a nearer tier only after it
has been opened, so a cache that lies cannot spread what it says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from thaw.errors import ChunkNotFound, NotAuthentic, StoreError
from thaw.store.chunk_store import ChunkStore, ListedStore, Request, Result, Use
from thaw.store.counted import Counted
from thaw.store.policy import Policy

logger = logging.getLogger(__name__)
FILLS = 256
"""Contents that may be on their way into nearer tiers; beyond that a reader waits for its own."""
FILLS_AT_ONCE = 2
FILL_AFTER_S = 0.1
"""Pause before a content is put into a nearer tier: a restore is over by then."""
SILENCE_S = 10.0
"""Seconds for which the same tier's trouble is not logged again."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A tier before the origin. `published`: whether a publish puts its chunks there right away."""

    name: str
    store: ListedStore
    published: bool = False


class Tiered(Policy):
    """A `ListedStore` that is `origin`, read through `caches`, the nearest first."""

    def __init__(self, origin: ListedStore, caches: Sequence[Cache] = (), *, name: str = "l3") -> None:
        super().__init__(origin)
        self.caches = tuple(caches)
        self.name = name
        self._turns = asyncio.Semaphore(FILLS_AT_ONCE)
        self._fills: set[asyncio.Task[None]] = set()
        self._logged: dict[str, float] = {}

    @property
    def stores(self) -> dict[str, ListedStore]:
        """All tiers by name, the nearest first."""
        return {cache.name: cache.store for cache in self.caches} | {self.name: self.inner}

    async def get(self, id: str) -> bytes:
        """See `ChunkStore.get`."""
        return await self.fetch(id, bytes)

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """See `ChunkStore.fetch`. `use` raises NotAuthentic for what does not open; then the next tier is asked.

        Only the origin's errors are raised.
        """
        for passed, cache in enumerate(self.caches):
            try:
                return await self._read(cache.store, id, use, self.caches[:passed])
            except ChunkNotFound:
                continue
            except NotAuthentic as error:
                self._note(cache.name, f"it gave something that is not the chunk, which is evicted: {error}")
                await self._harmless(cache.name, partial(cache.store.delete, id))
            except StoreError as error:
                self._note(cache.name, str(error))
        return await self._read(self.inner, id, use, self.caches)

    async def fetch_batch(self, requests: Sequence[Request]) -> None:
        """Several `fetch`es; what the nearest tier lacks, or what does not open there, is fetched one by one."""
        nearest = self.caches[0].store if self.caches else self.inner
        if isinstance(nearest, Counted) and nearest.reads_batches:
            failures = await nearest.fetch_batch(requests)
            requests = [request for request, failure in zip(requests, failures, strict=True) if failure is not None]
        await asyncio.gather(*(self.fetch(id, use) for id, use in requests))

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """See `ChunkStore.put`; the origin has it when this returns; the caches that publish fills get it next."""
        await self.inner.put(id, content)
        if published := [cache for cache in self.caches if cache.published]:
            await self._fill_later(published, id, bytes(content))

    async def delete(self, id: str) -> None:
        """See `ChunkStore.delete`: from the origin first, then what is on its way into the caches, then from these."""
        await self.inner.delete(id)
        if under_way := [task for task in self._fills if task.get_name() == id]:
            for task in under_way:
                task.cancel()
            await asyncio.wait(under_way)
        for cache in self.caches:
            await self._harmless(cache.name, partial(cache.store.delete, id))

    async def settled(self) -> None:
        """Returns when nothing is on its way into a nearer tier."""
        while self._fills:
            await asyncio.wait(set(self._fills))

    async def _read(self, store: ChunkStore, id: str, use: Use[Result], fills: Sequence[Cache]) -> Result:
        if not fills:
            return await store.fetch(id, use)
        result, content = await store.fetch(id, lambda content: (use(content), _kept(content)))
        await self._fill_later(fills, id, content)
        return result

    async def _fill_later(self, caches: Sequence[Cache], id: str, content: bytes) -> None:
        tasks = [asyncio.create_task(self._fill_in_turn(cache, id, content), name=id) for cache in caches]
        self._fills.update(tasks)
        for task in tasks:
            task.add_done_callback(self._fills.discard)
        if len(self._fills) > FILLS:
            await asyncio.wait(tasks)

    async def _fill_in_turn(self, cache: Cache, id: str, content: bytes) -> None:
        """Somebody waits for what is read meanwhile, and nobody for this: it comes later, and a little at a time."""
        if len(self._fills) <= FILLS // 2:
            await asyncio.sleep(FILL_AFTER_S)
        async with self._turns:
            await self._fill(cache, id, content)

    async def _fill(self, cache: Cache, id: str, content: bytes | bytearray | memoryview) -> None:
        await self._harmless(cache.name, partial(cache.store.put, id, content))

    async def _harmless(self, name: str, call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except StoreError as error:
            self._note(name, str(error))

    def _note(self, name: str, trouble: str) -> None:
        """Logs the first of a series; a cache that is down fails for every chunk."""
        now = time.monotonic()
        if now - self._logged.get(name, -SILENCE_S) >= SILENCE_S:
            self._logged[name] = now
            logger.warning("The tier %s is in trouble, which makes restores slower: %s", name, trouble)


def _kept(content: memoryview) -> bytes:
    """A content that outlives its use: itself, where it is not in a buffer that is used again."""
    whole = content.obj
    return whole if isinstance(whole, bytes) and len(whole) == len(content) else bytes(content)
