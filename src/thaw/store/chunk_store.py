"""The one small interface of every tier and of every policy around a tier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from thaw.errors import StoreError

Result = TypeVar("Result")
Use = Callable[[memoryview], Result]
"""What is done with a content, in a thread; the view is not valid afterwards. Raises `NotAuthentic` if it is wrong."""


class ChunkStore(Protocol):
    """Keeps bytes under names. Every store behaves as tests/contract/test_chunk_store.py says:

    - What `put` has returned for survives a crash of the process and, in L3, of the machine. A cache (L1, L2) may
      forget it at any time.
    - A reader sees the whole content or none; a `put` that was interrupted leaves nothing to be seen.
    - `put` of a name that is there replaces its content; `delete` of one that is not there is no error.
    - Names are those that `thaw.store.names.check_name` passes; anything else raises `ValueError`.
    - All may be called at the same time by any number of tasks, threads and processes.
    """

    async def get(self, id: str) -> bytes:
        """The content. Raises `ChunkNotFound`, `StoreUnavailable`, or `NotAuthentic` if it is larger than it may be."""
        ...

    async def fetch(self, id: str, use: Use[Result]) -> Result:
        """What `use` makes of the content, in a thread that holds it anyway: reading and opening cost one hop.

        Raises as `get`, and what `use` raises.
        """
        ...

    async def put(self, id: str, content: bytes | bytearray | memoryview) -> None:
        """Stores `content`. Raises `StoreFull` or `StoreUnavailable`; then nothing is left behind."""
        ...

    async def contains(self, id: str) -> bool:
        """Whether `get` would find it. Raises `StoreUnavailable`."""
        ...

    async def delete(self, id: str) -> None:
        """Removes it for good. Raises `StoreUnavailable`."""
        ...


Request = tuple[str, Use[object]]
"""An id, and what is done with its content."""


@runtime_checkable
class BatchReads(Protocol):
    """A store on this machine, in which a single read takes less time than going to a thread for it."""

    async def fetch_batch(self, requests: Sequence[Request]) -> list[StoreError | None]:
        """Several `fetch`es in one thread, one after the other; what each raised."""
        ...


class ListedStore(ChunkStore, Protocol):
    """A store that can say what it holds, and that lets only one of two writers be first; the origin is one."""

    async def names(self) -> list[str]:
        """All names, in no order. Raises `StoreUnavailable`."""
        ...

    async def put_new(self, id: str, content: bytes) -> bool:
        """Stores `content` unless the name is there already; whether it did. Raises as `put`."""
        ...
