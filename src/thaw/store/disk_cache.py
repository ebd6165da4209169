"""L1: chunks on this worker's own disk, bounded by bytes; it survives a restart of the server.

Each file carries its own uses, as its times: the time of access is its last use, the time of modification the last but
one (the epoch where there was none). So nothing has to be written beside the chunks, and nothing can disagree with
them. Files are not flushed: what a crash of the machine damages does not open, and is fetched again.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from thaw.errors import ChunkNotFound, StoreError
from thaw.store.chunk_store import Request, Result, Use
from thaw.store.folder import Folder
from thaw.store.lru2 import Lru2


class DiskCache:
    """A `ListedStore` in `root` that holds at most `capacity` bytes; what LRU-2 says goes to make room.

    One server uses a folder at a time. `limit` is the most bytes that one content may have.
    """

    def __init__(self, root: Path, *, capacity: int, limit: int) -> None:
        self._folder = Folder(root, limit=limit, durable=False, threads=max(4, os.cpu_count() or 1))
        self._capacity = capacity
        self._uses = Lru2()
        self._sizes: dict[str, int] = {}
        self._size = 0
        self._lock = threading.Lock()  # uses are noted in threads

    @property
    def size(self) -> int:
        """Bytes that are in the cache."""
        return self._size

    @property
    def capacity(self) -> int:
        """Bytes that it may hold."""
        return self._capacity

    def open(self) -> None:
        """Takes up what an earlier server left, and removes what does not fit or is half-written."""
        self._folder.remove_abandoned(older_than_s=0)
        for file in list(self._folder.files()):
            status = file.stat()
            self._uses.restore(file.name, status.st_atime, status.st_mtime)
            self._sizes[file.name] = status.st_size
            self._size += status.st_size
        for id in self._crowded_out(0):
            self._folder.path(id).unlink(missing_ok=True)

    async def get(self, id: str) -> bytes:
        """The content of `id`, as `ChunkStore.get`."""
        return await self.fetch(id, bytes)

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """What `use` makes of `id`, as `ChunkStore.fetch`; it counts as a use where `use` does not fail."""

        try:
            return await self._folder.fetch(id, self._noting(id, use))
        except ChunkNotFound:
            self._forget(id)  # somebody has cleaned up
            raise

    async def fetch_batch(self, requests: Sequence[Request]) -> list[StoreError | None]:
        """Several reads in one thread, as `BatchReads.fetch_batch`."""
        return await self._folder.fetch_batch([(id, self._noting(id, use)) for id, use in requests])

    def _noting(self, id: str, use: Use[Result]) -> Use[Result]:
        def used(content: memoryview) -> Result:
            result = use(content)
            self._note_use(id, len(content))
            return result

        return used

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """Stores `content` and removes what no longer fits; a content larger than the cache is not kept."""
        if len(content) > self._capacity:
            await self.delete(id)
            return
        await self._make_room(len(content))
        try:
            await self._folder.put(id, content)
        except StoreError:
            self._forget(id)
            raise
        await asyncio.to_thread(self._note_use, id, len(content))
        await self._make_room(0)

    async def contains(self, id: str) -> bool:
        """Whether `id` is there."""
        return await self._folder.contains(id)

    async def delete(self, id: str) -> None:
        """Removes `id`, if it is there."""
        await self._folder.delete(id)
        self._forget(id)

    async def names(self) -> list[str]:
        """Every name that is there."""
        return await self._folder.names()

    async def put_new(self, id: str, content: bytes) -> bool:
        """Stores `content` unless `id` is there."""
        if await self.contains(id):
            return False
        await self.put(id, content)
        return True

    async def clear(self) -> None:
        """Removes everything."""
        for id in await self.names():
            await self.delete(id)

    def close(self) -> None:
        """Ends the threads."""
        self._folder.close()

    async def _make_room(self, size: int) -> None:
        with self._lock:
            gone = self._crowded_out(size)
        for id in gone:
            await self._folder.delete(id)

    def _crowded_out(self, size: int) -> list[str]:
        """What has to go so that `size` more bytes fit."""
        gone: list[str] = []
        victims = self._uses.victims()
        while self._size + size > self._capacity and (id := next(victims, None)) is not None:
            self._size -= self._sizes.pop(id)
            gone.append(id)
        return gone

    def _note_use(self, id: str, size: int) -> None:
        with self._lock:
            self._size += size - self._sizes.get(id, 0)
            self._sizes[id] = size
            last, last_but_one = self._uses.use(id, time.time())
        try:
            os.utime(self._folder.place(id), (last, last_but_one))
        except OSError:
            self._forget(id)  # it was removed meanwhile, or the disk is gone: the next read finds out

    def _forget(self, id: str) -> None:
        with self._lock:
            self._uses.forget(id)
            self._size -= self._sizes.pop(id, 0)
