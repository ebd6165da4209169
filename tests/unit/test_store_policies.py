"""What wraps a store: asking again, limits, pauses, sharing a request, counting."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from thaw.errors import ChunkNotFound, StoreFull, StoreUnavailable
from thaw.store import Folder
from thaw.store.coalesced import Coalesced
from thaw.store.counted import Counted, Counters
from thaw.store.limited import Limited
from thaw.store.paused import Paused
from thaw.store.policy import Policy
from thaw.store.retried import Retried
from thaw.store.tiered import Cache, Tiered

ID = "ab" * 32


class Scripted(Policy):
    """A folder whose next calls raise what the test wants; counts calls, and may hold them up."""

    def __init__(self, root: Path) -> None:
        super().__init__(Folder(root, limit=1 << 20))
        self.errors: list[Exception] = []
        self.calls = 0
        self.most = 0
        self.running = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def _run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            if self.errors:
                raise self.errors.pop(0)
            return await call()
        finally:
            self.running -= 1


@pytest.fixture
async def scripted(tmp_path: Path) -> Scripted:
    store = Scripted(tmp_path / "chunks")
    await store.inner.put(ID, b"content")
    return store


DOWN = StoreUnavailable("It does not answer.")


async def test_a_store_that_answers_in_the_end_is_asked_again(scripted: Scripted) -> None:
    scripted.errors = [DOWN, DOWN]
    assert await Retried(scripted, attempts=3, pause_s=0.001).get(ID) == b"content"
    assert scripted.calls == 3


async def test_the_last_attempt_decides(scripted: Scripted) -> None:
    scripted.errors = [DOWN] * 3
    with pytest.raises(StoreUnavailable):
        await Retried(scripted, attempts=3, pause_s=0.001).get(ID)
    assert scripted.calls == 3


@pytest.mark.parametrize("error", [StoreFull("Full."), ChunkNotFound("Not there.")])
async def test_final_errors_are_not_repeated(scripted: Scripted, error: Exception) -> None:
    scripted.errors = [error]
    with pytest.raises(type(error)):
        await Retried(scripted, pause_s=0.001).put(ID, b"x")
    assert scripted.calls == 1


async def test_no_more_calls_at_once_than_the_limit(scripted: Scripted) -> None:
    limited = Limited(scripted, name="it", at_once=3, limit_s=60)
    await asyncio.gather(*(limited.get(ID) for _ in range(20)))
    assert scripted.most == 3


async def test_a_call_that_takes_too_long_counts_as_not_answered(scripted: Scripted) -> None:
    scripted.gate.clear()
    with pytest.raises(StoreUnavailable, match=r"^L2 did not answer within 0.01 s: check its load"):
        await Limited(scripted, name="L2", at_once=1, limit_s=0.01).get(ID)


async def test_a_store_that_is_down_is_left_alone_and_tried_by_one(scripted: Scripted) -> None:
    now = 100.0
    paused = Paused(scripted, name="L2", failures=2, pause_s=5, clock=lambda: now)
    scripted.errors = [DOWN, DOWN]
    for _ in range(10):
        with pytest.raises(StoreUnavailable):
            await paused.get(ID)
    assert scripted.calls == 2
    now, scripted.errors = 105.0, [DOWN]
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await paused.get(ID)
    assert scripted.calls == 3
    now = 110.0
    assert [await paused.get(ID) for _ in range(3)] == [b"content"] * 3


async def test_a_miss_is_an_answer(scripted: Scripted) -> None:
    paused = Paused(scripted, name="L2", failures=2)
    for _ in range(5):
        with pytest.raises(ChunkNotFound):
            await paused.get("cd" * 32)
    assert await paused.get(ID) == b"content"


async def test_concurrent_misses_share_one_request(scripted: Scripted) -> None:
    with ThreadPoolExecutor(1) as threads:
        shared = Coalesced(scripted, threads)
        found = await asyncio.gather(*(shared.fetch(ID, bytes) for _ in range(10)))
    assert (found, scripted.calls) == ([b"content"] * 10, 1)


async def test_the_shared_error_goes_to_all_and_the_next_call_asks_again(scripted: Scripted) -> None:
    scripted.errors = [DOWN]
    with ThreadPoolExecutor(1) as threads:
        shared = Coalesced(scripted, threads)
        found = await asyncio.gather(*(shared.get(ID) for _ in range(3)), return_exceptions=True)
        assert found == [DOWN] * 3
        assert await shared.get(ID) == b"content"
    assert scripted.calls == 2


async def test_one_that_is_cancelled_does_not_end_the_others(scripted: Scripted) -> None:
    scripted.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        shared = Coalesced(scripted, threads)
        first, second = (asyncio.create_task(shared.get(ID)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        scripted.gate.set()
        assert await second == b"content"
        assert first.cancelled()
    assert scripted.calls == 1


async def test_when_all_are_cancelled_the_next_asks_anew(scripted: Scripted) -> None:
    scripted.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        shared = Coalesced(scripted, threads)
        alone = asyncio.create_task(shared.get(ID))
        await asyncio.sleep(0.001)
        alone.cancel()
        await asyncio.gather(alone, return_exceptions=True)
        scripted.gate.set()
        assert await shared.get(ID) == b"content"


async def test_calls_are_counted(scripted: Scripted) -> None:
    counters = Counters()
    counted = Counted(scripted, counters)
    await counted.get(ID)
    await counted.put("cd" * 32, b"four")
    with pytest.raises(ChunkNotFound):
        await counted.get("ef" * 32)
    scripted.errors = [DOWN]
    with pytest.raises(StoreUnavailable):
        await counted.get(ID)
    assert (counters.hits, counters.misses, counters.failures, counters.writes) == (1, 1, 1, 1)
    assert (counters.bytes_read, counters.bytes_written, sum(counters.read_s)) == (7, 4, 1)


async def test_what_is_deleted_is_not_put_into_a_cache_afterwards(scripted: Scripted, tmp_path: Path) -> None:
    near = Folder(tmp_path / "near", limit=1 << 20)
    tiered = Tiered(scripted, [Cache("l1", near)])
    await tiered.fetch(ID, bytes)
    await tiered.delete(ID)
    await tiered.settled()
    assert await near.names() == []


async def test_a_cache_is_filled_only_with_what_opened(scripted: Scripted, tmp_path: Path) -> None:
    near = Folder(tmp_path / "near", limit=1 << 20)
    tiered = Tiered(scripted, [Cache("l1", near)])

    def refuse(content: memoryview) -> None:
        raise ValueError("it is not what it should be")

    with pytest.raises(ValueError):
        await tiered.fetch(ID, refuse)
    await tiered.settled()
    assert await near.names() == []
    await tiered.fetch(ID, bytes)
    await tiered.settled()
    assert await near.names() == [ID]
