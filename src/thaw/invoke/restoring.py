"""Clones: environments that are restored from their version's snapshot.

A snapshot is loaded once per worker, into a template process; every clone is a fork of it. Where a snapshot cannot be
used on this machine, is damaged, or its restore goes wrong, the call starts afresh instead; the function's log says so
in a sentence, and a new snapshot is asked for where that would help.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from thaw.catalog.configuration import Configuration
from thaw.chunk import CHUNK_SIZE, Manifest
from thaw.environment.cloning import CloneRequest, FillTmp
from thaw.environment.execution import Environment
from thaw.environment.furnishing import make_mounts
from thaw.environment.pool import SandboxPool
from thaw.environment.runtime_api.extensions import FrozenExtension
from thaw.environment.settings import FunctionSettings
from thaw.errors import RestoreFailed, RestoreHookFailed, RestoreRefused, SandboxError, StoreError, ThawError
from thaw.invoke.ahead import ForkedAhead
from thaw.invoke.launching import Preparing
from thaw.invoke.residents import Residents
from thaw.observe.log_stream import LogStream
from thaw.restore import Cloned, Observed, PageFaultService, Put, Resident, check, unpack_folder

logger = logging.getLogger(__name__)


class SnapshotReading(Protocol):
    """The part of `SnapshotStore` that reads, and notes what was learnt; every method raises StoreError."""

    async def load_manifest(self, snapshot_key: str, kms_key_arn: str | None) -> Manifest: ...
    async def confirm_key(self, snapshot_key: str, kms_key_arn: str | None) -> None: ...
    async def read_plan(self, manifest: Manifest) -> bytes: ...
    async def read_disk(self, manifest: Manifest) -> bytes: ...
    async def read_pieces(
        self, manifest: Manifest, put: Put, pieces: Sequence[int], arrived: Callable[[int], None]
    ) -> None: ...
    async def save_facts(self, manifest: Manifest, facts: Mapping[str, Any], kms_key_arn: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The memory image of a stored snapshot, as `Resident` fetches it."""

    snapshots: SnapshotReading
    manifest: Manifest
    piece: int = CHUNK_SIZE

    @property
    def size(self) -> int:
        """Bytes."""
        return self.manifest.memory.size

    async def read(self, put: Put, pieces: Sequence[int], arrived: Callable[[int], None]) -> None:
        """See `ImageSource`."""
        await self.snapshots.read_pieces(self.manifest, put, pieces, arrived)


@dataclass(frozen=True, slots=True)
class Begun:
    """A clone, and how it was forked."""

    environment: Environment
    thawing: _Thawing

    @property
    def waiting(self) -> bool:
        """Whether it can still begin."""
        return self.environment.waiting

    def failure(self) -> RestoreFailed | None:
        """Why it ended before it was the function; None where it was. To be asked once it has ended."""
        failure = self.thawing.failure()
        if failure is None and self.environment.ended_waiting:
            failure = RestoreFailed("The clone ended while it waited for its call.", step="wait")
        return failure

    async def close(self) -> None:
        """Ends it."""
        await self.environment.close()


@dataclass(slots=True)
class ResidentSnapshot:
    """A snapshot on this worker: what clones are made from, and the image of its /tmp."""

    resident: Resident
    disk: bytes
    ahead: ForkedAhead[Begun] = field(default_factory=ForkedAhead)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        return self.resident.size + len(self.disk)

    @property
    def tmp(self) -> FillTmp | None:
        """Puts the files of the snapshot into a clone's /tmp; None where there are none."""
        return self._fill_tmp if self.disk else None

    def _fill_tmp(self, folder: int, owners: Mapping[int, int]) -> None:
        unpack_folder(self.disk, f"/proc/self/fd/{folder}", owners)

    async def close(self) -> None:
        """Ends the template, and a clone that waits for its call; other clones go on."""
        await self.ahead.close()
        await self.resident.close()


class Restoring:
    """Makes clones. `renew(configuration)` asks for a new snapshot of a version whose snapshot cannot be used;
    `forks_ahead` says whether a clone of each snapshot in use waits for its call."""

    def __init__(
        self,
        preparing: Preparing,
        pool: SandboxPool,
        snapshots: SnapshotReading,
        *,
        resident_limit: int,
        restore_limit_s: float,
        forks_ahead: bool = True,
        renew: Callable[[Configuration], None],
    ) -> None:
        self._preparing = preparing
        self._pool = pool
        self._snapshots = snapshots
        self._residents: Residents[ResidentSnapshot] = Residents(resident_limit)
        self._restore_limit_s = restore_limit_s
        self._forks_ahead = forks_ahead
        self._renew = renew
        self._page_faults = PageFaultService()
        self._preparing_tasks: set[asyncio.Task[None]] = set()

    async def clone(self, configuration: Configuration, request_id: str, log: LogStream) -> Environment | None:
        """A clone that waits for its first invocation; None where the call has to start afresh.

        Raises RestoreHookFailed and RestoreTimedOut, which are the function's own failures, SandboxError, and
        ServiceError where KMS refuses the key.
        """
        key = configuration.snapshot_key
        assert key is not None, "only versions that have a snapshot are cloned"
        settings = await self._preparing.settings(configuration, "snap-start")
        try:
            async with self._residents.hold(key, lambda: self._load(configuration, settings)) as resident:
                await self._snapshots.confirm_key(key, configuration.kms_key_arn)
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
        frozen = resident.resident.template.facts["environment"]
        if frozen["runtime_version_arn"] != settings.runtime.version_arn:
            raise RestoreRefused(f"The runtime {settings.runtime.name} of this machine changed since it was taken.")
        settings = _as_frozen(resident, settings)
        begun = await self._begin(resident, settings, log)
        try:
            environment = await self._restored(begun, request_id)
        except RestoreHookFailed:
            if not begun.environment.ended_waiting:
                raise
            begun = await self._fork(resident, settings, log, _Thawing(resident.resident))
            environment = await self._restored(begun, request_id)
        environment.never_ran = begun.failure
        if not settings.is_tree:
            environment.on_first_answer = lambda: begun.thawing.answered(lambda: environment.invocations == 1)
        self._fork_ahead(resident, settings)
        return environment

    async def _begin(self, resident: ResidentSnapshot, settings: FunctionSettings, log: LogStream) -> Begun:
        """A clone that runs: the one that waits for this call, or one that is forked now."""
        waiting = resident.ahead.take(lambda clone: clone.environment.settings == settings)
        if waiting is not None:
            try:
                waiting.environment.begin(log)
                return waiting
            except (SandboxError, OSError) as error:  # it ended a moment ago; the news is still on its way
                logger.info("a clone that waited for its call is forked again: %s", error)
                await waiting.close()
        return await self._fork(resident, settings, log, _Thawing(resident.resident))

    async def _fork(
        self, resident: ResidentSnapshot, settings: FunctionSettings, log: LogStream, thawing: _Thawing
    ) -> Begun:
        sandbox = await self._pool.take()
        return Begun(await Environment.restore(sandbox, settings, log, thawing, resident.tmp), thawing)

    def _fork_ahead(self, resident: ResidentSnapshot, settings: FunctionSettings) -> None:
        if self._forks_ahead:
            resident.ahead.renew(lambda: self._forked_ahead(resident, settings))

    async def _forked_ahead(self, resident: ResidentSnapshot, settings: FunctionSettings) -> Begun | None:
        """None as long as later clones will be quicker, because pages still arrive or what calls touch is being learnt;
        and of a process tree, whose processes are born at the call."""
        if not resident.resident.is_final or resident.resident.template.facts.get("relatives"):
            return None
        thawing = _Thawing(resident.resident, ahead=True)
        sandbox = await self._pool.take()
        return Begun(await Environment.fork_ahead(sandbox, settings, thawing, resident.tmp), thawing)

    async def _restored(self, begun: Begun, request_id: str) -> Environment:
        """Up to the point where it waits for an invocation."""
        environment, thawing = begun.environment, begun.thawing
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

    # --- a rehearsal, before a snapshot is stored --------------------------------------------------------------------

    async def rehearse(
        self, settings: FunctionSettings, plan: bytes, memory_fd: int, disk: bytes, facts: Mapping[str, Any]
    ) -> Observed | None:
        """Restores a snapshot once, up to the wait for an invocation; which pages this touched and wrote.

        None of a process tree, whose pages are never late, where this machine cannot tell, or where the restore fails:
        then it fails for calls, too, who are told why.
        """
        page_faults = await self._page_faults.current()
        if page_faults is None or facts.get("relatives"):
            return None
        try:
            resident = await Resident.rehearse(
                mounts=self._pool.file_tree,
                places=_template_places(settings),
                plan=plan,
                facts=facts,
                memory_fd=memory_fd,
                piece=CHUNK_SIZE,
                page_faults=page_faults,
            )
            rehearsal = ResidentSnapshot(resident, disk)
            try:
                return await self._observe(rehearsal, settings)
            finally:
                await rehearsal.close()
        except ThawError as error:
            logger.warning("The rehearsal of %s failed: %s", settings.function_arn, error)
            return None

    async def _observe(self, rehearsal: ResidentSnapshot, settings: FunctionSettings) -> Observed:
        log = LogStream(None, settings.log_group, settings.version)
        thawing = _Thawing(rehearsal.resident, record=True)
        environment = await self._restored(
            await self._fork(rehearsal, _as_frozen(rehearsal, settings), log, thawing), request_id=""
        )
        try:
            return await thawing.observed()
        finally:
            await environment.close()

    # --- from the store into memory ----------------------------------------------------------------------------------

    async def _load(self, configuration: Configuration, settings: FunctionSettings) -> ResidentSnapshot:
        """Brings a snapshot from the store into memory, as far as a clone cannot do without it.

        Raises RestoreRefused, RestoreFailed, StoreError, ServiceError. A defect of our own is a RestoreFailed, too: the
        function is not to suffer for it.
        """
        return await _without_defects(configuration, self._load_parts(configuration, settings))

    async def _load_parts(self, configuration: Configuration, settings: FunctionSettings) -> ResidentSnapshot:
        assert configuration.snapshot_key is not None, "only versions that have a snapshot are cloned"
        manifest = await self._snapshots.load_manifest(configuration.snapshot_key, configuration.kms_key_arn)
        check(manifest.facts)  # before anything large is read
        plan, disk = await asyncio.gather(self._snapshots.read_plan(manifest), self._snapshots.read_disk(manifest))
        return await self._resident(configuration, settings, manifest, plan, disk)

    async def _resident(
        self,
        configuration: Configuration,
        settings: FunctionSettings,
        manifest: Manifest,
        plan: bytes,
        disk: bytes,
        memory_fd: int | None = None,
    ) -> ResidentSnapshot:
        page_faults = await self._page_faults.current()
        resident = await Resident.load(
            mounts=self._pool.file_tree,
            places=_template_places(settings),
            plan=plan,
            facts=manifest.facts,
            source=StoredImage(self._snapshots, manifest),
            page_faults=page_faults,
            memory_fd=memory_fd,
        )
        learnt = Learnt(self._snapshots, configuration, manifest)
        resident.on_learnt = lambda facts: self._in_background(learnt.note(facts))
        snapshot = ResidentSnapshot(resident, disk)
        resident.on_complete = lambda: self._fork_ahead(snapshot, _as_frozen(snapshot, settings))
        return snapshot

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._preparing_tasks.add(task)
        task.add_done_callback(self._preparing_tasks.discard)

    async def keep(
        self, configuration: Configuration, manifest: Manifest, plan: bytes, memory_fd: int, disk: bytes
    ) -> None:
        """Makes a snapshot that was just stored resident, from the images that it was made of.

        So the first call finds what the hundredth does. `memory_fd` stays the caller's. Where this fails the snapshot
        is loaded from the store when it is called.
        """
        configuration = replace(configuration, snapshot_key=manifest.snapshot_key)
        gone = False

        async def load(settings: FunctionSettings) -> ResidentSnapshot:
            """Goes on where the publish is cancelled meanwhile, so it needs a descriptor of its own."""
            if gone:
                raise RestoreFailed("The image that was just taken is not there any more.", step="image")
            own = os.dup(memory_fd)
            try:
                loading = self._resident(configuration, settings, manifest, plan, disk, own)
                return await _without_defects(configuration, loading)
            finally:
                os.close(own)

        try:
            await self._prepare(configuration, load)
        finally:
            gone = True

    def prepare(self, configuration: Configuration) -> None:
        """Loads a new snapshot in the background, so that the first call of its version need not wait for it."""
        self._in_background(self._prepare(configuration, lambda settings: self._load(configuration, settings)))

    async def _prepare(
        self, configuration: Configuration, load: Callable[[FunctionSettings], Awaitable[ResidentSnapshot]]
    ) -> None:
        key = configuration.snapshot_key
        assert key is not None, "it was just taken"
        try:
            settings = await self._preparing.settings(configuration, "snap-start")
            async with self._residents.hold(key, lambda: load(settings)) as resident:
                self._fork_ahead(resident, _as_frozen(resident, settings))
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
        await self._page_faults.close()


async def _without_defects(
    configuration: Configuration, loading: Coroutine[Any, Any, ResidentSnapshot]
) -> ResidentSnapshot:
    """What `loading` gives; an error that no sentence was written for becomes RestoreFailed."""
    try:
        return await loading
    except ThawError:
        raise
    except Exception as error:
        logger.exception("the snapshot %s could not be loaded", configuration.snapshot_key)
        fault = f"{type(error).__name__}: {error}"
        message = f"Loading it met a fault of the server ({fault}), which its log tells more about."
        raise RestoreFailed(message, step="load") from error


class Learnt:
    """What calls of a resident snapshot showed: its next load, here or elsewhere, begins with that."""

    def __init__(self, snapshots: SnapshotReading, configuration: Configuration, manifest: Manifest) -> None:
        self._snapshots = snapshots
        self._configuration = configuration
        self._manifest = manifest
        self._facts = dict(manifest.facts)
        self._saving = asyncio.Lock()

    async def note(self, facts: Mapping[str, Any]) -> None:
        """Saves further facts with the manifest; what cannot be saved is learnt again."""
        self._facts.update(facts)
        async with self._saving:
            try:
                await self._snapshots.save_facts(self._manifest, self._facts, self._configuration.kms_key_arn)
            except ThawError as error:
                key = self._manifest.snapshot_key
                logger.warning("What calls of %s touch and write could not be noted: %s", key, error)


class _Thawing:
    """Asks for one clone, and afterwards whether it ever became the function, and what it touched."""

    def __init__(self, resident: Resident, *, record: bool = False, ahead: bool = False) -> None:
        self._resident = resident
        self._record = record
        self._ahead = ahead
        self._cloned: Cloned | None = None
        self._number = 0
        self._late_pages = True

    async def __call__(self, request: CloneRequest) -> Cloned:
        self._late_pages = not self._resident.is_final
        self._cloned, self._number = await self._resident.clone(request, record=self._record, ahead=self._ahead)
        return self._cloned

    def failure(self) -> RestoreFailed | None:
        """Why the engine, not the function, ended the clone; None where it was the function."""
        return self._cloned.failure() if self._cloned is not None else None

    def answered(self, unchanged: Callable[[], bool]) -> None:
        """The clone's first call is over. Pages that came late are its own, whether it wrote them or not."""
        if self._cloned is not None and not self._late_pages:
            self._resident.answered(self._cloned, unchanged)

    async def observed(self) -> Observed:
        """Which pages the clone touched and wrote."""
        assert self._cloned is not None, "it was thawed"
        return await self._resident.observed(self._cloned, self._number)


def _as_frozen(resident: ResidentSnapshot, settings: FunctionSettings) -> FunctionSettings:
    """With what a clone keeps from the process that was frozen."""
    frozen = resident.resident.template.facts["environment"]
    waits_in = frozen.get("waits_in", "restore/next")  # snapshots of earlier versions of Thaw do not say
    extensions = tuple(
        FrozenExtension(name=name, identifier=identifier, events=tuple(events), number=number)
        for name, identifier, events, number in frozen.get("extensions", ())
    )
    token, is_tree = frozen["credentials_token"], bool(resident.resident.template.facts.get("relatives"))
    return replace(settings, credentials_token=token, waits_in=waits_in, extensions=extensions, is_tree=is_tree)


def _template_places(settings: FunctionSettings) -> Sequence[tuple[str, int]]:
    """The mounts whose files the function has mapped; each clone has a /tmp of its own, so the template needs none."""
    tmp, *shown = make_mounts(settings)
    os.close(tmp[1])
    return shown
