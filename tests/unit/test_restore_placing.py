"""Pieces of an image that are written straight into another process."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from thaw.restore.placing import Placing, write_memory

PAGE = 4096
HOLDER = """
import ctypes, mmap, sys
memory = mmap.mmap(-1, 16 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
sys.stdin.readline()
sys.stdout.buffer.write(memory[:])
"""


class Holder:
    """A process with 16 pages."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.address = int(self.process.stdout.readline())

    def content(self) -> bytes:
        """All of the pages, at the end."""
        return self.process.communicate(b"\n")[0]


@pytest.fixture
def holder() -> Iterator[Holder]:
    made = Holder()
    yield made
    made.process.kill()
    made.process.communicate()


def content_of(*letters: bytes) -> bytearray:
    return bytearray(b"".join(letter * PAGE for letter in letters))


def test_parts_go_where_they_belong(holder: Holder) -> None:
    parts = [(holder.address + 3 * PAGE, 2 * PAGE), (holder.address, PAGE)]
    assert write_memory(holder.process.pid, parts, memoryview(content_of(b"a", b"b", b"c")))
    pages = holder.content()
    assert (pages[0], pages[3 * PAGE], pages[5 * PAGE - 1], pages[PAGE]) == (ord("c"), ord("a"), ord("b"), 0)


def test_what_does_not_all_get_there_is_said(holder: Holder) -> None:
    content = memoryview(content_of(b"a", b"b"))
    assert not write_memory(holder.process.pid, [(holder.address, PAGE), (PAGE, PAGE)], content)
    holder.content()
    assert not write_memory(holder.process.pid, [(holder.address, 2 * PAGE)], content)  # it is gone


class Written:
    """Takes note of what is placed."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, int]] = []

    def __call__(self, parts: Sequence[tuple[int, int]], content: memoryview) -> bool:
        assert sum(size for _, size in parts) == len(content)
        self.parts = list(parts)
        return True


# Address, size, offset: two neighbours in the image that are none in memory, and one that begins in the first piece.
EXTENTS = [(0x70000, PAGE, 0), (0x10000, 2 * PAGE, PAGE), (0x90000, 8 * PAGE, 3 * PAGE)]


def test_a_piece_is_taken_apart_by_extents() -> None:
    written = Written()
    placing = Placing(EXTENTS, 11 * PAGE, 4 * PAGE, written)
    assert placing.place(0, memoryview(bytearray(4 * PAGE)))
    assert written.parts == [(0x70000, PAGE), (0x10000, 2 * PAGE), (0x90000, PAGE)]
    assert placing.place(1, memoryview(bytearray(4 * PAGE)))
    assert written.parts == [(0x91000, 4 * PAGE)]


@pytest.mark.parametrize(
    ("extents", "end", "piece"),
    [
        (EXTENTS, 11 * PAGE, 2),  # the last one reaches beyond what may be placed
        (EXTENTS, 4 * PAGE, 1),  # not of the front
        (EXTENTS[1:], 11 * PAGE, 0),  # its first page is nobody's
        ([EXTENTS[0], EXTENTS[2]], 11 * PAGE, 0),  # there is a gap in it
        ([], 11 * PAGE, 0),
        ([(page * 2 * PAGE, 4, page * 4) for page in range(PAGE)], 4 * PAGE, 0),  # more parts than one call takes
    ],
)
def test_what_does_not_fit_goes_another_way(extents: list[tuple[int, int, int]], end: int, piece: int) -> None:
    written = Written()
    assert not Placing(extents, end, 4 * PAGE, written).place(piece, memoryview(bytearray(4 * PAGE)))
    assert written.parts == []


def test_memory_that_may_not_be_written_goes_another_way() -> None:
    written = Written()
    assert not Placing(EXTENTS, 11 * PAGE, 4 * PAGE, written).place(0, memoryview(bytes(4 * PAGE)))
    assert written.parts == []


def test_own_memory_is_no_exception() -> None:
    memory = mmap.mmap(-1, PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert write_memory(os.getpid(), [(address, PAGE)], memoryview(content_of(b"z")))
    assert memory[:] == b"z" * PAGE
