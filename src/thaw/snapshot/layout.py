"""The order of the memory image: what calls touch comes first, in the order in which they touch it.

A restore then waits for a few chunks that lie together instead of for many that hold a page each (REAP, ASPLOS 2021;
Spice, OSDI 2026). What calls have not touched can come later, page by page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

_RANGE_LIMIT: Final = 48
"""Lazy ranges of a plan: each costs a clone a system call, and often a mapping more."""
_FIRST_GAP: Final = 64 * 1024
_GROUP: Final = 128  # pages, one chunk: within it order by address gives long runs, across chunks access order counts
_EAGER_REMAINDER: Final = 64
"""Pages: a lazy range that holds fewer cold pages is not worth a fault each, so they come along with the rest."""


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Few ranges (address, size) that cover the given ones; gaps are closed, small ones first, until they are few."""
    found = sorted(ranges)
    gap = 0
    while True:
        merged = _merge(found, gap)
        if len(merged) <= _RANGE_LIMIT:
            return merged
        found, gap = merged, max(_FIRST_GAP, gap * 2)


def _merge(ranges: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for address, size in ranges:
        if merged and address - sum(merged[-1]) <= gap:
            merged[-1] = (merged[-1][0], address + size - merged[-1][0])
        else:
            merged.append((address, size))
    return merged
