"""Cuts an image into pieces of 512 KiB and leaves out those that hold nothing but zeros.

Holes of a sparse file are found with SEEK_DATA and never read; a piece that was written but is all zero is
found by comparing. The size is that of AWS's own chunk store ("On-demand container loading in AWS Lambda",
USENIX ATC 2023).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

CHUNK_SIZE = 512 * 1024
ZEROS = bytes(CHUNK_SIZE)


class Pieces:
    """The pieces of one image: a file descriptor or bytes. Piece i begins at offset i x CHUNK_SIZE.

    A file must not change while it is cut. `read` may be called from several threads at once.
    """

    def __init__(self, image: int | bytes) -> None:
        self._image = image
        self.size = os.fstat(image).st_size if isinstance(image, int) else len(image)

    def length(self, index: int) -> int:
        """Bytes in piece `index`: CHUNK_SIZE, less in the last one."""
        return piece_length(self.size, index)

    def present(self) -> Iterator[int]:
        """Indexes of the pieces that may hold something, in order."""
        if isinstance(self._image, bytes):
            yield from range(piece_count(self.size))
            return
        after = 0
        for start, end in _data_extents(self._image, self.size):
            first = max(after, start // CHUNK_SIZE)
            after = piece_count(end)
            yield from range(first, after)

    def read(self, index: int, buffer: bytearray) -> memoryview | None:
        """Piece `index`, or None if it is all zero. `buffer` (CHUNK_SIZE bytes) is what files are read into."""
        offset, length = index * CHUNK_SIZE, self.length(index)
        if isinstance(self._image, bytes):
            piece = memoryview(self._image)[offset : offset + length]
        else:
            piece = memoryview(buffer)[:length]
            _read_fully(self._image, piece, offset)
        return None if is_zero(piece) else piece


def piece_count(size: int) -> int:
    """How many pieces an image of `size` bytes has."""
    return -(-size // CHUNK_SIZE)


def piece_length(size: int, index: int) -> int:
    """Bytes in piece `index` of an image of `size` bytes; raises ValueError if there is no such piece."""
    length = min(CHUNK_SIZE, size - index * CHUNK_SIZE)
    if index < 0 or length <= 0:
        raise ValueError(f"an image of {size} bytes has no piece {index}")
    return length


def is_zero(piece: memoryview) -> bool:
    """Whether all bytes are zero. The first look at a few bytes decides for nearly every piece."""
    return not any(piece[:16]) and bytes(piece) == ZEROS[: len(piece)]


def _data_extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are not holes, as (start, end)."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def _read_fully(descriptor: int, piece: memoryview, offset: int) -> None:
    done = 0
    while done < len(piece):
        count = os.preadv(descriptor, [piece[done:]], offset + done)
        if count == 0:
            raise ValueError(f"the image ended at byte {offset + done} while it was cut into chunks")
        done += count
