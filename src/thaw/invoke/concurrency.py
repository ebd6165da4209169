"""How many calls may run at one time: each function's reservation, and what the account has left for the others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from thaw.catalog.configuration import Configuration
from thaw.errors import ServiceError

# Reservations always leave this much to functions without one (Lambda's rule), so fewer calls need no look-up.
ALWAYS_LEFT: Final = 100
# What is left is looked up at most this often; a reservation takes that long to bound the others.
LOOK_UP_S: Final = 1.0


class ConcurrencyLimit:
    """Counts the running calls of one server.

    `unreserved()` tells how many calls functions without reserved concurrency may run at one time, all together.
    """

    def __init__(self, unreserved: Callable[[], Awaitable[int]]) -> None:
        self._unreserved = unreserved
        self._left = ALWAYS_LEFT
        self._looked_up = float("-inf")
        self._running: Counter[str] = Counter()
        self._sharing = 0

    @property
    def running(self) -> int:
        """Calls that run now."""
        return self._running.total()

    def running_of(self, configuration: Configuration) -> int:
        """Calls of a function, all versions together, that run now."""
        return self._running[configuration.function_id]

    async def enter(self, configuration: Configuration) -> bool:
        """Counts a call in; pass what this returns to `leave`.

        Raises ServiceError TooManyRequestsException where the function's reservation or the account is used up.
        """
        reserved = configuration.reserved_concurrency
        if reserved is None:
            if self._sharing >= self._left:
                await self._look_up()
                if self._sharing >= self._left:
                    raise exceeded("ConcurrentInvocationLimitExceeded")
            self._sharing += 1
        elif self._running[configuration.function_id] >= reserved:
            raise exceeded("ReservedFunctionConcurrentInvocationLimitExceeded")
        self._running[configuration.function_id] += 1
        return reserved is None

    def leave(self, configuration: Configuration, shared: bool) -> None:
        """Counts a call out."""
        self._sharing -= shared
        self._running[configuration.function_id] -= 1
        if not self._running[configuration.function_id]:
            del self._running[configuration.function_id]

    async def _look_up(self) -> None:
        if time.monotonic() - self._looked_up >= LOOK_UP_S:
            self._left = await self._unreserved()
            self._looked_up = time.monotonic()


def exceeded(reason: str) -> ServiceError:
    """Lambda's answer to a call too many."""
    return ServiceError("TooManyRequestsException", "Rate Exceeded.", reason=reason)
