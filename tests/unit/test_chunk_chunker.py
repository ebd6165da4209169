"""Cutting images: every byte is in one piece, zeros and holes are in none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from thaw.chunk import CHUNK_SIZE, Pieces
from thaw.chunk.chunker import is_zero, piece_count, piece_length

BUFFER = bytearray(CHUNK_SIZE)


@pytest.fixture(params=["memfd", "file"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    if request.param == "memfd":
        descriptor = os.memfd_create("image")
    else:
        descriptor = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def stored(pieces: Pieces) -> dict[int, bytes]:
    found = {}
    for index in pieces.present():
        piece = pieces.read(index, BUFFER)
        if piece is not None:
            found[index] = bytes(piece)
    return found


def test_holes_and_zero_pieces_are_left_out(image: int) -> None:
    os.ftruncate(image, 20 * CHUNK_SIZE + 5)
    os.pwrite(image, b"a", 0)
    os.pwrite(image, bytes(CHUNK_SIZE), 3 * CHUNK_SIZE)
    os.pwrite(image, b"b" * 2, 8 * CHUNK_SIZE - 1)
    os.pwrite(image, b"c", 20 * CHUNK_SIZE + 4)
    found = stored(Pieces(image))
    assert sorted(found) == [0, 7, 8, 20]
    assert found[0] == b"a" + bytes(CHUNK_SIZE - 1)
    assert (found[7][-1:], found[8][:1]) == (b"b", b"b")
    assert found[20] == b"\0\0\0\0c"


def test_holes_are_never_read(image: int) -> None:
    os.ftruncate(image, 1 << 40)
    os.pwrite(image, b"x", 1 << 39)
    assert len(list(Pieces(image).present())) == 1


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE])
def test_bytes_and_files_are_cut_alike(image: int, size: int) -> None:
    content = os.urandom(size)
    os.pwrite(image, content, 0)
    assert b"".join(stored(Pieces(image)).values()) == content
    assert stored(Pieces(image)) == stored(Pieces(content))


def test_an_empty_image_of_zeros_has_no_pieces(image: int) -> None:
    os.ftruncate(image, 5 * CHUNK_SIZE)
    assert stored(Pieces(image)) == {}
    assert stored(Pieces(bytes(2 * CHUNK_SIZE + 1))) == {}


def test_an_image_that_shrinks_meanwhile_is_noticed(image: int) -> None:
    os.pwrite(image, b"x" * CHUNK_SIZE, 0)
    pieces = Pieces(image)
    os.ftruncate(image, 10)
    with pytest.raises(ValueError, match="the image ended at byte 10"):
        pieces.read(0, BUFFER)


def test_counts_and_lengths() -> None:
    assert [piece_count(size) for size in (0, 1, CHUNK_SIZE, CHUNK_SIZE + 1)] == [0, 1, 1, 2]
    assert [piece_length(CHUNK_SIZE + 1, index) for index in (0, 1)] == [CHUNK_SIZE, 1]
    for index in (-1, 2):
        with pytest.raises(ValueError, match="has no piece"):
            piece_length(CHUNK_SIZE + 1, index)


@pytest.mark.parametrize("position", [0, 15, 16, 17, 5000, CHUNK_SIZE - 1])
def test_one_set_bit_makes_a_piece_non_zero(position: int) -> None:
    piece = bytearray(CHUNK_SIZE)
    assert is_zero(memoryview(piece))
    piece[position] = 1
    assert not is_zero(memoryview(piece))
