"""Freezing runs in a process of its own: `python -m thaw.publish.capture`.

Stopping and reading another process (ptrace) binds a thread and keeps Python busy for hundreds of milliseconds; in the
server that would hold up every call. The server starts this process while the function still initialises, and sends
one request over a SOCK_SEQPACKET pair when it is ready::

    server  → {"pid": 4711, "sandbox_pid": 4710, "connection_port": 40312, "log": [14, 81925]}     JSON
    capture → {"facts": {...}}      with descriptors plan, memory, disk   JSON; three memfds (SCM_RIGHTS)
            | {"error": "NotFreezable", "message": "one sentence", "resource": "descriptor", "number": 7}
            | {"error": "FreezeFailed", ...}
    server  → {"classes_of": 4711, "limit_s": 5.0}            JSON; if anybody wants to know, and then the last request
    capture → {"classes": [["byte[]", 12345, 678901], ...], "total": [234567, 8901234]}      JSON; null: it is no JVM

Nothing is written to disk. When the server dies the kernel kills this process (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from thaw.errors import EngineError, FreezeFailed, NotFreezable
from thaw.publish.java_classes import LISTED, class_histogram
from thaw.publish.report import Report
from thaw.snapshot import FreezeTarget, freeze

logger = logging.getLogger(__name__)

PACKET_LIMIT = 1 << 18
PR_SET_PDEATHSIG = 1
GONE = "The process that takes the snapshot ended without an answer: the server's log may tell why; publish again."
ERRORS: Mapping[str, type[EngineError]] = {"NotFreezable": NotFreezable, "FreezeFailed": FreezeFailed}


@dataclass(slots=True)
class Captured:
    """What freezing gave: facts about the process, and memfds of the plan, the memory image and the disk image.

    Use it as a context manager: the descriptors are closed at its end.
    """

    facts: dict[str, Any]
    plan_fd: int
    memory_fd: int
    disk_fd: int

    def plan(self) -> bytes:
        """The whole restore plan."""
        return _content(self.plan_fd)

    def disk(self) -> bytes:
        """The whole disk image."""
        return _content(self.disk_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self.plan_fd, self.memory_fd, self.disk_fd):
            os.close(descriptor)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


class Capture:
    """The server's side: one capture process, used once. Begin it early, so that its start costs nothing later."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control

    @classmethod
    async def begin(cls) -> Self:
        """Starts the process; returns before it is ready. Call from the main thread, which must outlive it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "thaw.publish.capture", str(theirs.fileno()), str(os.getpid()),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        return cls(process, ours)

    async def freeze(self, target: FreezeTarget, *, limit_s: float) -> Captured:
        """Freezes a process; raises NotFreezable or FreezeFailed, the latter also after `limit_s`."""
        try:
            self._control.send(json.dumps(asdict(target)).encode())
        except OSError as error:
            raise FreezeFailed(GONE) from error
        try:
            async with asyncio.timeout(limit_s):
                answer, descriptors = await self._receive()
        except TimeoutError:
            raise FreezeFailed(
                f"Freezing the process took longer than {limit_s:.0f} s and was given up: publish the version again."
            ) from None
        if not answer:
            raise FreezeFailed(GONE)
        return _captured(json.loads(answer), descriptors)

    async def java_classes(self, pid: int, *, limit_s: float) -> Report | None:
        """The class histogram of the frozen process; None where it is no JVM, or does not answer within `limit_s`."""
        try:
            self._control.send(json.dumps({"classes_of": pid, "limit_s": limit_s}).encode())
            async with asyncio.timeout(2 * limit_s):
                answer, _ = await self._receive()
            found = json.loads(answer or b"null")
        except (OSError, TimeoutError) as error:
            logger.warning("the classes of process %d are not known: %s", pid, error)
            return None
        if found is None:
            return None
        return Report(language="Java", types=found["classes"], total=found["total"])

    async def _receive(self) -> tuple[bytes, list[int]]:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._control, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._control)
        answer, descriptors, _, _ = socket.recv_fds(self._control, PACKET_LIMIT, 3, socket.MSG_CMSG_CLOEXEC)
        return answer, descriptors

    async def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self._control.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


def _captured(answer: dict[str, Any], descriptors: list[int]) -> Captured:
    if (name := answer.get("error")) is not None:
        if name == "NotFreezable":
            raise NotFreezable(answer["message"], resource=answer["resource"], number=answer["number"])
        raise ERRORS[name](answer["message"])
    plan_fd, memory_fd, disk_fd = descriptors
    return Captured(answer["facts"], plan_fd, memory_fd, disk_fd)


def _serve(control: socket.socket) -> None:
    """The capture process: one request, one answer."""
    request = control.recv(PACKET_LIMIT)
    if not request:
        return  # the version failed before it could be frozen
    try:
        answer, descriptors = _freeze(json.loads(request))
    except NotFreezable as error:
        which = {"resource": error.resource, "number": error.number}
        answer, descriptors = {"error": "NotFreezable", "message": str(error), **which}, []
    except FreezeFailed as error:
        answer, descriptors = {"error": "FreezeFailed", "message": str(error)}, []
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        sentence = f"The snapshot could not be taken because of a defect in Thaw ({reason}); its trace is in the log."
        answer, descriptors = {"error": "FreezeFailed", "message": sentence}, []
    socket.send_fds(control, [json.dumps(answer).encode()], descriptors)
    if request := control.recv(PACKET_LIMIT):
        control.send(json.dumps(_classes(**json.loads(request))).encode())


def _freeze(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    snapshot = freeze(FreezeTarget(**request | {"log": tuple(request["log"])}))
    plan_fd = _memfd("thaw-plan", snapshot.plan)
    disk_fd = _memfd("thaw-disk", snapshot.disk)
    return {"facts": snapshot.facts}, [plan_fd, snapshot.memory, disk_fd]


def _classes(classes_of: int, limit_s: float) -> dict[str, Any] | None:
    try:
        rows = class_histogram(classes_of, limit_s)
    except OSError as error:
        print(f"the JVM {classes_of} does not tell its classes: {error}", file=sys.stderr)
        return None
    if rows is None:
        return None
    return {"classes": rows[:LISTED], "total": [sum(row[1] for row in rows), sum(row[2] for row in rows)]}


def _memfd(name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def main() -> None:
    """Entry point; the arguments are the number of the control socket's descriptor and the server's process number."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        return  # the server died before the kernel was asked to tell
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _serve(control)


if __name__ == "__main__":
    main()
