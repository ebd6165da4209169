"""Keeps savers and sweepers apart where the origin is a bucket, which has no locks: by leases, as restic does.

A lease is an object `saving-<random>` or `sweeping-<random>` in the origin's folder leases. Whoever wants one puts his
own there first and looks at the others' afterwards. Of two that conflict at least one sees the other, and gives way. A
lease is renewed while it is held; one that was not for LEASE_S belongs to somebody who is dead. All moments are the
bucket's own, so workers' clocks do not matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from thaw.errors import StoreError, StoreUnavailable

LEASE_S = 60.0
RENEW_S = 10.0
PAUSE_S = 0.05


class Leases(Protocol):
    """The folder of leases; `Bucket` is one."""

    async def put(self, id: str, content: bytes) -> None: ...
    async def delete(self, id: str) -> None: ...
    async def listed(self) -> list[tuple[str, datetime]]: ...


class LeaseGuard:
    """A `Guarding` over a bucket's folder."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    @asynccontextmanager
    async def saving(self) -> AsyncIterator[None]:
        """Held together with other savers. Raises StoreUnavailable at the end where the lease was lost meanwhile."""
        async with self._held("saving", "sweeping"):
            yield

    @asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Held alone."""
        async with self._held("sweeping", ""):
            yield

    @asynccontextmanager
    async def _held(self, kind: str, conflicting: str) -> AsyncIterator[None]:
        name = f"{kind}-{secrets.token_hex(8)}"
        await self._take(name, conflicting)
        renewal = _Renewal(self._leases, name)
        task = asyncio.create_task(renewal.run())
        try:
            yield
            renewal.check()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(StoreError):  # it runs out by itself
                await self._leases.delete(name)

    async def _take(self, name: str, conflicting: str) -> None:
        pause_s = PAUSE_S
        while True:
            await self._leases.put(name, b"")
            if not await self._conflicts(name, conflicting):
                return
            await self._leases.delete(name)
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s = min(1.0, 2 * pause_s)

    async def _conflicts(self, name: str, conflicting: str) -> bool:
        listed = dict(await self._leases.listed())
        if name not in listed:
            return True  # it ran out while this process was stopped, and was removed
        now = listed.pop(name)
        for other, written in listed.items():
            if (now - written).total_seconds() > LEASE_S:
                await self._leases.delete(other)
            elif other.startswith(conflicting):
                return True
        return False


class _Renewal:
    """Writes a lease again and again."""

    def __init__(self, leases: Leases, name: str) -> None:
        self._leases = leases
        self._name = name
        self._renewed = time.monotonic()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            begun = time.monotonic()
            with contextlib.suppress(StoreError):  # the next one may get through; `check` says if none did in time
                await self._leases.put(self._name, b"")
                self._renewed = begun

    def check(self) -> None:
        """Raises StoreUnavailable where others may have thought that the holder was dead."""
        if time.monotonic() - self._renewed > LEASE_S - RENEW_S:
            raise StoreUnavailable(
                "The origin did not answer for so long that another worker may have swept it meanwhile: publish again."
            )
