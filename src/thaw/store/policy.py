"""What all policies around a store have in common: every call goes one way, which each policy makes its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from thaw.store.chunk_store import ListedStore, Result, Use

Answer = TypeVar("Answer")


class Policy:
    """A `ListedStore` that is another one, all of whose calls go through `_run`."""

    def __init__(self, inner: ListedStore) -> None:
        self.inner = inner

    async def _run(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        return await call()

    async def get(self, id: str) -> bytes:
        """See `ChunkStore.get`."""
        return await self._run(lambda: self.inner.get(id))

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """See `ChunkStore.fetch`."""
        return await self._run(lambda: self.inner.fetch(id, use))

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """See `ChunkStore.put`."""
        await self._run(lambda: self.inner.put(id, content))

    async def contains(self, id: str) -> bool:
        """See `ChunkStore.contains`."""
        return await self._run(lambda: self.inner.contains(id))

    async def delete(self, id: str) -> None:
        """See `ChunkStore.delete`."""
        await self._run(lambda: self.inner.delete(id))

    async def names(self) -> list[str]:
        """See `ListedStore.names`."""
        return await self._run(lambda: self.inner.names())

    async def put_new(self, id: str, content: bytes) -> bool:
        """See `ListedStore.put_new`."""
        return await self._run(lambda: self.inner.put_new(id, content))
