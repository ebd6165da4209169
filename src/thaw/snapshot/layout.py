"""The order of the memory image: what calls touch comes first, in the order in which they touch it.

A restore then waits for a few chunks that lie together instead of for many that hold a page each (REAP, ASPLOS 2021;
Spice, OSDI 2026). What calls have not touched can come later, page by page.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from thaw.snapshot.image import Extent
from thaw.snapshot.plan import memory_of, with_memory
from thaw.snapshot.process import PAGE

Range = tuple[int, int]
"""Address and size."""
_RANGE_LIMIT: Final = 48
"""Lazy ranges of a plan: each costs a clone a system call, and often a mapping more."""
_PARTS: Final = 1024  # that one writev takes
_FIRST_GAP: Final = 64 * 1024
_GROUP: Final = 128  # pages, one chunk: within it order by address gives long runs, across chunks access order counts
_EAGER_REMAINDER: Final = 64
"""Pages: a lazy range that holds fewer cold pages is not worth a fault each, so they come along with the rest."""


def merge_ranges(ranges: Iterable[Range], within: Sequence[Range]) -> list[Range]:
    """Few ranges that cover the given ones; gaps are closed, small ones first, until they are few.

    A gap is closed only inside one of the ranges `within` (ascending): between two of them lies other memory.
    """
    starts = [address for address, _ in within]
    areas: dict[int, list[Range]] = {}
    for each in sorted(ranges):
        areas.setdefault(bisect_right(starts, each[0]), []).append(each)
    gap = _FIRST_GAP
    while True:
        merged = [each for area in areas.values() for each in _merge(area, gap)]
        if len(merged) <= max(_RANGE_LIMIT, len(areas)):
            return merged
        gap *= 2


def worthwhile(extents: Sequence[Extent]) -> list[Range]:
    """The range from a mapping's first to its last content that can come late; none where there is little."""
    if sum(extent.size for extent in extents) < _EAGER_REMAINDER * PAGE:
        return []
    start = extents[0].address
    return [(start, extents[-1].address + extents[-1].size - start)]


def _merge(ranges: Sequence[Range], gap: int) -> list[Range]:
    merged: list[Range] = []
    for address, size in ranges:
        if merged and address - sum(merged[-1]) <= gap:
            merged[-1] = (merged[-1][0], address + size - merged[-1][0])
        else:
            merged.append((address, size))
    return merged


@dataclass(frozen=True, slots=True)
class Layout:
    """A plan and its memory image (a memfd that the caller closes) in a new order.

    `eager_size` bytes at the front are what a restore has to wait for, besides the clones' part at the end.
    """

    plan: bytes
    memory: int
    eager_size: int


def lay_out(plan: bytes, memory: int, touched: Sequence[int]) -> Layout:
    """Put what calls touch to the front.

    `touched` are addresses of pages in the order in which a rehearsal touched them; pages that cannot be served late
    are added to them. The size of the image stays the same, and with it the place of the clones' part.
    """
    extents, lazy = memory_of(plan)
    pages = _Pages(extents, lazy, touched)
    size = os.fstat(memory).st_size
    image = os.memfd_create("thaw-memory-image")
    try:
        os.ftruncate(image, size)
        source = _mapped(memory, size)
        placed = _copy(source, image, pages.fixed + pages.warm + pages.cold)
        end = placed[-1].offset + placed[-1].size if placed else 0
        _write(image, [source[end:]], end)
    except BaseException:
        os.close(image)
        raise
    cold = merge_ranges(((extent.address, extent.size) for extent in pages.cold), lazy)
    eager = sum(extent.size for extent in pages.fixed + pages.warm)
    return Layout(with_memory(plan, placed, cold), image, eager)


class _Pages:
    """Every extent of an image as fixed (no clone may lack it), warm (calls touch it) or cold, with old offsets."""

    def __init__(self, extents: Sequence[Extent], lazy: Sequence[Range], touched: Sequence[int]) -> None:
        self._lazy = lazy
        self._starts = [address for address, _ in lazy]
        self._ends = [address + size for address, size in lazy]
        self.fixed = [extent for extent in extents if not self._is_lazy(extent.address)]
        late = sorted((e for e in extents if self._is_lazy(e.address)), key=lambda extent: extent.address)
        order = list(dict.fromkeys(page for page in touched if _holds(late, page)))
        self.warm = _in_access_order(late, order)
        self.cold = _without(late, sorted(order))
        self._move_remainders()

    def _is_lazy(self, address: int) -> bool:
        index = bisect_right(self._starts, address) - 1
        return index >= 0 and address < self._ends[index]

    def _move_remainders(self) -> None:
        """What is left of small areas is not worth a fault each: it comes along with the rest."""
        ranges = merge_ranges(((extent.address, extent.size) for extent in self.cold), self._lazy)
        starts = [address for address, _ in ranges]
        held = [0] * len(ranges)
        for extent in self.cold:
            held[bisect_right(starts, extent.address) - 1] += extent.size
        small = [size < _EAGER_REMAINDER * PAGE for size in held]
        sides: tuple[list[Extent], list[Extent]] = ([], [])
        for extent in self.cold:
            sides[small[bisect_right(starts, extent.address) - 1]].append(extent)
        self.cold, remainder = sides
        self.warm = self.warm + remainder


def _holds(extents: Sequence[Extent], page: int) -> bool:
    """Whether a page is in one of the extents (ascending by address)."""
    index = bisect_right(extents, page, key=lambda extent: extent.address) - 1
    return index >= 0 and page < extents[index].address + extents[index].size


def _in_access_order(extents: Sequence[Extent], order: Sequence[int]) -> list[Extent]:
    """Runs of the pages in `order`, by groups of a chunk each; offsets as before."""
    starts = [extent.address for extent in extents]
    runs: list[Extent] = []
    for first in range(0, len(order), _GROUP):
        for page in sorted(order[first : first + _GROUP]):
            extent = extents[bisect_right(starts, page) - 1]
            offset = extent.offset + page - extent.address
            last = runs[-1] if runs else None
            if last and last.address + last.size == page and last.offset + last.size == offset:
                runs[-1] = Extent(last.address, last.size + PAGE, last.offset)
            else:
                runs.append(Extent(page, PAGE, offset))
    return runs


def _without(extents: Iterable[Extent], pages: Sequence[int]) -> list[Extent]:
    """What is left of the extents when some pages (ascending) are taken out."""
    rest: list[Extent] = []
    for extent in extents:
        end = extent.address + extent.size
        taken = pages[bisect_left(pages, extent.address) : bisect_left(pages, end)]
        start = extent.address
        for page in (*taken, end):
            if page > start:
                rest.append(Extent(start, page - start, extent.offset + start - extent.address))
            start = page + PAGE
    return rest


def _copy(source: memoryview, image: int, extents: Iterable[Extent]) -> list[Extent]:
    """Copy the extents into a file, one behind the other; where each is now."""
    placed: list[Extent] = []
    offset = 0
    parts: list[memoryview] = []
    for extent in extents:
        placed.append(Extent(extent.address, extent.size, offset))
        parts.append(source[extent.offset : extent.offset + extent.size])
        offset += extent.size
    _write(image, parts, 0)
    return placed


def _write(image: int, parts: Sequence[memoryview], offset: int) -> None:
    """Write parts one behind the other; a copy between mappings would fault for every page, and keep the GIL."""
    waiting = deque(part for part in parts if part)
    while waiting:
        count = os.pwritev(image, list(islice(waiting, _PARTS)), offset)
        offset += count
        while waiting and count >= len(waiting[0]):
            count -= len(waiting.popleft())
        if count:
            waiting[0] = waiting[0][count:]


def _mapped(descriptor: int, size: int) -> memoryview:
    """A memfd's contents, in page tables at once; unmapped when nothing refers to them any more."""
    if not size:
        return memoryview(b"")
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    return memoryview(mmap.mmap(descriptor, size, flags=flags, prot=mmap.PROT_READ))
