"""Resident snapshots: loaded once, kept within bounds, never closed under a clone that is being made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from thaw.errors import ChunkNotFound
from thaw.invoke.residents import Residents
from waiting import until


class Fake:
    def __init__(self, size: int) -> None:
        self.size = size
        self.closed = False

    async def close(self) -> None:
        self.closed = True


def loader(resident: Fake) -> Callable[[], Awaitable[Fake]]:
    async def load() -> Fake:
        return resident

    return load


@pytest.fixture
async def residents() -> AsyncIterator[Residents[Fake]]:
    residents: Residents[Fake] = Residents(100)
    yield residents
    await residents.close()


async def test_a_snapshot_is_loaded_once_for_all_who_ask_at_the_same_time(residents: Residents[Fake]) -> None:
    loads = 0
    gate = asyncio.Event()

    async def load() -> Fake:
        nonlocal loads
        loads += 1
        await gate.wait()
        return Fake(10)

    async def use() -> Fake:
        async with residents.hold("k", load) as resident:
            return resident

    users = [asyncio.create_task(use()) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    assert len({id(resident) for resident in await asyncio.gather(*users)}) == 1
    assert loads == 1


async def test_beyond_the_limit_the_one_used_longest_ago_is_closed(residents: Residents[Fake]) -> None:
    fakes = {name: Fake(40) for name in "abc"}
    for name in "aba":
        async with residents.hold(name, loader(fakes[name])):
            pass
    async with residents.hold("c", loader(fakes["c"])):
        pass
    await until(lambda: fakes["b"].closed)
    assert not fakes["a"].closed
    assert residents.size == 80


async def test_what_is_in_use_is_closed_only_afterwards(residents: Residents[Fake]) -> None:
    fake = Fake(10)
    async with residents.hold("k", loader(fake)):
        residents.drop("k")
        await asyncio.sleep(0.01)
        assert not fake.closed
    await until(lambda: fake.closed)


async def test_one_larger_than_the_limit_is_served_all_the_same(residents: Residents[Fake]) -> None:
    async with residents.hold("k", loader(Fake(1000))) as resident:
        assert resident.size == 1000


async def test_a_failed_load_reaches_all_and_is_tried_again(residents: Residents[Fake]) -> None:
    async def fail() -> Fake:
        await asyncio.sleep(0)
        raise ChunkNotFound("gone")

    async def use() -> None:
        async with residents.hold("k", fail):
            raise AssertionError("it was not loaded")

    outcomes = await asyncio.gather(use(), use(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ChunkNotFound, ChunkNotFound]
    async with residents.hold("k", loader(Fake(1))) as resident:
        assert resident.size == 1


async def test_a_call_that_gives_up_does_not_end_the_load_for_others(residents: Residents[Fake]) -> None:
    gate = asyncio.Event()
    fake = Fake(1)

    async def load() -> Fake:
        await gate.wait()
        return fake

    async def use() -> Fake:
        async with residents.hold("k", load) as resident:
            return resident

    impatient, patient = asyncio.create_task(use()), asyncio.create_task(use())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await patient is fake
