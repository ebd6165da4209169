"""Puts the stores of one server together."""

from __future__ import annotations

from dataclasses import dataclass

from thaw.chunk import ENVELOPE_LIMIT, MANIFEST_LIMIT
from thaw.config import Settings
from thaw.store.folder import Folder
from thaw.store.guard import Guard
from thaw.store.key_file import KeyFile
from thaw.store.objects import OBJECT_LIMIT, ObjectStore
from thaw.store.snapshots import SnapshotStore


@dataclass(frozen=True, slots=True)
class Store:
    """All that must outlive a server, besides the catalog: deployment packages and snapshots."""

    objects: ObjectStore
    snapshots: SnapshotStore
    folders: tuple[Folder, ...]

    def close(self) -> None:
        """Ends all threads."""
        self.snapshots.close()
        for folder in self.folders:
            folder.close()


def open_store(settings: Settings) -> Store:
    """The stores under `settings.origin_dir`, with the key file under `settings.state_dir`.

    Removes what killed writers have left half-written. Raises `StoreUnavailable` if the folder cannot be used, and
    `ConfigurationError` if the key file cannot.
    """
    root = settings.origin_dir
    chunks = Folder(root / "chunks", limit=ENVELOPE_LIMIT)
    manifests = Folder(root / "manifests", limit=MANIFEST_LIMIT, threads=2)
    code = Folder(root / "code", limit=OBJECT_LIMIT, threads=2)
    for folder in (chunks, manifests, code):
        folder.remove_abandoned()
    keys = KeyFile(settings.state_dir / "keys" / "default.key")
    keys.prepare()
    snapshots = SnapshotStore(chunks, manifests, keys, Guard(root / "lock"))
    return Store(ObjectStore(code), snapshots, (chunks, manifests, code))
