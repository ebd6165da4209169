"""Whoever can write to the origin or to a cache: nothing that they put there is ever run (docs/threat-model.md)."""

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from stores import aws, memory_image
from thaw.chunk import CHUNK_SIZE, Manifest, read_envelope
from thaw.config import read_settings
from thaw.errors import NotAuthentic
from thaw.store import Store, open_store

PLAN = os.urandom(CHUNK_SIZE + 777)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(read_settings(state_dir=tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def memory() -> Iterator[int]:
    with memory_image(3) as descriptor:
        yield descriptor


async def saved(store: Store, memory: int, name: str = "f-1-a", plan: bytes = PLAN) -> Manifest:
    return await store.snapshots.save(name, plan, memory, b"disk", {})


def chunk(tmp_path: Path, id: str) -> Path:
    return tmp_path / "origin" / "chunks" / id[:2] / id


def manifest(tmp_path: Path, name: str) -> Path:
    return tmp_path / "origin" / "manifests" / name[:2] / name


async def assert_memory_refused(store: Store, loaded: Manifest) -> None:
    into = os.memfd_create("clone")
    with pytest.raises(NotAuthentic):
        await store.snapshots.read_memory(loaded, into)
    os.close(into)


async def test_edited_chunk_detected(store: Store, memory: int, tmp_path: Path) -> None:
    places = (await saved(store, memory)).memory.chunks
    path = chunk(tmp_path, places[0].id)
    genuine = path.read_bytes()
    for offset in (0, 4, 6, 8, 12, 16, len(genuine) // 2, len(genuine) - 1):
        path.write_bytes(genuine[:offset] + bytes([genuine[offset] ^ 1]) + genuine[offset + 1 :])
        await assert_memory_refused(store, await store.snapshots.load_manifest("f-1-a"))


async def test_swapped_chunks_detected(store: Store, memory: int, tmp_path: Path) -> None:
    places = (await saved(store, memory)).memory.chunks
    chunk(tmp_path, places[0].id).write_bytes(chunk(tmp_path, places[1].id).read_bytes())
    await assert_memory_refused(store, await store.snapshots.load_manifest("f-1-a"))


@pytest.mark.parametrize("left", [0, 15, 16, 31, 1000, CHUNK_SIZE])
async def test_truncated_chunk_detected(store: Store, memory: int, tmp_path: Path, left: int) -> None:
    path = chunk(tmp_path, (await saved(store, memory)).memory.chunks[2].id)
    path.write_bytes(path.read_bytes()[:left])
    await assert_memory_refused(store, await store.snapshots.load_manifest("f-1-a"))


async def test_chunk_of_an_older_snapshot_replayed_detected(store: Store, memory: int, tmp_path: Path) -> None:
    older = await saved(store, memory, "f-1-older")
    os.pwrite(memory, os.urandom(CHUNK_SIZE), 0)
    newer = await saved(store, memory, "f-1-a")
    old, new = older.memory.chunks[0].id, newer.memory.chunks[0].id
    chunk(tmp_path, new).write_bytes(chunk(tmp_path, old).read_bytes())
    await assert_memory_refused(store, newer)


async def test_edited_manifest_detected_at_every_field(store: Store, memory: int, tmp_path: Path) -> None:
    await saved(store, memory)
    path = manifest(tmp_path, "f-1-a")
    genuine = path.read_bytes()
    parts = read_envelope("f-1-a", genuine)
    tables = len(genuine) - len(parts.ciphertext) - 12
    offsets = [*range(20), 21, 20 + len(parts.key_name) + 1, tables - 1, tables, tables + 11, tables + 13, -1]
    for offset in offsets:
        edited = bytearray(genuine)
        edited[offset] ^= 1
        path.write_bytes(edited)
        with pytest.raises(Exception, match=r"f-1-a|data key") as refused:
            await store.snapshots.load_manifest("f-1-a")
        assert type(refused.value).__name__ in ("NotAuthentic", "StoreError")


async def test_truncated_manifest_detected(store: Store, memory: int, tmp_path: Path) -> None:
    await saved(store, memory)
    path = manifest(tmp_path, "f-1-a")
    genuine = path.read_bytes()
    for left in (0, 3, 19, 20, 60, len(genuine) // 2, len(genuine) - 1):
        path.write_bytes(genuine[:left])
        with pytest.raises(NotAuthentic):
            await store.snapshots.load_manifest("f-1-a")


async def test_manifest_of_another_version_replayed_detected(store: Store, memory: int, tmp_path: Path) -> None:
    await saved(store, memory, "f-1-a")
    await saved(store, memory, "f-2-b")
    manifest(tmp_path, "f-2-b").write_bytes(manifest(tmp_path, "f-1-a").read_bytes())
    with pytest.raises(NotAuthentic):
        await store.snapshots.load_manifest("f-2-b")


async def test_wrapped_key_of_another_manifest_detected(store: Store, memory: int, tmp_path: Path) -> None:
    await saved(store, memory, "f-1-a")
    await saved(store, memory, "f-2-b")
    one, two = (manifest(tmp_path, name).read_bytes() for name in ("f-1-a", "f-2-b"))
    key, other = (read_envelope("f-1-a", content).wrapped_key for content in (one, two))
    manifest(tmp_path, "f-1-a").write_bytes(one.replace(key, other))
    with pytest.raises(NotAuthentic):
        await store.snapshots.load_manifest("f-1-a")


@pytest.mark.parametrize("attack", ["edited", "truncated", "swapped", "replayed"])
async def test_tampered_plan_detected(store: Store, memory: int, tmp_path: Path, attack: str) -> None:
    other = await saved(store, memory, "f-0-z", os.urandom(len(PLAN)))
    loaded = await saved(store, memory)
    first, second = (chunk(tmp_path, place.id) for place in loaded.plan.chunks)
    genuine = first.read_bytes()
    first.write_bytes({
        "edited": genuine[:100] + bytes([genuine[100] ^ 128]) + genuine[101:],
        "truncated": genuine[:-100],
        "swapped": second.read_bytes(),
        "replayed": chunk(tmp_path, other.plan.chunks[0].id).read_bytes(),
    }[attack])  # fmt: skip
    with pytest.raises(NotAuthentic):
        await store.snapshots.read_plan(await store.snapshots.load_manifest("f-1-a"))


async def test_manifest_sealed_under_the_attackers_own_key_detected(memory: int, tmp_path: Path) -> None:
    """They may seal whatever they like under a KMS key of theirs: the function names its key, not the manifest."""
    with aws() as endpoint:
        kms = boto3.client("kms", endpoint_url=endpoint)
        theirs = kms.create_key()["KeyMetadata"]["Arn"]
        ours = kms.create_key()["KeyMetadata"]["Arn"]
        store = open_store(read_settings(state_dir=tmp_path, kms_endpoint=endpoint))
        await store.snapshots.save("f-1-a", b"evil", memory, b"", {}, theirs)
        for expected in (ours, None):
            with pytest.raises(NotAuthentic, match=f"was sealed under {theirs}, and this server has "):
                await store.snapshots.load_manifest("f-1-a", expected)
        store.close()
