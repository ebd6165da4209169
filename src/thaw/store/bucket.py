"""The origin (L3) in a bucket of any S3-compatible store.

::

    s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1

Keys are paths as in a folder: `<prefix>/chunks/<first two characters>/<name>`. Credentials are those of the AWS tools'
environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, container and instance roles); nothing is
signed with `anonymous=true`. An object appears whole or not at all, which is S3's own promise.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import S3Store

from thaw.errors import ChunkNotFound, ConfigurationError, NotAuthentic, StoreUnavailable
from thaw.store.chunk_store import Result, Use
from thaw.store.names import check_name
from thaw.store.threads import in_thread

Answer = TypeVar("Answer")
OPTIONS = {"endpoint", "region", "anonymous"}
REQUEST_LIMIT_S = 60
CONNECT_LIMIT_S = 5


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where an origin is. `prefix` is "" or a path without slashes at its ends."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False

    @classmethod
    def parse(cls, url: str, region: str) -> BucketAddress:
        """The address in an s3:// URL; `region` where the URL names none. Raises ConfigurationError."""
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query))
        if parts.scheme != "s3" or not parts.netloc or (unknown := set(given) - OPTIONS):
            fault = f"has no option {sorted(unknown)[0]!r}" if parts.netloc and unknown else "names no bucket"
            raise ConfigurationError(
                f"The setting origin is {url!r}, which {fault}: set THAW_ORIGIN to a folder, or to "
                "s3://bucket/prefix?endpoint=https://host&region=name."
            )
        return cls(
            bucket=parts.netloc,
            prefix=parts.path.strip("/"),
            endpoint=given.get("endpoint"),
            region=given.get("region", region),
            anonymous=given.get("anonymous", "").lower() in ("1", "true", "yes"),
        )

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class Bucket:
    """A `ListedStore` in the folder `folder` of a bucket. `limit` is the most bytes that an object may have."""

    def __init__(self, address: BucketAddress, folder: str, *, limit: int) -> None:
        self._shown = f"{address}/{folder}"
        self._limit = limit
        self._root = "/".join(part for part in (address.prefix, folder) if part)
        self._store = _store(address)
        self.threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="thaw-l3")

    async def get(self, id: str) -> bytes:
        """The content of `id`, as `ChunkStore.get`."""
        return bytes(await self._read(self._path(id), id))

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """What `use` makes of `id`, as `ChunkStore.fetch`."""
        content = await self._read(self._path(id), id)
        return await in_thread(self.threads, lambda: use(content))

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """Stores `id`, as `ChunkStore.put`; the bucket has it for good when this returns."""
        await self._ask(obstore.put_async(self._store, self._path(id), content, use_multipart=False))

    async def contains(self, id: str) -> bool:
        """Whether `id` is there."""
        path = self._path(id)
        with self._sentences():
            try:
                await obstore.head_async(self._store, path)
            except (NotFoundError, FileNotFoundError):
                return False
            return True

    async def delete(self, id: str) -> None:
        """Removes `id`, if it is there."""
        path = self._path(id)
        with self._sentences():
            try:
                await obstore.delete_async(self._store, path)
            except (NotFoundError, FileNotFoundError):
                return

    async def names(self) -> list[str]:
        """Every name that is there."""
        return [name for name, _ in await self.listed()]

    async def listed(self) -> list[tuple[str, datetime]]:
        """Every name that is there, with the moment (by the store's clock) at which it was last written."""
        found: list[tuple[str, datetime]] = []
        with self._sentences():
            async for page in obstore.list(self._store, prefix=self._root):
                found += [(one["path"].rpartition("/")[2], one["last_modified"]) for one in page]
        return found

    async def put_new(self, id: str, content: bytes) -> bool:
        """Stores `id` unless it is there; of several writers one is the first."""
        path = self._path(id)
        with self._sentences():
            try:
                await obstore.put_async(self._store, path, content, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError, FileExistsError):
                return False
            return True

    def close(self) -> None:
        """Ends the threads."""
        self.threads.shutdown()

    def _path(self, id: str) -> str:
        return f"{self._root}/{check_name(id)[:2]}/{id}"

    async def _read(self, path: str, id: str) -> memoryview:
        with self._sentences():
            try:
                result = await obstore.get_async(self._store, path)
            except (NotFoundError, FileNotFoundError):
                raise ChunkNotFound(
                    f"{id} is not in {self._shown}, because it was deleted or never arrived: publish the version again."
                ) from None
            if (size := result.meta["size"]) > self._limit:
                raise NotAuthentic(
                    f"{id} in {self._shown} has {size} bytes, but nothing there has more than {self._limit}: "
                    "delete it and publish the version again."
                )
            return memoryview(await result.bytes_async())

    async def _ask(self, request: Awaitable[Answer]) -> Answer:
        with self._sentences():
            return await request

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turns the client's errors into the store's."""
        try:
            yield
        except (BaseError, OSError) as error:
            raise StoreUnavailable(
                f"{self._shown} does not answer as it should ({_reason(error)}): check its address in THAW_ORIGIN, the "
                "network to it, and that these credentials may read and write there."
            ) from error


def _store(address: BucketAddress) -> S3Store:
    """Retries are the wrapper's business, so the client makes none."""
    config: dict[str, Any] = {"bucket": address.bucket, "region": address.region, "skip_signature": address.anonymous}
    if address.endpoint is not None:
        config["endpoint"] = address.endpoint
    return S3Store(
        **config,
        client_options={
            "allow_http": (address.endpoint or "").startswith("http://"),
            "timeout": timedelta(seconds=REQUEST_LIMIT_S),
            "connect_timeout": timedelta(seconds=CONNECT_LIMIT_S),
        },
        retry_config={"max_retries": 0},
    )


def _reason(error: Exception) -> str:
    """The first line of the client's message, without its debugging appendix."""
    return str(error).strip().splitlines()[0].rstrip(".:")[:300] if str(error).strip() else type(error).__name__
