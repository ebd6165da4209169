"""Whole snapshots: saved and loaded, shared, deleted, attacked, interrupted."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from thaw.chunk import CHUNK_SIZE, Manifest
from thaw.config import read_settings
from thaw.errors import ChunkNotFound, NotAuthentic, StoreFull, StoreUnavailable
from thaw.store import Folder, Guard, KeyFile, SnapshotStore, Store, open_store

PLAN = os.urandom(CHUNK_SIZE + 1234)
DISK = b"a small tmp folder"
FACTS = {"kernel": "6.1", "cpu": ["avx2"]}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[Store]:
    opened = open_store(read_settings(state_dir=state))
    yield opened
    opened.close()


@pytest.fixture
def memory() -> Iterator[int]:
    """8 pieces long, 3 of them present."""
    descriptor = os.memfd_create("memory")
    os.ftruncate(descriptor, 7 * CHUNK_SIZE + 100)
    for index in (1, 4):
        os.pwrite(descriptor, os.urandom(CHUNK_SIZE), index * CHUNK_SIZE)
    os.pwrite(descriptor, b"end", 7 * CHUNK_SIZE + 97)
    yield descriptor
    os.close(descriptor)


def content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size + 1, 0)


async def loaded_memory(store: Store, manifest: Manifest) -> bytes:
    into = os.memfd_create("clone")
    try:
        await store.snapshots.read_memory(manifest, into)
        return content(into)
    finally:
        os.close(into)


def chunk_files(state: Path) -> dict[str, Path]:
    return {path.name: path for path in (state / "origin" / "chunks").glob("??/*")}


def manifest_file(state: Path, name: str) -> Path:
    return state / "origin" / "manifests" / name[:2] / name


async def test_a_snapshot_comes_back_as_it_was_saved(store: Store, memory: int) -> None:
    saved = await store.snapshots.save("f-1-a", PLAN, memory, DISK, FACTS)
    manifest = await store.snapshots.load_manifest("f-1-a")
    assert manifest == saved
    assert manifest.facts == FACTS
    assert await store.snapshots.read_plan(manifest) == PLAN
    assert await store.snapshots.read_disk(manifest) == DISK
    assert await loaded_memory(store, manifest) == content(memory)


async def test_zero_pieces_are_neither_stored_nor_filled(store: Store, memory: int, state: Path) -> None:
    manifest = await store.snapshots.save("f-1-a", b"", memory, b"", {})
    assert [place.index for place in manifest.memory.chunks] == [1, 4, 7]
    assert len(chunk_files(state)) == 3
    into = os.memfd_create("clone")
    os.pwrite(into, b"what was there before", 0)
    await store.snapshots.read_memory(manifest, into)
    assert os.fstat(into).st_blocks * 512 < 3 * CHUNK_SIZE
    assert content(into) == content(memory)
    os.close(into)


async def test_an_empty_snapshot_is_one_too(store: Store) -> None:
    empty = os.memfd_create("empty")
    manifest = await store.snapshots.save("f-1-a", b"", empty, b"", {})
    assert await loaded_memory(store, manifest) == b""
    assert await store.snapshots.read_plan(manifest) == b""
    os.close(empty)


async def test_nothing_in_the_origin_shows_the_images(store: Store, memory: int, state: Path) -> None:
    os.pwrite(memory, b"PASSWORD" * 1000, CHUNK_SIZE)
    await store.snapshots.save("f-1-a", b"PLAN-TEXT" * 1000, memory, b"DISK-TEXT" * 1000, {"fact": "FACT-TEXT"})
    for path in (state / "origin").rglob("*"):
        if path.is_file():
            assert not any(
                text in path.read_bytes() for text in (b"PASSWORD", b"PLAN-TEXT", b"DISK-TEXT", b"FACT-TEXT")
            )


async def test_equal_chunks_are_stored_once_and_kept_until_the_last_snapshot_goes(
    store: Store, memory: int, state: Path
) -> None:
    await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    first = set(chunk_files(state))
    await store.snapshots.save("f-2-b", PLAN + b"changed", memory, DISK, {})
    assert len(chunk_files(state)) == len(first) + 1
    await store.snapshots.delete("f-2-b")
    assert set(chunk_files(state)) == first
    assert await loaded_memory(store, await store.snapshots.load_manifest("f-1-a")) == content(memory)
    await store.snapshots.delete("f-1-a")
    assert chunk_files(state) == {}
    assert await store.snapshots.snapshot_keys() == []


async def test_delete_destroys_the_wrapped_key_and_may_be_repeated(store: Store, memory: int, state: Path) -> None:
    await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    assert manifest_file(state, "f-1-a").exists()
    await store.snapshots.delete("f-1-a")
    await store.snapshots.delete("f-1-a")
    assert not manifest_file(state, "f-1-a").exists()
    with pytest.raises(ChunkNotFound):
        await store.snapshots.load_manifest("f-1-a")


async def test_saving_under_a_name_again_replaces_it_without_leftovers(store: Store, memory: int, state: Path) -> None:
    await store.snapshots.save("f-1-a", PLAN, memory, DISK, {"number": 1})
    os.pwrite(memory, os.urandom(10), CHUNK_SIZE)
    second = await store.snapshots.save("f-1-a", PLAN, memory, DISK, {"number": 2})
    assert (await store.snapshots.load_manifest("f-1-a")).facts == {"number": 2}
    assert set(chunk_files(state)) == second.chunk_ids()


async def test_two_servers_may_save_and_delete_the_same_chunks_at_once(store: Store, memory: int, state: Path) -> None:
    other = open_store(read_settings(state_dir=state))
    for _ in range(5):
        await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
        await asyncio.gather(store.snapshots.delete("f-1-a"), other.snapshots.save("f-2-b", PLAN, memory, DISK, {}))
        assert await loaded_memory(store, await store.snapshots.load_manifest("f-2-b")) == content(memory)
        await other.snapshots.delete("f-2-b")
        assert chunk_files(state) == {}
    other.close()


@pytest.mark.parametrize("damage", ["edited", "truncated", "emptied", "swapped", "oversized"])
async def test_damaged_chunk_is_detected(store: Store, memory: int, state: Path, damage: str) -> None:
    manifest = await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    first, second = (chunk_files(state)[place.id] for place in manifest.memory.chunks[:2])
    envelope = first.read_bytes()
    first.write_bytes({
        "edited": envelope[:-1] + bytes([envelope[-1] ^ 1]),
        "truncated": envelope[:1000],
        "emptied": b"",
        "swapped": second.read_bytes(),
        "oversized": envelope + bytes(1 << 20),
    }[damage])  # fmt: skip
    with pytest.raises(NotAuthentic):
        await loaded_memory(store, manifest)


async def test_missing_chunk_is_named(store: Store, memory: int, state: Path) -> None:
    manifest = await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    lost = manifest.memory.chunks[0].id
    chunk_files(state)[lost].unlink()
    with pytest.raises(ChunkNotFound, match=lost):
        await loaded_memory(store, manifest)


async def test_manifest_replayed_under_another_name_is_detected(store: Store, memory: int, state: Path) -> None:
    await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    await store.snapshots.save("f-2-b", PLAN, memory, DISK, {})
    manifest_file(state, "f-2-b").write_bytes(manifest_file(state, "f-1-a").read_bytes())
    with pytest.raises(NotAuthentic):
        await store.snapshots.load_manifest("f-2-b")


async def test_snapshot_of_another_key_file_is_refused_by_name(store: Store, memory: int, state: Path) -> None:
    await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    name = KeyFile(state / "keys" / "default.key").name
    (state / "keys" / "default.key").unlink()
    other = open_store(read_settings(state_dir=state))
    with pytest.raises(
        NotAuthentic, match=f"The snapshot f-1-a was sealed under {name}, and this server has key-file:"
    ):
        await other.snapshots.load_manifest("f-1-a")
    other.close()


async def test_chunks_under_two_keys_are_not_shared(store: Store, memory: int, state: Path) -> None:
    await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    count = len(chunk_files(state))
    (state / "keys" / "default.key").unlink()
    other = open_store(read_settings(state_dir=state))
    await other.snapshots.save("f-2-b", PLAN, memory, DISK, {})
    assert len(chunk_files(state)) == 2 * count
    other.close()


class Failing(Folder):
    """A folder on a disk that is full after some files."""

    room = 3

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        if self.room == 0:
            raise StoreFull("Thaw cannot write, because no space left on device: free space there.")
        self.room -= 1
        await super().put(id, content)


async def test_disk_full_while_saving_leaves_nothing_new(store: Store, memory: int, state: Path) -> None:
    await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    before = set(chunk_files(state))
    root = state / "origin"
    chunks = Failing(root / "chunks", limit=1 << 20)
    manifests = Folder(root / "manifests", limit=1 << 20)
    full = SnapshotStore(chunks, manifests, KeyFile(state / "keys" / "default.key"), Guard(root / "lock"))
    with pytest.raises(StoreFull):
        await full.save("f-2-b", os.urandom(5 * CHUNK_SIZE), memory, DISK, {})
    assert set(chunk_files(state)) == before
    assert await store.snapshots.snapshot_keys() == ["f-1-a"]
    assert await loaded_memory(store, await store.snapshots.load_manifest("f-1-a")) == content(memory)


async def test_cancelled_save_leaves_nothing(store: Store, state: Path) -> None:
    memory = os.memfd_create("memory")
    os.pwrite(memory, os.urandom(40 * CHUNK_SIZE), 0)
    saving = asyncio.create_task(store.snapshots.save("f-1-a", PLAN, memory, DISK, {}))
    while not chunk_files(state):
        await asyncio.sleep(0.001)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert await store.snapshots.snapshot_keys() == []
    assert chunk_files(state) == {}
    os.close(memory)


SAVER = """
import asyncio, os, sys
from thaw.config import read_settings
from thaw.store import open_store

async def main():
    store = open_store(read_settings(state_dir=sys.argv[1]))
    memory = os.memfd_create("memory")
    os.pwrite(memory, os.urandom(64 << 20), 0)
    print("ready", flush=True)
    for number in range(1000):
        await store.snapshots.save("f-%d-x" % number, os.urandom(1000), memory, b"", {})
        os.pwrite(memory, os.urandom(32 << 20), 0)

asyncio.run(main())
"""


async def test_kill_9_in_the_middle_of_a_save_loses_no_snapshot_and_leaves_no_chunk(store: Store, state: Path) -> None:
    saver = subprocess.Popen([sys.executable, "-c", SAVER, str(state)], stdout=subprocess.PIPE, text=True)
    assert saver.stdout is not None
    saver.stdout.readline()
    while len(chunk_files(state)) < 30:
        await asyncio.sleep(0.002)
    saver.send_signal(signal.SIGKILL)
    await asyncio.to_thread(saver.communicate)
    named: set[str] = set()
    for key in await store.snapshots.snapshot_keys():
        manifest = await store.snapshots.load_manifest(key)
        assert len(await loaded_memory(store, manifest)) == 64 << 20
        named |= manifest.chunk_ids()
    unused = set(chunk_files(state)) - named
    assert await store.snapshots.collect() == len(unused)
    assert set(chunk_files(state)) == named


async def test_sweeping_stops_where_a_manifest_cannot_be_read(
    store: Store, memory: int, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})
    newer = bytearray(manifest_file(state, "f-1-a").read_bytes())
    newer[4] = 2
    manifest_file(state, "f-1-a").write_bytes(newer)
    count = len(chunk_files(state))
    assert await store.snapshots.collect() == 0
    assert len(chunk_files(state)) == count
    assert "Unused chunks stay for now: The manifest of snapshot f-1-a has format version 2" in caplog.text


async def test_an_origin_that_is_gone_is_one_sentence(store: Store, memory: int, state: Path) -> None:
    (state / "origin").mkdir(parents=True, exist_ok=True)
    (state / "origin" / "chunks").write_text("in the way")
    with pytest.raises(StoreUnavailable):
        await store.snapshots.save("f-1-a", PLAN, memory, DISK, {})


async def test_deployment_packages_are_kept_by_content(store: Store, state: Path) -> None:
    key = await store.objects.put(b"zip")
    assert key == await store.objects.put(b"zip")
    assert await store.objects.get(key) == b"zip"
    (state / "origin" / "code" / key[:2] / key).write_bytes(b"another zip")
    with pytest.raises(NotAuthentic, match="upload the function's code again"):
        await store.objects.get(key)
    await store.objects.delete(key)
    with pytest.raises(ChunkNotFound):
        await store.objects.get(key)


async def test_damaged_chunks_are_dropped_so_that_a_new_save_writes_them_again(
    store: Store, memory: int, state: Path
) -> None:
    await store.snapshots.save("old", PLAN, memory, DISK, FACTS)
    for path in list(chunk_files(state).values())[:2]:
        sealed = bytearray(path.read_bytes())
        sealed[-1] ^= 1
        path.write_bytes(sealed)
    assert await store.snapshots.drop_damaged("old") == 2
    assert await store.snapshots.drop_damaged("old") == 0
    manifest = await store.snapshots.save("new", PLAN, memory, DISK, FACTS)
    assert await store.snapshots.read_plan(manifest) == PLAN
    assert await loaded_memory(store, manifest) == content(memory)
    assert await store.snapshots.drop_damaged("nowhere") == 0
