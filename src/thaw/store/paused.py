"""A cache that does not answer is left alone for a while: down means slower, and only once."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from thaw.errors import StoreUnavailable
from thaw.store.chunk_store import ListedStore
from thaw.store.policy import Policy

Answer = TypeVar("Answer")


class Paused(Policy):
    """After `failures` calls in a row without an answer none is made for `pause_s`; then a single one tries.

    `clock` gives seconds.
    """

    def __init__(
        self,
        inner: ListedStore,
        *,
        name: str,
        failures: int = 3,
        pause_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._name = name
        self._failures = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failed = 0
        self._next_try = 0.0

    async def _run(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        if self._failed >= self._failures:
            self._take_turn()
        try:
            answer = await call()
        except StoreUnavailable:
            self._failed += 1
            if self._failed == self._failures:
                self._next_try = self._clock() + self._pause_s
            raise
        self._failed = 0
        return answer

    def _take_turn(self) -> None:
        now = self._clock()
        if now < self._next_try:
            raise StoreUnavailable(f"{self._name} did not answer lately, so it is not asked for {self._pause_s:g} s.")
        self._next_try = now + self._pause_s  # this call tries; the others go on without the store until it is back
