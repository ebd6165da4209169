"""Where code packages and snapshots live, and in which order tiers are asked.

::

    store = open_store(settings)
    await store.snapshots.save(key, plan, memory_fd, disk, facts)
    await store.objects.put(zip)

Every tier is a `ChunkStore`; policies wrap one. The origin (L3) is a folder or a bucket; docs/formats.md
has what is in it.
"""

from thaw.store.chunk_store import ChunkStore, ListedStore
from thaw.store.folder import Folder
from thaw.store.guard import Guard
from thaw.store.key_file import KeyFile
from thaw.store.objects import ObjectStore
from thaw.store.origin import Store, open_store
from thaw.store.snapshots import SnapshotStore

__all__ = [
    "ChunkStore",
    "Folder",
    "Guard",
    "KeyFile",
    "ListedStore",
    "ObjectStore",
    "SnapshotStore",
    "Store",
    "open_store",
]
