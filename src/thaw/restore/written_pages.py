"""Which of a clone's pages are its own already: those that it has written since it was forked.

A page that a fork shares with the template is mapped more than once; a page that was written is mapped once
(bit 56 of /proc/PID/pagemap: Documentation/admin-guide/mm/pagemap.rst).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

_PAGE: Final = 4096
_TOP_PRESENT, _TOP_FILE, _TOP_ALONE = 0x80, 0x20, 0x01  # bits 63, 61 and 56 in the entry's highest byte
_WANTED: Final = _TOP_PRESENT | _TOP_ALONE


def written_pages(pid: int, extents: Iterable[tuple[int, int, int]]) -> set[int]:
    """Addresses of the pages in these extents (address, size, offset) that a process has written.

    Raises:
        OSError: the process is gone.
    """
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        return {page for address, size, _ in extents for page in _written(file.fileno(), address, size)}


def _written(pagemap: int, address: int, size: int) -> Iterator[int]:
    entries = os.pread(pagemap, size // _PAGE * 8, address // _PAGE * 8)
    for index, top in enumerate(entries[7::8]):
        if top & (_WANTED | _TOP_FILE) == _WANTED:
            yield address + index * _PAGE


def as_ranges(pages: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of neighbouring pages as (address, size), ascending."""
    ranges: list[tuple[int, int]] = []
    for page in sorted(pages):
        if ranges and sum(ranges[-1]) == page:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + _PAGE)
        else:
            ranges.append((page, _PAGE))
    return ranges
