"""Callers that want the same content at the same time share one request."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from thaw.store.chunk_store import ListedStore, Result, Use
from thaw.store.policy import Policy
from thaw.store.threads import in_thread


class Coalesced(Policy):
    """The first caller asks the store; those that come before its answer get the same content, or the same error.

    Each uses the content for itself, in one of `threads`: what does not open for one may open for another.
    """

    def __init__(self, inner: ListedStore, threads: Executor) -> None:
        super().__init__(inner)
        self._threads = threads
        self._under_way: dict[str, asyncio.Task[bytes]] = {}
        self._waiting: dict[str, int] = {}

    async def get(self, id: str) -> bytes:
        """See `ChunkStore.get`. A caller that is cancelled leaves the request to the others, if there are any."""
        task = self._under_way.get(id)
        if task is None:
            task = self._under_way[id] = asyncio.create_task(self.inner.get(id))
            task.add_done_callback(lambda done: self._ended(id, done))
        self._waiting[id] = self._waiting.get(id, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[id] -= 1
            if not self._waiting[id]:
                del self._waiting[id]
                if not task.done():
                    del self._under_way[id]  # nobody may join a request that is given up
                    task.cancel()

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """See `ChunkStore.fetch`."""
        content = await self.get(id)
        return await in_thread(self._threads, lambda: use(memoryview(content)))

    def _ended(self, id: str, task: asyncio.Task[bytes]) -> None:
        if self._under_way.get(id) is task:
            del self._under_way[id]
        if not task.cancelled():
            task.exception()  # whoever waited has it; where all were cancelled, nobody wants it
