"""Pipes inside the process, with what is still in them (pipe(7))."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import termios
from typing import Final

from thaw.errors import FreezeFailed
from thaw.snapshot.descriptors.context import Context
from thaw.snapshot.descriptors.table import O_ACCMODE, OpenFile

_libc = ctypes.CDLL(None, use_errno=True)
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
_SPLICE_F_NONBLOCK: Final = 2
_DEFAULT_SIZE: Final = 65536


def _unread(file: OpenFile) -> bytes:
    """What is in the pipe, read without taking it out (tee(2))."""
    (size,) = struct.unpack("=i", fcntl.ioctl(file.duplicate, termios.FIONREAD, bytes(4)))
    if not size:
        return b""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, _F_SETPIPE_SZ, fcntl.fcntl(file.duplicate, _F_GETPIPE_SZ))
        copied = _libc.tee(file.duplicate, writer, ctypes.c_size_t(size), _SPLICE_F_NONBLOCK)
        if copied != size:
            raise FreezeFailed(f"The {size} unread bytes of descriptor {file.first} ({file.link}) could not be copied.")
        return os.read(reader, size)
    finally:
        os.close(reader)
        os.close(writer)


def plan_fifo(context: Context, file: OpenFile) -> int:
    """A named pipe, opened by its path again; what is unread goes in with the first of the ends that can read.

    Opening one end alone would wait for the other, so it is first opened for both.
    """
    label = f"open of {file.link}"
    path = context.plan.text(file.link)
    both = context.hold("open", path, os.O_RDWR | os.O_CLOEXEC, label=label)
    held = context.hold("open", path, file.flags | os.O_CLOEXEC, label=label)
    readers = [other for other in context.table.files if other.link == file.link and _reads(other)]
    data = _unread(file) if readers[:1] == [file] else b""
    if data:
        context.enter.call("write", both, context.plan.allocate(data), len(data), label=f"write to {file.link}")
    return held


def _reads(file: OpenFile) -> bool:
    return file.flags & O_ACCMODE != os.O_WRONLY


def plan_pipe(context: Context, ends: list[OpenFile]) -> list[tuple[OpenFile, int]]:
    """A new pipe with the old contents, and a number for each of the process's ends.

    An end that the process does not have is closed with the template's other descriptors.
    """
    reading, writing = context.hold_pipe(label=f"pipe2 for {ends[0].link}")
    capacity = fcntl.fcntl(ends[0].duplicate, _F_GETPIPE_SZ)
    if capacity != _DEFAULT_SIZE:
        context.enter.call("fcntl", writing, _F_SETPIPE_SZ, capacity)
    reader = next((end for end in ends if _reads(end)), None)
    data = _unread(reader) if reader else b""
    if data:
        context.enter.call("write", writing, context.plan.allocate(data), len(data))
    placed: list[tuple[OpenFile, int]] = []
    for end in ends:
        held = writing if end.flags & O_ACCMODE == os.O_WRONLY else reading
        context.set_flags(held, end)
        placed.append((end, held))
    return placed
