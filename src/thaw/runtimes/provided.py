"""The runtimes provided.al2 and provided.al2023: an executable `bootstrap` that the function brings along.

It is looked for in the function's code, then in its layers, and speaks the Runtime API by itself. What it finds
besides is this machine's /usr, /lib and /bin in the place of Amazon Linux.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from thaw.runtimes.runtime import Circumstances, Installed, Runtime

NAMES = ("provided.al2023", "provided.al2")
BOOTSTRAP = "bootstrap"
# Lambda's order; where neither has one, the start of the first fails, and says so.
_IN_CODE, _IN_LAYERS = "/var/task/bootstrap", "/opt/bootstrap"


class ProvidedRuntimes:
    """The `Language` of functions that bring their runtime along; it needs nothing of this machine."""

    def __init__(self, *, region: str) -> None:
        self._region = region

    def serves(self, name: str) -> bool:
        """Those that AWS has."""
        return name in NAMES

    async def names(self) -> Sequence[str]:
        """All of them."""
        return NAMES

    async def installed(self) -> Sequence[Installed]:
        """See `Language`."""
        return [Installed(name, "", None) for name in NAMES]

    async def find(self, name: str) -> Runtime:
        """See `Language`."""
        digest = _digest(name)
        return Runtime(
            name=name,
            version=f"{name.removeprefix('provided.')}.0",
            mounts=(),
            argv=(_IN_CODE,),
            variables={},
            digest=digest,
            version_arn=f"arn:aws:lambda:{self._region}::runtime:{digest}",
            adapt=entry_point,
        )

    def digest(self, name: str) -> str | None:
        """See `Language`. The function's own files are part of its version, so nothing here can change."""
        return _digest(name)


def entry_point(circumstances: Circumstances) -> tuple[str, ...]:
    """The bootstrap of the code, else that of the layers."""
    layers = circumstances.layers
    in_code = os.access(circumstances.task / BOOTSTRAP, os.X_OK)
    if not in_code and layers is not None and os.access(layers / BOOTSTRAP, os.X_OK):
        return (_IN_LAYERS,)
    return (_IN_CODE,)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
