"""What can happen to the tiers of the snapshot store, one test for each fault: slower, never wrong."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stores import Valkey, aws, memory_image, new_bucket, opened_store, valkey
from thaw.chunk import Manifest
from thaw.config import Settings, read_settings
from thaw.errors import ChunkNotFound, NotAuthentic, StoreFull, StoreUnavailable
from thaw.store import Folder, Guard, KeyFile, SnapshotStore, Store, open_store
from thaw.store.disk_cache import DiskCache
from thaw.store.retried import Retried
from thaw.store.tiered import Cache, Tiered

PIECES = 12


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    with valkey(tmp_path / "valkey") as started:
        yield started


@pytest.fixture
def settings(tmp_path: Path, server: Valkey) -> Settings:
    return read_settings(state_dir=tmp_path / "state", l1_bytes=1 << 26, l2_url=server.url)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    async with opened_store(settings) as opened:
        yield opened


@pytest.fixture
def memory() -> Iterator[int]:
    with memory_image(PIECES) as descriptor:
        yield descriptor


def content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


async def loaded(store: Store, manifest: Manifest) -> bytes:
    into = os.memfd_create("clone")
    try:
        await store.snapshots.read_memory(manifest, into)
        return content(into)
    finally:
        os.close(into)


async def saved(store: Store, memory: int, name: str = "f-1-a") -> Manifest:
    manifest = await store.snapshots.save(name, b"plan", memory, b"disk", {})
    await store.snapshots.chunks.settled()
    return manifest


def corrupt(path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)


def chunk_files(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("??/*") if path.is_file())


# --- the way through the tiers ----------------------------------------------------------------------------------------


async def test_publish_fills_l3_and_l2_and_a_read_fills_l1(store: Store, memory: int, settings: Settings) -> None:
    manifest = await saved(store, memory)
    tiers = store.snapshots.chunks.stores
    assert set(await tiers["l3"].names()) == set(await tiers["l2"].names()) == manifest.chunk_ids()
    assert await tiers["l1"].names() == []
    assert await loaded(store, manifest) == content(memory)
    await store.snapshots.chunks.settled()
    assert store.counters["l2"].hits == PIECES
    assert await loaded(store, manifest) == content(memory)
    assert store.counters["l1"].hits == PIECES
    assert store.counters["l3"].hits == 0


async def test_l1_survives_a_restart(store: Store, memory: int, settings: Settings, server: Valkey) -> None:
    manifest = await saved(store, memory)
    await loaded(store, manifest)
    await store.snapshots.chunks.settled()
    server.stop()
    again = open_store(settings)
    assert await loaded(again, manifest) == content(memory)
    assert again.counters["l1"].hits == PIECES
    again.close()


async def test_deleting_a_snapshot_takes_its_chunks_out_of_all_tiers(store: Store, memory: int) -> None:
    manifest = await saved(store, memory)
    await loaded(store, manifest)
    await store.snapshots.chunks.settled()
    await store.snapshots.delete("f-1-a")
    assert [await tier.names() for tier in store.snapshots.chunks.stores.values()] == [[], [], []]


# --- L2 ---------------------------------------------------------------------------------------------------------------


async def test_l2_down_makes_publish_and_restore_slower_not_wrong(
    store: Store, memory: int, server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    manifest = await saved(store, memory)
    assert await loaded(store, manifest) == content(memory)
    assert store.counters["l2"].failures >= 3
    assert len([line for line in caplog.messages if line.startswith("The tier l2 is in trouble")]) == 1


async def test_l2_that_went_down_is_used_again_when_it_is_back(store: Store, memory: int, server: Valkey) -> None:
    manifest = await saved(store, memory)
    tiered = Tiered(
        store.snapshots.chunks.inner, [cache for cache in store.snapshots.chunks.caches if cache.name == "l2"]
    )
    server.stop()
    await tiered.fetch(manifest.memory.chunks[0].id, len)
    await tiered.settled()
    server.start()
    await tiered.fetch(manifest.memory.chunks[2].id, len)
    await tiered.settled()
    assert await tiered.stores["l2"].contains(manifest.memory.chunks[2].id)


async def test_l2_that_hangs_is_left_alone_after_its_limit(store: Store, memory: int, server: Valkey) -> None:
    manifest = await saved(store, memory)
    with server.hung():
        assert await loaded(store, manifest) == content(memory)
        await store.snapshots.chunks.settled()
    assert store.counters["l2"].failures
    assert store.counters["l3"].hits == PIECES


async def test_l2_that_lies_is_evicted_and_healed(store: Store, memory: int, caplog: pytest.LogCaptureFixture) -> None:
    manifest = await saved(store, memory)
    first, second = (place.id for place in manifest.memory.chunks[:2])
    l2 = store.snapshots.chunks.stores["l2"]
    genuine = await l2.get(first)
    await l2.put(first, await l2.get(second))  # swapped
    await l2.put(second, genuine[:1000])  # truncated
    assert await loaded(store, manifest) == content(memory)
    await store.snapshots.chunks.settled()
    assert store.counters["l2"].rejected == 2
    assert await l2.get(first) == genuine
    assert "it gave something that is not the chunk, which is evicted" in caplog.text


async def test_l2_full_is_harmless(tmp_path: Path, memory: int) -> None:
    with valkey(tmp_path / "small", settings=("--maxmemory", "2mb", "--maxmemory-policy", "noeviction")) as small:
        store = open_store(read_settings(state_dir=tmp_path / "state", l2_url=small.url))
        manifest = await saved(store, memory)
        assert await loaded(store, manifest) == content(memory)
        assert store.counters["l2"].failures
        await store.snapshots.chunks.settled()
        store.close()


# --- L1 ---------------------------------------------------------------------------------------------------------------


async def test_a_chunk_corrupt_in_l1_is_evicted_and_healed(store: Store, memory: int, settings: Settings) -> None:
    manifest = await saved(store, memory)
    await loaded(store, manifest)
    await store.snapshots.chunks.settled()
    files = chunk_files(settings.state_dir / "l1")
    corrupt(files[0])
    files[1].write_bytes(b"")
    files[2].write_bytes(os.urandom(1 << 20))
    assert await loaded(store, manifest) == content(memory)
    await store.snapshots.chunks.settled()
    assert store.counters["l1"].rejected == 3
    origin = settings.origin_dir / "chunks"
    for file in files[:3]:
        assert file.read_bytes() == (origin / file.name[:2] / file.name).read_bytes()


class FullFolder(Folder):
    """A folder on a disk without room."""

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        raise StoreFull(f"Thaw cannot write to {self.root}, because no space left on device: free space there.")


async def test_disk_full_at_l1_is_harmless(tmp_path: Path, memory: int, caplog: pytest.LogCaptureFixture) -> None:
    origin = Folder(tmp_path / "chunks", limit=1 << 20)
    full = FullFolder(tmp_path / "l1", limit=1 << 20)
    manifests = Folder(tmp_path / "manifests", limit=1 << 20)
    keys = KeyFile(tmp_path / "default.key")
    chunks = Tiered(origin, [Cache("l1", full)])
    snapshots = SnapshotStore(chunks, manifests, keys, Guard(tmp_path / "lock"))
    manifest = await snapshots.save("f-1-a", b"plan", memory, b"disk", {})
    assert await snapshots.read_plan(manifest) == b"plan"
    await chunks.settled()
    assert "The tier l1 is in trouble, which makes restores slower: Thaw cannot write to" in caplog.text


async def test_kill_9_while_l1_is_filled_leaves_nothing_half_written(tmp_path: Path) -> None:
    root = tmp_path / "l1"
    program = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom thaw.store.disk_cache import DiskCache\n"
        "async def main():\n"
        "    cache = DiskCache(Path(sys.argv[1]), capacity=1 << 28, limit=1 << 20); cache.open()\n"
        "    while True:\n"
        "        name = os.urandom(32).hex()\n"
        "        await cache.put(name, (name * 16384)[:524320].encode())\n"
        "asyncio.run(main())\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(root)])
    while len(chunk_files(root)) < 40:
        assert writer.poll() is None
        await asyncio.sleep(0.002)
    writer.send_signal(signal.SIGKILL)
    await asyncio.to_thread(writer.wait)
    cache = DiskCache(root, capacity=1 << 28, limit=1 << 20)
    cache.open()
    for name in await cache.names():
        assert await cache.get(name) == (name * 16384)[:524320].encode()
    assert list((root / "incoming").iterdir()) == []
    cache.close()


# --- L3 ---------------------------------------------------------------------------------------------------------------


class SlowFolder(Folder):
    """Every request takes a while longer."""

    at_once = most = 0

    async def fetch(self, id: str, use):  # type: ignore[no-untyped-def]
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0.02)
        try:
            return await super().fetch(id, use)
        finally:
            self.at_once -= 1


class FailingFolder(Folder):
    """Every other request is not answered."""

    asked = 0

    async def fetch(self, id: str, use):  # type: ignore[no-untyped-def]
        self.asked += 1
        if self.asked % 2:
            raise StoreUnavailable("The origin does not answer: check it.")
        return await super().fetch(id, use)


async def test_l3_slow_is_read_in_parallel(tmp_path: Path, memory: int) -> None:
    origin = SlowFolder(tmp_path / "chunks", limit=1 << 20)
    snapshots = SnapshotStore(
        origin, Folder(tmp_path / "manifests", limit=1 << 20), KeyFile(tmp_path / "key"), Guard(tmp_path / "lock")
    )
    manifest = await snapshots.save("f-1-a", b"", memory, b"", {})
    into = os.memfd_create("clone")
    await snapshots.read_memory(manifest, into)
    assert content(into) == content(memory)
    assert origin.most == PIECES
    os.close(into)


async def test_l3_that_fails_now_and_then_is_asked_again(tmp_path: Path, memory: int) -> None:
    origin = FailingFolder(tmp_path / "chunks", limit=1 << 20)
    snapshots = SnapshotStore(
        Retried(origin, pause_s=0.001, attempts=10),
        Folder(tmp_path / "manifests", limit=1 << 20),
        KeyFile(tmp_path / "key"),
        Guard(tmp_path / "lock"),
    )
    manifest = await snapshots.save("f-1-a", b"plan", memory, b"", {})
    assert await snapshots.read_plan(manifest) == b"plan"


async def test_a_chunk_corrupt_in_l3_is_an_error_only_where_no_cache_has_it(
    store: Store, memory: int, settings: Settings
) -> None:
    manifest = await saved(store, memory)
    for file in chunk_files(settings.origin_dir / "chunks"):
        corrupt(file)
    assert await loaded(store, manifest) == content(memory)  # L2 has them
    await store.snapshots.chunks.settled()
    for cache in store.snapshots.chunks.caches:
        for id in await cache.store.names():
            await cache.store.delete(id)
    with pytest.raises(NotAuthentic):
        await loaded(store, manifest)
    assert await store.snapshots.drop_damaged("f-1-a") == len(manifest.chunk_ids())
    again = await saved(store, memory)
    assert await loaded(store, again) == content(memory)


async def test_a_lost_origin_is_an_error(store: Store, memory: int, settings: Settings, server: Valkey) -> None:
    manifest = await saved(store, memory)
    server.stop()
    lost = manifest.memory.chunks[0].id
    (settings.origin_dir / "chunks" / lost[:2] / lost).unlink()
    with pytest.raises(ChunkNotFound, match=lost):
        await loaded(store, manifest)


# --- two workers ------------------------------------------------------------------------------------------------------

WORKER = """
import asyncio, hashlib, os, sys
from thaw.config import read_settings
from thaw.store import open_store

async def main():
    number, state, origin = sys.argv[1:4]
    store = open_store(read_settings(state_dir=state, origin=origin, l1_bytes=1 << 26))
    memory = os.memfd_create("memory")
    os.pwrite(memory, b"".join(bytes([index]) * 524288 for index in range(1, 9)), 0)
    for _ in range(6):
        await store.snapshots.save("f-1-shared", b"plan", memory, b"disk", {})
        manifest = await store.snapshots.load_manifest("f-1-shared")
        into = os.memfd_create("clone")
        await store.snapshots.read_memory(manifest, into)
        assert os.pread(into, 1 << 23, 0) == os.pread(memory, 1 << 23, 0)
        os.close(into)
        await store.snapshots.save("f-1-" + number, b"plan", memory, b"disk", {})
        await store.snapshots.delete("f-1-" + number)
    await store.snapshots.chunks.settled()
    store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["folder", "bucket"])
async def test_two_workers_publish_read_and_delete_the_same_snapshot(tmp_path: Path, kind: str) -> None:
    with aws() as endpoint:
        origin = str(tmp_path / "origin") if kind == "folder" else new_bucket(endpoint)
        states = [tmp_path / name for name in ("one", "two")]
        KeyFile(states[0] / "keys" / "default.key").prepare()
        (states[1] / "keys").mkdir(parents=True)
        key = states[1] / "keys" / "default.key"
        key.write_bytes((states[0] / "keys" / "default.key").read_bytes())
        key.chmod(0o600)
        workers = [
            subprocess.Popen([sys.executable, "-c", WORKER, str(number), str(state), origin])
            for number, state in enumerate(states)
        ]
        assert [await asyncio.to_thread(worker.wait, 60) for worker in workers] == [0, 0]
        store = open_store(read_settings(state_dir=states[0], origin=origin))
        manifest = await store.snapshots.load_manifest("f-1-shared")
        verified = await store.snapshots.verify(manifest)
        assert verified.sound == manifest.chunk_ids()
        assert set(await store.snapshots.chunks.names()) == manifest.chunk_ids()
        assert await store.snapshots.collect() == 0
        store.close()


async def test_a_bucket_that_is_not_there_is_one_sentence(tmp_path: Path, memory: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with aws() as endpoint:
        url = f"s3://nowhere/x?endpoint={endpoint}"
        store = open_store(read_settings(state_dir=tmp_path / "state", origin=url))
        with pytest.raises(StoreUnavailable, match=r"^s3://nowhere/x/\w+ does not answer as it should .+THAW_ORIGIN"):
            await saved(store, memory)
        store.close()
