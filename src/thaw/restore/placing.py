"""Pieces of a memory image go straight into the address space of a template: opened, and copied once.

The way through a memfd, which the template then reads, copies twice and takes twice the memory. Where the kernel does
not let this process write to another (process_vm_writev(2), a policy of the machine), that way is still there.
"""

from __future__ import annotations

import ctypes
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

_IOV_MAX: Final = 1024  # parts that one call takes (writev(2))
_PART = struct.Struct("=QQ")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.process_vm_writev.restype = ctypes.c_ssize_t
_libc.process_vm_writev.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong,
)  # fmt: skip


def write_memory(pid: int, parts: Sequence[tuple[int, int]], content: memoryview) -> bool:
    """Copy `content` (writable memory) into a process, part after part (address, size); whether all of it got there."""
    source = ctypes.addressof(ctypes.c_char.from_buffer(content))
    local = _PART.pack(source, len(content))
    remote = b"".join(_PART.pack(*part) for part in parts)
    return bool(_libc.process_vm_writev(pid, local, 1, remote, len(parts), 0) == len(content))


class Placing:
    """Where the pieces of an image belong in an address space. `write(parts, content)` puts one there.

    `extents` are address, size and offset in the image. Only pieces that lie wholly in the first `end` bytes of the
    image, without a gap, are placed.
    """

    def __init__(
        self,
        extents: Sequence[tuple[int, int, int]],
        end: int,
        piece: int,
        write: Callable[[Sequence[tuple[int, int]], memoryview], bool],
    ) -> None:
        self._extents = sorted(extents, key=lambda extent: extent[2])
        self._offsets = [offset for _, _, offset in self._extents]
        self._end = end
        self._piece = piece
        self._write = write

    def place(self, piece: int, content: memoryview) -> bool:
        """Put a piece in place; whether that was possible. Called in threads."""
        parts = self._parts(piece * self._piece, len(content))
        return parts is not None and not content.readonly and self._write(parts, content)

    def _parts(self, start: int, size: int) -> list[tuple[int, int]] | None:
        """Where `size` bytes of the image from `start` on belong (address, size), in order."""
        end = start + size
        if end > self._end:
            return None
        parts: list[tuple[int, int]] = []
        at = start
        for address, length, offset in self._extents[max(0, bisect_right(self._offsets, start) - 1) :]:
            if at == end or offset > at:
                break
            last = min(end, offset + length)
            parts.append((address + at - offset, last - at))
            at = last
        return parts if at == end and len(parts) <= _IOV_MAX else None
