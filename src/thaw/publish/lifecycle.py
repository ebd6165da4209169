"""What follows a change in the catalog: Pending becomes Active or Failed, and SnapStart versions get their snapshot.

Every step can be taken again: the catalog says what is Pending, so a server that was killed goes on where it was.
A version keeps its snapshot until it is deleted; where the snapshot no longer fits this machine (its runtime was
upgraded, say), calls start afresh while a new one is taken, as Lambda does when it patches a runtime.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import LATEST, Configuration
from thaw.errors import (
    EnvironmentFailure,
    InitTimedOut,
    NotFreezable,
    RuntimeNotFound,
    ServiceError,
    StoreError,
    ThawError,
)
from thaw.publish.code import UNZIPPED_LIMIT, CodeFolders, code_key
from thaw.publish.keyed_locks import KeyedLocks
from thaw.publish.layers import LayerFolders
from thaw.publish.preparation import Preparation
from thaw.publish.snapshotting import snapshot_key
from thaw.store.kms import STATE_REASON_CODES

logger = logging.getLogger(__name__)

# What is not the function's fault may pass: such a publish is tried once more before the version fails.
ATTEMPTS = 2

NO_PACKAGE = (
    "The deployment package is not in the store, because the server was stopped before it had all of it: "
    "upload the code again."
)
TOGETHER_TOO_LARGE = (
    "Function code combined with layers exceeds the maximum allowed size of {} bytes. The actual size is {} bytes."
)
IDLE = "The function is idle."
RESTORING = "The function is being restored."
# Configurations that are read at a time when the server starts.
PAGE = 500

# Lambda's StateReason of a version whose Init failed; ours names the cause after it.
INIT_FAILED = "An error occurred during function initialization."
INIT_CODES = {
    "Runtime.InvalidEntrypoint": "FunctionError.InvalidEntryPoint",
    "Runtime.InvalidWorkingDir": "FunctionError.InvalidWorkingDirectory",
    "Runtime.OutOfMemory": "FunctionError.InitResourceExhausted",
    "Extension.InitError": "FunctionError.ExtensionInitError",
    "Extension.ExitError": "FunctionError.ExtensionInitError",
    "Extension.Crash": "FunctionError.ExtensionInitError",
    "Extension.LaunchError": "FunctionError.ExtensionInitError",
    "Extension.TooManyExtensions": "FunctionError.TooManyExtensions",
}


SHARED = (
    "Nothing is tidied in the origin, because other catalogs have things there, too (%s): remove the marks of "
    "those that are gone from its folder `catalogs`."
)

Settle = Callable[[Configuration], Awaitable[None]]
Fail = Callable[[Configuration, str, str], Awaitable[None]]


class Packages(Protocol):
    """The object store of deployment packages: zips by the hex SHA-256 of their content."""

    async def put(self, content: bytes) -> str: ...
    async def get(self, key: str) -> bytes: ...
    async def delete(self, key: str) -> None: ...
    async def keys(self) -> list[str]: ...


class SnapshotTaking(Protocol):
    """`Snapshotting`: takes and saves a snapshot, and gives its key."""

    async def take(self, configuration: Configuration) -> str: ...


class SnapshotDeleting(Protocol):
    """The part of `SnapshotStore` that forgets."""

    async def delete(self, snapshot_key: str) -> None: ...
    async def drop_damaged(self, snapshot_key: str, kms_key_arn: str | None) -> int: ...
    async def collect(self) -> int: ...
    async def snapshot_keys(self) -> list[str]: ...


class Publisher:
    """The Publishing port of the AWS front.

    At most `concurrency` snapshots are taken at one time; others wait, Pending. `retire(configurations)` is told which
    configurations are gone, so that their environments end, and `forget(key)` which snapshots, so that their memory is
    released. `published(configuration)` is told of a version that has a new snapshot, which is worth loading early.
    `others()` names the other catalogs that have things in the same store: what they may need is not deleted.
    Code and layers of a function, unpacked, are at most `unzipped_limit` bytes.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        packages: Packages,
        folders: CodeFolders,
        layers: LayerFolders,
        preparation: Preparation,
        snapshotting: SnapshotTaking,
        snapshots: SnapshotDeleting,
        retire: Callable[[Iterable[Configuration]], None],
        forget: Callable[[str], None],
        published: Callable[[Configuration], None],
        others: Callable[[], Awaitable[list[str]]],
        concurrency: int = 2,
        unzipped_limit: int = UNZIPPED_LIMIT,
        without_snapshots: str | None = None,
    ) -> None:
        self._catalog = catalog
        self._packages = packages
        self._folders = folders
        self._layers = layers
        self._preparation = preparation
        self._snapshotting = snapshotting
        self._snapshots = snapshots
        self._retire = retire
        self._forget = forget
        self._published = published
        self._others = others
        self._unzipped_limit = unzipped_limit
        self._without_snapshots = without_snapshots
        self._turns = asyncio.Semaphore(concurrency)
        self._tasks: dict[asyncio.Task[None], Configuration] = {}
        self._renewed: set[str] = set()
        self._changing_packages = KeyedLocks()

    # --- the port ----------------------------------------------------------------------------------------------------

    async def function_created(self, configuration: Configuration, code: bytes) -> None:
        """Unpacks and stores the zip, then settles $LATEST in the background. Raises ServiceError, StoreError."""
        await self._accept(code)
        await self._check_size(configuration)
        self._spawn(self._settle_latest(configuration), configuration)

    async def code_updated(self, configuration: Configuration, code: bytes) -> None:
        """As `function_created`, for new code."""
        await self.function_created(configuration, code)

    async def configuration_updated(self, configuration: Configuration) -> None:
        """Makes changed settings of $LATEST take effect, in the background. Raises ServiceError, StoreError."""
        await self._check_size(configuration)
        self._spawn(self._settle_latest(configuration), configuration)

    async def _check_size(self, configuration: Configuration) -> None:
        """Lambda's quota counts a function's code and its layers together; code alone was measured as it came."""
        if not configuration.layers:
            return
        size = await self._folders.size(configuration.code_key)
        size += sum([await self._layers.size(layer.content_key) for layer in configuration.layers])
        if size > self._unzipped_limit:
            raise ServiceError("InvalidParameterValueException", TOGETHER_TOO_LARGE.format(self._unzipped_limit, size))

    async def version_published(self, configuration: Configuration) -> None:
        """Begins Init and snapshot of a Pending SnapStart version, in the background."""
        self._spawn(self._settle_version(configuration), configuration)

    async def deleted(self, configurations: Sequence[Configuration]) -> None:
        """Ends environments and publishes of what is gone from the catalog, then deletes snapshots and code."""
        gone = {(one.function_id, one.version) for one in configurations}
        for task, configuration in list(self._tasks.items()):
            if (configuration.function_id, configuration.version) in gone:
                task.cancel()
        self._retire(configurations)
        for key in {one.snapshot_key for one in configurations if one.snapshot_key is not None}:
            await self._drop_snapshot(key)
        code = {one.code_key for one in configurations}
        layers = {layer.content_key for one in configurations for layer in one.layers}
        await self._drop_packages(sorted(code | layers))

    async def code(self, configuration: Configuration) -> bytes:
        """The deployment package. Raises StoreError."""
        return await self._packages.get(configuration.code_key)

    # --- layers (the port LayerPackages) ------------------------------------------------------------------------------

    async def store_layer(self, content: bytes) -> None:
        """Unpacks and stores the zip of a layer. Raises ServiceError, StoreError."""
        key = await asyncio.to_thread(code_key, content)
        async with self._changing_packages.of(key):
            await self._layers.add(content)
            await self._packages.put(content)

    async def layer_content(self, key: str) -> bytes:
        """The zip of a layer. Raises StoreError."""
        return await self._packages.get(key)

    async def layers_dropped(self, keys: Sequence[str]) -> None:
        """Deletes what is kept of layers whose content nothing names any more."""
        await self._drop_packages(sorted(keys))

    # --- start, stop and renewal -------------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Takes up again what an earlier server left Pending or InProgress; call it once, at start."""
        for configuration in await self._catalog.pending_versions():
            if configuration.version == LATEST:
                self._spawn(self._resume(self._settle_latest, self._fail_latest, configuration), configuration)
            elif configuration.snap_start:
                logger.info("publishing %s again: an earlier server did not end it", configuration.qualified_arn)
                self._spawn(self._resume(self._settle_version, self._fail_version, configuration), configuration)

    async def _resume(self, settle: Settle, fail: Fail, configuration: Configuration) -> None:
        """The earlier server may have been killed after it noted a change and before it had stored the package."""
        try:
            await self._packages.get(configuration.code_key)
            await self._folders.folder(configuration.code_key)
        except (StoreError, ServiceError) as error:
            logger.warning("%s has no package: %s", configuration.qualified_arn, error)
            await fail(configuration, NO_PACKAGE, "InternalError")
            return
        await settle(configuration)

    async def tidy(self) -> None:
        """Deletes what an earlier server left in the store and nothing names any more; call it before `resume`.

        Raises StoreError.
        """
        if others := await self._others():
            logger.warning(SHARED, ", ".join(others))
            return
        used, unsettled = await self._in_use()
        for key in await self._snapshots.snapshot_keys():
            if key not in used and key not in unsettled:
                logger.info("deleting the snapshot %s, which no version has", key)
                await self._snapshots.delete(key)
        await self._snapshots.collect()
        packages = await self._packages.keys()
        for first in range(0, len(packages), PAGE):
            page = packages[first : first + PAGE]
            await self._drop_packages(sorted(set(page) - await self._catalog.code_keys(page)))

    async def _in_use(self) -> tuple[set[str], set[str]]:
        """Names of the snapshots that versions have, and of those that the versions that are Pending will get."""
        pending = {snapshot_key(one) for one in await self._catalog.pending_versions()}
        used: set[str] = set()
        after = ("", -1)
        while page := await self._catalog.functions(after=after, limit=PAGE, all_versions=True):
            used |= {one.snapshot_key for one in page if one.snapshot_key is not None}
            last = page[-1]
            after = (last.function_name, 0 if last.version == LATEST else int(last.version))
        return used, pending

    async def deactivate(self, configuration: Configuration) -> None:
        """Gives up the snapshot of a version that nobody calls; the next call begins a new one."""
        idle = {"state_reason": IDLE, "state_reason_code": "Idle", "optimization_status": "Off", "snapshot_key": None}
        if await self._set_state(configuration, state="Inactive", **idle):
            logger.info("%s is Inactive: nobody called it", configuration.qualified_arn)
            self._retire([configuration])
            if configuration.snapshot_key is not None:
                await self._drop_snapshot(configuration.snapshot_key)

    async def awaken(self, configuration: Configuration) -> None:
        """Begins a new snapshot of a version that is Inactive; nothing happens where it is in another state."""
        if configuration.state != "Inactive" or not configuration.snap_start:
            return
        pending = {"state_reason": RESTORING, "state_reason_code": "Restoring", "optimization_status": "Off"}
        if await self._set_state(configuration, state="Pending", last_update_status=None, **pending):
            await self.version_published(
                await self._catalog.version(configuration.function_name, configuration.version)
            )

    def renew(self, configuration: Configuration) -> None:
        """Takes a new snapshot of an Active version whose snapshot does not fit this machine; calls go on meanwhile.

        Once per snapshot: one that cannot be used after it was taken here will not get better by repetition.
        """
        key = configuration.snapshot_key
        if key is not None and key not in self._renewed:
            self._renewed.add(key)
            self._spawn(self._renew(configuration), configuration)

    async def close(self) -> None:
        """Stops; what was being published stays Pending in the catalog and is taken up at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the work ----------------------------------------------------------------------------------------------------

    async def _accept(self, code: bytes) -> None:
        """A deletion of the same package cannot come in between: it would take away what this found to be there."""
        key = await asyncio.to_thread(code_key, code)
        async with self._changing_packages.of(key):
            await self._folders.add(code)
            await self._packages.put(code)

    async def _settle_latest(self, configuration: Configuration) -> None:
        try:
            runtime = await self._preparation.runtime(configuration)
        except Exception as error:
            await self._fail_latest(configuration, *failure(error))
            return
        await self._set_state(configuration, last_update_status="Successful", runtime_version_arn=runtime.version_arn)

    async def _fail_latest(self, configuration: Configuration, reason: str, code: str) -> None:
        """A function that never worked is Failed; a failed update leaves the previous configuration in service."""
        if configuration.state == "Pending":
            await self._set_state(configuration, state="Failed", state_reason=reason, state_reason_code=code)
        else:
            await self._set_state(
                configuration,
                last_update_status="Failed",
                last_update_status_reason=reason,
                last_update_status_reason_code=code,
            )

    async def _settle_version(self, configuration: Configuration) -> None:
        if self._without_snapshots:
            await self._set_state(configuration, state="Active", state_reason=self._without_snapshots)
            return
        try:
            key = await self._take(configuration)
        except Exception as error:
            await self._fail_version(configuration, *failure(error))
            return
        await self._install(configuration, key)

    async def _fail_version(self, configuration: Configuration, reason: str, code: str) -> None:
        await self._set_state(configuration, state="Failed", state_reason=reason, state_reason_code=code)

    async def _renew(self, configuration: Configuration) -> None:
        try:
            if configuration.snapshot_key is not None:
                await self._snapshots.drop_damaged(configuration.snapshot_key, configuration.kms_key_arn)
            key = await self._take(configuration)
        except ThawError as error:
            logger.warning("no new snapshot of %s: %s", configuration.qualified_arn, error)
            return
        if await self._install(configuration, key) and configuration.snapshot_key is not None:
            await self._drop_snapshot(configuration.snapshot_key)

    async def _take(self, configuration: Configuration) -> str:
        async with self._turns:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await self._snapshotting.take(configuration)
                except (EnvironmentFailure, NotFreezable, RuntimeNotFound, ServiceError):
                    raise
                except ThawError as error:
                    if attempt == ATTEMPTS:
                        raise
                    logger.warning("publishing %s again: %s", configuration.qualified_arn, error)
        raise AssertionError("the last attempt returns or raises")

    async def _install(self, configuration: Configuration, key: str) -> bool:
        """Makes the snapshot the version's; one whose version is gone meanwhile is deleted."""
        runtime = await self._preparation.runtime(configuration)
        done = await self._set_state(
            configuration,
            state="Active",
            optimization_status="On",
            snapshot_key=key,
            runtime_version_arn=runtime.version_arn,
        )
        if done:
            self._published(replace(configuration, snapshot_key=key))
        else:
            await self._drop_snapshot(key)
        return done

    async def _set_state(self, configuration: Configuration, **changes: Any) -> bool:
        """Whether the configuration was still there."""
        name, version = configuration.function_name, configuration.version
        try:
            await self._catalog.set_state(name, version, function_id=configuration.function_id, **changes)
        except ServiceError as error:
            if error.code != "ResourceNotFoundException":
                raise
            logger.info("%s was deleted while it was published", configuration.qualified_arn)
            return False
        return True

    async def _drop_snapshot(self, key: str) -> None:
        self._forget(key)
        await self._snapshots.delete(key)

    async def _drop_packages(self, keys: list[str]) -> None:
        shared = bool(await self._others())
        for key in keys:
            async with self._changing_packages.of(key):
                if not await self._catalog.code_keys([key]) and not await self._catalog.layers.used_content([key]):
                    await self._folders.remove(key)
                    await self._layers.remove(key)
                    if not shared:
                        await self._packages.delete(key)

    def _spawn(self, work: Coroutine[Any, Any, None], configuration: Configuration) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = configuration
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        configuration = self._tasks.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("publishing %s stopped at a defect", configuration.qualified_arn, exc_info=error)


def failure(error: Exception) -> tuple[str, str]:
    """StateReason and StateReasonCode of what ended in `error`; a defect of ours goes to the server's log in full."""
    if isinstance(error, InitTimedOut):
        return f"{INIT_FAILED} {error}", "FunctionError.InitTimeout"
    if isinstance(error, EnvironmentFailure):
        return f"{INIT_FAILED} {error}", INIT_CODES.get(error.error_type, "FunctionError.RuntimeInitError")
    if isinstance(error, NotFreezable):
        return str(error), "FunctionError"
    if isinstance(error, RuntimeNotFound):
        return str(error), "InvalidRuntime"
    if isinstance(error, StoreError):
        return f"The snapshot could not be stored: {error}", "InternalError"
    if isinstance(error, ServiceError) and error.code in STATE_REASON_CODES:
        return f"The snapshot could not be stored: {error}", STATE_REASON_CODES[error.code]
    if isinstance(error, ThawError):
        return str(error), "InternalError"
    logger.error("publishing stopped at a defect", exc_info=error)
    return f"Thaw stopped at a defect of its own ({error!r}): the server's log has its trace.", "InternalError"
