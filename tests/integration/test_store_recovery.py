"""What is put right again: chunks that the origin lost, what a killed worker left in a bucket, images without room."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from stores import aws, memory_image, new_bucket, opened_store, valkey, valkey_cluster
from thaw.chunk import CHUNK_SIZE
from thaw.chunk.seal import HEADER, MAGIC, TAG_SIZE
from thaw.config import Settings, read_settings
from thaw.errors import ChunkNotFound, NotAuthentic, RestoreFailed, StoreUnavailable
from thaw.restore import Put, unpack_folder
from thaw.restore.arrival import Arrival
from thaw.store import Store, lease_guard, open_store
from thaw.store.redis_cache import RedisCache

PIECES = 6


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(state_dir=tmp_path / "state", l1_bytes=1 << 26)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    async with opened_store(settings) as opened:
        yield opened


@pytest.fixture
def memory() -> Iterator[int]:
    with memory_image(PIECES) as descriptor:
        yield descriptor


def chunk_files(settings: Settings) -> list[Path]:
    return sorted((settings.origin_dir / "chunks").glob("??/*"))


def damage(settings: Settings) -> None:
    """One chunk of the origin is gone, another one altered."""
    lost, altered, *_ = chunk_files(settings)
    lost.unlink()
    altered.write_bytes(altered.read_bytes()[:-1] + b"x")


# --- chunks that the origin lost --------------------------------------------------------------------------------------


async def test_a_damaged_origin_is_healed_from_a_cache(store: Store, settings: Settings, memory: int) -> None:
    manifest = await store.snapshots.save("f-1-a", b"plan", memory, b"disk", {})
    verified = await store.snapshots.verify(manifest)
    into = os.memfd_create("clone")
    await store.snapshots.read_memory(manifest, into)  # L1 has what is in memory, plan and disk it has not
    os.close(into)
    await store.snapshots.chunks.settled()
    in_l1 = {place.id for place in manifest.memory.chunks}
    for file in chunk_files(settings):
        file.write_bytes(b"THWC") if file.name in in_l1 else None
    verified = await store.snapshots.verify(manifest)
    assert verified.damaged == in_l1
    assert await store.snapshots.heal(manifest, verified) == in_l1
    assert (await store.snapshots.verify(manifest)).sound == manifest.chunk_ids()


async def test_what_no_cache_has_is_not_healed_and_a_cache_that_lies_heals_nothing(
    store: Store, settings: Settings, memory: int
) -> None:
    manifest = await store.snapshots.save("f-1-a", b"plan", memory, b"disk", {})
    assert store.l1 is not None
    for place in manifest.memory.chunks:
        await store.l1.put(place.id, b"something else")
    damage(settings)
    verified = await store.snapshots.verify(manifest)
    assert (len(verified.missing), len(verified.damaged)) == (1, 1)
    assert await store.snapshots.heal(manifest, verified) == set()
    again = await store.snapshots.verify(manifest)
    assert (again.missing, again.damaged) == (verified.missing, verified.damaged)


async def test_a_renewal_keeps_chunks_that_a_cache_could_heal(store: Store, settings: Settings, memory: int) -> None:
    manifest = await store.snapshots.save("f-1-a", b"plan", memory, b"", {})
    await store.snapshots.read_plan(manifest)
    await store.snapshots.chunks.settled()
    plan = manifest.plan.chunks[0].id
    for file in chunk_files(settings):
        file.write_bytes(b"THWC")
    assert await store.snapshots.drop_damaged("f-1-a") == PIECES
    assert [file.name for file in chunk_files(settings)] == [plan]


async def test_facts_of_a_snapshot_that_was_taken_again_are_not_replaced(store: Store, memory: int) -> None:
    """Else a worker that learnt something of the old one would name chunks that are gone."""
    old = await store.snapshots.save("f-1-a", b"plan", memory, b"", {})
    await store.snapshots.save("f-1-a", b"another plan", memory, b"", {})
    await store.snapshots.save_facts(old, {"refined_pieces": [1]})
    manifest = await store.snapshots.load_manifest("f-1-a")
    assert manifest.facts == {}
    assert await store.snapshots.read_plan(manifest) == b"another plan"


def test_verify_for_people_heals_what_it_can(tmp_path: Path, memory: int) -> None:
    settings = read_settings(state_dir=tmp_path, l1_bytes=1 << 26)

    async def prepare() -> None:
        store = open_store(settings)
        manifest = await store.snapshots.save("f-1-a", b"plan", memory, b"", {})
        await store.snapshots.verify(manifest)
        assert store.l1 is not None
        for id in manifest.chunk_ids():
            await store.l1.put(id, await store.snapshots.chunks.inner.get(id))
        store.close()

    asyncio.run(prepare())
    damage(settings)
    shown = [verify(tmp_path), verify(tmp_path)]
    assert shown[0] == ("healed  f-1-a: 1 chunk missing, 1 chunk damaged, and all were put back from a nearer tier\n")
    assert shown[1] == "sound  f-1-a: all 7 chunks open\n"


def verify(state: Path) -> str:
    command = [sys.executable, "-m", "thaw.cli", "snapshot", "verify", "--state-dir", str(state)]
    environment = os.environ | {"THAW_L1_BYTES": str(1 << 26)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


# --- kill -9 in the middle of a write to a bucket ---------------------------------------------------------------------

SAVER = """
import asyncio, os, sys
from thaw.config import read_settings
from thaw.store import open_store

async def main():
    store = open_store(read_settings(state_dir=sys.argv[1], origin=sys.argv[2]))
    memory = os.memfd_create("memory")
    for number in range(1000):
        os.pwrite(memory, os.urandom(16 << 20), 0)
        await store.snapshots.save("f-%d-x" % number, b"plan", memory, b"", {})

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 40])
async def test_kill_9_in_the_middle_of_a_write_to_a_bucket_leaves_nothing(
    tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_guard, "LEASE_S", 4.0)  # that of the killed worker has to run out
    monkeypatch.setattr(lease_guard, "RENEW_S", 0.5)
    with aws() as endpoint:
        origin = new_bucket(endpoint)
        store = open_store(read_settings(state_dir=tmp_path, origin=origin))
        chunks = store.snapshots.chunks
        saver = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path), origin])
        try:
            async with asyncio.timeout(60):
                while len(await chunks.names()) < after:
                    assert saver.poll() is None
                    await asyncio.sleep(0.002)
        finally:
            saver.kill()
            await asyncio.to_thread(saver.wait)
        for id in await chunks.names():
            check_whole(await chunks.get(id))
        named: set[str] = set()
        for key in await store.snapshots.snapshot_keys():
            manifest = await store.snapshots.load_manifest(key)
            assert (await store.snapshots.verify(manifest)).sound == manifest.chunk_ids()
            named |= manifest.chunk_ids()
        async with asyncio.timeout(60):
            await store.snapshots.collect()
        assert set(await chunks.names()) == named
        store.close()


def check_whole(envelope: bytes) -> None:
    magic, _, _, length, _ = HEADER.unpack_from(envelope)
    assert (magic, len(envelope)) == (MAGIC, HEADER.size + length + TAG_SIZE)


# --- no room for an image ---------------------------------------------------------------------------------------------


async def test_a_full_memory_is_one_sentence() -> None:
    async def read(put: Put, pieces: object, arrived: object) -> None:
        await asyncio.to_thread(put, 0, memoryview(bytearray(4096)))

    arrival = Arrival(os.open("/dev/full", os.O_RDWR), CHUNK_SIZE, read)
    sentence = (
        r"^The memory image does not fit into this worker's memory \(No space left on device\): free some, or call "
        r"fewer versions at once\.$"
    )
    with pytest.raises(RestoreFailed, match=sentence):
        await arrival.fetch([0])
    assert not arrival.has(0)
    arrival.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted")
def test_a_tmp_without_room_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "frozen").mkdir()
    (tmp_path / "frozen" / "file").write_bytes(os.urandom(1 << 20))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        packed.add(tmp_path / "frozen" / "file", "file")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "thaw-test", str(small)], check=True)
    try:
        sentence = (
            r"^The snapshot's /tmp could not be unpacked \(\[Errno 28\] No space left on device\): give the function "
            r"more ephemeral storage\.$"
        )
        with pytest.raises(RestoreFailed, match=sentence):
            unpack_folder(archive.getvalue(), small)
    finally:
        subprocess.run(["umount", str(small)], check=True)


# --- answers of L2 that are no chunks ---------------------------------------------------------------------------------


async def test_l2_that_answers_with_an_error_is_a_sentence_and_its_connection_goes_on(tmp_path: Path) -> None:
    with valkey(tmp_path / "valkey") as server, redis.Redis(port=server.port) as client:
        cache = RedisCache(server.url, zone="a", limit=1 << 20)
        name = "ab" * 32
        client.rpush(f"thaw:a:chunk:{name}", "not", "a", "string")
        with pytest.raises(StoreUnavailable, match="WRONGTYPE Operation against a key"):
            await cache.get(name)
        await cache.put(name, b"x" * (1 << 20))
        assert await cache.get(name) == b"x" * (1 << 20)
        client.set(f"thaw:a:chunk:{name}", b"y" * ((1 << 20) + 1))
        with pytest.raises(NotAuthentic, match="has 1048577 bytes, but nothing there has more than 1048576"):
            await cache.get(name)
        await cache.put(name, b"")
        assert await cache.get(name) == b""
        assert client.info("clients")["connected_clients"] <= 3
        cache.close()


class SlowProxy:
    """Stands before a server; of answers that are longer than 1000 bytes it hands on 100 bytes every 50 ms."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks |= {
            asyncio.create_task(self._hand_on(reader, here)), asyncio.create_task(self._hand_on(there, writer))
        }  # fmt: skip

    async def _hand_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                while data:
                    target.write(data[:100] if len(data) > 1000 else data)
                    await target.drain()
                    data = data[100:] if len(data) > 1000 else b""
                    await asyncio.sleep(0.05 if data else 0)
        finally:
            target.close()


async def test_l2_that_answers_byte_by_byte_is_given_up(tmp_path: Path) -> None:
    with valkey(tmp_path / "valkey") as server:
        async with SlowProxy(server.port) as url:
            name = "ab" * 32
            quick = RedisCache(server.url, zone="a", limit=1 << 20)
            await quick.put(name, b"x" * (1 << 19))
            slow = RedisCache(url, zone="a", limit=1 << 20, limit_s=0.5)
            async with asyncio.timeout(60):  # all of it would take minutes
                with pytest.raises(StoreUnavailable, match="its answer comes too slowly"):
                    await slow.get(name)
            await quick.put(name, b"small")
            assert await slow.get(name) == b"small"
            quick.close()
            slow.close()


# --- zones and clusters -----------------------------------------------------------------------------------------------


async def test_zones_that_share_a_server_keep_chunks_of_their_own(tmp_path: Path) -> None:
    with valkey(tmp_path / "valkey") as server:
        here, there = (RedisCache(server.url, zone=zone, limit=1 << 20) for zone in ("a", "b"))
        name = "ab" * 32
        await here.put(name, b"of zone a")
        assert not await there.contains(name)
        assert await there.names() == []
        await there.put(name, b"of zone b")
        await there.delete(name)
        assert await here.get(name) == b"of zone a"
        here.close()
        there.close()


async def test_a_cluster_of_three_shares_chunks_out_and_a_moved_slot_is_followed(tmp_path: Path) -> None:
    with valkey_cluster(tmp_path) as nodes:
        cache = RedisCache(nodes[0].url, zone="a", limit=1 << 20)
        contents = {bytes([number] * 32).hex(): os.urandom(1000 + number) for number in range(64)}
        for name, content in contents.items():
            await cache.put(name, content)
        assert {name: await cache.get(name) for name in contents} == contents
        assert set(await cache.names()) == set(contents)
        clients = [redis.Redis(port=node.port) for node in nodes]
        assert all(client.dbsize() > 0 for client in clients)
        assert sum(client.dbsize() for client in clients) == len(contents)
        moved = clients[0].keys()[0]  # to another node, without its content, as if that had been evicted there
        slot = clients[0].execute_command("CLUSTER KEYSLOT", moved)
        for key in clients[0].execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            clients[0].delete(key)
        owner = clients[1].execute_command("CLUSTER MYID").decode()
        for client in (clients[1], clients[0], clients[2]):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", owner)
        name = moved.decode().rpartition(":")[2]
        with pytest.raises(ChunkNotFound):
            await cache.get(name)
        await cache.put(name, b"at its new place")
        assert await cache.get(name) == b"at its new place"
        assert clients[1].get(moved) == b"at its new place"
        for client in clients:
            client.close()
        cache.close()
