"""The worker's side of the page-fault server: images that fill up, and clones whose missing pages are served."""

from __future__ import annotations

import array
import asyncio
import ctypes
import logging
import os
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from thaw.errors import RestoreFailed
from thaw.restore import page_fault_messages as messages

_logger = logging.getLogger(__name__)
_EXTENT = struct.Struct("=QQQ")
_SYS_USERFAULTFD = 323


@dataclass(slots=True)
class _Served:
    """A clone that may still wait for pages: our own copies of its userfaultfd and pidfd."""

    image: int
    faults: int
    pidfd: int
    ended: Callable[[list[int]], None] | None


def userfaultfd_refusal() -> str:
    """Why this process may not use userfaultfd(2), in the kernel's words; empty where it may."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(ctypes.c_long(_SYS_USERFAULTFD), ctypes.c_long(os.O_CLOEXEC | os.O_NONBLOCK))
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return ""


class PageFaultService:
    """The worker's page-fault server: begun when it is first needed, and again when it has ended."""

    def __init__(self) -> None:
        self._current: PageFaults | None = None
        self._permitted: bool | None = None
        self._starting = asyncio.Lock()

    async def current(self) -> PageFaults | None:
        """The server that runs now; None where this machine does not let us serve page faults."""
        if self._permitted is None:
            refusal = userfaultfd_refusal()
            self._permitted = not refusal
            if refusal:
                _logger.warning(
                    "Snapshots are loaded completely before they are used, as userfaultfd says: %s.", refusal
                )
        if not self._permitted:
            return None
        async with self._starting:
            if self._current is None or not self._current.alive:
                await self.close()
                self._current = await PageFaults.start()
        return self._current

    async def close(self) -> None:
        """End the server, and with it the clones that it still serves."""
        if self._current is not None:
            await self._current.close()
            self._current = None


class PageFaults:
    """One page-fault server process and everything it serves. Start it with `start`; idempotent `close`."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._numbers = 0
        self._wanted: dict[int, Callable[[int], None]] = {}
        self._served: dict[int, _Served] = {}
        self._reports: dict[int, asyncio.Future[list[int]]] = {}
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        """Messages, with copies of their descriptors, that the socket had no room for."""
        self._dead = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop.add_reader(control.fileno(), self._readable)

    @classmethod
    async def start(cls) -> PageFaults:
        """Start the process. Call on the loop of the main thread, with which it dies."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "thaw.restore.page_fault_server", str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        return cls(process, ours)

    @property
    def alive(self) -> bool:
        """Whether the process serves."""
        return not self._dead

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    # -- images --

    def add_image(
        self,
        memory_fd: int,
        size: int,
        extents: Iterable[tuple[int, int, int]],
        piece: int,
        wanted: Callable[[int], None],
    ) -> int:
        """Announce an image; its number. `wanted(piece)` is called when a clone waits for a piece."""
        self._numbers += 1
        table = os.memfd_create("thaw-extents")
        os.write(table, b"".join(_EXTENT.pack(*extent) for extent in sorted(extents)))
        try:
            self._send(messages.Image(self._numbers, size, piece), [memory_fd, table])
        finally:
            os.close(table)
        self._wanted[self._numbers] = wanted
        return self._numbers

    def arrived(self, image: int, pieces: Sequence[int]) -> None:
        """Pieces of an image are in its memfd now."""
        for first in range(0, len(pieces), 4096):
            self._send(messages.Arrived(image, list(pieces[first : first + 4096])))

    def forget(self, image: int) -> None:
        """No new clones of this image will come."""
        self._wanted.pop(image, None)
        if self.alive:
            self._send(messages.Forget(image))

    def stop(self, image: int) -> None:
        """End every clone that may wait for a piece of this image: it cannot be had."""
        for number, served in self._served.items():
            if served.image == image:
                self._stop(number)

    # -- clones --

    def serve(
        self,
        image: int,
        faults: int,
        pidfd: int,
        *,
        record: bool = False,
        ended: Callable[[list[int]], None] | None = None,
    ) -> int:
        """Serve a clone's missing pages until it ends; a number for `touched`. Takes `faults`, copies `pidfd`.

        `ended(addresses)` is called after its end with the pages that it touched.
        """
        self._numbers += 1
        number = self._numbers
        self._served[number] = _Served(image, faults, os.dup(pidfd), ended)
        self._idle.clear()
        self._loop.add_reader(self._served[number].pidfd, self._ended, number)
        try:
            self._send(messages.Serve(number, image, record), [faults])
        except RestoreFailed:
            self._stop(number)
            raise
        return number

    async def touched(self, clone: int) -> list[int]:
        """Addresses of the pages that were served to a clone so far, in order. Ask before it ends."""
        answer: asyncio.Future[list[int]] = self._loop.create_future()
        self._reports[clone] = answer
        self._send(messages.Report(clone))
        return await answer

    def _ended(self, number: int) -> None:
        served = self._served.pop(number)
        self._loop.remove_reader(served.pidfd)
        os.close(served.pidfd)
        os.close(served.faults)
        if not self._served:
            self._idle.set()
        if self._dead:
            if served.ended is not None:
                served.ended([])
            return
        if served.ended is not None:
            self._report_last(number, served.ended)
        self._send(messages.Ended(number))

    def _report_last(self, number: int, ended: Callable[[list[int]], None]) -> None:
        """Ask what a clone touched that has ended; who waits for a report already gets this one."""
        asked = self._reports.get(number)
        last: asyncio.Future[list[int]] = self._loop.create_future()
        self._reports[number] = last

        def answer(_: asyncio.Future[list[int]]) -> None:
            ended(last.result())
            if asked is not None and not asked.done():
                asked.set_result(last.result())

        last.add_done_callback(answer)
        self._send(messages.Report(number))

    def _stop(self, number: int) -> None:
        """End a clone whose pages nobody serves; its call gets an error."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._served[number].pidfd, signal.SIGKILL)

    # -- the process --

    def _send(self, message: messages.ToServer, descriptors: Sequence[int] = ()) -> None:
        """Send, or keep until the process has read what it was sent before; the order stays."""
        packet = messages.encode(message)
        if self._outbox or not self._sent(packet, descriptors):
            if not self._outbox:
                self._loop.add_writer(self._control.fileno(), self._flush)
            self._outbox.append((packet, [os.dup(descriptor) for descriptor in descriptors]))

    def _sent(self, packet: bytes, descriptors: Sequence[int]) -> bool:
        try:
            socket.send_fds(self._control, [packet], descriptors)
        except BlockingIOError:
            return False
        except OSError as error:
            raise RestoreFailed(f"The page-fault server is gone ({error}).", step="page-fault server") from error
        return True

    def _flush(self) -> None:
        try:
            while self._outbox and self._sent(*self._outbox[0]):
                self._discard(self._outbox.popleft())
        except RestoreFailed:
            self._died()
        if not self._outbox:
            self._loop.remove_writer(self._control.fileno())

    @staticmethod
    def _discard(kept: tuple[bytes, list[int]]) -> None:
        for descriptor in kept[1]:
            os.close(descriptor)

    def _readable(self) -> None:
        while not self._dead:
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._control, messages.PACKET_LIMIT, 4, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, descriptors = b"", []
            if not data:
                self._died()
                return
            self._heard(messages.decode_for_worker(data), descriptors)

    def _heard(self, message: messages.ToWorker, descriptors: list[int]) -> None:
        if isinstance(message, messages.Broken):
            if message.clone in self._served:
                _logger.error("A page of an environment cannot be served (%s), so it ends.", os.strerror(message.error))
                self._stop(message.clone)
            return
        if isinstance(message, messages.Wanted):
            if (wanted := self._wanted.get(message.image)) is not None:
                wanted(message.piece)
            return
        with os.fdopen(descriptors[0], "rb") as file:
            file.seek(0)
            pages = array.array("Q", file.read())
        if (answer := self._reports.pop(message.clone, None)) is not None and not answer.done():
            answer.set_result(list(pages))

    def _died(self) -> None:
        """Stop every clone that could still miss a page; we hold their userfaultfds, so none of them has gone on."""
        if self._dead:
            return
        self._dead = True
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        while self._outbox:
            self._discard(self._outbox.popleft())
        if self._served:
            _logger.error("The page-fault server ended; %d environments are stopped with it.", len(self._served))
        for number in self._served:
            self._stop(number)
        for answer in self._reports.values():
            if not answer.done():
                answer.set_result([])

    async def close(self) -> None:
        """End the process, and with it every clone that it still serves."""
        if not self._dead:
            self._died()
        self._control.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await self._idle.wait()
