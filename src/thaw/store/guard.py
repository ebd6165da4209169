"""Keeps writers of snapshots and the sweeper of unused chunks apart, across processes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from thaw.store.durable import FILE_MODE, make_folder

RETRY_S = 0.005


class Guarding(Protocol):
    """Keeps savers and sweepers of one origin apart."""

    def saving(self) -> AbstractAsyncContextManager[None]:
        """Held together with other savers."""
        ...

    def sweeping(self) -> AbstractAsyncContextManager[None]:
        """Held alone."""
        ...


class Guard:
    """A lock on one file of the origin: any number may save at once, and nobody saves while one sweeps.

    Without it a save could find a chunk present, and a sweep remove it before the new manifest names it. The
    kernel drops the lock when its holder ends, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def saving(self) -> AsyncIterator[None]:
        """Holds the lock together with other savers."""
        async with self._held(fcntl.LOCK_SH):
            yield

    @asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Holds the lock alone."""
        async with self._held(fcntl.LOCK_EX):
            yield

    @asynccontextmanager
    async def _held(self, kind: int) -> AsyncIterator[None]:
        make_folder(self._path.parent)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            # Other processes hold it too, so there is nothing to wait on but time; a thread that blocked in flock could
            # not be cancelled.
            while not _try_lock(descriptor, kind):  # noqa: ASYNC110
                await asyncio.sleep(RETRY_S)
            yield
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EINTR):
            return False
        raise
    return True
