"""The manifest: which chunks, in which places, under which keys, make up one snapshot. Its bytes, little-endian::

    0    4   magic "THWM"
    4    2   format version, 1
    6    2   k: length of the key's name
    8    4   w: length of the wrapped data key
    12   4   n: number of chunk ids
    16   4   c: length of the ciphertext with its tag
    20   k   name of the key that wraps the data key, UTF-8
    +    w   data key, wrapped; its context is {"thaw:snapshot": snapshot key}
    +    32n chunk ids, ascending, each once
    +    12  nonce
    +    c   AES-256-GCM of a MessagePack document, tag (16 bytes) last

Chunk ids stand outside the ciphertext so that chunks which no manifest names can be found without a key.
Everything before the nonce is authenticated, and so is the snapshot key: a manifest stored under another
snapshot's name does not open.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from thaw.chunk.chunker import piece_count, piece_length
from thaw.chunk.keys import DataKey
from thaw.errors import NotAuthentic, StoreError

MAGIC = b"THWM"
VERSION = 1
HEADER = struct.Struct("<4sHHIII")
ID_SIZE = 32
NONCE_SIZE = 12
MANIFEST_LIMIT = 64 * 1024 * 1024
"""Bytes of the largest manifest that is read at all; a snapshot of 16 GiB has one of 3 MiB."""

ASSOCIATED_LABEL = b"thaw manifest v1\0"


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Piece `index` of a section (offset index x CHUNK_SIZE) is the chunk `id`, opened by `key`, `size` bytes long."""

    index: int
    id: str
    key: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Section:
    """One image: `size` bytes, zero wherever `chunks` (ascending by index) has no place."""

    size: int
    chunks: tuple[ChunkPlace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole snapshot. `facts` is the engine's: what a worker must have to restore it (None, bool, int, float,
    str, bytes, and lists and dicts of these). `key_name` names the KMS key under which it is sealed; it stands in the
    envelope."""

    snapshot_key: str
    facts: Mapping[str, Any]
    plan: Section
    memory: Section
    disk: Section
    key_name: str = field(default="", compare=False)

    @property
    def sections(self) -> dict[str, Section]:
        """All images by name."""
        return {"plan": self.plan, "memory": self.memory, "disk": self.disk}

    def chunk_ids(self) -> set[str]:
        """Ids of all chunks, each once."""
        return {place.id for section in self.sections.values() for place in section.chunks}

    def stored_size(self) -> int:
        """Bytes of plaintext in all chunks, each counted once."""
        sizes = {place.id: place.size for section in self.sections.values() for place in section.chunks}
        return sum(sizes.values())


@dataclass(frozen=True, slots=True)
class ManifestEnvelope:
    """What can be read of a sealed manifest without its key. Nothing in it is authenticated yet."""

    key_name: str
    wrapped_key: bytes
    chunk_ids: tuple[str, ...]
    associated: bytes
    nonce: bytes
    ciphertext: bytes


Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Natural = Annotated[int, msgspec.Meta(ge=0)]


class _Place(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    index: Natural
    number: Natural  # position of the chunk's id in the manifest's table
    key: Key


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: Natural
    chunks: list[_Place]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    snapshot_key: str
    facts: dict[str, Any]
    plan: _Section
    memory: _Section
    disk: _Section


def seal_manifest(manifest: Manifest, data_key: DataKey, key_name: str) -> bytes:
    """The bytes of `manifest`, sealed under `data_key`, which the key `key_name` has wrapped.

    Raises `StoreError` if it would be larger than MANIFEST_LIMIT.
    """
    ids = sorted(manifest.chunk_ids())
    plaintext = _encode(manifest, ids)
    table = b"".join(bytes.fromhex(id) for id in ids)
    name, nonce = key_name.encode(), os.urandom(NONCE_SIZE)
    header = HEADER.pack(MAGIC, VERSION, len(name), len(data_key.wrapped), len(ids), len(plaintext) + 16)
    opening = header + name + data_key.wrapped + table
    sealed = AESGCM(data_key.plaintext).encrypt(nonce, plaintext, _associated(manifest.snapshot_key, opening))
    if len(opening) + NONCE_SIZE + len(sealed) > MANIFEST_LIMIT:
        raise StoreError(
            f"The snapshot {manifest.snapshot_key} cannot be stored, because its manifest is larger than "
            f"{MANIFEST_LIMIT >> 20} MiB: give the function less memory or less ephemeral storage."
        )
    return opening + nonce + sealed


def read_envelope(snapshot_key: str, sealed: bytes) -> ManifestEnvelope:
    """Takes a sealed manifest apart. `snapshot_key` is the name it was stored under.

    Raises `NotAuthentic` if the bytes cannot be a manifest, `StoreError` if a newer version wrote it.
    """
    if len(sealed) > MANIFEST_LIMIT:
        raise _malformed(snapshot_key, f"it has {len(sealed)} bytes, more than {MANIFEST_LIMIT}")
    if len(sealed) < HEADER.size or not sealed.startswith(MAGIC):
        raise _malformed(snapshot_key, "it does not begin as a manifest does")
    _, version, name_size, key_size, count, cipher_size = HEADER.unpack_from(sealed)
    if version != VERSION:
        raise StoreError(
            f"The manifest of snapshot {snapshot_key} has format version {version}, and this server reads "
            f"{VERSION}: use the version of Thaw that wrote it, or publish the version again."
        )
    ends = _ends(HEADER.size, name_size, key_size, ID_SIZE * count, NONCE_SIZE, cipher_size)
    if ends[-1] != len(sealed):
        raise _malformed(snapshot_key, f"it has {len(sealed)} bytes, and its header promises {ends[-1]}")
    name, key, table, nonce, ciphertext = (
        sealed[start:end] for start, end in zip([HEADER.size, *ends], ends, strict=False)
    )
    ids = tuple(table[at : at + ID_SIZE].hex() for at in range(0, len(table), ID_SIZE))
    associated = _associated(snapshot_key, sealed[: ends[2]])
    return ManifestEnvelope(name.decode(errors="replace"), key, ids, associated, nonce, ciphertext)


def open_manifest(snapshot_key: str, envelope: ManifestEnvelope, data_key: bytes) -> Manifest:
    """The manifest of `snapshot_key`. Raises `NotAuthentic` if anything about it is not as it was sealed."""
    try:
        plaintext = AESGCM(data_key).decrypt(envelope.nonce, envelope.ciphertext, envelope.associated)
    except InvalidTag:
        raise _malformed(snapshot_key, "it was altered, or belongs to another snapshot or key") from None
    try:
        document = msgspec.msgpack.decode(plaintext, type=_Document)
        return _manifest(document, envelope)
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        raise _malformed(snapshot_key, f"its content is not a manifest ({error})") from error


def _encode(manifest: Manifest, ids: Sequence[str]) -> bytes:
    numbers = {id: number for number, id in enumerate(ids)}
    sections = {
        name: _Section(section.size, [_Place(place.index, numbers[place.id], place.key) for place in section.chunks])
        for name, section in manifest.sections.items()
    }
    return msgspec.msgpack.encode(_Document(manifest.snapshot_key, dict(manifest.facts), **sections))


def _manifest(document: _Document, envelope: ManifestEnvelope) -> Manifest:
    ids = envelope.chunk_ids
    return Manifest(
        snapshot_key=document.snapshot_key,
        facts=document.facts,
        plan=_section(document.plan, ids),
        memory=_section(document.memory, ids),
        disk=_section(document.disk, ids),
        key_name=envelope.key_name,
    )


def _section(section: _Section, ids: Sequence[str]) -> Section:
    indexes = [place.index for place in section.chunks]
    if indexes != sorted(set(indexes)) or (indexes and indexes[-1] >= piece_count(section.size)):
        raise ValueError("places are not in order, or lie outside the image")
    places = (
        ChunkPlace(place.index, ids[place.number], place.key, piece_length(section.size, place.index))
        for place in section.chunks
    )
    return Section(section.size, tuple(places))


def _associated(snapshot_key: str, opening: bytes) -> bytes:
    return ASSOCIATED_LABEL + snapshot_key.encode() + b"\0" + opening


def _ends(start: int, *sizes: int) -> list[int]:
    ends = []
    for size in sizes:
        start += size
        ends.append(start)
    return ends


def _malformed(snapshot_key: str, fault: str) -> NotAuthentic:
    return NotAuthentic(
        f"The manifest of snapshot {snapshot_key} does not open, because {fault}: publish the version again."
    )
