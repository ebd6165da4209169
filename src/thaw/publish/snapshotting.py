"""One published version becomes one snapshot: a fresh environment, Init and before-snapshot hooks, freeze, save."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from thaw.catalog.configuration import Configuration
from thaw.chunk import Manifest
from thaw.environment.execution import Environment
from thaw.environment.runtime_api.extensions import FrozenExtension
from thaw.environment.sandbox import Sandbox
from thaw.environment.settings import FunctionSettings, WaitsIn
from thaw.errors import EnvironmentFailure, NotFreezable, ThawError
from thaw.observe.log_stream import LogStream
from thaw.publish.capture import Capture, Captured
from thaw.publish.diagnosis import diagnosed
from thaw.publish.findings import LINE, find
from thaw.publish.preparation import Preparation
from thaw.publish.report import Report, read_report
from thaw.publish.stock import Stock, take_stock
from thaw.snapshot import FreezeTarget, lay_out

# Freezing reads the process's private pages once; even 10 GiB take less.
FREEZE_LIMIT_S = 60.0
# A JVM that is busy may be late with its class histogram, which is only for people.
CLASSES_LIMIT_S = 3.0


class SandboxTaking(Protocol):
    """`SandboxPool`: gives a ready sandbox, which then belongs to the caller."""

    async def take(self) -> Sandbox: ...


class SnapshotSaving(Protocol):
    """`SnapshotStore`: keeps a snapshot under its key."""

    async def save(
        self,
        snapshot_key: str,
        plan: bytes,
        memory_fd: int,
        disk: bytes,
        facts: Mapping[str, Any],
        kms_key_arn: str | None,
    ) -> Manifest: ...


class Observed(Protocol):
    """What a rehearsal shows: pages in the order in which they are touched, and ranges that are written."""

    @property
    def touched(self) -> list[int]: ...
    @property
    def written(self) -> list[tuple[int, int]]: ...


# Restores a snapshot once, given settings, plan, memory image, disk image and facts; None where it cannot be observed.
Rehearse = Callable[[FunctionSettings, bytes, int, bytes, Mapping[str, Any]], Awaitable[Observed | None]]

# Makes a snapshot that was just stored resident, given its plan, memory image and disk image; raises nothing.
Keep = Callable[[Configuration, Manifest, bytes, int, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class TakingLimits:
    """`init_s` bounds Init and before-snapshot hooks together, unless the function's own timeout is longer."""

    init_s: float
    freeze_s: float = FREEZE_LIMIT_S


class Snapshotting:
    """Takes snapshots, one at a time per call of `take`."""

    def __init__(
        self,
        preparation: Preparation,
        pool: SandboxTaking,
        snapshots: SnapshotSaving,
        logs: Path,
        limits: TakingLimits,
        rehearse: Rehearse,
        keep: Keep,
    ) -> None:
        self._preparation = preparation
        self._pool = pool
        self._snapshots = snapshots
        self._logs = logs
        self._limits = limits
        self._rehearse = rehearse
        self._keep = keep

    async def take(self, configuration: Configuration) -> str:
        """Takes and saves a snapshot of the version; returns its key.

        Raises RuntimeNotFound, InitFailed, InitTimedOut, NotFreezable, FreezeFailed, SandboxError, StoreError, or
        ServiceError where KMS refuses the key; the
        sentence of the error is then in the function's log as well.
        """
        log = LogStream(self._logs, configuration.log_group, configuration.version, configuration.log_format)
        try:
            return await self._take(configuration, log)
        except ThawError as error:
            if not isinstance(error, EnvironmentFailure):  # those are in the log already
                log.platform(f"No snapshot of version {configuration.version} could be taken: {error}")
            raise
        finally:
            log.close()

    async def _take(self, configuration: Configuration, log: LogStream) -> str:
        """The findings go into the log as soon as the process is captured."""
        token = str(uuid.uuid4())
        settings = await self._preparation.settings(configuration, "snap-start", token)
        capture = await Capture.begin()
        try:
            captured = await self._capture(capture, settings, log)
        finally:
            await capture.end()
        with captured:
            return await self._save(configuration, captured, settings)

    async def _capture(self, capture: Capture, settings: FunctionSettings, log: LogStream) -> Captured:
        environment = await Environment.launch(await self._pool.take(), settings, log)
        try:
            await environment.initialised(max(self._limits.init_s, settings.timeout_s))
            target = FreezeTarget(
                pid=environment.host_pid,
                sandbox_pid=environment.init_pid,
                connection_port=environment.runtime_connection_port,
                log=environment.log_pipe,
                repeated=environment.repeated_requests,
                reseed=settings.variables.get("THAW_RESEED") != "0",
            )
            extensions = environment.frozen_extensions
            report = read_report(environment.report)
            stock = await _stock(environment)
            try:
                captured = await capture.freeze(target, limit_s=self._limits.freeze_s)
            except NotFreezable as error:
                raise diagnosed(error, report) from error
            classes = None if report else await capture.java_classes(environment.host_pid, limit_s=CLASSES_LIMIT_S)
        finally:
            await environment.close()
        captured.facts["environment"] = environment_facts(settings, environment.waits_in, extensions)
        captured.facts |= inspection_facts(stock, report, captured.facts["unknown_generators"])
        if classes is not None:
            captured.facts["report"] = classes.document()
        for finding in captured.facts["findings"]:
            log.platform(" ".join([LINE, *finding]))
        return captured

    async def _save(self, configuration: Configuration, captured: Captured, settings: FunctionSettings) -> str:
        key, arn = snapshot_key(configuration), configuration.kms_key_arn
        plan, disk = await asyncio.to_thread(captured.plan), await asyncio.to_thread(captured.disk)
        observed = await self._rehearse(settings, plan, captured.memory_fd, disk, captured.facts)
        if observed is None:
            manifest = await self._snapshots.save(key, plan, captured.memory_fd, disk, captured.facts, arn)
            await self._keep(configuration, manifest, plan, captured.memory_fd, disk)
            return key
        layout = await asyncio.to_thread(lay_out, plan, captured.memory_fd, observed.touched)
        try:
            facts = {**captured.facts, "eager_bytes": layout.eager_size, "written": observed.written}
            manifest = await self._snapshots.save(key, layout.plan, layout.memory, disk, facts, arn)
            await self._keep(configuration, manifest, layout.plan, layout.memory, disk)
        finally:
            os.close(layout.memory)
        return key


def snapshot_key(configuration: Configuration) -> str:
    """The name of the version's next snapshot.

    The first one's is always the same, so that a publish that was cut off and is done again replaces what it left.
    """
    name = f"snapshot-{configuration.function_name}-{configuration.version}-{configuration.function_id}"
    return name if configuration.snapshot_key is None else f"{name}-{uuid.uuid4().hex}"


async def _stock(environment: Environment) -> Stock:
    own_port = environment.runtime_connection_port
    others = [pid for pid in environment.processes() if pid != environment.init_pid]
    return await asyncio.to_thread(take_stock, environment.host_pid, others, own_port=own_port)


def inspection_facts(
    stock: Stock, report: Report | None, unknown_generators: Sequence[tuple[int, str, str]] = ()
) -> dict[str, Any]:
    """What people may want to know of the process (docs/formats.md); nothing is restored by it."""
    return {
        "stock": stock.document(),
        "report": None if report is None else report.document(),
        "findings": [[finding.code, finding.sentence] for finding in find(stock, report, unknown_generators)],
    }


def environment_facts(
    settings: FunctionSettings, waits_in: WaitsIn, extensions: Sequence[FrozenExtension] = ()
) -> dict[str, Any]:
    """What a clone's environment must have in common with the one that was frozen."""
    return {
        "credentials_token": settings.credentials_token,
        "runtime_version_arn": settings.runtime.version_arn,
        "waits_in": waits_in,
        "extensions": [[each.name, each.identifier, list(each.events), each.number] for each in extensions],
    }
