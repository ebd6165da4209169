"""The memory image: contents of pages and files, one after the other, each piece on a page boundary."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from thaw.snapshot.process import PAGE

_BATCH: Final = 1 << 20  # bytes read at a time
_ZERO_PAGE: Final = bytes(PAGE)


@dataclass(frozen=True, slots=True)
class Extent:
    """`size` bytes that belong at `address` (or at a file's offset) and lie at `offset` of the image."""

    address: int
    size: int
    offset: int


def _filled_runs(data: bytes, other: bytes | None = None) -> Iterator[tuple[int, int]]:
    """Runs (offset, size) of pages that are not all zero, or that differ from those of `other`; the last page may be
    short."""
    start: int | None = None
    for offset in range(0, len(data), PAGE):
        there = _ZERO_PAGE if other is None else other[offset : offset + PAGE]
        filled = data[offset : offset + PAGE] != there
        if filled and start is None:
            start = offset
        elif not filled and start is not None:
            yield start, offset - start
            start = None
    if start is not None:
        yield start, len(data) - start


class ImageWriter:
    """Appends to the memory image; pages of zeros are left out, because fresh memory is zero."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = 0
        """Bytes so far, a multiple of the page size."""

    def _append(self, data: bytes) -> int:
        offset = self.size
        view = memoryview(data)
        while view:
            view = view[os.pwrite(self._descriptor, view, self.size + len(data) - len(view)) :]
        self.size += -(-len(data) // PAGE) * PAGE
        return offset

    def append_all(self, other: ImageWriter) -> int:
        """Copy another image behind this one; where it begins."""
        base = self.size
        for offset in range(0, other.size, _BATCH):
            self._append(os.pread(other._descriptor, min(_BATCH, other.size - offset), offset))
        return base

    def store(
        self,
        address: int,
        size: int,
        read: Callable[[int, int], bytes],
        there: Callable[[int, int], bytes] | None = None,
    ) -> list[Extent]:
        """Copy what `read(size, address)` gives for a range; where each piece went.

        Left out is what is there already: zeros, or what `there` gives.
        """
        extents: list[Extent] = []
        for base in range(address, address + size, _BATCH):
            data = read(min(_BATCH, address + size - base), base)
            other = None if there is None else there(len(data), base)
            for offset, length in _filled_runs(data, other):
                position = self._append(data[offset : offset + length])
                last = extents[-1] if extents else None
                if last and last.address + last.size == base + offset and last.offset + last.size == position:
                    extents[-1] = Extent(last.address, last.size + length, last.offset)
                else:
                    extents.append(Extent(base + offset, length, position))
        return extents
