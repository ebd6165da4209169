"""The template process of a snapshot: it holds the function's whole address space, and every clone is its fork.

The process runs native/template.c. This side sends it the plan and the memory image once, and then asks for clones.
"""

from __future__ import annotations

import array
import asyncio
import itertools
import logging
import os
import random
import resource
import signal
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from thaw import native
from thaw.errors import RestoreFailed
from thaw.restore.check import check, check_files, check_plan
from thaw.restore.clock import time_namespace
from thaw.restore.placing import write_memory

_logger = logging.getLogger(__name__)

# native/control.h
_CONTROL_FD, _MOUNTS_FD, _TIME_FD = 3, 4, 5
_ATTACH, _LOAD, _CLONE, _FILL, _SETTLE, _EXPECT, _PLACED = 1, 4, 5, 6, 7, 8, 9
_FAILED, _LOADED, _CLONED, _BROKEN, _FILLED, _SETTLED, _LAZY = 19, 20, 21, 23, 24, 25, 26
_HAS_CGROUP, _IS_LAZY, _IS_WATCHED, _IS_AHEAD, _HAS_USERS = 1, 2, 4, 8, 16
_PACKET_LIMIT: Final = 65536
_EXPECTED_LIMIT: Final = 4000
_HEADER = struct.Struct("<II")
_ATTACHMENT = struct.Struct("<124sI")
_PROCESS = struct.Struct("<IIiIIIII")
_FAILURE = struct.Struct("<ii120s")
_NUMBER = struct.Struct("<i")
_PORTION = struct.Struct("<QQ")
_FILTER_BYTES: Final = 8

_LOAD_LIMIT_S: Final = 60.0
_CLONE_LIMIT_S: Final = 10.0
_UNANSWERED_LIMIT: Final = 32
"""Requests under way; a control socket takes about 50 of them before it is full (net.core.wmem_default)."""
_CLONE_NUMBERS: Final = range(300, 32000)


class Request(Protocol):
    """What a clone gets from its sandbox; descriptors stay the caller's. `pid` 0 leaves the number to us. `host_id` is
    what user and group are outside of the sandbox's user namespace; None where it has none."""

    @property
    def sandbox_pidfd(self) -> int: ...
    @property
    def connection_fd(self) -> int: ...
    @property
    def log_fd(self) -> int: ...
    @property
    def cgroup_fd(self) -> int | None: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def seccomp_filter(self) -> bytes: ...
    @property
    def pid(self) -> int: ...
    @property
    def host_id(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Cloned:
    """A clone that runs: a child of this process, which has to reap it. `pidfd` belongs to the caller.

    `number` is its process number inside the sandbox; `ticket` is what the template calls it.
    """

    pid: int
    pidfd: int
    number: int
    ticket: int
    faults: int
    """A lazy clone's userfaultfd, which belongs to the caller; -1 where there is none."""
    template: Template

    def failure(self) -> RestoreFailed | None:
        """Why the clone ended before it was the function; None where it was. To be asked once it has ended."""
        return self.template.failure_of(self.ticket)


class Template:
    """One template process. Make it with `load`, ask it for clones, and `close` it."""

    def __init__(self, pid: int, control: socket.socket, facts: Mapping[str, Any], size: int) -> None:
        self.pid = pid
        self.facts = facts
        self.size = size
        """Bytes of the memory image."""
        self._pidfd = os.pidfd_open(pid)
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._acknowledging: deque[asyncio.Future[None]] = deque()
        self._waiting: deque[asyncio.Future[tuple[int, int]]] = deque()
        self._room = asyncio.Semaphore(_UNANSWERED_LIMIT)
        self._failures: dict[int, RestoreFailed] = {}
        self._lazy: dict[int, asyncio.Future[int]] = {}
        """Of each lazy clone that is being made, by its ticket: its userfaultfd."""
        self._tickets = itertools.count(1)
        self._writing = 0
        """Threads that write to its memory: it is not reaped meanwhile, so its number is nobody else's."""
        self._writes = threading.Lock()
        self._taken = {facts["process_number"], *facts["thread_numbers"]}
        self._loop.add_reader(control.fileno(), self._readable)
        self._loop.add_reader(self._pidfd, self._ended)

    @classmethod
    async def load(
        cls,
        *,
        mounts: int,
        places: Sequence[tuple[str, int]],
        plan: bytes,
        memory_fd: int,
        facts: Mapping[str, Any],
        fill: bool = True,
    ) -> Template:
        """Start a template and build the function's address space in it.

        `mounts` is the mount namespace to start from a copy of, `places` what to mount in it: paths and detached
        mounts, which are closed here. `memory_fd`, the memory image, stays the caller's and may be closed afterwards.
        Without `fill` the image is still on its way: the caller says with `fill` and `settle` what has arrived.

        Raises:
            RestoreRefused: this machine differs from the snapshot's.
            RestoreFailed: a step of the plan failed.
        """
        try:
            check(facts)
            check_plan(plan)
            template = cls._spawn(mounts, facts, os.fstat(memory_fd).st_size)
            try:
                await template._build(places, plan, memory_fd)
                if fill:
                    await template.fill(0, template.size)
                    await template.settle()
            except BaseException:
                await template.close()
                raise
            return template
        finally:
            for _, mount in places:
                os.close(mount)

    @classmethod
    def _spawn(cls, mounts: int, facts: Mapping[str, Any], size: int) -> Template:
        clock = time_namespace(facts)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptors = {_CONTROL_FD: theirs.fileno(), _MOUNTS_FD: mounts}
        if clock is not None:
            descriptors[_TIME_FD] = clock
        with theirs:
            ours.setblocking(False)
            try:
                pid = native.spawn(native.binary(), "template", descriptors)
            except OSError as error:
                ours.close()
                raise RestoreFailed(f"The template process did not start ({error}).", step="spawn") from error
            finally:
                if clock is not None:
                    os.close(clock)
        # The descriptors that it keeps lie above all of the function's, whose limit is its own.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        return cls(pid, ours, facts, size)

    async def _build(self, places: Sequence[tuple[str, int]], plan: bytes, memory_fd: int) -> None:
        if places:
            entries = b"".join(_ATTACHMENT.pack(path.encode(), 0) for path, _ in places)
            self._send(_ATTACH, entries, [mount for _, mount in places])
        plan_fd = _memory_file(plan)
        try:
            self._send(_LOAD, b"", [plan_fd, memory_fd])
        finally:
            os.close(plan_fd)
        await self._answered("loaded")
        check_files(self.facts, f"/proc/{self.pid}/root")

    async def fill(self, offset: int, size: int) -> None:
        """Bytes `offset` to `offset + size` of the memory image have arrived: put them in place. Each byte only once.

        Raises:
            RestoreFailed: the template is gone.
        """
        self._send(_FILL, _PORTION.pack(offset, size), [])
        await self._answered("filled")

    def write(self, parts: Sequence[tuple[int, int]], content: memoryview) -> bool:
        """Put memory in place (address, size, one behind the other in `content`), in any thread; whether that worked.

        Tell `filled` which bytes of the image it was.
        """
        with self._writes:
            if self._gone.done():
                return False
            self._writing += 1
        try:
            return write_memory(self.pid, parts, content)
        finally:
            with self._writes:
                self._writing -= 1

    def filled(self, portions: Sequence[tuple[int, int]]) -> None:
        """Parts (offset, size) of the memory image that `write` has put in place; each byte only once.

        Raises:
            RestoreFailed: the template is gone.
        """
        if portions:
            self._send(_PLACED, b"".join(_PORTION.pack(*each) for each in portions), [])

    async def settle(self) -> None:
        """Everything outside the plan's lazy ranges has been filled: set protections. Clones can be made from now on.

        Raises:
            RestoreFailed: a step of the plan failed.
        """
        self._send(_SETTLE, b"", [])
        await self._answered("settled")

    def expect_writes(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Memory (address, size) that clones are expected to write: it is copied for them at once; 4000 ranges at most.

        Raises:
            RestoreFailed: the template is gone.
        """
        self._send(_EXPECT, b"".join(_PORTION.pack(*each) for each in ranges[:_EXPECTED_LIMIT]), [])

    async def _answered(self, what: str) -> None:
        """Wait for the acknowledgement of the message just sent; they come in the order of the messages."""
        answer: asyncio.Future[None] = self._loop.create_future()
        self._acknowledging.append(answer)
        try:
            async with asyncio.timeout(_LOAD_LIMIT_S):
                await asyncio.shield(answer)
        except TimeoutError:
            self._kill()
            raise RestoreFailed(f"The snapshot was not {what} within {_LOAD_LIMIT_S:.0f} s.", step=what) from None

    @property
    def alive(self) -> bool:
        """Whether it can make clones."""
        return not self._gone.done()

    async def clone(
        self, request: Request, *, lazy: bool = False, watched: bool = False, ahead: bool = False
    ) -> Cloned:
        """Put a clone into a sandbox; a `lazy` one gets what the template lacks from whoever serves its userfaultfd,
        who is told of its first write to each page, too, if it is `watched`. One made `ahead` of its call waits until
        there is something to read on its runtime connection.

        Raises:
            RestoreFailed: the template is gone or could not fork into the sandbox.
        """
        number = request.pid or self._choose_number()
        filters = len(request.seccomp_filter) // _FILTER_BYTES
        flags = (
            (0 if request.cgroup_fd is None else _HAS_CGROUP)
            | (_IS_LAZY if lazy else 0)
            | (_IS_WATCHED if watched else 0)
            | (_IS_AHEAD if ahead else 0)
            | (0 if request.host_id is None else _HAS_USERS)
        )
        ticket = next(self._tickets)
        host_id = request.host_id or 0
        body = _PROCESS.pack(request.uid, request.gid, number, flags, filters, host_id, ticket, host_id)
        body += request.seccomp_filter
        descriptors = [request.sandbox_pidfd, request.connection_fd, request.log_fd]
        if request.cgroup_fd is not None:
            descriptors.append(request.cgroup_fd)
        async with self._room:
            return await self._request(body, descriptors, number, ticket, lazy=lazy)

    async def _request(
        self, body: bytes, descriptors: Sequence[int], number: int, ticket: int, *, lazy: bool
    ) -> Cloned:
        answer: asyncio.Future[tuple[int, int]] = self._loop.create_future()
        self._send(_CLONE, body, descriptors)
        self._waiting.append(answer)
        if lazy:
            self._lazy[ticket] = self._loop.create_future()
        try:
            async with asyncio.timeout(_CLONE_LIMIT_S):
                pid, pidfd = await asyncio.shield(answer)
                return Cloned(pid, pidfd, number, ticket, await self._lazy[ticket] if lazy else -1, self)
        except TimeoutError:
            self._kill()
            raise RestoreFailed("The template process does not answer.", step="clone") from None
        finally:
            self._lazy.pop(ticket, None)

    def _choose_number(self) -> int:
        """A number other than the frozen one: libraries that survive a fork notice it and draw fresh randomness.

        In a tree processes know each other by their numbers, so there it is the frozen one.
        """
        if self.facts.get("relatives"):
            return int(self.facts["process_number"])
        while True:
            number = random.choice(_CLONE_NUMBERS)
            if number not in self._taken:
                return number

    def failure_of(self, ticket: int) -> RestoreFailed | None:
        """What a clone said before it ended; see `Cloned.failure`."""
        self._readable()
        return self._failures.pop(ticket, None)

    async def close(self) -> None:
        """End the process; its clones go on. Idempotent."""
        self._kill()
        await asyncio.shield(self._gone)

    def _kill(self) -> None:
        if not self._gone.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _send(self, kind: int, body: bytes, descriptors: Sequence[int]) -> None:
        packet = _HEADER.pack(kind, _HEADER.size + len(body)) + body
        try:
            socket.send_fds(self._control, [packet], descriptors)
        except OSError as error:
            raise RestoreFailed(f"The template process is gone ({error}).", step="control") from error

    # -- what the process says --

    def _readable(self) -> None:
        while not self._gone.done():
            try:
                data, ancillary, _, _ = self._control.recvmsg(_PACKET_LIMIT, 1024, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, ancillary = b"", []
            if not data:
                return
            descriptors = array.array("i")
            for _, _, value in ancillary:
                descriptors.frombytes(value[: len(value) // 4 * 4])
            self._heard(data, list(descriptors))

    def _heard(self, data: bytes, descriptors: list[int]) -> None:
        kind, _ = _HEADER.unpack_from(data)
        if kind == _CLONED:
            pid = _NUMBER.unpack_from(data, _HEADER.size)[0]
            if descriptors:
                self._answer((pid, descriptors[0]))
            else:
                self._lose(pid)
        elif kind in (_LOADED, _FILLED, _SETTLED):
            self._acknowledging.popleft().set_result(None)
        elif kind == _LAZY:
            self._hand_out(_NUMBER.unpack_from(data, _HEADER.size)[0], descriptors[0] if descriptors else -1)
        elif kind in (_FAILED, _BROKEN):
            error, ticket, text = _FAILURE.unpack_from(data, _HEADER.size)
            self._failed(kind, ticket, _sentence(text.split(b"\0", 1)[0].decode(errors="replace"), error))

    def _answer(self, cloned: tuple[int, int]) -> None:
        waiting = self._waiting.popleft()
        if not waiting.done():
            waiting.set_result(cloned)

    def _lose(self, pid: int) -> None:
        """This process has no room for a clone's pidfd: the clone, its child, ends unseen."""
        os.kill(pid, signal.SIGKILL)
        self._loop.run_in_executor(None, os.waitpid, pid, 0)
        waiting = self._waiting.popleft()
        if not waiting.done():
            message = "The clone's handle could not be received (Too many open files): raise the limit of open files."
            waiting.set_exception(RestoreFailed(message, step="clone"))
            waiting.exception()  # whoever waits gets it; where nobody does, asyncio need not warn

    def _failed(self, kind: int, ticket: int, failure: RestoreFailed) -> None:
        _logger.warning("%s", failure)
        if kind == _BROKEN:
            self._failures.setdefault(ticket, failure)  # the first of a tree tells why
            self._hand_out(ticket, -1)
            return
        answers: deque[asyncio.Future[Any]] = self._waiting if ticket else self._acknowledging
        waiting = answers.popleft() if answers else None
        if waiting is not None and not waiting.done():
            waiting.set_exception(failure)
            waiting.exception()  # whoever waits gets it; where nobody does, asyncio need not warn

    def _hand_out(self, ticket: int, faults: int) -> None:
        """A lazy clone's userfaultfd has arrived, or (-1) never will."""
        waiting = self._lazy.get(ticket)
        if waiting is not None and not waiting.done():
            waiting.set_result(faults)
        elif faults >= 0:
            os.close(faults)  # whoever wanted the clone has given up; the clone ends with its sandbox

    def _ended(self) -> None:
        with self._writes:
            if self._writing:
                return  # asked again at once: the descriptor stays readable
            self._reap()

    def _reap(self) -> None:
        self._readable()
        self._loop.remove_reader(self._pidfd)
        self._loop.remove_reader(self._control.fileno())
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        self._control.close()
        self._gone.set_result(None)
        failure = RestoreFailed("The template process ended.", step="template")
        unanswered: list[asyncio.Future[Any]] = [*self._acknowledging, *self._waiting]
        for waiting in unanswered:
            if not waiting.done():
                waiting.set_exception(failure)
                waiting.exception()  # whoever waits gets it; where nobody does, asyncio need not warn


def _sentence(step: str, error: int) -> RestoreFailed:
    reason = f" ({os.strerror(error)})" if error else ""
    return RestoreFailed(f"Restoring stopped at {step}{reason}.", step=step, errno=error)


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("thaw-plan", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor
