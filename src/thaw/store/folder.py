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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from thaw.errors import ChunkNotFound, NotAuthentic, StoreError, StoreFull, StoreUnavailable
from thaw.store.durable import remove_abandoned, replace_file
from thaw.store.names import check_name
from thaw.store.threads import in_thread

INCOMING = "incoming"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Folder:
    """A `ListedStore` in `root`, which is made when something is first put there.

    `limit` is the most bytes that a file may have to be read. `threads` files are read or written at once.
    """

    def __init__(self, root: Path, *, limit: int, threads: int = 8) -> None:
        self.root = root
        self._limit = limit
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"thaw-{root.name}")

    async def get(self, id: str) -> bytes:
        """The content of `id`, as `ChunkStore.get`."""
        return await in_thread(self._threads, lambda: self._read(self._path(id), id))

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """Writes `id`, as `ChunkStore.put`; it is on the disk when this returns."""
        await in_thread(self._threads, lambda: self._write(self._path(id), content))

    async def contains(self, id: str) -> bool:
        """Whether `id` is there."""
        return await in_thread(self._threads, lambda: self._exists(self._path(id)))

    async def delete(self, id: str) -> None:
        """Removes `id`, if it is there."""
        await in_thread(self._threads, lambda: self._remove(self._path(id)))

    async def names(self) -> list[str]:
        """Every name that is there."""
        return await in_thread(self._threads, self._list)

    def remove_abandoned(self) -> None:
        """Removes what writers that no longer run left half-written. Call it when a server starts."""
        with self._sentences("clean up"):
            remove_abandoned(self.root / INCOMING)

    def close(self) -> None:
        """Ends the threads, after the work that they have."""
        self._threads.shutdown()

    def _path(self, id: str) -> Path:
        return self.root / check_name(id)[:2] / id

    def _read(self, path: Path, id: str) -> bytes:
        with self._sentences("read from"):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise ChunkNotFound(
                    f"{id} is not in {self.root}, because it was deleted or never arrived: publish the version again."
                ) from None
            with open(descriptor, "rb", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                if size > self._limit:
                    raise NotAuthentic(
                        f"{id} in {self.root} has {size} bytes, but nothing there has more than {self._limit}: "
                        "delete it and publish the version again."
                    )
                return file.readall()

    def _write(self, path: Path, content: bytes | bytearray | memoryview) -> None:
        with self._sentences("write to"):
            replace_file(self.root / INCOMING, path, content)

    def _exists(self, path: Path) -> bool:
        with self._sentences("read from"):
            return path.is_file()

    def _remove(self, path: Path) -> None:
        with self._sentences("delete from"):
            path.unlink(missing_ok=True)

    def _list(self) -> list[str]:
        with self._sentences("list"):
            if not self.root.is_dir():
                return []
            folders = [folder for folder in self.root.iterdir() if folder.name != INCOMING and folder.is_dir()]
            return [file.name for folder in folders for file in folder.iterdir()]

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
