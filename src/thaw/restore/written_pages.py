"""Which of a clone's pages are its own already: those that it has written since it was forked.

A page that a fork shares with the template is mapped more than once; a page that was written is mapped once
(bit 56 of /proc/PID/pagemap: Documentation/admin-guide/mm/pagemap.rst).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

Range = tuple[int, int]
"""Address and size, both multiples of a page."""

_PAGE: Final = 4096
_TOP_PRESENT, _TOP_FILE, _TOP_ALONE = 0x80, 0x20, 0x01  # bits 63, 61 and 56 in the entry's highest byte
_WANTED: Final = _TOP_PRESENT | _TOP_ALONE
_IS_WRITTEN: Final = bytes(top & (_WANTED | _TOP_FILE) == _WANTED for top in range(256))
_RUN: Final = re.compile(b"\1+")
_PORTION: Final = 64 << 20  # bytes of memory whose entries are read at a time: 128 KiB of entries

_RESERVED: Final = 16 << 30
"""Bytes of a mapping that is larger than the memory of any function: addresses in reserve, slow to look through."""

OBSERVED: Final = 4
"""How many clones' first calls are looked at."""
_LIMIT: Final = 8192  # pages; a function that writes more on each call gains nothing that it would notice


def written_ranges(pid: int, ranges: Iterable[Range]) -> list[Range]:
    """What a process has written in these ranges, neighbouring pages as one.

    Raises:
        OSError: the process is gone.
    """
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        return [run for address, size in ranges for run in _written(file.fileno(), address, size)]


def _written(pagemap: int, address: int, size: int) -> Iterator[Range]:
    for start in range(address, address + size, _PORTION):
        pages = min(_PORTION, address + size - start) // _PAGE
        entries = os.pread(pagemap, pages * 8, start // _PAGE * 8)
        for run in _RUN.finditer(entries[7::8].translate(_IS_WRITTEN)):
            yield start + run.start() * _PAGE, (run.end() - run.start()) * _PAGE


def private_ranges(pid: int) -> list[Range]:
    """What a process may write without anybody else seeing it (rw-p in /proc/PID/maps; proc_pid_maps(5)), but for
    what it merely reserves.

    Raises:
        OSError: the process is gone.
    """
    with open(f"/proc/{pid}/maps") as file:
        fields = [line.split(maxsplit=2) for line in file]
    bounds = [each[0].split("-") for each in fields if each[1] == "rw-p"]
    ranges = [(int(start, 16), int(end, 16) - int(start, 16)) for start, end in bounds]
    return [(address, size) for address, size in ranges if size < _RESERVED]


class ExpectedWrites:
    """What clones write up to the end of their first call, learnt from the first few of them."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        """`ranges` is what the rehearsal wrote before there was a call."""
        self._rehearsed = set(pages_of(ranges))
        self._seen: Counter[int] = Counter()
        self._calls = 0

    def observe(self, ranges: Iterable[Range]) -> bool:
        """What one clone had written when its first call was over; whether that was still of interest."""
        if self.complete:
            return False
        self._seen.update(pages_of(ranges))
        self._calls += 1
        return True

    @property
    def complete(self) -> bool:
        """Whether enough calls were looked at."""
        return self._calls >= OBSERVED

    @property
    def ranges(self) -> list[Range]:
        """What the rehearsal or most of these calls wrote, ascending, of limited size."""
        usual = {page for page, count in self._seen.items() if 2 * count > self._calls}
        return as_ranges(sorted(self._rehearsed | usual)[:_LIMIT])


def pages_of(ranges: Iterable[Range]) -> Iterator[int]:
    """The addresses of the pages in these ranges."""
    for address, size in ranges:
        yield from range(address, address + size, _PAGE)


def as_ranges(pages: Iterable[int]) -> list[Range]:
    """Runs of neighbouring pages as (address, size), ascending."""
    ranges: list[tuple[int, int]] = []
    for page in sorted(pages):
        if ranges and sum(ranges[-1]) == page:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + _PAGE)
        else:
            ranges.append((page, _PAGE))
    return ranges
