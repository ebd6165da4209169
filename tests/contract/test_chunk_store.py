"""What every `ChunkStore` does, whatever it is made of. A new tier adds one factory to `STORES`."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from thaw.errors import ChunkNotFound, NotAuthentic
from thaw.store import ChunkStore, Folder

LIMIT = 600_000
STORES: dict[str, Callable[[Path], Folder]] = {
    "folder": lambda root: Folder(root / "chunks", limit=LIMIT),
}
ID = "0123456789abcdef" * 4


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChunkStore]:
    opened = STORES[request.param](tmp_path)
    yield opened
    opened.close()


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
