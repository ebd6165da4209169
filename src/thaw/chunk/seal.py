"""Sealing and opening one chunk. The bytes of an envelope, little-endian::

    0   4  magic "THWC"
    4   2  format version, 1
    6   2  zero
    8   4  length of the plaintext, 1 to 524288
    12  4  zero
    16  n  ciphertext, as long as the plaintext
    +   16 tag of AES-256-GCM

The key comes from the plaintext and a secret that belongs to one KMS key, so equal plaintexts give equal
envelopes under one KMS key and unrelated ones under another. One key therefore only ever seals one plaintext,
which is what makes the fixed nonce (zero) safe. Header and id are authenticated with the ciphertext.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from thaw.chunk.chunker import CHUNK_SIZE
from thaw.errors import NotAuthentic

MAGIC = b"THWC"
VERSION = 1
HEADER = struct.Struct("<4sHHII")
TAG_SIZE = 16
ENVELOPE_LIMIT = HEADER.size + CHUNK_SIZE + TAG_SIZE
NONCE = bytes(12)

KEY_LABEL = b"thaw chunk key v1\0"
ID_LABEL = b"thaw chunk id v1\0"


@dataclass(frozen=True, slots=True)
class SealedChunk:
    """`id` (64 hex digits) names the `envelope` in every store; `key` (32 bytes) opens it and stays in the manifest."""

    id: str
    key: bytes
    envelope: bytearray


def seal(secret: bytes, plaintext: bytes | bytearray | memoryview) -> SealedChunk:
    """Seals 1 to CHUNK_SIZE bytes under `secret` (32 bytes, of one KMS key)."""
    if not 1 <= len(plaintext) <= CHUNK_SIZE:
        raise ValueError(f"a chunk holds 1 to {CHUNK_SIZE} bytes, not {len(plaintext)}")
    digest = hashlib.sha256(plaintext).digest()
    key = hmac.digest(secret, KEY_LABEL + digest, "sha256")
    name = hmac.digest(secret, ID_LABEL + digest, "sha256")
    header = HEADER.pack(MAGIC, VERSION, 0, len(plaintext), 0)
    envelope = bytearray(HEADER.size + len(plaintext) + TAG_SIZE)
    envelope[: HEADER.size] = header
    AESGCM(key).encrypt_into(NONCE, plaintext, header + name, memoryview(envelope)[HEADER.size :])
    return SealedChunk(name.hex(), key, envelope)


def open_chunk(id: str, key: bytes, envelope: bytes | bytearray | memoryview) -> bytes:
    """The plaintext of the chunk `id`. Raises `NotAuthentic` if one bit of envelope, id or key is another."""
    buffer = bytearray(CHUNK_SIZE)
    return bytes(memoryview(buffer)[: open_chunk_into(id, key, envelope, buffer)])


def open_chunk_into(id: str, key: bytes, envelope: bytes | bytearray | memoryview, buffer: bytearray) -> int:
    """Opens the chunk `id` into `buffer` (at least CHUNK_SIZE bytes); returns how many bytes it has.

    After `NotAuthentic` the content of `buffer` is undefined and must not be used.
    """
    sealed = memoryview(envelope)
    length = _checked_length(id, sealed)
    associated = bytes(sealed[: HEADER.size]) + bytes.fromhex(id)
    try:
        AESGCM(key).decrypt_into(NONCE, sealed[HEADER.size :], associated, memoryview(buffer)[:length])
    except InvalidTag:
        raise NotAuthentic(
            f"The chunk {id} does not open, because it was altered or sealed under another key: "
            "read it from another tier, or publish the version again."
        ) from None
    return length


def _checked_length(id: str, sealed: memoryview) -> int:
    """The plaintext's length, after everything that can be checked without a key."""
    if len(sealed) < HEADER.size:
        raise _malformed(id, f"it has {len(sealed)} bytes, less than its header")
    magic, version, zero, length, reserved = HEADER.unpack_from(sealed)
    if magic != MAGIC:
        raise _malformed(id, f"it begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise _malformed(id, f"its format version is {version}, and this server reads {VERSION}")
    if zero or reserved or not 1 <= length <= CHUNK_SIZE:
        raise _malformed(id, f"its header says {length} bytes")
    if len(sealed) != HEADER.size + length + TAG_SIZE:
        raise _malformed(id, f"it has {len(sealed)} bytes, and its header promises {HEADER.size + length + TAG_SIZE}")
    return int(length)


def _malformed(id: str, fault: str) -> NotAuthentic:
    return NotAuthentic(
        f"The chunk {id} does not open, because {fault}: read it from another tier, or publish the version again."
    )
