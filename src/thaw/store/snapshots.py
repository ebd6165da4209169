"""Whole snapshots: their images as sealed chunks, and the manifest that names them.

A save writes the chunks first and the manifest last, so a snapshot is there completely or not at all. Chunks
that no manifest names are removed when the last snapshot that had them goes, or by `collect`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from thaw.chunk import (
    CHUNK_SIZE,
    ChunkPlace,
    KeyService,
    Manifest,
    ManifestEnvelope,
    Pieces,
    SealedChunk,
    Section,
    open_chunk_into,
    open_manifest,
    read_envelope,
    seal,
    seal_manifest,
)
from thaw.errors import ChunkNotFound, NotAuthentic, StoreError
from thaw.store.chunk_store import ChunkStore, ListedStore
from thaw.store.guard import Guarding
from thaw.store.key_ring import KeyRing
from thaw.store.threads import Buffers, in_thread
from thaw.store.tiered import Tiered

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
LANES = 16
"""Chunks that are written or checked at once."""
READERS = 64
"""Chunks that are read at once: an origin that takes 36 ms for each gives 24 MiB in two rounds."""
BATCH = 4
"""Chunks that are read in one go from a tier on this machine."""
CONFIRM_S = 10.0
"""Seconds for which KMS is not asked again whether a key may be used."""


@dataclass(slots=True)
class Verified:
    """Ids of a snapshot's chunks, by what came of opening them."""

    sound: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)


class SnapshotStore:
    """Saves and loads snapshots over a store of chunks and a store of manifests (names: snapshot keys)."""

    def __init__(
        self,
        chunks: ListedStore,
        manifests: ListedStore,
        keys: KeyService | KeyRing,
        guard: Guarding,
        *,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        self.chunks = chunks if isinstance(chunks, Tiered) else Tiered(chunks)
        self._manifests = manifests
        self._keys = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._guard = guard
        self._confirm_s = confirm_s
        self._confirmed: dict[str, float] = {}
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="thaw-seal")
        self._buffers = Buffers(CHUNK_SIZE)

    async def save(
        self,
        snapshot_key: str,
        plan: bytes,
        memory_fd: int,
        disk: bytes,
        facts: Mapping[str, Any],
        kms_key_arn: str | None = None,
    ) -> Manifest:
        """Stores a snapshot under a KMS key, or the default one; it is durable in the origin when this returns.

        `memory_fd` (any file) must not change meanwhile. Raises `StoreFull`, `StoreUnavailable`, or `ServiceError`
        where KMS refuses; then nothing that this save has added is left.
        """
        added: set[str] = set()
        try:
            async with self._guard.saving():
                replaced = await self._references(snapshot_key)
                key = self._keys.key(kms_key_arn)
                manifest = await self._save_chunks(snapshot_key, (plan, memory_fd, disk), facts, key, added)
                await self._save_manifest(manifest, key)
        except BaseException:
            await self._undo(added)
            raise
        if unused := replaced - manifest.chunk_ids():
            await self._sweep(unused)
        return manifest

    async def load_manifest(self, snapshot_key: str, kms_key_arn: str | None = None) -> Manifest:
        """The manifest of a snapshot, which must be sealed under this KMS key, or the default one.

        The caller says which key it has to be: a manifest names its own, but whoever can write to the origin could put
        one there that is sealed under a key of theirs.

        Raises `ChunkNotFound` if there is none, `NotAuthentic` if it was altered or is not this snapshot's or this
        key's, `StoreUnavailable`, `ServiceError` where KMS refuses, or `StoreError` if a newer Thaw wrote it.
        """
        envelope = read_envelope(snapshot_key, await self._manifests.get(snapshot_key))
        key = self._keys.key(kms_key_arn)
        if envelope.key_name != key.name:
            raise NotAuthentic(
                f"The snapshot {snapshot_key} was sealed under {envelope.key_name}, and this server has "
                f"{key.name}: put the right key in place, or publish the version again."
            )
        data_key = await key.unwrap(envelope.wrapped_key, _context(snapshot_key))
        self._confirmed[snapshot_key] = time.monotonic()
        return await self._in_thread(lambda: open_manifest(snapshot_key, envelope, data_key))

    async def confirm_key(self, snapshot_key: str, kms_key_arn: str | None) -> None:
        """Asks KMS whether the key may still be used, if it has not said so for a while.

        A snapshot that is in memory already needs no key any more; without this a disabled key would take effect only
        when it is loaded again. Raises as `load_manifest`.
        """
        if not kms_key_arn or time.monotonic() - self._confirmed.get(snapshot_key, -math.inf) < self._confirm_s:
            return
        await self.load_manifest(snapshot_key, kms_key_arn)

    async def read_plan(self, manifest: Manifest) -> bytes:
        """The restore plan. Raises `ChunkNotFound`, `NotAuthentic`, `StoreUnavailable`."""
        return await self._read(manifest.plan)

    async def read_disk(self, manifest: Manifest) -> bytes:
        """The disk image. Raises as `read_plan`."""
        return await self._read(manifest.disk)

    async def read_memory(self, manifest: Manifest, into_fd: int) -> None:
        """Fills the file or memfd `into_fd` with the memory image; what is zero stays a hole. Raises as `read_plan`.

        After an error the file's content must not be used.
        """
        os.ftruncate(into_fd, 0)
        os.ftruncate(into_fd, manifest.memory.size)
        await self._load(manifest.memory, lambda place, piece: _write_fully(into_fd, piece, place.index * CHUNK_SIZE))

    async def read_pieces(
        self,
        manifest: Manifest,
        put: Callable[[int, memoryview], None],
        pieces: Iterable[int],
        arrived: Callable[[int], None],
    ) -> None:
        """Reads single pieces (CHUNK_SIZE bytes, by index) of the memory image.

        `put(index, content)` is called for each that is not zero, in a thread, and may raise a ThawError; then
        `arrived(index)`, on the event loop; both in about the order of `pieces`. Raises as `read_plan`.
        """
        places = {place.index: place for place in manifest.memory.chunks}

        async def load_pieces(batch: Sequence[int]) -> None:
            present = [place for index in batch if (place := places.get(index)) is not None]
            await self.chunks.fetch_batch([(place.id, partial(self._open, place, use=write)) for place in present])
            for index in batch:
                arrived(index)

        def write(place: ChunkPlace, piece: memoryview) -> None:
            put(place.index, piece)

        wanted = list(pieces)
        batches = [wanted[first : first + BATCH] for first in range(0, len(wanted), BATCH)]
        await in_lanes(load_pieces, batches, READERS // BATCH)

    async def read_places(
        self, manifest: Manifest, into_fd: int, places: Iterable[ChunkPlace], store: ChunkStore
    ) -> None:
        """Puts pieces of the memory image into a file from one tier alone, for measuring. Raises as `read_plan`."""

        def write(place: ChunkPlace, piece: memoryview) -> None:
            _write_fully(into_fd, piece, place.index * CHUNK_SIZE)

        async def read(place: ChunkPlace) -> None:
            await store.fetch(place.id, lambda envelope: self._open(place, envelope, write))

        await in_lanes(read, places, READERS)

    async def save_facts(self, manifest: Manifest, facts: Mapping[str, Any], kms_key_arn: str | None = None) -> None:
        """Replaces the facts of a stored snapshot; nothing happens where it was deleted, or taken again, meanwhile.

        Raises `StoreFull` or `StoreUnavailable`.
        """
        async with self._guard.saving():
            if await self._references(manifest.snapshot_key) == manifest.chunk_ids():
                await self._save_manifest(replace(manifest, facts=facts), self._keys.key(kms_key_arn))

    async def delete(self, snapshot_key: str) -> None:
        """Destroys the manifest, and with it the wrapped data key, at once; then chunks that no other names."""
        ids = await self._references(snapshot_key)
        await self._manifests.delete(snapshot_key)
        await self._sweep(ids)

    async def drop_damaged(self, snapshot_key: str, kms_key_arn: str | None = None) -> int:
        """Removes those chunks of a snapshot that do not open in the origin, where no cache can heal them; how many.

        Equal chunks are stored once, so without this a new snapshot that has the same chunk would rely on the damaged
        one. Nothing is done where the manifest itself is gone or damaged. Raises `StoreUnavailable`.
        """
        try:
            manifest = await self.load_manifest(snapshot_key, kms_key_arn)
        except (ChunkNotFound, NotAuthentic):
            return 0
        verified = await self.verify(manifest)
        damaged = verified.damaged - await self.heal(manifest, verified)
        if damaged:
            async with self._guard.sweeping():
                await in_lanes(self.chunks.delete, damaged)
        return len(damaged)

    async def verify(self, manifest: Manifest, store: ChunkStore | None = None) -> Verified:
        """Opens every chunk of a snapshot in the origin, or in one other tier, and says what is wrong."""
        verified = Verified()
        tier = self.chunks.inner if store is None else store

        async def check(place: ChunkPlace) -> None:
            try:
                await tier.fetch(place.id, lambda envelope: self._open(place, envelope, lambda *_: None))
                verified.sound.add(place.id)
            except ChunkNotFound:
                verified.missing.add(place.id)
            except NotAuthentic:
                verified.damaged.add(place.id)

        places = {place.id: place for section in manifest.sections.values() for place in section.chunks}
        await in_lanes(check, places.values())
        return verified

    async def heal(self, manifest: Manifest, verified: Verified) -> set[str]:
        """Puts chunks that the origin has lost or damaged back from a cache in which they open; ids of those.

        Raises `StoreFull` or `StoreUnavailable`.
        """
        healed: set[str] = set()
        wrong = verified.missing | verified.damaged

        async def put_back(place: ChunkPlace) -> None:
            if (envelope := await self._from_caches(place)) is not None:
                await self.chunks.inner.put(place.id, envelope)
                healed.add(place.id)

        places = {place.id: place for section in manifest.sections.values() for place in section.chunks}
        async with self._guard.saving():
            if await self._references(manifest.snapshot_key) == manifest.chunk_ids():
                await in_lanes(put_back, [places[id] for id in wrong])
        return healed

    async def _from_caches(self, place: ChunkPlace) -> bytes | None:
        """The envelope of a chunk from the first cache in which it opens."""

        def opened(envelope: memoryview) -> bytes:
            self._open(place, envelope, lambda *_: None)
            return bytes(envelope)

        for cache in self.chunks.caches:
            try:
                return await cache.store.fetch(place.id, opened)
            except StoreError as error:
                logger.info("The tier %s cannot heal a chunk: %s", cache.name, error)
        return None

    async def collect(self) -> int:
        """Removes chunks that no manifest names, such as those of a save that was killed; returns how many.

        A server calls this when it starts.
        """
        return await self._sweep(await self.chunks.names())

    async def snapshot_keys(self) -> list[str]:
        """All snapshots that are stored."""
        return await self._manifests.names()

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    async def envelope(self, snapshot_key: str) -> ManifestEnvelope:
        """What a stored manifest says without any key; nothing of it is authenticated. Raises as `load_manifest`."""
        return read_envelope(snapshot_key, await self._manifests.get(snapshot_key))

    async def _save_chunks(
        self,
        snapshot_key: str,
        images: tuple[bytes, int, bytes],
        facts: Mapping[str, Any],
        key: KeyService,
        added: set[str],
    ) -> Manifest:
        secret = await key.chunk_secret()
        plan, memory, disk = [await self._save_section(Pieces(image), secret, added) for image in images]
        return Manifest(snapshot_key=snapshot_key, facts=facts, plan=plan, memory=memory, disk=disk, key_name=key.name)

    async def _save_section(self, pieces: Pieces, secret: bytes, added: set[str]) -> Section:
        places: list[ChunkPlace] = []

        async def save_piece(index: int) -> None:
            sealed = await self._in_thread(lambda: self._seal(pieces, index, secret))
            if sealed is None:
                return
            if sealed.id not in added and not await self.chunks.contains(sealed.id):
                added.add(sealed.id)
                await self.chunks.put(sealed.id, sealed.envelope)
            places.append(ChunkPlace(index, sealed.id, sealed.key, pieces.length(index)))

        await in_lanes(save_piece, pieces.present())
        return Section(pieces.size, tuple(sorted(places, key=lambda place: place.index)))

    def _seal(self, pieces: Pieces, index: int, secret: bytes) -> SealedChunk | None:
        piece = pieces.read(index, self._buffers.own())
        return None if piece is None else seal(secret, piece)

    async def _save_manifest(self, manifest: Manifest, key: KeyService) -> None:
        data_key = await key.data_key(_context(manifest.snapshot_key))
        sealed = await self._in_thread(lambda: seal_manifest(manifest, data_key, key.name))
        await self._manifests.put(manifest.snapshot_key, sealed)

    async def _read(self, section: Section) -> bytes:
        image = bytearray(section.size)

        def put(place: ChunkPlace, piece: memoryview) -> None:
            offset = place.index * CHUNK_SIZE
            image[offset : offset + place.size] = piece

        await self._load(section, put)
        return bytes(image)

    async def _load(self, section: Section, use: Callable[[ChunkPlace, memoryview], None]) -> None:
        """Gets and opens every chunk of `section`, several at a time; `use` runs in a thread."""

        async def load_place(place: ChunkPlace) -> None:
            await self._fetch(place, use)

        await in_lanes(load_place, section.chunks, READERS)

    async def _fetch(self, place: ChunkPlace, use: Callable[[ChunkPlace, memoryview], None]) -> None:
        await self.chunks.fetch(place.id, lambda envelope: self._open(place, envelope, use))

    def _open(self, place: ChunkPlace, envelope: memoryview, use: Callable[[ChunkPlace, memoryview], None]) -> None:
        buffer = self._buffers.own()
        length = open_chunk_into(place.id, place.key, envelope, buffer)
        if length != place.size:
            raise NotAuthentic(
                f"The chunk {place.id} has {length} bytes, and its place in the snapshot {place.size}: "
                "publish the version again."
            )
        use(place, memoryview(buffer)[:length])

    async def _undo(self, added: set[str]) -> None:
        try:
            await self._sweep(added)
        except StoreError as error:  # the save's own error is the one to tell; `collect` removes these later
            logger.warning("Chunks of a failed save stay for now: %s", error)

    async def _sweep(self, candidates: Iterable[str]) -> int:
        """Deletes those of the chunks `candidates` that no manifest names; none if a manifest cannot be read."""
        unused = set(candidates)
        if not unused:
            return 0
        async with self._guard.sweeping():
            try:
                for snapshot_key in await self._manifests.names():
                    unused -= await self._references(snapshot_key)
            except StoreError as error:
                logger.warning("Unused chunks stay for now: %s", error)
                return 0
            await in_lanes(self.chunks.delete, unused)
        return len(unused)

    async def _references(self, snapshot_key: str) -> set[str]:
        """Ids of the chunks that a snapshot's manifest names; none if it is absent or cannot be a manifest."""
        try:
            sealed = await self._manifests.get(snapshot_key)
            return set(read_envelope(snapshot_key, sealed).chunk_ids)
        except ChunkNotFound:
            return set()
        except NotAuthentic as error:
            logger.warning("%s", error)
            return set()

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await in_thread(self._threads, work)


Item = TypeVar("Item")


async def in_lanes(
    work: Callable[[Item], Coroutine[Any, Any, None]], items: Iterable[Item], lanes: int = LANES
) -> None:
    """Runs `work` on every item, at most `lanes` at a time; the first error stops the rest and is raised."""
    rest: Iterator[Item] = iter(items)

    async def lane() -> None:
        for item in rest:
            await work(item)

    tasks = [asyncio.create_task(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _context(snapshot_key: str) -> dict[str, str]:
    return {"thaw:snapshot": snapshot_key}


def _write_fully(descriptor: int, piece: memoryview, offset: int) -> None:
    done = 0
    while done < len(piece):
        done += os.pwrite(descriptor, piece[done:], offset + done)
