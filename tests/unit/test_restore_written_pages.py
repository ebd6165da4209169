"""Which pages a fork has written, and what is expected of the next one."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

from thaw.restore.written_pages import OBSERVED, ExpectedWrites, as_ranges, private_ranges, written_ranges

PAGE = mmap.PAGESIZE
COUNT = 20_000  # more than are read at a time


@contextmanager
def child_that_writes(memory: mmap.mmap, pages: list[int]) -> Iterator[int]:
    """A fork that has written these pages, and lives until the end of the block."""
    written, release = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        for page in pages:
            memory[page * PAGE] = 1
        os.write(written[1], b"1")
        os.close(release[1])
        os.read(release[0], 1)
        os._exit(0)
    try:
        os.read(written[0], 1)
        yield pid
    finally:
        for descriptor in (*written, *release):
            os.close(descriptor)
        os.waitpid(pid, 0)


def test_what_a_fork_wrote_is_told_from_what_it_shares() -> None:
    memory = mmap.mmap(-1, COUNT * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(b"\1" * len(memory))
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    with child_that_writes(memory, [0, 3, 4, 5, COUNT - 1]) as pid:
        assert any(first <= start and start + len(memory) <= first + size for first, size in private_ranges(pid))
        found = written_ranges(pid, [(start, len(memory))])
    assert [(address - start, size) for address, size in found] == [
        (0, PAGE), (3 * PAGE, 3 * PAGE), ((COUNT - 1) * PAGE, PAGE),
    ]  # fmt: skip


def test_reserved_addresses_are_not_looked_through() -> None:
    reserve = 0x4000  # MAP_NORESERVE, which mmap names only since Python 3.13
    reserved = mmap.mmap(-1, 32 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | reserve)
    assert all(size < 32 << 30 for _, size in private_ranges(os.getpid()))
    reserved.close()


def test_what_most_first_calls_wrote_is_expected_of_the_next() -> None:
    expected = ExpectedWrites([(0, PAGE)])
    calls = [[(8 * PAGE, 2 * PAGE)], [(8 * PAGE, PAGE)], [(9 * PAGE, PAGE), (20 * PAGE, PAGE)], [(8 * PAGE, 2 * PAGE)]]
    assert len(calls) == OBSERVED
    for call in calls:
        assert not expected.complete
        assert expected.observe(call)
    assert expected.complete
    assert expected.ranges == [(0, PAGE), (8 * PAGE, 2 * PAGE)]
    assert not expected.observe([(30 * PAGE, PAGE)])
    assert expected.ranges == [(0, PAGE), (8 * PAGE, 2 * PAGE)]


def test_what_is_expected_is_bounded() -> None:
    expected = ExpectedWrites([])
    for _ in range(OBSERVED):
        expected.observe([(0, 1 << 30)])
    assert expected.ranges == [(0, 32 << 20)]


def test_neighbouring_pages_are_one_range() -> None:
    assert as_ranges([5 * PAGE, PAGE, 2 * PAGE]) == [(PAGE, 2 * PAGE), (5 * PAGE, PAGE)]
