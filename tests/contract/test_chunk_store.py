"""What every `ChunkStore` does, whatever it is made of. A new tier adds one factory to `STORES`."""

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stores import aws, new_bucket, valkey
from thaw.errors import ChunkNotFound, NotAuthentic
from thaw.store import ChunkStore, Folder, ListedStore
from thaw.store.bucket import Bucket, BucketAddress
from thaw.store.coalesced import Coalesced
from thaw.store.counted import Counted, Counters
from thaw.store.disk_cache import DiskCache
from thaw.store.limited import Limited
from thaw.store.paused import Paused
from thaw.store.redis_cache import RedisCache
from thaw.store.retried import Retried
from thaw.store.tiered import Cache, Tiered

LIMIT = 600_000
ID = "0123456789abcdef" * 4


@contextmanager
def folder(root: Path) -> Iterator[Folder]:
    store = Folder(root / "chunks", limit=LIMIT)
    yield store
    store.close()


@contextmanager
def disk_cache(root: Path) -> Iterator[DiskCache]:
    store = DiskCache(root / "l1", capacity=1 << 24, limit=LIMIT)
    store.open()
    yield store
    store.close()


class Servers:
    """Started when they are first wanted, and used by all tests of this file."""

    stack = ExitStack()
    started: ClassVar[dict[str, Any]] = {}

    @classmethod
    def of(cls, name: str, start: Callable[[], AbstractContextManager[Any]]) -> Any:
        if name not in cls.started:
            cls.started[name] = cls.stack.enter_context(start())
        return cls.started[name]


@pytest.fixture(scope="module", autouse=True)
def _servers() -> Iterator[None]:
    with Servers.stack:
        yield
    Servers.started.clear()


@contextmanager
def redis_cache(root: Path, *, cluster: bool = False) -> Iterator[RedisCache]:
    folder = root.parent / f"valkey-{cluster}"
    server = Servers.of(folder.name, lambda: valkey(folder, cluster=cluster))
    store = RedisCache(server.url, zone=f"zone-{uuid.uuid4().hex}", limit=LIMIT)
    yield store
    store.close()


@contextmanager
def bucket(root: Path) -> Iterator[ListedStore]:
    address = BucketAddress.parse(new_bucket(Servers.of("aws", aws)), "us-east-1")
    store = Bucket(address, "chunks", limit=LIMIT)
    yield Retried(store)  # the test server fails some requests that come at the same time
    store.close()


@contextmanager
def wrapped(root: Path) -> Iterator[ListedStore]:
    """Every policy, in the order in which an origin has them."""
    with folder(root) as inner, ThreadPoolExecutor(2) as threads:
        limited = Limited(inner, name="l3", at_once=4, limit_s=60)
        yield Counted(Coalesced(Paused(Retried(limited), name="l3"), threads), Counters())


@contextmanager
def tiered(root: Path) -> Iterator[Tiered]:
    with ExitStack() as stack:
        origin, near = stack.enter_context(folder(root)), stack.enter_context(disk_cache(root))
        yield Tiered(origin, [Cache("l1", near), Cache("l2", stack.enter_context(folder(root / "l2")), published=True)])


STORES: dict[str, Callable[[Path], AbstractContextManager[ListedStore]]] = {
    "folder": folder,
    "l1": disk_cache,
    "l2": redis_cache,
    "l2-cluster": lambda root: redis_cache(root, cluster=True),
    "bucket": bucket,
    "wrapped": wrapped,
    "tiered": tiered,
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ListedStore]:
    with STORES[request.param](tmp_path) as opened:
        yield opened
        if isinstance(opened, Tiered):
            await opened.settled()


@pytest.mark.parametrize("size", [0, 1, 524320, LIMIT])
async def test_get_gives_what_was_put(store: ChunkStore, size: int) -> None:
    content = os.urandom(size)
    await store.put(ID, content)
    assert await store.get(ID) == content
    assert await store.contains(ID)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_any_buffer_can_be_put(store: ChunkStore, kind: type) -> None:
    await store.put(ID, kind(b"content"))
    assert await store.get(ID) == b"content"


async def test_what_is_not_there_is_named(store: ChunkStore) -> None:
    assert not await store.contains(ID)
    with pytest.raises(ChunkNotFound, match=f"^{ID} is not in .+, because it was deleted or never arrived"):
        await store.get(ID)


async def test_put_replaces(store: ChunkStore) -> None:
    await store.put(ID, b"old and longer")
    await store.put(ID, b"new")
    assert await store.get(ID) == b"new"


async def test_delete_removes_and_may_be_repeated(store: ChunkStore) -> None:
    await store.put(ID, b"content")
    await store.delete(ID)
    await store.delete(ID)
    assert not await store.contains(ID)
    with pytest.raises(ChunkNotFound):
        await store.get(ID)


async def test_names_do_not_touch_each_other(store: ChunkStore) -> None:
    names = [ID, ID[:-1] + "0", "f-1-abc", "f-$LATEST-abc", "my_function-12.json", "ab", "a", "incoming"]
    await asyncio.gather(*(store.put(name, name.encode()) for name in names))
    await store.delete(ID)
    assert [await store.get(name) for name in names[1:]] == [name.encode() for name in names[1:]]


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "../../etc/passwd", "a/b", "/absolute", "nul\0", "line\nbreak", "-option", "x" * 241]
)
async def test_unsafe_names_are_refused(store: ChunkStore, name: str) -> None:
    for attempt in (store.get(name), store.put(name, b""), store.contains(name), store.delete(name)):
        with pytest.raises(ValueError, match="cannot name something in a store"):
            await attempt


async def test_readers_see_whole_contents_while_writers_replace_them(store: ChunkStore) -> None:
    contents = [bytes([number]) * 300_000 for number in range(4)]
    await store.put(ID, contents[0])
    writers = [asyncio.create_task(store.put(ID, content)) for content in contents for _ in range(3)]
    while not all(writer.done() for writer in writers):
        assert await store.get(ID) in contents
    await asyncio.gather(*writers)


async def test_something_larger_than_it_may_be_is_not_read(store: ChunkStore) -> None:
    await store.put(ID, bytes(LIMIT + 1))
    with pytest.raises(NotAuthentic, match=f"nothing there has more than {LIMIT}"):
        await store.get(ID)


async def test_fetch_uses_the_whole_content_in_another_thread(store: ChunkStore) -> None:
    content = os.urandom(524320)
    await store.put(ID, content)
    seen = await store.fetch(ID, lambda view: (bytes(view), threading.current_thread()))
    assert seen[0] == content
    assert seen[1] is not threading.current_thread()


async def test_what_the_use_raises_is_raised(store: ChunkStore) -> None:
    await store.put(ID, b"content")

    def refuse(view: memoryview) -> None:
        raise KeyError(bytes(view))

    with pytest.raises(KeyError, match="content"):
        await store.fetch(ID, refuse)


async def test_names_are_those_that_are_there(store: ListedStore) -> None:
    assert await store.names() == []
    for name in (ID, "f-$LATEST-abc", "a"):
        await store.put(name, b"content")
    await store.delete("a")
    assert set(await store.names()) == {ID, "f-$LATEST-abc"}


async def test_one_of_two_writers_of_a_new_name_is_the_first(store: ListedStore) -> None:
    assert await store.put_new(ID, b"first")
    assert not await store.put_new(ID, b"second")
    assert await store.get(ID) == b"first"
