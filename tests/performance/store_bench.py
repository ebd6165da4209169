"""The suite `store`: what a restore costs from each tier. A server in this process, its tiers exchanged between calls.

A function has SIZE of memory that does not compress, and its after-restore hook touches 24 MiB of it, in runs of three
pages all over it (real working sets have runs of two to three: REAP, ASPLOS 2021), so that the rehearsal at publish
records a working set of that size. Each sample is one call in a fresh environment whose snapshot has been dropped from
memory before, from the request to the first response. Cases take turns (A B A B ...).

What recording and layout give is shown by three versions of the same function: as published; with the recorded pieces
fetched first, but where they were in the image; and with nothing recorded, so that all of the image has to arrive.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from packing import package
from serving import ROLE, newest_runtime, share_runtimes
from stores import valkey
from thaw.catalog.configuration import Configuration
from thaw.chunk import CHUNK_SIZE, ENVELOPE_LIMIT
from thaw.cli.figures import Record, record
from thaw.cli.measuring import publish, wait_active
from thaw.cli.process import lambda_client
from thaw.config import read_settings
from thaw.invoke.call import Call
from thaw.publish import snapshotting
from thaw.restore.resident import read_extents
from thaw.server import Server
from thaw.snapshot import Layout, lay_out
from thaw.store.counted import Counted, Counters
from thaw.store.disk_cache import DiskCache
from thaw.store.policy import Policy
from thaw.store.redis_cache import RedisCache
from thaw.store.tiered import Cache

SUITE = "store"
PAUSE_S = 0.1
"""Between calls: an environment closes, and the next clone is forked ahead, as it is in life."""
MIB = 1 << 20
L3_DELAY_S = 0.036
"""S3's median as workers of AWS see it (USENIX ATC 2023, section 5)."""
SOURCE = """
import os
from snapshot_restore_py import register_after_restore
held = bytearray(os.urandom(%(size)d << 20))
runs = 24 * 256 // 3
def touch():
    return sum(held[run * (len(held) // runs) + page * 4096] for run in range(runs) for page in range(3))
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

    async def publish_recorded_only(self, name: str) -> Configuration:
        """A new version whose working set is known, and whose image keeps its order."""
        pieces: list[int] = []

        def in_its_order(plan: bytes, memory: int, touched: Sequence[int]) -> Layout:
            layout = lay_out(plan, memory, [])
            pieces.extend(pieces_of(layout.plan, touched))
            return layout

        with mock.patch.object(snapshotting, "lay_out", in_its_order):
            configuration = await self.publish(name)
        await self._change_facts(configuration, {"refined_pieces": pieces})
        return configuration

    async def publish_unrecorded(self, name: str) -> Configuration:
        """A new version that no rehearsal was made of: all of its image has to arrive before a clone runs."""
        configuration = await self.publish(name)
        await self._change_facts(configuration, {"eager_bytes": 1 << 62, "refined_pieces": []})
        return configuration

    async def _change_facts(self, configuration: Configuration, facts: dict[str, Any]) -> None:
        manifest = await self.snapshots.load_manifest(str(configuration.snapshot_key))
        await self.snapshots.save_facts(manifest, {**manifest.facts, **facts})
        await self.drop(configuration)


def pieces_of(plan: bytes, touched: Sequence[int]) -> list[int]:
    """The pieces of an image that hold these pages, in the order of the pages."""
    extents = sorted(read_extents(plan))
    starts = [address for address, _, _ in extents]
    found: list[int] = []
    for page in touched:
        address, size, offset = extents[max(0, bisect_right(starts, page) - 1)]
        if address <= page < address + size:
            found.append((offset + page - address) // CHUNK_SIZE)
    return list(dict.fromkeys(found))


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
            gc.collect()
            gc.freeze()  # as `thaw serve` does
            yield Bench(running, l2, empty_l2, empty_l1)  # type: ignore[arg-type]
        empty_l1.close()
        empty_l2.close()


VARIANTS = ("", "_recorded_only", "_unrecorded")
TIERS = ("l1", "l2", "l3")


class Measuring:
    """One run of the suite; values by case, metric and unit."""

    def __init__(self, running: Bench, rounds: int, step: Callable[[str], None]) -> None:
        self.running = running
        self.rounds = rounds
        self.step = step
        self.values: dict[tuple[str, str, str], list[float]] = {}

    def add(self, case: str, metric: str, unit: str, value: float) -> None:
        self.values.setdefault((case, metric, unit), []).append(value)

    async def publishes(self) -> None:
        """How long publishing takes, and the first call after it beside the hundredth."""
        self.step("publishing 256 MiB")
        running = self.running
        await running.create("middle", 256)
        for _ in range(5):
            begun = time.perf_counter()
            version = await running.publish("middle")
            self.add("publish", "total", "s", time.perf_counter() - begun)
            self.add("publish", "save_256_mib", "s", running.saves[-1])
            await asyncio.sleep(PAUSE_S)
            self.add("first_after_publish", "first_response", "ms", await running.call(version))
        for number in range(100):
            await asyncio.sleep(PAUSE_S)
            took = await running.call(version)
            if number >= 80:
                self.add("hundredth_after_publish", "first_response", "ms", took)

    async def resident(self) -> None:
        """A snapshot that came out of the store beside one that never was in it, both in memory."""
        self.step("resident, with and without the store")
        running = self.running
        never, stored = await running.publish("middle"), await running.publish("middle")
        await running.drop(stored)
        with running.tiers("l3"):
            for version in (never, stored):
                for _ in range(10):
                    await running.call(version)
                    await asyncio.sleep(PAUSE_S)
            await running.complete(stored)
            for _ in range(2 * self.rounds):
                for case, version in (("resident", stored), ("without_the_store", never)):
                    await asyncio.sleep(PAUSE_S)
                    self.add(case, "first_response", "ms", await running.call(version))

    async def tiers(self) -> None:
        """From each tier, with and without a recorded working set, with and without its layout."""
        self.step("restores from each tier in turn, with and without recording and layout")
        running = self.running
        versions = {
            "": await running.publish("middle"),
            "_recorded_only": await running.publish_recorded_only("middle"),
            "_unrecorded": await running.publish_unrecorded("middle"),
        }
        for version in versions.values():
            await running.warm(version)
        for number in range(self.rounds):
            for variant, version in versions.items():
                if variant and number % 3:
                    continue  # these take long
                for tier in TIERS:
                    self.add(tier + variant, "first_response", "ms", await running.sample(version, tier))
        self.step("one chunk from L1")
        for took in await chunk_reads(running, versions[""], 500):
            self.add("chunk_l1", "opened", "ms", took)

    async def sizes(self, large_mib: int) -> None:
        """The same working set in images of two sizes."""
        self.step(f"64 MiB and {large_mib} MiB in turn")
        running = self.running
        versions = {}
        for name, size in (("small", 64), ("large", large_mib)):
            await running.create(name, size)
            versions[name] = await running.publish(name)
            await running.warm(versions[name])
        for _ in range(self.rounds):
            for name, version in versions.items():
                self.add(f"{name}_image", "first_response", "ms", await running.sample(version, "l1"))


async def measure(folder: Path, rounds: int, *, large_mib: int, step: Callable[[str], None]) -> list[Record]:
    """All records of the suite."""
    async with bench(folder) as running:
        measuring = Measuring(running, rounds, step)
        await measuring.publishes()
        await measuring.resident()
        await measuring.tiers()
        await measuring.sizes(large_mib)
    ran_with = {
        "image_mib": 256, "large_image_mib": large_mib, "working_set_mib": 24, "l3_delay_ms": L3_DELAY_S * 1000,
        "kernel": platform.release(), "processors": os.cpu_count(), "server_python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    return [
        record(SUITE, case, metric, unit, each, ran_with) for (case, metric, unit), each in measuring.values.items()
    ]


def summary(records: Sequence[Record]) -> list[str]:
    """What recording and layout give, and the ratios that matter, in lines for people; all are of medians."""
    p50 = {(one.case, one.metric): one.p50 for one in records}

    def median(case: str) -> float:
        return p50[case, "first_response"]

    lines = [f"{'restore and first response, ms':32} {'laid out':>10} {'recorded':>10} {'neither':>10} {'gain':>8}"]
    for tier in TIERS:
        laid_out, recorded, neither = (median(tier + variant) for variant in VARIANTS)
        gain = f"{neither / laid_out:.1f} ×"
        lines.append(f"{'from ' + tier.upper():32} {laid_out:10.1f} {recorded:10.1f} {neither:10.1f} {gain:>8}")
    for first, second in (
        ("resident", "without_the_store"), ("first_after_publish", "hundredth_after_publish"),
        ("large_image", "small_image"),
    ):  # fmt: skip
        shown = f"{first} / {second}".replace("_", " ")
        lines.append(
            f"{shown:54} {median(first):7.1f} / {median(second):.1f} ms = {median(first) / median(second):.2f}"
        )
    return lines


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
