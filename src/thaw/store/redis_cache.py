"""L2: a Redis or Valkey server, or a cluster of them, that the workers of one zone share.

::

    redis://[user:password@]host:port/0      one server (rediss:// with TLS, unix:///path for a socket)
    redis+cluster://host:port                a cluster, found through any of its nodes (rediss+cluster:// with TLS)

The key of a chunk is `thaw:<zone>:chunk:<id>`, so that zones which share a server keep chunks of their own. What goes
for want of room is the server's to decide: set its `maxmemory`, and `maxmemory-policy` to allkeys-lru or allkeys-lfu.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.cluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from thaw.errors import ChunkNotFound, ConfigurationError, NotAuthentic, StoreFull, StoreUnavailable
from thaw.store.chunk_store import Result, Use
from thaw.store.names import check_name
from thaw.store.redis_values import FRAME, read_value
from thaw.store.threads import Buffers, in_thread

Answer = TypeVar("Answer")
THREADS = 8


class RedisCache:
    """A `ListedStore` in the server or cluster at `url`; `limit` is the most bytes that one content may have.

    Nothing waits longer than `limit_s` for the server. Redis' client in threads is faster here than its asyncio one:
    chunks are large, and a thread that has one opens it, too.
    """

    def __init__(self, url: str, *, zone: str, limit: int, limit_s: float = 1.0) -> None:
        self._prefix = f"thaw:{zone}:chunk:"
        self._limit = limit
        self._limit_s = limit_s
        self._client = _client(url, limit_s)
        self._shown = _without_password(url)
        self._buffers = Buffers(limit + FRAME)
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="thaw-l2")

    async def get(self, id: str) -> bytes:
        """The content of `id`, as `ChunkStore.get`."""
        return await self.fetch(id, bytes)

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """What `use` makes of `id`, as `ChunkStore.fetch`."""
        key = self._key(id)
        return await in_thread(self.threads, lambda: use(self._read(key, id)))

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """Stores `content`, as `ChunkStore.put`."""
        key = self._key(id)
        await self._ask(lambda client: client.set(key, content if isinstance(content, bytes) else bytes(content)))

    async def contains(self, id: str) -> bool:
        """Whether `id` is there."""
        key = self._key(id)
        return bool(await self._ask(lambda client: client.exists(key)))

    async def delete(self, id: str) -> None:
        """Removes `id`, if it is there; its memory is freed in the background."""
        key = self._key(id)
        await self._ask(lambda client: client.unlink(key))

    async def names(self) -> list[str]:
        """Every name of this zone that is there."""
        found = await self._ask(lambda client: list(client.scan_iter(match=self._prefix + "*", count=1000)))
        return [key.decode().removeprefix(self._prefix) for key in found]

    async def put_new(self, id: str, content: bytes) -> bool:
        """Stores `content` unless `id` is there."""
        key = self._key(id)
        return bool(await self._ask(lambda client: client.set(key, content, nx=True)))

    def close(self) -> None:
        """Ends the threads and connections."""
        self.threads.shutdown()
        self._client.close()

    def _key(self, id: str) -> str:
        return self._prefix + check_name(id)

    def _read(self, key: str, id: str) -> memoryview:
        """The content in this thread's buffer, until the thread reads again."""
        buffer = memoryview(self._buffers.own())
        content = self._answer(lambda client: read_value(client, key, buffer, self._limit_s))
        if content is None:
            raise ChunkNotFound(f"{id} is not in {self._shown}, because it was deleted or never arrived.")
        if isinstance(content, int):
            raise NotAuthentic(
                f"{id} in {self._shown} has {content} bytes, but nothing there has more than {self._limit}."
            )
        return content

    async def _ask(self, command: Callable[[Any], Answer]) -> Answer:
        return await in_thread(self.threads, lambda: self._answer(command))

    def _answer(self, command: Callable[[Any], Answer]) -> Answer:
        """Turns the client's errors into the store's."""
        try:
            return command(self._client)
        except redis.exceptions.OutOfMemoryError as error:
            raise StoreFull(
                f"{self._shown} is full ({error}): raise its maxmemory, or set its maxmemory-policy to allkeys-lru."
            ) from error
        except (redis.exceptions.RedisError, OSError) as error:
            raise StoreUnavailable(
                f"{self._shown} does not answer ({_reason(error)}): check that it runs and that THAW_L2_URL names it."
            ) from error


def _client(url: str, limit_s: float) -> Any:
    """Connects when it is first used. Retries are not its business: what it lacks the next tier has."""
    _, cluster, _ = url.partition("+cluster://")
    options: dict[str, Any] = {
        "socket_timeout": limit_s,
        "socket_connect_timeout": limit_s,
    }
    try:
        if cluster:
            return _LateCluster(url.replace("+cluster://", "://", 1), options)
        pool = redis.ConnectionPool.from_url(url, **options, retry=Retry(NoBackoff(), 0))
        return redis.Redis(connection_pool=pool)
    except ValueError as error:
        raise ConfigurationError(
            f"The setting l2_url is {_without_password(url)!r}, which is no address of a Redis server ({error}): set "
            "THAW_L2_URL to redis://host:port, or redis+cluster://host:port."
        ) from error


class _LateCluster:
    """A cluster's client asks for the cluster's map as soon as it is made; this makes it when it is first used."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._url = url
        self._options = options
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = redis.cluster.RedisCluster.from_url(self._url, **self._options)
        return getattr(self._made, name)

    def close(self) -> None:
        """Closes what was opened."""
        if self._made is not None:
            self._made.close()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")
