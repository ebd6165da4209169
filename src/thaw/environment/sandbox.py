"""One sandbox: empty and ready in the pool, then the home of one function's process until it is destroyed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from thaw.environment import control
from thaw.environment.cgroup import Group
from thaw.environment.failure import entry_error
from thaw.environment.launch import Launched, failure, receive, send
from thaw.environment.network import Address, Network
from thaw.environment.runtime_api.connection import Connection
from thaw.environment.runtime_api.conversation import Conversation
from thaw.environment.settings import WorkerSettings
from thaw.environment.users import Identity, Users
from thaw.errors import SandboxError

_logger = logging.getLogger(__name__)
_GONE_LIMIT_S = 10.0
_TEMPLATE_NAME = "thaw-template\n"  # native/template.c
# How native/sandbox.c begins the step of a program that did not start; its EXITED follows.
EXECUTING = "execve "
T = TypeVar("T")


@dataclass(slots=True)
class Surroundings:
    """What a sandbox takes its share of, and gives it back to. `thread` does what may wait for the kernel."""

    worker: WorkerSettings
    network: Network | None
    thread: Executor
    users: Users | None = None


class Sandbox:
    """Namespaces, a control group, a network link and a Runtime API that listens; nobody's yet.

    `on_exit(wait status)` is called once when the function's process has ended, or when PID 1 has;
    `on_extension_exit(number, wait status)` when an external extension has.
    """

    def __init__(
        self, name: str, launched: Launched, group: Group, around: Surroundings, identity: Identity | None = None
    ) -> None:
        self.id = name
        self.group = group
        self.address: Address | None = None
        self.identity = identity
        self.users = around.users
        self.conversation = Conversation()
        self.on_exit: Callable[[int], None] | None = None
        self.on_extension_exit: Callable[[int, int], None] | None = None
        self._function_over = asyncio.Event()
        self._extensions_over: set[int] = set()
        self._extension_over = asyncio.Event()
        self.prepared: Connection | None = None
        self.entry_error = ""
        self.worker = around.worker
        self.thread = around.thread
        self._network = around.network
        self._launched = launched
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._server_end: socket.socket | None = None
        self._attached: asyncio.Future[None] | None = None
        self._started: asyncio.Future[int] | None = None
        self._clone_pidfd = -1
        self.clone_ended_waiting = False
        """Whether a clone has ended before its first step as the function, which begins with the function's name."""
        self._clone_gone = self._resolved()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self._loop.add_reader(launched.control.fileno(), self._control_readable)
        self._loop.add_reader(launched.pidfd, self._init_ended)

    # -- while it is being made --

    async def listen(self) -> None:
        """Serve the Runtime API on the sandbox's listener and on the prepared connection."""
        listener = socket.socket(fileno=self._launched.listener)
        listener.setblocking(False)
        self._launched.listener = -1
        self._server = await self._loop.create_server(self._connection, sock=listener)
        self._server_end = socket.socket(fileno=self._launched.server_end)
        self._server_end.setblocking(False)
        self._launched.server_end = -1
        _, self.prepared = await self._loop.connect_accepted_socket(self._connection, self._server_end)

    def _connection(self) -> Connection:
        return Connection(self.conversation, self._connections)

    # -- becoming an environment --

    @property
    def init_pid(self) -> int:
        """PID 1 of the sandbox, as this process numbers it."""
        return self._launched.pid

    @property
    def init_pidfd(self) -> int:
        """A pidfd of PID 1, which names the sandbox's namespaces."""
        return self._launched.pidfd

    @property
    def function_end(self) -> int:
        """The function's end of the prepared Runtime API connection."""
        return self._launched.function_end

    @property
    def alive(self) -> bool:
        """Whether PID 1 still runs."""
        return not self._gone.done() and self._closing is None

    @property
    def connected(self) -> bool:
        """Whether a process has a connection to the Runtime API."""
        return bool(self._connections)

    @property
    def unread(self) -> bool:
        """Whether there is something to read on one of them."""
        return any(connection.unread for connection in self._connections)

    def attach(self, places: Sequence[tuple[str, int]]) -> asyncio.Future[None]:
        """Put detached mounts on their paths, and close them here. The future ends when they are in place; a process
        that is started afterwards need not wait for it. Raises SandboxError."""
        self._attached = self._loop.create_future()
        self._attached.add_done_callback(_retrieve)
        descriptors = [descriptor for _, descriptor in places]
        try:
            send(self._launched.control, control.attach([path for path, _ in places]), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return self._attached

    def start(self, packet: bytes, log: int) -> asyncio.Future[int]:
        """Start the function's process; the future holds its number inside the sandbox. Raises SandboxError."""
        self._started = self._loop.create_future()
        self._started.add_done_callback(_retrieve)
        self._close_function_end()
        send(self._launched.control, packet, [log])
        return self._started

    def answer_ahead(self, answer: bytes) -> None:
        """Write to the prepared connection now, so that a clone finds the answer when it wakes."""
        assert self._server_end is not None
        if self._server_end.send(answer) != len(answer):
            raise SandboxError("The prepared Runtime API connection takes no data.", step="connection")

    def watch_clone(self, pidfd: int) -> None:
        """The function's process is a clone: our own child, told by `pidfd`, which is ours to close."""
        self._close_function_end()
        self._clone_pidfd = pidfd
        self._clone_gone = self._loop.create_future()
        self._loop.add_reader(pidfd, self._clone_ended)

    def watch(self, numbers: Sequence[int]) -> None:
        """Tell of the end of these processes, too (numbers in the sandbox). Raises SandboxError."""
        send(self._launched.control, control.watch(numbers), [])

    def function_pid(self, number: int) -> int:
        """The number, as this process sees it, of a process that PID 1 started under `number`; 0 where it has ended."""
        children = f"/proc/{self.init_pid}/task/{self.init_pid}/children"
        with suppress(FileNotFoundError, ProcessLookupError), open(children, "rb") as file:
            for word in file.read().split():
                if _number_inside(int(word)) == number:
                    return int(word)
        return 0

    def processes(self, function: int) -> set[int]:
        """Every process below the function's and below PID 1, as this process numbers them."""
        waiting, found = [function, self.init_pid], set[int]()
        while waiting:
            children = _children(waiting.pop()) - found
            found |= children
            waiting += children
        return found

    async def function_gone(self) -> None:
        """Wait until the function's process has ended."""
        await self._function_over.wait()

    async def extensions_ended(self, numbers: set[int]) -> None:
        """Wait until all of these external extensions have."""
        while not numbers <= self._extensions_over and not self._gone.done():
            self._extension_over.clear()
            await self._extension_over.wait()

    # -- the end --

    def kill(self) -> None:
        """Kill every process inside, at once; frozen ones too."""
        if self._gone.done():
            return
        self.group.kill()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._launched.pidfd, signal.SIGKILL)

    async def close(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """Kill everything, after `before`, and give everything back; idempotent, and safe to call twice at once."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(before))
        await asyncio.shield(self._closing)

    async def _close(self, before: Callable[[], Awaitable[None]] | None) -> None:
        if before is not None and not self._gone.done():
            await before()
        self.kill()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        try:
            async with asyncio.timeout(_GONE_LIMIT_S):
                await self._clone_gone
                await self._gone
        except TimeoutError:
            _logger.warning("Sandbox %s: process %d does not end after SIGKILL.", self.id, self.init_pid)
            self._loop.remove_reader(self._launched.pidfd)
        self._release()
        await self._loop.run_in_executor(self.thread, self.group.close)
        if self._network is not None and self.address is not None:
            self._network.release(self.address)
        if self.users is not None and self.identity is not None:
            self.users.give_back(self.identity)

    def _release(self) -> None:
        self._close_function_end()
        self._loop.remove_reader(self._launched.control.fileno())
        self._launched.control.close()
        os.close(self._launched.pidfd)
        os.close(self._launched.routing)
        for descriptor in (self._launched.listener, self._launched.server_end):
            if descriptor >= 0:
                os.close(descriptor)

    def _close_function_end(self) -> None:
        if self._launched.function_end >= 0:
            os.close(self._launched.function_end)
            self._launched.function_end = -1

    # -- what the sandbox says --

    def _control_readable(self) -> None:
        try:
            packet = receive(self._launched.control)
        except BlockingIOError:
            return
        except SandboxError as error:
            _logger.warning("Sandbox %s: %s", self.id, error)
            self.kill()
            return
        if packet is None:
            self._loop.remove_reader(self._launched.control.fileno())
            return
        for descriptor in packet.descriptors:
            os.close(descriptor)
        self._heard(packet.message)

    def _heard(self, message: control.Message) -> None:
        if message.kind is control.Kind.ATTACHED:
            _settle(self._attached, None)
        elif message.kind is control.Kind.STARTED:
            _settle(self._started, message.number)
        elif message.kind is control.Kind.EXITED:
            self._function_ended(message.number)
        elif message.kind is control.Kind.ENDED:
            self._extension_ended(message.number, message.status)
        elif message.step.startswith(EXECUTING):
            self.entry_error = entry_error(message.step.removeprefix(EXECUTING), message.number)
        else:
            self._fail(failure(message))

    def _fail(self, error: SandboxError) -> None:
        _logger.warning("Sandbox %s: %s", self.id, error)
        for waiting in (self._attached, self._started):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    def _extension_ended(self, number: int, status: int) -> None:
        self._extensions_over.add(number)
        self._extension_over.set()
        if self.on_extension_exit is not None:
            self.on_extension_exit(number, status)

    def _function_ended(self, status: int) -> None:
        self._function_over.set()
        listener, self.on_exit = self.on_exit, None
        if listener is not None:
            listener(status)

    def _clone_ended(self) -> None:
        self._loop.remove_reader(self._clone_pidfd)
        result = os.waitid(os.P_PIDFD, self._clone_pidfd, os.WEXITED | os.WNOWAIT)
        assert result is not None
        self.clone_ended_waiting = Path(f"/proc/{result.si_pid}/comm").read_text() == _TEMPLATE_NAME
        os.waitid(os.P_PIDFD, self._clone_pidfd, os.WEXITED)
        os.close(self._clone_pidfd)
        self._clone_pidfd = -1
        self._clone_gone.set_result(None)
        exited = result.si_code == os.CLD_EXITED
        self._function_ended(result.si_status << 8 if exited else result.si_status & 0x7F)

    def _init_ended(self) -> None:
        """PID 1 is gone, and with it, by the kernel's doing, every process of the sandbox."""
        self._loop.remove_reader(self._launched.pidfd)
        os.waitpid(self._launched.pid, 0)
        while not self._control_is_empty():
            self._control_readable()
        self._gone.set_result(None)
        self._extension_over.set()
        self._fail_quietly()
        self._function_ended(signal.SIGKILL)

    def _control_is_empty(self) -> bool:
        try:
            return not self._launched.control.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ConnectionResetError):
            return True

    def _fail_quietly(self) -> None:
        error = SandboxError("The sandbox ended before the function's process ran.", step="sandbox")
        for waiting in (self._attached, self._started):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    def _resolved(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        future.set_result(None)
        return future


def _children(pid: int) -> set[int]:
    """Child processes of any thread of a process; none where it has ended."""
    found: set[int] = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.update(map(int, file.read().split()))
    return found


def _number_inside(pid: int) -> int:
    """A process's number in its own pid namespace."""
    with open(f"/proc/{pid}/status", "rb") as file:
        line = next(line for line in file if line.startswith(b"NSpid:"))
    return int(line.split()[-1])


def _settle(future: asyncio.Future[T] | None, value: T) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """An error that nobody waits for was logged already; asyncio need not say so again."""
    if not future.cancelled():
        future.exception()
