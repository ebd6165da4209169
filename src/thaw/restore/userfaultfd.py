"""The kernel's interface for memory that somebody else supplies (userfaultfd(2), ioctl_userfaultfd(2))."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PAGEFAULT, FORK, REMAP, REMOVE, UNMAP = 0x12, 0x13, 0x14, 0x15, 0x16
_MESSAGE_SIZE: Final = 32  # struct uffd_msg
_BATCH: Final = 64
_EVENT = struct.Struct("=B7xQQQ")
_COPY = struct.Struct("=QQQQq")  # to, from, size, mode, copied
_ZERO = struct.Struct("=QQQq")  # address, size, mode, zeroed
_NEVER_MAPPED: Final = 4096  # below vm.mmap_min_addr; also the size of a page
_UFFDIO_COPY: Final = 0xC028AA03
_UFFDIO_ZEROPAGE: Final = 0xC020AA04
_UFFDIO_WRITEPROTECT: Final = 0xC018AA06
_COPY_MODE_WP: Final = 2
_FLAG_WRITE, _FLAG_WP = 1, 2
_PROTECT = struct.Struct("=QQQ")  # address, size, mode


@dataclass(frozen=True, slots=True)
class Event:
    """One message: the fault's flags and address, a fork's descriptor, or a range that moved or went."""

    kind: int
    first: int
    second: int
    third: int

    @property
    def address(self) -> int:
        """Of the page that a fault is about."""
        return self.second & ~0xFFF

    @property
    def writes(self) -> bool:
        """Whether the fault is a write."""
        return bool(self.first & (_FLAG_WRITE | _FLAG_WP))

    @property
    def protected(self) -> bool:
        """Whether the page is there, and only writing to it was to be told."""
        return bool(self.first & _FLAG_WP)

    @property
    def child(self) -> int:
        """The descriptor that a fork brings."""
        return self.first & 0xFFFF_FFFF


def read_events(descriptor: int) -> Iterator[Event]:
    """All messages that wait; none where there is nothing, or the memory is gone."""
    try:
        data = os.read(descriptor, _MESSAGE_SIZE * _BATCH)
    except BlockingIOError:
        return
    for offset in range(0, len(data), _MESSAGE_SIZE):
        yield Event(*_EVENT.unpack_from(data, offset))


def _ioctl(descriptor: int, request: int, arguments: bytearray) -> int:
    """0, or the errno."""
    try:
        fcntl.ioctl(descriptor, request, arguments, True)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def copy(descriptor: int, to: int, source: int, size: int, *, protect: bool = False) -> int:
    """Put pages from our address `source` at `to`; 0 where at least one page was put or is there already, else errno.

    With `protect` the first write to each will be a fault again.

    EAGAIN means that the memory is being changed just now: read the events, and try again.
    """
    arguments = bytearray(_COPY.pack(to, source, size, _COPY_MODE_WP if protect else 0, 0))
    error = _ioctl(descriptor, _UFFDIO_COPY, arguments)
    copied = _COPY.unpack(arguments)[4]
    return 0 if copied > 0 or error == errno.EEXIST else error


def zero(descriptor: int, address: int, size: int) -> int:
    """Put pages of zeros; the result is as that of `copy`."""
    arguments = bytearray(_ZERO.pack(address, size, 0, 0))
    error = _ioctl(descriptor, _UFFDIO_ZEROPAGE, arguments)
    zeroed = _ZERO.unpack(arguments)[3]
    return 0 if zeroed > 0 or error == errno.EEXIST else error


def allow_write(descriptor: int, address: int, size: int) -> int:
    """Let a write go on that was told as a fault; 0, or the errno."""
    return _ioctl(descriptor, _UFFDIO_WRITEPROTECT, bytearray(_PROTECT.pack(address, size, 0)))


def has_ended(descriptor: int) -> bool:
    """Whether the memory behind a userfaultfd is gone; asked by filling a page that no process has."""
    return zero(descriptor, _NEVER_MAPPED, _NEVER_MAPPED) == errno.ESRCH
