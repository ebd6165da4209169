"""The suite `store`: what a restore costs from each tier. A server in this process, its tiers exchanged between calls.

A function has SIZE of memory that does not compress, and its after-restore hook touches 24 MiB of it, so that the
rehearsal at publish records a working set of that size. Each sample is one call in a fresh environment whose snapshot
has been dropped from memory before, from the request to the first response. Cases take turns (A B A B ...).
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from packing import package
from serving import ROLE, newest_runtime, share_runtimes
from stores import valkey
from thaw.catalog.configuration import Configuration
from thaw.chunk import ENVELOPE_LIMIT
from thaw.cli.figures import Record, record
from thaw.cli.measuring import publish, wait_active
from thaw.cli.process import lambda_client
from thaw.config import read_settings
from thaw.invoke.call import Call
from thaw.server import Server
from thaw.store.counted import Counted, Counters
from thaw.store.disk_cache import DiskCache
from thaw.store.policy import Policy
from thaw.store.redis_cache import RedisCache
from thaw.store.tiered import Cache

SUITE = "store"
MIB = 1 << 20
L3_DELAY_S = 0.036
"""S3's median as workers of AWS see it (USENIX ATC 2023, section 5)."""
SOURCE = """
import os
from snapshot_restore_py import register_after_restore
held = bytearray(os.urandom(%(size)d << 20))
def touch():
    return sum(held[at] for at in range(0, 24 << 20, 4096))
register_after_restore(touch)
def handler(event, context):
    return touch()
"""


class Delayed(Policy):
    """An origin that is `delay_s` away."""

    delay_s = 0.0

    async def _run(self, call: Callable[[], Any]) -> Any:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return await call()


class Bench:
    """One running server and the tiers that its restores use."""

    def __init__(self, server: Server, l2: RedisCache, empty_l2: RedisCache, empty_l1: DiskCache) -> None:
        self.server = server
        self.snapshots = server.store.snapshots
        self.client = lambda_client(server.url)
        self.l1, self.l2, self.empty_l1, self.empty_l2 = server.store.l1, l2, empty_l1, empty_l2
        self.origin = Delayed(self.snapshots.chunks.inner)
        self.manifests = Delayed(self.snapshots._manifests)
        self.snapshots.chunks.inner = self.origin
        self.snapshots._manifests = self.manifests
        self.saves: list[float] = []
        self._save = self.snapshots.save
        self.snapshots.save = self._timed_save  # type: ignore[method-assign]

    async def _timed_save(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return await self._save(*arguments)
        finally:
            self.saves.append(time.perf_counter() - begun)

    async def create(self, name: str, size_mib: int) -> None:
        """A function with SnapStart, without a version."""
        runtime = await asyncio.to_thread(newest_runtime)
        await asyncio.to_thread(
            self.client.create_function, FunctionName=name, Runtime=runtime, Role=ROLE, Handler="app.handler",
            Code={"ZipFile": package({"app.py": (SOURCE % {"size": size_mib}).encode()})}, Timeout=60,
            MemorySize=min(10240, 2 * size_mib + 512), SnapStart={"ApplyOn": "PublishedVersions"},
        )  # fmt: skip
        await asyncio.to_thread(wait_active, self.client, name)

    async def publish(self, name: str) -> Configuration:
        """A new version."""
        await asyncio.to_thread(
            self.client.update_function_configuration, FunctionName=name, Description=uuid.uuid4().hex
        )
        await asyncio.to_thread(wait_active, self.client, name)
        version, _ = await asyncio.to_thread(publish, self.client, name)
        return await self.server.catalog.resolve(name, version)

    async def call(self, configuration: Configuration) -> float:
        """Milliseconds to the first response."""
        call = Call(
            configuration=configuration, executed_version=configuration.version,
            invoked_arn=configuration.qualified_arn, payload=b"null", request_id=str(uuid.uuid4()),
        )  # fmt: skip
        begun = time.perf_counter()
        answer = await self.server.invoker.invoke(call)
        seconds = time.perf_counter() - begun
        assert answer.function_error is None, answer.payload
        assert b"Restore Duration" in answer.log_tail, answer.log_tail
        return seconds * 1000

    async def drop(self, configuration: Configuration) -> None:
        """Takes the snapshot out of memory."""
        assert configuration.snapshot_key is not None
        await asyncio.sleep(0.15)  # the environment of the call before closes
        self.server._restoring.forget(configuration.snapshot_key)
        residents = self.server._restoring._residents
        while residents._closing:
            await asyncio.gather(*residents._closing)
        await self.snapshots.chunks.settled()

    async def complete(self, configuration: Configuration) -> None:
        """Waits until all of the image is in memory."""
        place = self.server._restoring._residents._places[str(configuration.snapshot_key)]
        resident = (await place.loading).resident
        if resident._rest is not None:
            await asyncio.wait([resident._rest])
        await self.snapshots.chunks.settled()

    @contextmanager
    def tiers(self, case: str) -> Iterator[None]:
        """The tiers as a worker finds them that has nothing nearer than `case`."""
        assert self.l1 is not None
        l1, l2 = Cache("l1", Counted(self.l1, Counters())), Cache("l2", self.l2)
        empty_l1, empty_l2 = Cache("l1", Counted(self.empty_l1, Counters())), Cache("l2", self.empty_l2)
        caches = {"l1": (l1,), "l2": (empty_l1, l2)}.get(case, (empty_l1, empty_l2))
        before = self.snapshots.chunks.caches
        self.snapshots.chunks.caches = caches
        delay_s = L3_DELAY_S if case == "l3" else 0.0
        self.origin.delay_s = self.manifests.delay_s = delay_s
        try:
            yield
        finally:
            self.origin.delay_s = self.manifests.delay_s = 0.0
            self.snapshots.chunks.caches = before

    async def empty(self) -> None:
        """Empties the tiers that are to be empty."""
        await self.empty_l1.clear()
        for id in await self.empty_l2.names():
            await self.empty_l2.delete(id)

    async def sample(self, configuration: Configuration, case: str) -> float:
        """One restore from a tier."""
        await self.drop(configuration)
        if case in ("l2", "l3"):
            await self.empty()
        with self.tiers(case):
            took = await self.call(configuration)
            await self.drop(configuration)
        return took

    async def warm(self, configuration: Configuration) -> None:
        """Puts all of the snapshot into L1, and the refinement of the first calls behind us."""
        with self.tiers("l1"):
            for _ in range(10):
                await self.call(configuration)
            await asyncio.sleep(1)
            await self.complete(configuration)

    async def without_working_set(self, configuration: Configuration, without: bool) -> None:
        """Takes the recording out of a snapshot's facts: then all of it has to arrive first."""
        key = str(configuration.snapshot_key)
        manifest = await self.snapshots.load_manifest(key)
        if without:
            self._facts = dict(manifest.facts)
            kept = {name: value for name, value in manifest.facts.items() if name != "eager_bytes"}
            await self.snapshots.save_facts(manifest, {**kept, "refined_pieces": []})
        else:
            await self.snapshots.save_facts(manifest, self._facts)


@asynccontextmanager
async def bench(folder: Path):  # type: ignore[no-untyped-def]
    """A server with all tiers."""
    share_runtimes(folder / "state")
    with valkey(folder / "valkey", settings=("--maxmemory", "6gb", "--maxmemory-policy", "allkeys-lru")) as server:
        settings = read_settings(
            state_dir=folder / "state", port=0, idle_timeout_s=0, l1_bytes=8 << 30, l2_url=server.url, cpu_limit=False
        )
        empty_l2 = RedisCache(server.url, zone="empty", limit=ENVELOPE_LIMIT)
        empty_l1 = DiskCache(folder / "empty-l1", capacity=8 << 30, limit=ENVELOPE_LIMIT)
        empty_l1.open()
        async with Server(settings) as running:
            chunks = running.store.snapshots.chunks
            l2 = next(cache.store for cache in chunks.caches if cache.name == "l2")
            yield Bench(running, l2, empty_l2, empty_l1)  # type: ignore[arg-type]
        empty_l1.close()
        empty_l2.close()


async def measure(folder: Path, rounds: int, *, large_mib: int, step: Callable[[str], None]) -> list[Record]:
    """All records of the suite."""
    values: dict[tuple[str, str, str], list[float]] = {}

    def add(case: str, metric: str, unit: str, value: float) -> None:
        values.setdefault((case, metric, unit), []).append(value)

    async with bench(folder) as running:
        await running.create("middle", 256)
        step("publishing 256 MiB")
        for _ in range(3):
            middle = await running.publish("middle")
            add("publish", "save_256_mib", "s", running.saves[-1])
            add("first_after_publish", "first_response", "ms", await running.call(middle))
        await running.warm(middle)
        step("restores from each tier in turn")
        for _ in range(rounds):
            for case in ("l1", "l2", "l3"):
                add(case, "first_response", "ms", await running.sample(middle, case))
            with running.tiers("l1"):
                await running.call(middle)
                await running.complete(middle)
                add("resident", "first_response", "ms", await running.call(middle))
        step("the same without a recorded working set")
        await running.without_working_set(middle, True)
        for _ in range(max(3, rounds // 4)):
            for case in ("l1", "l2", "l3"):
                add(f"{case}_without_working_set", "first_response", "ms", await running.sample(middle, case))
        await running.without_working_set(middle, False)
        step("one chunk from L1")
        for took in await chunk_reads(running, middle, 500):
            add("chunk_l1", "opened", "ms", took)
        step(f"64 MiB and {large_mib} MiB in turn")
        sizes = {}
        for size in (64, large_mib):
            await running.create(f"size-{size}", size)
            sizes[size] = await running.publish(f"size-{size}")
            await running.warm(sizes[size])
        for _ in range(rounds):
            for size, configuration in sizes.items():
                add(f"size_{size}_mib", "first_response", "ms", await running.sample(configuration, "l1"))
    ran_with = {
        "image_mib": 256, "working_set_mib": 24, "l3_delay_ms": L3_DELAY_S * 1000, "kernel": platform.release(),
        "processors": os.cpu_count(), "server_python": platform.python_version(),
    }  # fmt: skip
    return [record(SUITE, case, metric, unit, each, ran_with) for (case, metric, unit), each in values.items()]


async def chunk_reads(running: Bench, configuration: Configuration, count: int) -> list[float]:
    """Milliseconds for single chunks out of L1, opened and verified."""
    manifest = await running.snapshots.load_manifest(str(configuration.snapshot_key))
    places = [place for place in manifest.memory.chunks if place.size == 512 * 1024]
    took = []
    with running.tiers("l1"):
        for number in range(count):
            begun = time.perf_counter()
            await running.snapshots.read_pieces(
                manifest, lambda _, piece: None, [places[number % len(places)].index], lambda _: None
            )
            took.append((time.perf_counter() - begun) * 1000)
    return took
