"""L1: bounded, and one pass over many chunks does not empty it."""

from pathlib import Path

import pytest

from thaw.errors import ChunkNotFound
from thaw.store.disk_cache import DiskCache
from thaw.store.lru2 import Lru2

KIB = 1024


def opened(root: Path, capacity: int = 10 * KIB) -> DiskCache:
    cache = DiskCache(root / "l1", capacity=capacity, limit=1 << 20)
    cache.open()
    return cache


def name(number: int) -> str:
    return f"{number:064x}"


def first_out(uses: Lru2, count: int) -> list[str]:
    victims = uses.victims()
    return [next(victims) for _ in range(count)]


def test_what_was_used_once_goes_before_what_was_used_twice() -> None:
    uses = Lru2(correlated_s=0)
    for moment, id in enumerate("aabbcde", start=1):
        uses.use(id, moment)
    assert first_out(uses, 5) == ["c", "d", "e", "a", "b"]


def test_of_what_was_used_twice_the_oldest_last_use_but_one_goes_first() -> None:
    uses = Lru2(correlated_s=0)
    for moment, id in enumerate("abba", start=1):  # a: 1 and 4, b: 2 and 3
        uses.use(id, moment)
    assert first_out(uses, 2) == ["a", "b"]


def test_uses_that_follow_closely_count_as_one() -> None:
    uses = Lru2(correlated_s=1)
    for moment, id in ((1.0, "a"), (1.1, "a"), (1.2, "a"), (2.0, "b"), (4.0, "b")):
        uses.use(id, moment)
    assert first_out(uses, 1) == ["a"]


def test_what_comes_back_soon_after_it_went_counts_as_used_twice() -> None:
    uses = Lru2(correlated_s=0)
    uses.use("a", 1)
    assert first_out(uses, 1) == ["a"]
    uses.use("b", 2)
    uses.use("a", 3)
    assert first_out(uses, 1) == ["b"]


def test_many_uses_do_not_pile_up() -> None:
    uses = Lru2(correlated_s=0)
    for moment in range(10_000):
        uses.use("a", moment)
    assert len(uses._order) < 100
    assert first_out(uses, 1) == ["a"]


async def test_it_holds_no_more_than_its_capacity(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for number in range(30):
        await cache.put(name(number), bytes(KIB))
        assert cache.size <= 10 * KIB
    assert len(await cache.names()) == 10
    cache.close()


async def test_a_scan_does_not_push_out_what_is_used_again_and_again(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache._uses = Lru2(correlated_s=0)
    hot = [name(number) for number in range(5)]
    for id in hot:
        await cache.put(id, bytes(KIB))
        await cache.get(id)
    for number in range(100, 200):
        await cache.put(name(number), bytes(KIB))
    assert set(hot) <= set(await cache.names())
    cache.close()


async def test_uses_survive_a_restart(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache._uses = Lru2(correlated_s=0)
    for number in range(10):
        await cache.put(name(number), bytes(KIB))
    await cache.get(name(3))
    cache.close()
    again = opened(tmp_path)
    assert again.size == 10 * KIB
    for number in range(100, 109):
        await again.put(name(number), bytes(KIB))
    assert await again.contains(name(3))
    assert not await again.contains(name(0))
    again.close()


async def test_a_smaller_capacity_after_a_restart_is_kept(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    for number in range(10):
        await cache.put(name(number), bytes(KIB))
    cache.close()
    again = opened(tmp_path, 4 * KIB)
    assert again.size == 4 * KIB
    assert len(await again.names()) == 4
    again.close()


async def test_what_is_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    await cache.put(name(1), bytes(KIB))
    await cache.put(name(2), bytes(11 * KIB))
    assert await cache.names() == [name(1)]
    cache.close()


async def test_what_was_removed_behind_its_back_is_forgotten(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    await cache.put(name(1), bytes(KIB))
    (tmp_path / "l1" / "00" / name(1)).unlink()
    with pytest.raises(ChunkNotFound):
        await cache.get(name(1))
    assert cache.size == 0
    cache.close()
