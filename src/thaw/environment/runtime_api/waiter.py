"""Who waits for an answer."""

from __future__ import annotations

from typing import Protocol


class Waiter(Protocol):
    """A connection whose request is answered later."""

    def send(self, answer: bytes) -> None: ...

    @property
    def port(self) -> int: ...
