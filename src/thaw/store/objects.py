"""Deployment packages, in the origin beside the snapshots, under the SHA-256 of their content."""

from __future__ import annotations

import asyncio
import hashlib

from thaw.errors import NotAuthentic
from thaw.store.chunk_store import ListedStore

OBJECT_LIMIT = 1 << 30
"""Bytes of the largest object that is read. Lambda takes zips of 50 MB, and 250 MB unpacked."""


class ObjectStore:
    """Keeps whole objects by content: equal ones once, and a changed one does not pass as the old."""

    def __init__(self, store: ListedStore) -> None:
        self._store = store

    async def put(self, content: bytes) -> str:
        """Stores `content` and returns its key, the hex SHA-256. Raises `StoreFull`, `StoreUnavailable`."""
        key = await _sha256(content)
        if not await self._store.contains(key):
            await self._store.put(key, content)
        return key

    async def get(self, key: str) -> bytes:
        """The object. Raises `ChunkNotFound`, `StoreUnavailable`, or `NotAuthentic` if it is not what `key` says."""
        content = await self._store.get(key)
        if await _sha256(content) != key:
            raise NotAuthentic(
                f"The deployment package {key} was altered in the store, because its SHA-256 is another: "
                "upload the function's code again."
            )
        return content

    async def delete(self, key: str) -> None:
        """Removes the object, if it is there."""
        await self._store.delete(key)

    async def keys(self) -> list[str]:
        """Keys of all objects."""
        return await self._store.names()


async def _sha256(content: bytes) -> str:
    return (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
