"""A sealed manifest: what it protects, a test for each attack."""

import os
import struct

import pytest

from thaw.chunk import (
    CHUNK_SIZE,
    MANIFEST_LIMIT,
    ChunkPlace,
    DataKey,
    Manifest,
    Section,
    open_manifest,
    read_envelope,
    seal_manifest,
)
from thaw.errors import NotAuthentic, StoreError

DATA_KEY = DataKey(os.urandom(32), b"wrapped key")


def place(index: int, digit: str, size: int = CHUNK_SIZE) -> ChunkPlace:
    return ChunkPlace(index, digit * 64, digit.encode() * 32, size)


def manifest(memory: Section | None = None, **facts: object) -> Manifest:
    memory = memory or Section(3 * CHUNK_SIZE + 7, (place(0, "a"), place(2, "a"), place(3, "b", 7)))
    return Manifest(
        snapshot_key="f-1", facts=facts, plan=Section(10, (place(0, "c", 10),)), memory=memory, disk=Section(0, ())
    )


def sealed(of: Manifest | None = None) -> bytes:
    return seal_manifest(of or manifest(kernel="6.1"), DATA_KEY, "key-file:0011")


def opened(content: bytes, name: str = "f-1", key: bytes = DATA_KEY.plaintext) -> Manifest:
    return open_manifest(name, read_envelope(name, content), key)


def test_a_manifest_opens_to_what_was_sealed() -> None:
    facts = {"cpu": ["avx2", "rdrand"], "pages": 7, "vdso": b"\0\1", "nested": {"float": 1.5, "none": None}}
    assert opened(sealed(manifest(**facts))) == manifest(**facts)


def test_what_can_be_read_without_a_key() -> None:
    envelope = read_envelope("f-1", sealed())
    assert (envelope.key_name, envelope.wrapped_key) == ("key-file:0011", b"wrapped key")
    assert envelope.chunk_ids == ("a" * 64, "b" * 64, "c" * 64)


def test_keys_and_facts_cannot_be_read_without_a_key() -> None:
    content = sealed(manifest(secret="topsecretfact"))
    for hidden in (b"topsecretfact", b"a" * 32, DATA_KEY.plaintext):
        assert hidden not in content


def test_sealing_twice_gives_nothing_to_compare() -> None:
    one, two = (read_envelope("f-1", sealed()) for _ in range(2))
    assert one.nonce != two.nonce
    assert one.ciphertext != two.ciphertext


def test_edited_bit_anywhere_is_detected() -> None:
    content = sealed()
    for position in range(len(content)):
        edited = bytearray(content)
        edited[position] ^= 1
        with pytest.raises((NotAuthentic, StoreError)):
            opened(bytes(edited))


def test_truncated_manifest_is_detected() -> None:
    content = sealed()
    for kept in range(len(content)):
        with pytest.raises(NotAuthentic):
            opened(content[:kept])


def test_extended_manifest_is_detected() -> None:
    with pytest.raises(NotAuthentic, match="and its header promises"):
        opened(sealed() + b"\0")


def test_manifest_replayed_under_another_snapshots_name_is_detected() -> None:
    with pytest.raises(NotAuthentic) as caught:
        opened(sealed(), name="f-2")
    assert str(caught.value) == (
        "The manifest of snapshot f-2 does not open, because it was altered, or belongs to another snapshot or key: "
        "publish the version again."
    )


def test_spliced_wrapped_key_is_detected() -> None:
    content = sealed()
    with pytest.raises(NotAuthentic):
        opened(content.replace(b"wrapped key", b"another key"))


def test_swapped_chunk_ids_are_detected() -> None:
    content = sealed()
    a, b = bytes.fromhex("a" * 64), bytes.fromhex("b" * 64)
    swapped = content.replace(a, b"\0" * 32).replace(b, a).replace(b"\0" * 32, b)
    assert read_envelope("f-1", swapped).chunk_ids[:2] == ("b" * 64, "a" * 64)
    with pytest.raises(NotAuthentic):
        opened(swapped)


def test_wrong_data_key_is_detected() -> None:
    with pytest.raises(NotAuthentic):
        opened(sealed(), key=bytes(32))


@pytest.mark.parametrize("field", [8, 12, 16], ids=["wrapped key", "ids", "ciphertext"])
def test_oversized_length_in_the_header_is_refused(field: int) -> None:
    content = bytearray(sealed())
    content[field : field + 4] = struct.pack("<I", 0xFFFFFFFF)
    with pytest.raises(NotAuthentic, match="and its header promises"):
        read_envelope("f-1", bytes(content))


def test_oversized_manifest_is_refused_before_it_is_taken_apart() -> None:
    with pytest.raises(NotAuthentic, match=f"more than {MANIFEST_LIMIT}"):
        read_envelope("f-1", bytes(MANIFEST_LIMIT + 1))


def test_a_newer_format_is_not_called_an_attack() -> None:
    content = bytearray(sealed())
    content[4] = 2
    with pytest.raises(StoreError) as caught:
        read_envelope("f-1", bytes(content))
    assert not isinstance(caught.value, NotAuthentic)
    assert "has format version 2, and this server reads 1" in str(caught.value)


@pytest.mark.parametrize(
    "places",
    [(place(1, "a"), place(0, "b")), (place(0, "a"), place(0, "b")), (place(2, "a"),)],
    ids=["out of order", "one place twice", "outside the image"],
)
def test_places_that_contradict_the_image_are_refused(places: tuple[ChunkPlace, ...]) -> None:
    content = sealed(manifest(Section(2 * CHUNK_SIZE, places)))
    with pytest.raises(NotAuthentic, match="places are not in order, or lie outside the image"):
        opened(content)


def test_size_counts_every_chunk_once() -> None:
    assert manifest().stored_size() == CHUNK_SIZE + 7 + 10
    assert manifest().chunk_ids() == {"a" * 64, "b" * 64, "c" * 64}
