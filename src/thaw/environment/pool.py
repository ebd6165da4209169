"""Sandboxes that wait, empty and ready, because making one costs more than using it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import uuid4

from thaw import native
from thaw.environment.cgroup import NO_GROUPS, Group, GroupTree
from thaw.environment.file_tree import build_file_tree
from thaw.environment.launch import Launched, launch
from thaw.environment.network import Address, Network
from thaw.environment.reaper import Reaper
from thaw.environment.rootless import WARNINGS, is_rootless
from thaw.environment.sandbox import Sandbox, Surroundings
from thaw.environment.scarcity import scarce
from thaw.environment.settings import FORWARDING_SWITCH, WorkerSettings
from thaw.environment.trial import try_out, without_users
from thaw.environment.users import Identity, Users
from thaw.errors import SandboxError

# New sandboxes are made after the calls that emptied the pool have had the processors for a while.
_REFILL_PAUSE_S = 0.02
_RETRY_PAUSE_S = 1.0

_logger = logging.getLogger(__name__)


class SandboxPool:
    """Keeps `worker.pool_size` sandboxes ready. One per server.

    `warnings` holds, after `start`, a sentence for each thing that this machine does not allow.
    """

    def __init__(self, worker: WorkerSettings, *, binary: Path | None = None) -> None:
        self.worker = worker
        self.warnings: list[str] = []
        self._binary = binary
        self._ready: deque[Sandbox] = deque()
        self._wanted, self._full = asyncio.Event(), asyncio.Event()
        self._refilling: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "thaw-sandboxes")
        self._file_tree = -1
        self._groups: GroupTree | None = None
        self._network: Network | None = None
        self._reaper: Reaper | None = None
        self._users: Users | None = None

    @property
    def ready(self) -> int:
        """How many sandboxes wait."""
        return len(self._ready)

    @property
    def file_tree(self) -> int:
        """Descriptor of the mount namespace that sandboxes, and template processes, start from a copy of."""
        return self._file_tree

    @property
    def gateway(self) -> str | None:
        """This machine's address as functions see it; None without network."""
        return str(self._network.gateway) if self._network else None

    async def start(self) -> None:
        """Build what all sandboxes share, and begin to fill the pool. Raises SandboxError, ConfigurationError."""
        self._binary = self._binary or native.binary()
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._build_shared)
            await self._build_tree()
        except SandboxError:
            await self.close()
            raise
        self._refilling = asyncio.create_task(self._refill_forever())
        self._wanted.set()

    def _build_shared(self) -> None:
        instance = uuid4().hex[:12]
        self._groups = GroupTree(instance, NO_GROUPS if is_rootless() else None)
        if is_rootless():
            self.warnings += WARNINGS
        if self.worker.network:
            self._build_network()
        forwarding = self._network is not None and os.access(FORWARDING_SWITCH, os.W_OK)
        self._reaper = Reaper(self._groups.name, forwarding=forwarding)

    async def _build_tree(self) -> None:
        """The file tree, for sandboxes with user namespaces where one of them can really be made."""
        build = partial(asyncio.get_running_loop().run_in_executor, self._thread)
        assert self._binary is not None
        if not is_rootless():
            try:
                self._users = await build(Users)
                self._file_tree = await build(build_file_tree, self._users)
                await try_out(self._binary, self._file_tree, self._users)
                return
            except SandboxError as error:
                self.warnings.append(without_users(error))
                self._forget_users()
        self._file_tree = await build(build_file_tree)

    def _forget_users(self) -> None:
        if self._file_tree >= 0:
            os.close(self._file_tree)
            self._file_tree = -1
        if self._users is not None:
            self._users.close()
            self._users = None

    def _build_network(self) -> None:
        try:
            self._network = Network(self.worker.subnet, self.worker.egress)
            self.warnings += self._network.warnings
        except SandboxError as error:
            self.warnings.append(f"{error} Functions have only their loopback.")

    async def filled(self) -> None:
        """Wait until the pool is full; for tests and measurements."""
        await self._full.wait()

    async def take(self) -> Sandbox:
        """A sandbox that is now the caller's; made on the spot where none waits. Raises SandboxError."""
        self._wanted.set()
        self._full.clear()
        while self._ready:
            sandbox = self._ready.popleft()
            if sandbox.alive:
                return sandbox
            await sandbox.close()
        return await self._build()

    async def close(self) -> None:
        """Destroy the sandboxes that wait, and everything that is shared. Environments must be closed before."""
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.gather(self._refilling, return_exceptions=True)
            self._refilling = None
        await asyncio.gather(*(sandbox.close() for sandbox in self._ready))
        self._ready.clear()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close_shared)
        self._thread.shutdown()

    def _close_shared(self) -> None:
        if self._groups is not None:
            self._groups.close()
        if self._network is not None:
            self._network.close()
        self._forget_users()
        if self._reaper is not None:
            self._reaper.close()

    async def _refill_forever(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while len(self._ready) < self.worker.pool_size:
                if self._ready:
                    await asyncio.sleep(_REFILL_PAUSE_S)
                await self._refill()
            self._full.set()

    async def _refill(self) -> None:
        try:
            self._ready.append(await self._build())
        except SandboxError as error:
            _logger.error("No sandbox could be prepared: %s", error)
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _build(self) -> Sandbox:
        assert self._groups is not None
        assert self._binary is not None
        loop = asyncio.get_running_loop()
        name = uuid4().hex
        # PID 1 counts among the processes, too.
        group = await loop.run_in_executor(self._thread, self._groups.create, name, self.worker.process_limit + 1)
        try:
            launched, identity = await self._launch(group)
        except BaseException:
            await loop.run_in_executor(self._thread, group.close)
            raise
        return await self._furnish(name, launched, group, identity)

    async def _launch(self, group: Group) -> tuple[Launched, Identity | None]:
        assert self._binary is not None
        if self._users is None:
            return await launch(self._binary, self._file_tree, group.folder), None
        identity = self._users.take()
        try:
            return await launch(self._binary, self._file_tree, group.folder, identity.arguments), identity
        except BaseException:
            self._users.give_back(identity)
            raise

    async def _furnish(self, name: str, launched: Launched, group: Group, identity: Identity | None) -> Sandbox:
        around = Surroundings(self.worker, self._network, self._thread, self._users)
        sandbox = Sandbox(name, launched, group, around, identity)
        try:
            connect = asyncio.get_running_loop().run_in_executor(self._thread, self._connect, launched, group)
            sandbox.address = await connect
            await sandbox.listen()
        except OSError as error:
            await sandbox.close()
            raise scarce("The connection of a sandbox", error, step="network") from error
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    def _connect(self, launched: Launched, group: Group) -> Address | None:
        """What may wait for the kernel: joining the groups, and the link."""
        group.add(launched.pid)
        if self._network is None:
            return None
        namespace = os.open(f"/proc/{launched.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._network.connect(namespace, launched.routing)
        finally:
            os.close(namespace)
