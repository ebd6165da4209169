"""The later life of snapshots: those that nobody calls are given up, those of an old runtime are taken anew.

A version that was not called for 14 days becomes Inactive and loses its snapshot; the next call is answered with
SnapStartNotReadyException and begins a new one (Lambda's rule). Where the runtime of this machine has changed, a new
snapshot is taken before a call finds out that the old one is of no use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import LATEST, Configuration
from thaw.errors import RuntimeNotFound, ThawError
from thaw.publish.lifecycle import PAGE, Publisher
from thaw.publish.preparation import Preparation

logger = logging.getLogger(__name__)

# How often versions are looked at, as a share of the time after which they become Inactive; and the limits of that.
CHECK_SHARE = 0.01
CHECK_PERIOD_S = (0.05, 3600.0)


class Idleness:
    """Looks at all versions with snapshots now and then."""

    def __init__(self, catalog: Catalog, publisher: Publisher, preparation: Preparation, *, idle_s: float) -> None:
        self._catalog = catalog
        self._uses = catalog.uses
        self._publisher = publisher
        self._preparation = preparation
        self._idle_s = idle_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the times of the last calls and begins; needs a running loop."""
        await self._uses.load()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops, and stores the times of the last calls."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._uses.store()

    async def _run(self) -> None:
        shortest, longest = CHECK_PERIOD_S
        period = min(longest, max(shortest, self._idle_s * CHECK_SHARE))
        while True:
            try:
                await self.check()
            except ThawError as error:
                logger.warning("the snapshots could not be looked through: %s", error)
            except Exception:
                logger.exception("looking through the snapshots stopped at a defect")
            await asyncio.sleep(period)

    async def check(self) -> None:
        """Looks at every version once."""
        known = set()
        async for version in self._versions():
            known.add((version.function_id, version.version))
            if version.state != "Active" or version.snapshot_key is None:
                continue
            if self._uses.idle_s(version) > self._idle_s:
                await self._publisher.deactivate(version)
            elif await self._is_outdated(version):
                logger.info("taking a new snapshot of %s: its runtime changed", version.qualified_arn)
                self._publisher.renew(version)
        await self._uses.store(known)

    async def _versions(self) -> AsyncIterator[Configuration]:
        after = ("", -1)
        while page := await self._catalog.functions(after=after, limit=PAGE, all_versions=True):
            for one in page:
                if one.version != LATEST:
                    yield one
            last = page[-1]
            after = (last.function_name, 0 if last.version == LATEST else int(last.version))

    async def _is_outdated(self, version: Configuration) -> bool:
        try:
            runtime = await self._preparation.runtime(version)
        except RuntimeNotFound:
            return False  # nothing that is here could make a better one
        return runtime.version_arn != version.runtime_version_arn
