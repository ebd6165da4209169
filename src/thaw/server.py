"""The composition root: settings in, a running server out.

::

    async with Server(read_settings(port=0)) as server:
        print(server.url)

Parts are started from the ground up (catalog, store, sandboxes, publish and invoke, the AWS front) and stopped in the
opposite order: no new requests, running calls end, environments close, the catalog is closed last.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from ipaddress import IPv4Network
from pathlib import Path
from typing import Self

import uvicorn

from thaw.api.application import create_application
from thaw.api.signatures import check_exposure
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from thaw.config import Settings
from thaw.environment.egress import read_egress
from thaw.environment.pool import SandboxPool
from thaw.environment.rootless import NO_SNAPSHOTS, is_rootless
from thaw.environment.settings import WorkerSettings
from thaw.errors import ConfigurationError
from thaw.invoke.calling import Calling
from thaw.invoke.concurrency import ConcurrencyLimit
from thaw.invoke.events import EventProcessing
from thaw.invoke.invoking import Invoker
from thaw.invoke.launching import Launching
from thaw.invoke.provisioning import Provisioner
from thaw.invoke.restoring import Restoring
from thaw.observe.log_reader import LogReader
from thaw.observe.metrics import Metrics
from thaw.publish.code import CodeFolders
from thaw.publish.idleness import Idleness
from thaw.publish.layers import LayerFolders
from thaw.publish.lifecycle import Publisher
from thaw.publish.preparation import Preparation
from thaw.publish.snapshotting import Snapshotting, TakingLimits
from thaw.runtimes import Runtimes
from thaw.store.origin import Store, open_store

logger = logging.getLogger(__name__)

# How long running calls may go on after SIGTERM; Lambda's longest call would keep a server for 15 minutes.
DRAIN_S = 30
LISTEN_BACKLOG = 2048
CATALOG_FILE = "catalog.sqlite"
# Frees the worker's memory of snapshots beyond this share of the machine's.
RESIDENT_SHARE = 0.5


class Server:
    """One server: use it as an asynchronous context manager, on the event loop of the main thread.

    Entering it raises ConfigurationError where another server has the state folder or the port is taken, and
    SandboxError where this machine cannot run functions.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = ""
        self.metrics = Metrics()
        self.catalog: Catalog
        self.store: Store
        self.invoker: Invoker
        self.publisher: Publisher
        self.calling: Calling
        self._idleness: Idleness
        self._provisioner: Provisioner
        self._restoring: Restoring
        self._parts = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as parts:
            await self._start(parts)
            self._parts = parts.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._parts.aclose()

    async def _start(self, parts: AsyncExitStack) -> None:
        settings = self.settings
        check_exposure(settings.host, settings.credentials_file)
        parts.enter_context(locked(settings.state_dir))
        listener = parts.enter_context(listening(settings.host, settings.port))
        self.catalog = Catalog(
            settings.state_dir / CATALOG_FILE, region=settings.region, account_id=settings.account_id
        )
        await self.catalog.open()
        parts.push_async_callback(self.catalog.close)
        self.store = await asyncio.to_thread(open_store, settings)
        parts.callback(self.store.close)
        await self.store.catalogs.join()
        self.metrics.tiers = self.store.counters
        pool = await self._start_pool(parts)
        self._join(pool)
        parts.push_async_callback(self._restoring.close)
        self.invoker.start()
        parts.push_async_callback(self.invoker.close, drain_s=DRAIN_S)
        parts.push_async_callback(self.publisher.close)
        parts.push_async_callback(self.calling.close)
        await self.publisher.tidy()
        await self.publisher.resume()
        self.calling.start()
        await self._provisioner.start()
        parts.push_async_callback(self._provisioner.close)
        await self._idleness.start()
        parts.push_async_callback(self._idleness.close)
        await self._serve(parts, listener)

    async def _start_pool(self, parts: AsyncExitStack) -> SandboxPool:
        settings = self.settings
        worker = WorkerSettings(
            pool_size=settings.pool_size,
            cpu_limit=settings.cpu_limit,
            log_limit=settings.log_limit,
            subnet=None if settings.network is None else IPv4Network(settings.network),
            egress=read_egress(settings.egress),
        )
        pool = SandboxPool(worker)
        await pool.start()
        parts.push_async_callback(pool.close)
        for warning in pool.warnings:
            logger.warning(warning)
        return pool

    def _join(self, pool: SandboxPool) -> None:
        """Makes publish and invoke; each knows the other's work only as a function that it may call."""
        state, get = self.settings.state_dir, self.store.objects.get
        folders, layers = CodeFolders(state / "code", get), LayerFolders(state / "layers", get)
        folders.prepare()
        layers.prepare()
        preparation = self._preparation(folders, layers)
        self._join_invoke(preparation, pool)
        self._join_publish(preparation, pool, folders, layers)

    @property
    def _logs(self) -> Path:
        return self.settings.state_dir / "logs"

    def _preparation(self, folders: CodeFolders, layers: LayerFolders) -> Preparation:
        settings = self.settings
        runtimes = Runtimes(
            settings.state_dir,
            region=settings.region,
            index_url=settings.python_index_url,
            maven_repository_url=settings.maven_repository_url,
            progress=logger.info,
        )
        return Preparation(
            folders, layers, runtimes, region=settings.region, account_id=settings.account_id, reseed=settings.reseed
        )

    def _join_invoke(self, preparation: Preparation, pool: SandboxPool) -> None:
        settings = self.settings
        launching = Launching(
            preparation,
            pool,
            self._logs,
            init_limit_s=settings.init_limit_s,
            provisioned_limit_s=settings.snapshot_init_limit_s,
        )
        self._restoring = Restoring(
            preparation,
            pool,
            self.store.snapshots,
            resident_limit=resident_limit(),
            restore_limit_s=settings.restore_limit_s,
            forks_ahead=settings.fork_ahead,
            renew=self._renew,
        )
        self.invoker = Invoker(
            launching,
            self._restoring,
            max_environments=settings.max_environments,
            idle_timeout_s=settings.idle_timeout_s,
            metrics=self.metrics,
            concurrency=ConcurrencyLimit(self.catalog.concurrency.unreserved),
            renew=self._renew,
            used=self.catalog.uses.note,
        )
        self._provisioner = Provisioner(self.catalog, self.invoker.assignment, launching.provisioned)
        self.calling = Calling(
            self.invoker,
            EventProcessing(self.catalog, self.invoker.invoke, retry_s=settings.event_retry_s, awaken=self._awaken),
        )

    def _join_publish(
        self, preparation: Preparation, pool: SandboxPool, folders: CodeFolders, layers: LayerFolders
    ) -> None:
        store, restoring, settings = self.store, self._restoring, self.settings
        limits = TakingLimits(init_s=settings.snapshot_init_limit_s)
        self.publisher = Publisher(
            catalog=self.catalog,
            packages=store.objects,
            folders=folders,
            layers=layers,
            preparation=preparation,
            snapshotting=Snapshotting(
                preparation, pool, store.snapshots, self._logs, limits, restoring.rehearse, restoring.keep
            ),
            snapshots=store.snapshots,
            retire=self.invoker.assignment.retire,
            forget=restoring.forget,
            published=restoring.prepare,
            others=store.catalogs.others,
            without_snapshots=NO_SNAPSHOTS if is_rootless() else None,
        )
        self._idleness = Idleness(self.catalog, self.publisher, preparation, idle_s=settings.snapshot_idle_s)

    def _renew(self, configuration: Configuration) -> None:
        self.publisher.renew(configuration)

    async def _awaken(self, configuration: Configuration) -> None:
        await self.publisher.awaken(configuration)

    async def _serve(self, parts: AsyncExitStack, listener: socket.socket) -> None:
        application = create_application(
            self.settings,
            self.catalog,
            self.publisher,
            self.calling,
            layers=self.publisher,
            provisioning=self._provisioner,
            logs=LogReader(self._logs),
            metrics=self.metrics,
        )
        front = _Front(
            uvicorn.Config(
                application, loop="none", http="httptools", ws="none", lifespan="off", log_config=None,
                access_log=False, server_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=DRAIN_S,
                backlog=LISTEN_BACKLOG,
            )
        )  # fmt: skip
        serving = asyncio.create_task(front.serve(sockets=[listener]))
        parts.push_async_callback(_stop, front, serving)
        parts.callback(application.stop)
        while not front.started:
            if serving.done():
                serving.result()
            await asyncio.sleep(0.001)
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Front(uvicorn.Server):
    """uvicorn without its signal handlers: when to stop is decided here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _stop(front: _Front, serving: asyncio.Task[None]) -> None:
    """No new connections; requests that are being answered get their answer."""
    front.should_exit = True
    await serving


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Holds the state folder for this process; the kernel lets go of it however the process ends."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The state folder {state_dir} cannot be used ({error.strerror}): name another one with --state-dir."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 20, 0).decode().strip()
        os.close(descriptor)
        raise ConfigurationError(
            f"Another server (process {owner}) uses the state folder {state_dir}: stop it, or name another folder with "
            "--state-dir."
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; port 0 takes a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"{host} is no address of this machine ({error.strerror}): set --host.") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ConfigurationError(
                f"The server cannot listen on {host} port {port} ({error.strerror}): set --port to a free one, or to 0."
            ) from error
        listener.listen(LISTEN_BACKLOG)
        listener.setblocking(False)
        yield listener


def resident_limit() -> int:
    """Bytes of snapshots that this worker keeps in memory."""
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * RESIDENT_SHARE)


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; the ready line names the URL."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Server(settings) as server:
        gc.collect()
        gc.freeze()  # what is there now stays: later collections, in the middle of a restore, need not look at it
        print(f"Thaw listens at {server.url} (state in {settings.state_dir})", flush=True)
        await stopped.wait()
        logger.info("stopping: running calls may take up to %d s", DRAIN_S)
