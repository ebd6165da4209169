"""The page-fault server: a process of its own that gives clones the memory that their template did not have.

It runs as `python -m thaw.restore.page_fault_server FD`, one per worker. It opens and decrypts nothing: the worker
puts pieces of memory images into memfds, and this process copies pages out of them. A page that is not in the image
is zero; a page whose piece has not arrived makes the clone wait, and the worker is told.

It never guesses. When it dies, the worker still holds every clone's userfaultfd, so faults stay blocked until the
worker has ended those clones: none of them ever runs on a page of zeros that should have been something else.
"""

from __future__ import annotations

import array
import ctypes
import errno
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from thaw.restore import page_fault_messages as messages
from thaw.restore import userfaultfd

_PAGE: Final = 4096
_RETRY_S: Final = 0.001
_EXTENT = struct.Struct("=QQQ")
_PR_SET_PDEATHSIG: Final = 1


class MemoryImage:
    """An image that fills up, and which page of the function lies where in it."""

    def __init__(self, size: int, piece: int, image: int, table: int) -> None:
        self._memory = mmap.mmap(image, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) if size else None
        self._anchor = ctypes.c_char.from_buffer(self._memory) if self._memory is not None else None
        self.base = ctypes.addressof(self._anchor) if self._anchor is not None else 0
        self.piece = piece
        self.arrived: set[int] = set()
        data = os.pread(table, os.fstat(table).st_size, 0)
        self._extents = list(_EXTENT.iter_unpack(data))
        self._starts = [address for address, _, _ in self._extents]
        os.close(image)
        os.close(table)

    def find(self, address: int) -> int | None:
        """Offset in the image of a page; None where the page is zero."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        start, size, offset = self._extents[index]
        if address >= start + size:
            return None
        return int(offset + address - start)

    def block(self, address: int) -> Iterator[tuple[int, int, int]]:
        """Address, size and offset of what the image holds of the block around an address, as far as it has arrived."""
        start = address - address % messages.BLOCK
        end = start + messages.BLOCK
        index = max(0, bisect_right(self._starts, start) - 1)
        for at, size, offset in self._extents[index:]:
            if at >= end:
                return
            first, last = max(at, start), min(at + size, end)
            pieces = range((offset + first - at) // self.piece, (offset + last - at - 1) // self.piece + 1)
            if first < last and self.arrived.issuperset(pieces):
                yield first, last - first, offset + first - at

    def missing(self, offset: int) -> int | None:
        """The piece that holds an offset, if it has not arrived."""
        index = offset // self.piece
        return None if index in self.arrived else index


@dataclass(slots=True)
class Clone:
    """One process whose missing pages we serve: a clone, or a child of it."""

    number: int
    image: MemoryImage
    image_number: int
    faults: int
    record: bool
    touched: array.array[int] = field(default_factory=lambda: array.array("Q"))
    written: set[int] = field(default_factory=set)
    given_back: list[tuple[int, int]] = field(default_factory=list)
    """Ranges (start, end) that the function gave back or unmapped: zero from then on."""
    moved: list[tuple[int, int, int]] = field(default_factory=list)
    """Ranges (to, from, size) that it moved, the latest last."""
    waiting: dict[int, set[int]] = field(default_factory=dict)
    """Addresses that wait for a piece."""

    def original(self, address: int) -> int | None:
        """Where a page was when the function was frozen; None where it is zero now."""
        if any(start <= address < end for start, end in self.given_back):
            return None
        for to, start, size in reversed(self.moved):
            if to <= address < to + size:
                return start + address - to
        return address


class PageFaultServer:
    """Serves until the worker closes its end of the socket."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._images: dict[int, MemoryImage] = {}
        self._clones: dict[int, Clone] = {}
        """By descriptor of the userfaultfd."""
        self._again: list[tuple[Clone, int, bool]] = []
        """Faults (clone, address, only a first write) that found the memory being changed."""

    def run(self) -> None:
        """Serve."""
        while True:
            for descriptor, _ in self._poll.poll(_RETRY_S if self._again else None):
                if descriptor == self._control.fileno():
                    if not self._obey():
                        return
                elif descriptor in self._clones:
                    self._serve(self._clones[descriptor])
            again, self._again = self._again, []
            for clone, address, protected in again:
                if clone.faults in self._clones:
                    self._answer(clone, address, protected)

    # -- the worker --

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, messages.PACKET_LIMIT, 4, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        match messages.decode_for_server(data):
            case messages.Image(image, size, piece):
                self._images[image] = MemoryImage(size, piece, *descriptors)
            case messages.Arrived(image, pieces):
                self._arrived(image, pieces)
            case messages.Serve(clone, image, record):
                self._add(Clone(clone, self._images[image], image, descriptors[0], record))
            case messages.Ended(clone):
                for each in [found for found in self._clones.values() if found.number == clone]:
                    self._remove(each)
            case messages.Forget(image):
                self._images.pop(image, None)
            case messages.Report(clone):
                self._report(clone)
        return True

    def _add(self, clone: Clone) -> None:
        self._clones[clone.faults] = clone
        self._poll.register(clone.faults, select.EPOLLIN)

    def _remove(self, clone: Clone) -> None:
        del self._clones[clone.faults]
        self._poll.unregister(clone.faults)
        os.close(clone.faults)

    def _arrived(self, image: int, pieces: list[int]) -> None:
        found = self._images.get(image)
        if found is None:
            return
        found.arrived.update(pieces)
        for clone in list(self._clones.values()):
            if clone.image is found:
                for piece in pieces:
                    for address in clone.waiting.pop(piece, ()):
                        self._give(clone, address)

    def _report(self, number: int) -> None:
        touched: array.array[int] = array.array("Q")
        for clone in self._clones.values():
            if clone.number == number:
                touched.extend(page | (page in clone.written) for page in clone.touched)
        descriptor = os.memfd_create("thaw-touched")
        os.write(descriptor, touched.tobytes())
        socket.send_fds(self._control, [messages.encode(messages.Touched(number, len(touched)))], [descriptor])
        os.close(descriptor)

    # -- the clones --

    def _serve(self, clone: Clone) -> None:
        try:
            for event in userfaultfd.read_events(clone.faults):
                self._handle(clone, event)
        except OSError as error:  # for example no descriptor left for a child's
            self._give_up(clone, error.errno or errno.EIO)

    def _handle(self, clone: Clone, event: userfaultfd.Event) -> None:
        if event.kind == userfaultfd.PAGEFAULT:
            if clone.record and event.writes:
                clone.written.add(event.address)
            self._answer(clone, event.address, event.protected)
        elif event.kind == userfaultfd.FORK:
            self._drop_ended(clone.number)
            self._add(_child(clone, event.child))
        elif event.kind == userfaultfd.REMAP:
            _moved(clone, event.first, event.second, event.third)
        elif event.kind in (userfaultfd.REMOVE, userfaultfd.UNMAP):
            clone.given_back.append((event.first, event.second))

    def _drop_ended(self, number: int) -> None:
        """Let go of children that have ended; nothing else tells us."""
        for each in [found for found in self._clones.values() if found.number == number]:
            if userfaultfd.has_ended(each.faults):
                self._remove(each)

    def _answer(self, clone: Clone, address: int, protected: bool) -> None:
        if protected:
            error = userfaultfd.allow_write(clone.faults, address, _PAGE)
            if error == errno.EAGAIN:
                self._again.append((clone, address, True))
            return
        self._give(clone, address)

    def _give_up(self, clone: Clone, error: int) -> None:
        """The clone keeps waiting for its page, until the worker has ended it; nobody else is harmed."""
        self._control.send(messages.encode(messages.Broken(clone.number, error)))

    def _give(self, clone: Clone, address: int) -> None:
        """Answer one fault, now or when its piece has arrived."""
        original = clone.original(address)
        offset = clone.image.find(original) if original is not None else None
        if offset is None:
            error = userfaultfd.zero(clone.faults, address, _PAGE)
        elif (piece := clone.image.missing(offset)) is not None:
            self._want(clone, piece, address)
            return
        else:
            protect = clone.record and address not in clone.written
            error = userfaultfd.copy(clone.faults, address, clone.image.base + offset, _PAGE, protect=protect)
        self._account(clone, address, error)
        if not (error or offset is None or clone.record or clone.moved or clone.given_back):
            self._give_block(clone, address)

    def _give_block(self, clone: Clone, address: int) -> None:
        """Give what lies around the page, while the clone goes on; pages that are there already stay as they are."""
        for at, size, offset in clone.image.block(address):
            userfaultfd.copy(clone.faults, at, clone.image.base + offset, size)

    def _account(self, clone: Clone, address: int, error: int) -> None:
        if error == errno.EAGAIN:
            self._again.append((clone, address, False))
        elif error == 0:
            clone.touched.append(address)
        elif error not in (errno.ENOENT, errno.ESRCH):  # unmapped meanwhile, or the process is gone
            self._give_up(clone, error)

    def _want(self, clone: Clone, piece: int, address: int) -> None:
        first = piece not in clone.waiting
        clone.waiting.setdefault(piece, set()).add(address)
        if first:
            self._control.send(messages.encode(messages.Wanted(clone.image_number, piece)))


def _child(parent: Clone, faults: int) -> Clone:
    os.set_inheritable(faults, False)
    return Clone(
        parent.number, parent.image, parent.image_number, faults, parent.record,
        given_back=list(parent.given_back), moved=list(parent.moved),
    )  # fmt: skip


def _moved(clone: Clone, start: int, to: int, size: int) -> None:
    """Pages that moved keep their contents; what was given back before moves along."""
    shifted = [
        (max(first, start) - start + to, min(last, start + size) - start + to)
        for first, last in clone.given_back
        if first < start + size and last > start
    ]
    original = clone.original(start)
    clone.given_back = [(first, last) for first, last in clone.given_back if not to <= first < to + size] + shifted
    clone.moved.append((to, start if original is None else original, size))


def main() -> None:
    """Entry point: the argument is the number of the control socket's descriptor."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.socket(fileno=int(sys.argv[1])) as control:
        PageFaultServer(control).run()


if __name__ == "__main__":
    main()
