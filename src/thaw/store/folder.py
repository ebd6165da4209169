"""A store in a local folder: the origin (L3) by default.

::

    <root>/<first two characters>/<name>      one file each, mode 0600, folders 0700
    <root>/incoming/<random>                  files that are being written; nobody reads them

A file appears under its name by a rename after its bytes are on the disk, so a reader never sees half of one,
whatever happens to the writer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from thaw.errors import ChunkNotFound, NotAuthentic, StoreError, StoreFull, StoreUnavailable
from thaw.store.chunk_store import Request, Result, Use
from thaw.store.durable import ABANDONED_S, remove_abandoned, replace_file
from thaw.store.names import check_name
from thaw.store.threads import Buffers, in_thread

INCOMING = "incoming"
BUFFER_SIZE = 1 << 20
"""Bytes of the contents for which threads keep a buffer: all chunks."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Folder:
    """A `ListedStore` in `root`, which is made when something is first put there.

    `limit` is the most bytes that a file may have to be read. `threads` files are read or written at once. What is
    put there survives a crash of the machine if it is `durable`, else one of the process.
    """

    def __init__(self, root: Path, *, limit: int, threads: int = 16, durable: bool = True) -> None:
        self.root = root
        self._start = f"{root}{os.sep}"
        self._limit = limit
        self._durable = durable
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"thaw-{root.name}")
        self._buffers = Buffers(min(limit, BUFFER_SIZE))

    async def get(self, id: str) -> bytes:
        """The content of `id`, as `ChunkStore.get`."""
        return await in_thread(self._threads, lambda: self._read(self.place(id), id))

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """What `use` makes of `id`, as `ChunkStore.fetch`."""
        path = self.place(id)
        return await in_thread(self._threads, lambda: use(self._view(path, id)))

    async def fetch_batch(self, requests: Sequence[Request]) -> list[StoreError | None]:
        """Several reads in one thread, as `BatchReads.fetch_batch`."""
        return await in_thread(self._threads, lambda: [self._tried(id, use) for id, use in requests])

    def _tried(self, id: str, use: Use[object]) -> StoreError | None:
        try:
            use(self._view(self.place(id), id))
        except StoreError as error:
            return error
        return None

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """Writes `id`, as `ChunkStore.put`; it is on the disk when this returns."""
        await in_thread(self._threads, lambda: self._write(self.path(id), content))

    async def contains(self, id: str) -> bool:
        """Whether `id` is there."""
        return await in_thread(self._threads, lambda: self._exists(self.path(id)))

    async def delete(self, id: str) -> None:
        """Removes `id`, if it is there."""
        await in_thread(self._threads, lambda: self._remove(self.path(id)))

    async def names(self) -> list[str]:
        """Every name that is there."""
        return await in_thread(self._threads, self._list)

    async def put_new(self, id: str, content: bytes) -> bool:
        """Writes `id` unless it is there."""
        return await in_thread(self._threads, lambda: self._write_new(self.path(id), content))

    def remove_abandoned(self, older_than_s: float = ABANDONED_S) -> None:
        """Removes what writers that no longer run left half-written. Call it when a server starts."""
        with self._sentences("clean up"):
            remove_abandoned(self.root / INCOMING, older_than_s)

    def close(self) -> None:
        """Ends the threads, after the work that they have."""
        self._threads.shutdown()

    def path(self, id: str) -> Path:
        """Where `id` is, if it is there. Raises ValueError for an unsafe name."""
        return Path(self.place(id))

    def place(self, id: str) -> str:
        """The same as text: for a restore's many chunks making Path objects takes as long as opening the files."""
        return f"{self._start}{check_name(id)[:2]}{os.sep}{id}"

    def _read(self, path: str, id: str) -> bytes:
        with self._opened(path, id) as (file, _):
            return file.readall()

    def _view(self, path: str, id: str) -> memoryview:
        """The content in this thread's buffer, until the thread reads again; larger ones in memory of their own."""
        with self._opened(path, id) as (file, size):
            if size > BUFFER_SIZE:
                return memoryview(file.readall())
            buffer = memoryview(self._buffers.own())[:size]
            done = 0
            while done < size and (count := file.readinto(buffer[done:])):
                done += count
            return buffer[:done]

    @contextmanager
    def _opened(self, path: str, id: str) -> Iterator[tuple[FileIO, int]]:
        """The file and how many bytes it has."""
        with self._sentences("read from"):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise ChunkNotFound(
                    f"{id} is not in {self.root}, because it was deleted or never arrived: publish the version again."
                ) from None
            with FileIO(descriptor, "rb") as file:
                size = os.fstat(descriptor).st_size
                if size > self._limit:
                    raise NotAuthentic(
                        f"{id} in {self.root} has {size} bytes, but nothing there has more than {self._limit}: "
                        "delete it and publish the version again."
                    )
                yield file, size

    def _write(self, path: Path, content: bytes | bytearray | memoryview) -> None:
        with self._sentences("write to"):
            replace_file(self.root / INCOMING, path, content, durable=self._durable)

    def _write_new(self, path: Path, content: bytes) -> bool:
        with self._sentences("write to"):
            try:
                replace_file(self.root / INCOMING, path, content, durable=self._durable, new=True)
            except FileExistsError:
                return False
            return True

    def _exists(self, path: Path) -> bool:
        with self._sentences("read from"):
            return path.is_file()

    def _remove(self, path: Path) -> None:
        with self._sentences("delete from"):
            path.unlink(missing_ok=True)

    def _list(self) -> list[str]:
        with self._sentences("list"):
            return [file.name for file in self.files()]

    def files(self) -> Iterator[Path]:
        """Every file that is there."""
        if self.root.is_dir():
            for folder in self.root.iterdir():
                if folder.name != INCOMING and folder.is_dir():
                    yield from folder.iterdir()

    @contextmanager
    def _sentences(self, action: str) -> Iterator[None]:
        """Turns the operating system's errors into the store's."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            if error.errno in FULL:
                raise StoreFull(
                    f"Thaw cannot write to {self.root}, because {reason[:1].lower() + reason[1:]}: "
                    "free space there, or set THAW_ORIGIN to a folder on another disk."
                ) from error
            raise StoreUnavailable(
                f"Thaw cannot {action} {self.root}, because {reason[:1].lower() + reason[1:]}: "
                "check that the disk is mounted and that this user may use the folder."
            ) from error
