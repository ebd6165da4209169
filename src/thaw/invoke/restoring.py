"""Clones: environments that are restored from their version's snapshot.

Where a snapshot cannot be used on this machine, is damaged, or its restore goes wrong, the call starts afresh instead;
the function's log says so in a sentence, and a new snapshot is asked for where that would help.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from thaw.catalog.configuration import Configuration
from thaw.environment.cloning import Cloned, CloneRequest
from thaw.environment.execution import Environment
from thaw.environment.settings import FunctionSettings
from thaw.errors import RestoreFailed, RestoreRefused, StoreError
from thaw.invoke.launching import Preparing, SandboxTaking
from thaw.invoke.residents import Residents
from thaw.observe.log_stream import LogStream

logger = logging.getLogger(__name__)


class ResidentSnapshot(Protocol):
    """A snapshot on this worker from which clones are made."""

    @property
    def size(self) -> int: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    async def thaw(self, request: CloneRequest) -> Cloned: ...

    def fill_tmp(self, folder: int) -> None: ...

    async def close(self) -> None: ...


class SnapshotLoading(Protocol):
    """Brings a snapshot from the store into memory.

    Raises RestoreRefused where this machine cannot use it, RestoreFailed, or StoreError.
    """

    async def load(self, snapshot_key: str, settings: FunctionSettings) -> ResidentSnapshot: ...


class Restoring:
    """Makes clones. `renew(configuration)` asks for a new snapshot of a version whose snapshot cannot be used."""

    def __init__(
        self,
        preparing: Preparing,
        pool: SandboxTaking,
        loading: SnapshotLoading,
        *,
        resident_limit: int,
        restore_limit_s: float,
        renew: Callable[[Configuration], None],
    ) -> None:
        self._preparing = preparing
        self._pool = pool
        self._loading = loading
        self._residents: Residents[ResidentSnapshot] = Residents(resident_limit)
        self._restore_limit_s = restore_limit_s
        self._renew = renew

    async def clone(self, configuration: Configuration, request_id: str, log: LogStream) -> Environment | None:
        """A clone that waits for its first invocation; None where the call has to start afresh.

        Raises RestoreHookFailed and RestoreTimedOut, which are the function's own failures, and SandboxError.
        """
        key = configuration.snapshot_key
        assert key is not None, "only versions that have a snapshot are cloned"
        settings = await self._preparing.settings(configuration, "snap-start")
        try:
            async with self._residents.hold(key, lambda: self._loading.load(key, settings)) as resident:
                return await self._restore(resident, settings, request_id, log)
        except RestoreRefused as refusal:
            log.platform(f"The snapshot cannot be used: {refusal} This call starts afresh.")
            self._residents.drop(key)
            self._renew(configuration)
        except (RestoreFailed, StoreError) as failure:
            logger.warning("%s starts afresh: %s", configuration.qualified_arn, failure)
            log.platform(f"The snapshot could not be restored: {failure} This call starts afresh.")
            self._residents.drop(key)
            if isinstance(failure, StoreError):
                self._renew(configuration)
        return None

    async def _restore(
        self, resident: ResidentSnapshot, settings: FunctionSettings, request_id: str, log: LogStream
    ) -> Environment:
        frozen = resident.facts["environment"]
        if frozen["runtime_version_arn"] != settings.runtime.version_arn:
            raise RestoreRefused(f"The runtime {settings.runtime.name} of this machine changed since it was taken.")
        settings = replace(settings, credentials_token=frozen["credentials_token"])
        environment = await Environment.restore(
            await self._pool.take(), settings, log, resident.thaw, resident.fill_tmp
        )
        try:
            await environment.restored(self._restore_limit_s, request_id)
        except BaseException:
            await environment.close()
            raise
        return environment

    def forget(self, snapshot_key: str) -> None:
        """Releases the memory of a snapshot that was deleted."""
        self._residents.drop(snapshot_key)

    async def close(self) -> None:
        """Releases all snapshots."""
        await self._residents.close()
