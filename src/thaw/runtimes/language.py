"""What a family of runtimes (Python, Java, ...) has to do, so that a host can serve it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from thaw.runtimes.runtime import Installed, Runtime


class Language(Protocol):
    """One family of runtimes."""

    def serves(self, name: str) -> bool:
        """Whether `name` ("python3.13") is one of the family, be it on this machine or not."""
        ...

    async def names(self) -> Sequence[str]:
        """Those that this machine has, newest first; nothing is installed."""
        ...

    async def installed(self) -> Sequence[Installed]:
        """All that this machine has, newest first, those of one name in order of preference."""
        ...

    async def find(self, name: str) -> Runtime:
        """The runtime `name`, complete with its client; the first time this may take some seconds.

        Raises `RuntimeNotFound` with a sentence for the function's owner.
        """
        ...

    def digest(self, name: str) -> str | None:
        """`Runtime.digest` of a runtime that `find` gave, computed from the files as they are now; None: a part is
        gone."""
        ...
