"""One chunk: what it protects, a test for each attack."""

import os
import struct

import pytest

from thaw.chunk import CHUNK_SIZE, ENVELOPE_LIMIT, SealedChunk, open_chunk, open_chunk_into, seal
from thaw.errors import NotAuthentic

SECRET = b"s" * 32
PLAINTEXT = os.urandom(1000)


@pytest.fixture
def chunk() -> SealedChunk:
    return seal(SECRET, PLAINTEXT)


@pytest.mark.parametrize("size", [1, 15, 16, 4096, CHUNK_SIZE])
def test_a_chunk_opens_to_what_was_sealed(size: int) -> None:
    plaintext = os.urandom(size)
    sealed = seal(SECRET, plaintext)
    assert open_chunk(sealed.id, sealed.key, sealed.envelope) == plaintext
    assert len(sealed.envelope) == size + 32 <= ENVELOPE_LIMIT


@pytest.mark.parametrize("size", [0, CHUNK_SIZE + 1])
def test_only_pieces_of_a_chunks_size_are_sealed(size: int) -> None:
    with pytest.raises(ValueError, match="a chunk holds 1 to 524288 bytes"):
        seal(SECRET, bytes(size))


def test_equal_pieces_under_one_key_are_one_chunk(chunk: SealedChunk) -> None:
    assert seal(SECRET, bytearray(PLAINTEXT)) == chunk


def test_nothing_can_be_compared_across_keys(chunk: SealedChunk) -> None:
    other = seal(b"t" * 32, PLAINTEXT)
    assert other.id != chunk.id
    assert other.key != chunk.key
    assert other.envelope[16:] != chunk.envelope[16:]


def test_edited_bit_anywhere_is_detected(chunk: SealedChunk) -> None:
    for position in [*range(40), *range(40, len(chunk.envelope), 97), len(chunk.envelope) - 1]:
        edited = bytearray(chunk.envelope)
        edited[position] ^= 1
        with pytest.raises(NotAuthentic):
            open_chunk(chunk.id, chunk.key, edited)


@pytest.mark.parametrize("kept", [0, 3, 15, 16, 31, 32, 500, 1031])
def test_truncated_chunk_is_detected(chunk: SealedChunk, kept: int) -> None:
    with pytest.raises(NotAuthentic):
        open_chunk(chunk.id, chunk.key, chunk.envelope[:kept])


def test_truncated_chunk_with_adjusted_header_is_detected(chunk: SealedChunk) -> None:
    shorter = bytearray(chunk.envelope[:516])
    shorter[8:12] = struct.pack("<I", 516 - 32)
    with pytest.raises(NotAuthentic, match="altered or sealed under another key"):
        open_chunk(chunk.id, chunk.key, shorter)


def test_extended_chunk_is_detected(chunk: SealedChunk) -> None:
    with pytest.raises(NotAuthentic, match="it has 1033 bytes, and its header promises 1032"):
        open_chunk(chunk.id, chunk.key, chunk.envelope + b"\0")


def test_swapped_chunk_is_detected(chunk: SealedChunk) -> None:
    other = seal(SECRET, os.urandom(1000))
    with pytest.raises(NotAuthentic):
        open_chunk(chunk.id, chunk.key, other.envelope)


def test_chunk_under_another_id_is_detected(chunk: SealedChunk) -> None:
    with pytest.raises(NotAuthentic):
        open_chunk(seal(SECRET, b"other").id, chunk.key, chunk.envelope)


def test_wrong_key_is_detected(chunk: SealedChunk) -> None:
    with pytest.raises(NotAuthentic) as caught:
        open_chunk(chunk.id, bytes(32), chunk.envelope)
    assert str(caught.value) == (
        f"The chunk {chunk.id} does not open, because it was altered or sealed under another key: "
        "read it from another tier, or publish the version again."
    )


@pytest.mark.parametrize(
    ("position", "content", "fault"),
    [
        (0, b"THWM", "it begins with b'THWM', not b'THWC'"),
        (4, b"\2\0", "its format version is 2, and this server reads 1"),
        (6, b"\1\0", "its header says 1000 bytes"),
        (8, struct.pack("<I", 0), "its header says 0 bytes"),
        (8, struct.pack("<I", 0xFFFFFFFF), "its header says 4294967295 bytes"),
        (12, b"\1", "its header says 1000 bytes"),
    ],
)
def test_oversized_or_foreign_header_is_refused_before_decrypting(
    chunk: SealedChunk, position: int, content: bytes, fault: str
) -> None:
    chunk.envelope[position : position + len(content)] = content
    with pytest.raises(NotAuthentic) as caught:
        open_chunk(chunk.id, chunk.key, chunk.envelope)
    assert f"because {fault}: " in str(caught.value)


def test_opening_into_a_buffer_leaves_what_lies_behind(chunk: SealedChunk) -> None:
    buffer = bytearray(b"x" * CHUNK_SIZE)
    assert open_chunk_into(chunk.id, chunk.key, chunk.envelope, buffer) == 1000
    assert buffer[:1000] == PLAINTEXT
    assert buffer[1000:] == b"x" * (CHUNK_SIZE - 1000)
