"""Clones: environments that are restored from their version's snapshot.

A snapshot is loaded once per worker, into a template process; every clone is a fork of it. Where a snapshot cannot be
used on this machine, is damaged, or its restore goes wrong, the call starts afresh instead; the function's log says so
in a sentence, and a new snapshot is asked for where that would help.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from thaw.catalog.configuration import Configuration
from thaw.environment.cloning import CloneRequest
from thaw.environment.execution import Environment
from thaw.environment.furnishing import make_mounts
from thaw.environment.pool import SandboxPool
from thaw.environment.settings import FunctionSettings
from thaw.errors import RestoreFailed, RestoreHookFailed, RestoreRefused, StoreError, ThawError
from thaw.invoke.launching import Preparing
from thaw.invoke.residents import Residents
from thaw.observe.log_stream import LogStream
from thaw.restore import Cloned, Template, check, unpack_folder

logger = logging.getLogger(__name__)


class Manifest(Protocol):
    """What the store knows of a snapshot without reading its images."""

    @property
    def facts(self) -> Mapping[str, Any]: ...


class SnapshotReading(Protocol):
    """The part of `SnapshotStore` that reads; every method raises StoreError."""

    async def load_manifest(self, snapshot_key: str) -> Any: ...
    async def read_plan(self, manifest: Any) -> bytes: ...
    async def read_disk(self, manifest: Any) -> bytes: ...
    async def read_memory(self, manifest: Any, into_fd: int) -> None: ...


@dataclass(slots=True)
class ResidentSnapshot:
    """A snapshot on this worker: its template, and the image of its /tmp."""

    template: Template
    disk: bytes

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        return self.template.size + len(self.disk)

    def fill_tmp(self, folder: int) -> None:
        """Puts the files of the snapshot into a clone's /tmp."""
        unpack_folder(self.disk, f"/proc/self/fd/{folder}")

    async def close(self) -> None:
        """Ends the template; clones go on."""
        await self.template.close()


class Restoring:
    """Makes clones. `renew(configuration)` asks for a new snapshot of a version whose snapshot cannot be used."""

    def __init__(
        self,
        preparing: Preparing,
        pool: SandboxPool,
        snapshots: SnapshotReading,
        *,
        resident_limit: int,
        restore_limit_s: float,
        renew: Callable[[Configuration], None],
    ) -> None:
        self._preparing = preparing
        self._pool = pool
        self._snapshots = snapshots
        self._residents: Residents[ResidentSnapshot] = Residents(resident_limit)
        self._restore_limit_s = restore_limit_s
        self._renew = renew
        self._preparing_tasks: set[asyncio.Task[None]] = set()

    async def clone(self, configuration: Configuration, request_id: str, log: LogStream) -> Environment | None:
        """A clone that waits for its first invocation; None where the call has to start afresh.

        Raises RestoreHookFailed and RestoreTimedOut, which are the function's own failures, and SandboxError.
        """
        key = configuration.snapshot_key
        assert key is not None, "only versions that have a snapshot are cloned"
        settings = await self._preparing.settings(configuration, "snap-start")
        try:
            async with self._residents.hold(key, lambda: self._load(key, settings)) as resident:
                return await self._restore(resident, settings, request_id, log)
        except RestoreRefused as refusal:
            log.platform(f"The snapshot cannot be used: {refusal} This call starts afresh, a new snapshot is taken.")
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
        frozen = resident.template.facts["environment"]
        if frozen["runtime_version_arn"] != settings.runtime.version_arn:
            raise RestoreRefused(f"The runtime {settings.runtime.name} of this machine changed since it was taken.")
        settings = replace(settings, credentials_token=frozen["credentials_token"])
        thawing = _Thawing(resident.template)
        tmp = resident.fill_tmp if resident.disk else None
        environment = await Environment.restore(await self._pool.take(), settings, log, thawing, tmp)
        try:
            await environment.restored(self._restore_limit_s, request_id)
        except RestoreHookFailed:
            await environment.close()
            if (failure := thawing.failure()) is not None:
                raise failure from None
            raise
        except BaseException:
            await environment.close()
            raise
        return environment

    # --- from the store into memory ----------------------------------------------------------------------------------

    async def _load(self, key: str, settings: FunctionSettings) -> ResidentSnapshot:
        """Reads a snapshot from the store into a template. Raises RestoreRefused, RestoreFailed, StoreError."""
        manifest = await self._snapshots.load_manifest(key)
        check(manifest.facts)  # before anything large is read
        memory_fd = os.memfd_create("thaw-memory-image")
        try:
            plan, disk, _ = await asyncio.gather(
                self._snapshots.read_plan(manifest),
                self._snapshots.read_disk(manifest),
                self._snapshots.read_memory(manifest, memory_fd),
            )
            template = await Template.load(
                mounts=self._pool.template,
                places=_template_places(settings),
                plan=plan,
                memory_fd=memory_fd,
                facts=manifest.facts,
            )
        finally:
            os.close(memory_fd)
        return ResidentSnapshot(template, disk)

    def prepare(self, configuration: Configuration) -> None:
        """Loads a new snapshot in the background, so that the first call of its version need not wait for it."""
        task = asyncio.create_task(self._prepare(configuration))
        self._preparing_tasks.add(task)
        task.add_done_callback(self._preparing_tasks.discard)

    async def _prepare(self, configuration: Configuration) -> None:
        key = configuration.snapshot_key
        assert key is not None, "it was just taken"
        try:
            settings = await self._preparing.settings(configuration, "snap-start")
            async with self._residents.hold(key, lambda: self._load(key, settings)):
                return
        except ThawError as error:
            logger.warning("the new snapshot of %s could not be loaded: %s", configuration.qualified_arn, error)

    def forget(self, snapshot_key: str) -> None:
        """Releases the memory of a snapshot that was deleted."""
        self._residents.drop(snapshot_key)

    async def close(self) -> None:
        """Releases all snapshots."""
        for task in self._preparing_tasks:
            task.cancel()
        await asyncio.gather(*self._preparing_tasks, return_exceptions=True)
        await self._residents.close()


class _Thawing:
    """Asks a template for one clone, and afterwards whether the clone ever became the function."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._cloned: Cloned | None = None

    async def __call__(self, request: CloneRequest) -> Cloned:
        self._cloned = await self._template.clone(request)
        return self._cloned

    def failure(self) -> RestoreFailed | None:
        """Why the engine, not the function, ended the clone; None where it was the function."""
        return self._cloned.failure() if self._cloned is not None else None


def _template_places(settings: FunctionSettings) -> Sequence[tuple[str, int]]:
    """The mounts whose files the function has mapped; each clone has a /tmp of its own, so the template needs none."""
    tmp, *shown = make_mounts(settings)
    os.close(tmp[1])
    return shown
