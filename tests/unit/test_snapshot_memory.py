"""Mappings, and the image that their pages go to."""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
from collections.abc import Iterator

import pytest

from thaw.errors import NotFreezable
from thaw.snapshot.image import Extent, ImageWriter
from thaw.snapshot.memory import _refuse_impossible, merged, special_mappings
from thaw.snapshot.process import Mapping, present_pages, read_mappings

PAGE = 4096


def mapping(
    start: int, end: int, permissions: str = "rw-p", path: str = "", flags: str = "rd wr", inode: int = 0
) -> Mapping:
    return Mapping(start, end, permissions, 0, "00:00", inode, path, frozenset(flags.split()))


def spans(*mappings: Mapping) -> list[tuple[int, int]]:
    return [(each.start, each.end) for each in merged(mappings)]


def test_neighbours_that_differ_in_nothing_that_matters_become_one() -> None:
    assert spans(mapping(0, 1), mapping(1, 2, flags="rd wr ac"), mapping(2, 3)) == [(0, 3)]


@pytest.mark.parametrize(
    "other",
    [
        mapping(2, 3),
        mapping(1, 2, "r--p"),
        mapping(1, 2, "rw-s"),
        mapping(1, 2, flags="rd wr wf"),
        mapping(1, 2, flags="rd wr dc"),
        mapping(1, 2, flags="rd wr gd"),
        mapping(1, 2, path="[heap]"),
        mapping(1, 2, path="/lib/x", inode=5),
    ],
)
def test_neighbours_that_differ_stay_apart(other: Mapping) -> None:
    assert spans(mapping(0, 1), other) == [(0, 1), (other.start, other.end)]


def test_two_stacks_and_two_pieces_of_a_file_stay_apart() -> None:
    assert len(spans(mapping(0, 1, path="[stack]"), mapping(1, 2, path="[stack]"))) == 2
    assert len(spans(mapping(0, 1, path="/x", inode=1), mapping(1, 2, path="/x", inode=1))) == 2


def test_the_kernel_s_mappings_end_with_the_vdso() -> None:
    found = [
        mapping(8, 9, path="[vdso]"),
        mapping(4, 8, path="[vvar]"),
        mapping(20, 21, path="[vsyscall]"),
        mapping(0, 1),
    ]
    assert special_mappings(found) == [(4, 4), (8, 1)]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            mapping(PAGE, 2 * PAGE, flags="rd ht"),
            "The function maps huge pages of hugetlbfs at 0x1000, which cannot be frozen: "
            "release it in a before-snapshot hook.",
        ),
        (
            mapping(PAGE, 2 * PAGE, flags="rd um", path="/memfd:x"),
            "The function maps memory watched by userfaultfd at 0x1000 (/memfd:x), which cannot be frozen: "
            "release it in a before-snapshot hook.",
        ),
        (
            mapping(0x4000_0000_0000, 0x5400_0000_0000),
            "The function has memory at 0x400000000000, where Thaw restores snapshots from: "
            "let the kernel choose the address.",
        ),
    ],
)
def test_what_cannot_come_back_is_refused(found: Mapping, sentence: str) -> None:
    with pytest.raises(NotFreezable) as refusal:
        _refuse_impossible(found)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("start", [0x5000_0000_0000 - PAGE, 0x5300_0000_0000])
def test_memory_beside_the_reserved_range_is_fine(start: int) -> None:
    _refuse_impossible(mapping(start, start + PAGE))


@pytest.fixture
def image() -> Iterator[ImageWriter]:
    descriptor = os.memfd_create("image")
    yield ImageWriter(descriptor)
    os.close(descriptor)


def stored(image: ImageWriter, content: bytes, address: int = 0x10000) -> list[Extent]:
    return image.store(address, len(content), lambda size, at: content[at - address : at - address + size])


def test_pages_of_zeros_are_left_out(image: ImageWriter) -> None:
    content = b"a" * PAGE + bytes(2 * PAGE) + b"b" * 2 * PAGE + bytes(PAGE)
    assert stored(image, content) == [Extent(0x10000, PAGE, 0), Extent(0x10000 + 3 * PAGE, 2 * PAGE, PAGE)]
    assert image.size == 3 * PAGE
    assert os.pread(image._descriptor, 3 * PAGE, 0) == b"a" * PAGE + b"b" * 2 * PAGE


def test_nothing_but_zeros_takes_no_room(image: ImageWriter) -> None:
    assert stored(image, bytes(10 * PAGE)) == []
    assert image.size == 0


def test_a_short_last_page_keeps_its_length_and_the_next_piece_a_page_of_its_own(image: ImageWriter) -> None:
    assert stored(image, b"x" * 10, 0) == [Extent(0, 10, 0)]
    assert stored(image, b"y" * PAGE, 0) == [Extent(0, PAGE, PAGE)]
    assert image.size == 2 * PAGE


def test_a_run_longer_than_one_batch_is_one_extent(image: ImageWriter) -> None:
    content = b"z" * ((2 << 20) + PAGE)
    assert stored(image, content) == [Extent(0x10000, len(content), 0)]


def test_one_image_behind_another(image: ImageWriter) -> None:
    stored(image, b"1" * PAGE)
    descriptor = os.memfd_create("other")
    try:
        other = ImageWriter(descriptor)
        stored(other, b"2" * 2 * PAGE)
        assert image.append_all(other) == PAGE
    finally:
        os.close(descriptor)
    assert os.pread(image._descriptor, 4 * PAGE, 0) == b"1" * PAGE + b"2" * 2 * PAGE


def test_pages_that_were_touched_are_found_in_runs() -> None:
    block = mmap.mmap(-1, 64 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(mmap.MADV_NOHUGEPAGE)
    for page in (3, 4, 5, 40):
        block[page * PAGE] = 1
    own, start = os.getpid(), ctypes.addressof(ctypes.c_char.from_buffer(block))
    # The kernel may have joined the block to a neighbour of the same kind.
    found = next(each for each in read_mappings(own) if each.start <= start < each.end)
    first = (start - found.start) // PAGE
    runs = [(page - first, count) for page, count in present_pages(own, found, own=True)]
    assert [run for run in runs if 0 <= run[0] < 64] == [(3, 3), (40, 1)]
    block.close()


def test_nothing_is_looked_for_in_what_is_only_reserved() -> None:
    # As ZGC of Java 11 does: at 8 bytes for each page, walking this would take minutes.
    size = 4 << 40
    address = _reserve(size)
    try:
        found = next(each for each in read_mappings(os.getpid()) if each.start <= address < each.end)
        assert found.size >= size
        assert found.empty
        assert list(present_pages(os.getpid(), found, own=True)) == []
    finally:
        _LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))


def test_of_two_that_become_one_either_may_hold_something() -> None:
    full, empty = mapping(0, 1), dataclasses.replace(mapping(1, 2), empty=True)
    assert [each.empty for each in merged([full, empty])] == [False]
    assert [each.empty for each in merged([empty, dataclasses.replace(empty, start=2, end=3)])] == [True]


_LIBC = ctypes.CDLL(None, use_errno=True)
_PROT_NONE, _MAP_NORESERVE = 0, 0x4000


def _reserve(size: int) -> int:
    """The address of memory that nobody can touch."""
    _LIBC.mmap.restype = ctypes.c_void_p
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    address: int | None = _LIBC.mmap(None, ctypes.c_size_t(size), _PROT_NONE, flags, -1, ctypes.c_long(0))
    assert address not in (None, ctypes.c_void_p(-1).value), os.strerror(ctypes.get_errno())
    return address
