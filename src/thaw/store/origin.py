"""Puts the stores of one server together: the origin, the caches before it, and the keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.chunk import ENVELOPE_LIMIT, MANIFEST_LIMIT, KeyService
from thaw.config import Settings
from thaw.store.bucket import Bucket, BucketAddress
from thaw.store.catalogs import MARK_LIMIT, Catalogs, catalog_name
from thaw.store.chunk_store import ListedStore
from thaw.store.coalesced import Coalesced
from thaw.store.counted import Counted, Counters
from thaw.store.disk_cache import DiskCache
from thaw.store.folder import Folder
from thaw.store.guard import Guard, Guarding
from thaw.store.key_file import KeyFile
from thaw.store.key_ring import KeyRing
from thaw.store.kms import SECRET_LIMIT, KmsKey, kms_client
from thaw.store.lease_guard import LeaseGuard
from thaw.store.limited import Limited
from thaw.store.objects import OBJECT_LIMIT, ObjectStore
from thaw.store.paused import Paused
from thaw.store.redis_cache import RedisCache
from thaw.store.retried import Retried
from thaw.store.snapshots import SnapshotStore
from thaw.store.tiered import Cache, Tiered

L2_LIMIT_S = 0.5
"""A cache in the same zone that needs longer is of no use: S3 itself takes 36 ms (p50), 175 ms (p99.9)."""
L2_AT_ONCE = 16
L3_LIMIT_S = 60.0
L3_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Store:
    """All that must outlive a server, besides the catalog: deployment packages and snapshots.

    `l1` is this worker's cache on disk, None where there is none; `counters` are the tiers' figures by name.
    """

    objects: ObjectStore
    snapshots: SnapshotStore
    catalogs: Catalogs
    l1: DiskCache | None
    counters: dict[str, Counters]
    _closing: tuple[Callable[[], None], ...]

    def close(self) -> None:
        """Ends all threads."""
        self.snapshots.close()
        for close in self._closing:
            close()


@dataclass(frozen=True, slots=True)
class _Origin:
    """The folders of an origin, each a store, and what keeps its users apart."""

    chunks: ListedStore
    manifests: ListedStore
    code: ListedStore
    keys: ListedStore
    catalogs: ListedStore
    guard: Guarding
    closing: tuple[Callable[[], None], ...]


def open_store(settings: Settings, *, serving: bool = True) -> Store:
    """The stores of a server with these settings; its key file is under `settings.state_dir`.

    Removes what killed writers have left half-written. Only the server itself is `serving`: L1 belongs to it,
    and others merely look into it. Raises `StoreUnavailable` if a folder cannot be used, and
    `ConfigurationError` if the key file or an address cannot.
    """
    bucket = settings.origin_bucket
    origin = _folder_origin(settings.origin_dir) if bucket is None else _bucket_origin(bucket, settings.region)
    counters = {name: Counters() for name in ("l1", "l2", "l3")}
    l1 = _l1(settings, serving)
    l2 = _l2(settings)
    caches = []
    if l1 is not None:
        caches.append(Cache("l1", Counted(l1, counters["l1"])))
    if l2 is not None:
        caches.append(Cache("l2", Counted(_patient(l2), counters["l2"]), published=True))
    chunks = Tiered(Counted(origin.chunks, counters["l3"]), caches)
    snapshots = SnapshotStore(chunks, origin.manifests, _keys(settings, origin.keys), origin.guard)
    closing = (*origin.closing, *(store.close for store in (l1, l2) if store is not None))
    catalogs = Catalogs(origin.catalogs, catalog_name(settings.state_dir))
    return Store(ObjectStore(origin.code), snapshots, catalogs, l1, counters, closing)


def _folder_origin(root: Path) -> _Origin:
    chunks = Folder(root / "chunks", limit=ENVELOPE_LIMIT)
    manifests = Folder(root / "manifests", limit=MANIFEST_LIMIT, threads=2)
    code = Folder(root / "code", limit=OBJECT_LIMIT, threads=2)
    keys = Folder(root / "keys", limit=SECRET_LIMIT, threads=1)
    catalogs = Folder(root / "catalogs", limit=MARK_LIMIT, threads=1)
    folders = (chunks, manifests, code, keys, catalogs)
    for folder in folders:
        folder.remove_abandoned()
    closing = tuple(folder.close for folder in folders)
    return _Origin(chunks, manifests, code, keys, catalogs, Guard(root / "lock"), closing)


def _bucket_origin(url: str, region: str) -> _Origin:
    address = BucketAddress.parse(url, region)
    limits = {
        "chunks": ENVELOPE_LIMIT,
        "manifests": MANIFEST_LIMIT,
        "code": OBJECT_LIMIT,
        "keys": SECRET_LIMIT,
        "catalogs": MARK_LIMIT,
    }
    buckets = {name: Bucket(address, name, limit=limit) for name, limit in limits.items()}
    leases = Bucket(address, "leases", limit=0)
    stores = {
        name: Retried(Limited(bucket, name=f"{address}/{name}", at_once=L3_AT_ONCE, limit_s=L3_LIMIT_S))
        for name, bucket in buckets.items()
    }
    chunks = Coalesced(stores["chunks"], buckets["chunks"].threads)
    return _Origin(
        chunks, stores["manifests"], stores["code"], stores["keys"], stores["catalogs"], LeaseGuard(leases),
        closing=tuple(bucket.close for bucket in (*buckets.values(), leases)),
    )  # fmt: skip


def _l1(settings: Settings, serving: bool) -> DiskCache | None:
    if not settings.l1_capacity:
        return None
    cache = DiskCache(settings.state_dir / "l1", capacity=settings.l1_capacity, limit=ENVELOPE_LIMIT)
    if serving:
        cache.open()
    return cache


def _l2(settings: Settings) -> RedisCache | None:
    if settings.l2_url is None:
        return None
    return RedisCache(settings.l2_url, zone=settings.zone, limit=ENVELOPE_LIMIT, limit_s=L2_LIMIT_S)


def _patient(l2: RedisCache) -> ListedStore:
    limited = Limited(l2, name="L2", at_once=L2_AT_ONCE, limit_s=2 * L2_LIMIT_S)
    return Paused(Coalesced(limited, l2.threads), name="L2")


def _keys(settings: Settings, secrets: ListedStore) -> KeyRing:
    default = KeyFile(settings.state_dir / "keys" / "default.key")
    default.prepare()
    clients: dict[str, Any] = {}

    def kms(arn: str) -> KeyService:
        """A key's region stands in its ARN."""
        parts = arn.split(":")
        region = parts[3] if len(parts) > 3 and parts[3] else settings.region
        if region not in clients:
            clients[region] = kms_client(settings.kms_endpoint, region)
        return KmsKey(arn, clients[region], secrets)

    return KeyRing(default, kms)
