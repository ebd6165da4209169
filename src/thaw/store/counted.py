"""What a store was asked for and how long it took: the figures behind `thaw snapshot` and metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeVar

from thaw.errors import ChunkNotFound, NotAuthentic, StoreError
from thaw.store.chunk_store import BatchReads, ListedStore, Request, Result, Use
from thaw.store.policy import Policy

Answer = TypeVar("Answer")
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the classes into which reads are sorted by duration."""


@dataclass(slots=True)
class Counters:
    """Calls of one tier since the server started. `read_s` has one more class than BUCKETS_S: everything longer."""

    hits: int = 0
    misses: int = 0
    rejected: int = 0
    """Contents that did not open, and were evicted."""
    failures: int = 0
    """Calls that ended in any other error of the store."""
    bytes_read: int = 0
    writes: int = 0
    bytes_written: int = 0
    read_s: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    read_total_s: float = 0.0

    def note_read(self, seconds: float, size: int) -> None:
        """One content that was found."""
        self.hits += 1
        self.bytes_read += size
        self.read_total_s += seconds
        self.read_s[sum(seconds > bound for bound in BUCKETS_S)] += 1

    def read_classes(self) -> list[tuple[float, int]]:
        """How many reads took at most so many seconds, for every bound and at last for infinity."""
        return list(zip((*BUCKETS_S, math.inf), accumulate(self.read_s), strict=True))


class Counted(Policy):
    """Counts and times every call in `counters`."""

    def __init__(self, inner: ListedStore, counters: Counters) -> None:
        super().__init__(inner)
        self.counters = counters

    async def get(self, id: str) -> bytes:
        """See `ChunkStore.get`."""
        return await self.fetch(id, bytes)

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """See `ChunkStore.fetch`; the time includes the use."""
        size = 0

        def noting(content: memoryview) -> Result:
            nonlocal size
            size = len(content)
            return use(content)

        begun = time.perf_counter()
        result = await super().fetch(id, noting)
        self.counters.note_read(time.perf_counter() - begun, size)
        return result

    async def fetch_batch(self, requests: Sequence[Request]) -> list[StoreError | None]:
        """See `BatchReads.fetch_batch`; only for stores that are one. Misses are counted by who asks again."""
        assert isinstance(self.inner, BatchReads)
        sizes: list[int] = []

        def noting(use: Use[object]) -> Use[object]:
            def noted(content: memoryview) -> object:
                result = use(content)
                sizes.append(len(content))
                return result

            return noted

        begun = time.perf_counter()
        failures = await self.inner.fetch_batch([(id, noting(use)) for id, use in requests])
        for size in sizes:
            self.counters.note_read((time.perf_counter() - begun) / len(requests), size)
        return failures

    @property
    def reads_batches(self) -> bool:
        """Whether `fetch_batch` may be called."""
        return isinstance(self.inner, BatchReads)

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """See `ChunkStore.put`."""
        await super().put(id, content)
        self.counters.writes += 1
        self.counters.bytes_written += len(content)

    async def _run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call()
        except ChunkNotFound:
            self.counters.misses += 1
            raise
        except NotAuthentic:
            self.counters.rejected += 1
            raise
        except StoreError:
            self.counters.failures += 1
            raise
