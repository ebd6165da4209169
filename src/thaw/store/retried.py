"""A store that does not answer is asked again, after a random pause that grows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from thaw.errors import StoreFull, StoreUnavailable
from thaw.store.chunk_store import ListedStore
from thaw.store.policy import Policy

Answer = TypeVar("Answer")


class Retried(Policy):
    """Up to `attempts` calls while the store is unavailable; other errors are final.

    The pause before attempt n is random between 0 and `pause_s` x 2^(n-1): callers that failed together do not come
    back together ("full jitter", AWS Architecture Blog, "Exponential Backoff And Jitter").
    """

    def __init__(self, inner: ListedStore, *, attempts: int = 4, pause_s: float = 0.1) -> None:
        super().__init__(inner)
        self._attempts = attempts
        self._pause_s = pause_s

    async def _run(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        for attempt in range(1, self._attempts):
            try:
                return await call()
            except StoreFull:
                raise
            except StoreUnavailable:
                await asyncio.sleep(random.uniform(0, self._pause_s * 2 ** (attempt - 1)))
        return await call()
