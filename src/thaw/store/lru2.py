"""Which content of a bounded cache goes first: LRU-2, of which one pass over many contents cannot empty the cache.

From O'Neil, O'Neil and Weikum, "The LRU-K page replacement algorithm for database disk buffering" (SIGMOD 1993):
the content goes whose last use but one is longest ago, those that were used only once before all others. Uses that
follow each other closely count as one (the paper's correlated reference period), and the last use of contents that
went is remembered for a while (its retained information), so that what comes back soon is known to be wanted.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

ONCE = 0.0
"""The last use but one of a content that was used once."""
CORRELATED_S = 1.0
REMEMBERED = 4


class Lru2:
    """The uses of everything in a cache. Times are seconds of any clock that does not run backwards."""

    def __init__(self, *, correlated_s: float = CORRELATED_S) -> None:
        self._correlated_s = correlated_s
        self._uses: dict[str, tuple[float, float]] = {}
        self._order: list[tuple[float, float, str]] = []
        self._gone: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._uses)

    def restore(self, id: str, last: float, last_but_one: float) -> None:
        """Puts in a content with the uses that it had when the cache was used before."""
        self._note(id, last, last_but_one)

    def use(self, id: str, now: float) -> tuple[float, float]:
        """Notes a use, or a content that is new; its last use and its last but one (ONCE: none)."""
        known = self._uses.get(id)
        if known is None:
            last, last_but_one = now, self._gone.pop(id, ONCE)
        elif now - known[0] < self._correlated_s:
            last, last_but_one = now, known[1]
        else:
            last, last_but_one = now, known[0]
        self._note(id, last, last_but_one)
        return last, last_but_one

    def forget(self, id: str) -> None:
        """Takes out a content that does not go for want of room."""
        self._uses.pop(id, None)

    def victims(self) -> Iterator[str]:
        """The contents in the order in which they go; each is taken out as it is given."""
        while self._order:
            last_but_one, last, id = heapq.heappop(self._order)
            if self._uses.get(id) == (last, last_but_one):
                del self._uses[id]
                self._remember(id, last)
                yield id

    def _note(self, id: str, last: float, last_but_one: float) -> None:
        self._uses[id] = (last, last_but_one)
        heapq.heappush(self._order, (last_but_one, last, id))
        if len(self._order) > 64 + 4 * len(self._uses):  # most entries are of earlier uses
            self._order = [(before, at, name) for name, (at, before) in self._uses.items()]
            heapq.heapify(self._order)

    def _remember(self, id: str, last: float) -> None:
        self._gone[id] = last
        while len(self._gone) > REMEMBERED * max(len(self._uses), 64):
            self._gone.popitem(last=False)
