"""At most so many calls at once, and none for longer than a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from thaw.errors import StoreUnavailable
from thaw.store.chunk_store import ListedStore
from thaw.store.policy import Policy

Answer = TypeVar("Answer")


class Limited(Policy):
    """Keeps `at_once` calls under way; one that takes longer than `limit_s` counts as not answered.

    The limit does not include waiting for a turn.
    """

    def __init__(self, inner: ListedStore, *, name: str, at_once: int, limit_s: float) -> None:
        super().__init__(inner)
        self._name = name
        self._turns = asyncio.Semaphore(at_once)
        self._limit_s = limit_s

    async def _run(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        async with self._turns:
            try:
                async with asyncio.timeout(self._limit_s):
                    return await call()
            except TimeoutError:
                raise StoreUnavailable(
                    f"{self._name} did not answer within {self._limit_s:g} s: check its load and the network to it."
                ) from None
