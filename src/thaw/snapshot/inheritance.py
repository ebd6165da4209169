"""What a process that was born by fork(2) finds in place already: the memory of the first process of its tree.

Its clone is born by fork, too, and keeps every mapping that is like the first process's; only pages that differ are
stored and read. So what the processes share stays shared, between them and between clones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from thaw.snapshot.process import Mapping, Status, present_pages
from thaw.snapshot.ptrace import StoppedProcess

# Stacks, locked, sealed and wiped memory, and what no fork inherits (VmFlags, Documentation/filesystems/proc.rst).
_NEVER_KEPT: Final = frozenset({"gd", "lo", "sl", "wf", "dp", "dc"})
_ADVICE: Final = frozenset({"rr", "sr", "mg", "hg", "nh", "dd", "nr"})
_Likeness = tuple[object, ...]
_Run = tuple[int, int]


class Inheritance:
    """The first process's memory, as a child of the same program sees it."""

    def __init__(self, process: StoppedProcess, mappings: Iterable[Mapping]) -> None:
        """`mappings` are the first process's, neighbours merged as they are planned."""
        self._process = process
        self._there = {_likeness(mapping): mapping for mapping in mappings if _can_be_kept(mapping)}

    def part(self, mapping: Mapping) -> Mapping | None:
        """What of a mapping of the child has its like in the first process: its beginning, where one of them grew."""
        like = self._there.get(_likeness(mapping)) if _can_be_kept(mapping) else None
        if like is None or (like.end != mapping.end and not mapping.anonymous):
            return None
        return replace(mapping, end=min(like.end, mapping.end))

    def read(self, size: int, address: int) -> bytes:
        """The first process's memory."""
        return self._process.read(address, size)

    def pages(self, pid: int, mapping: Mapping) -> list[_Run]:
        """Runs (first page, count) that either of the two has for itself: elsewhere both see the same."""
        own = not mapping.deleted
        there = replace(mapping, empty=self._there[_likeness(mapping)].empty)
        runs = [*present_pages(pid, mapping, own=own), *present_pages(self._process.pid, there, own=own)]
        return list(_united(sorted(runs)))


def is_fork(child: StoppedProcess, status: Status, first: StoppedProcess, first_status: Status) -> bool:
    """Whether a process runs the same image as the first one: after exec(2) it would lie elsewhere."""
    same = ("start_code", "start_stack", "arg_start")
    if any(status.memory_fields[name] != first_status.memory_fields[name] for name in same):
        return False
    return os.readlink(f"/proc/{child.pid}/exe") == os.readlink(f"/proc/{first.pid}/exe")


def _can_be_kept(mapping: Mapping) -> bool:
    """Private memory that is in the template, too; what lies in /tmp is each clone's own (`MemoryPlanner`)."""
    return not (mapping.shared or mapping.special or mapping.flags & _NEVER_KEPT or mapping.path.startswith("/tmp/"))


def _likeness(mapping: Mapping) -> _Likeness:
    place = (mapping.start, mapping.permissions, mapping.flags & _ADVICE)
    return (*place, mapping.offset, mapping.device, mapping.inode, mapping.path)


def _united(runs: Iterable[_Run]) -> Iterator[_Run]:
    """Runs in ascending order, overlapping and neighbouring ones as one."""
    begin = end = -1
    for first, count in runs:
        if first > end:
            if end > begin:
                yield begin, end - begin
            begin = first
        end = max(end, first + count)
    if end > begin >= 0:
        yield begin, end - begin
