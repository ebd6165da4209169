"""How images become chunks, and what a chunk and a manifest are made of, byte by byte (docs/formats.md).

::

    image ── chunker ──► pieces of 512 KiB, none of them zero
    piece ── seal ─────► SealedChunk(id, key, envelope)       envelope goes to a store under its id
    places, ids, keys ── manifest ──► sealed under a data key that a `KeyService` wraps

Nothing here reads or writes a store; everything is synchronous and releases the GIL where it takes long.
"""

from thaw.chunk.chunker import CHUNK_SIZE, Pieces
from thaw.chunk.keys import DataKey, KeyService
from thaw.chunk.manifest import (
    MANIFEST_LIMIT,
    ChunkPlace,
    Manifest,
    ManifestEnvelope,
    Section,
    open_manifest,
    read_envelope,
    seal_manifest,
)
from thaw.chunk.seal import ENVELOPE_LIMIT, SealedChunk, open_chunk, open_chunk_into, seal

__all__ = [
    "CHUNK_SIZE",
    "ENVELOPE_LIMIT",
    "MANIFEST_LIMIT",
    "ChunkPlace",
    "DataKey",
    "KeyService",
    "Manifest",
    "ManifestEnvelope",
    "Pieces",
    "SealedChunk",
    "Section",
    "open_chunk",
    "open_chunk_into",
    "open_manifest",
    "read_envelope",
    "seal",
    "seal_manifest",
]
