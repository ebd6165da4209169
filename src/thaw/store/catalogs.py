"""Which catalogs have things in an origin.

Deployment packages are stored once per content, whoever brought them, and only a catalog knows which are still used. So
what one catalog no longer needs may be deleted only where no other one could need it.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from thaw.errors import ConfigurationError
from thaw.store.chunk_store import ListedStore

MARK_LIMIT = 64
"""Bytes of the largest mark that is read; they are empty, their name is all."""
_NAME_FILE = "catalog-name"


class Catalogs:
    """The marks that catalogs leave in an origin; `own` is the name of this server's."""

    def __init__(self, store: ListedStore, own: str) -> None:
        self._store = store
        self._own = own

    async def join(self) -> list[str]:
        """Leaves this catalog's mark; the names of the others. Raises `StoreFull`, `StoreUnavailable`."""
        await self._store.put_new(self._own, b"")
        return await self.others()

    async def others(self) -> list[str]:
        """Names of the other catalogs, ascending. Raises `StoreUnavailable`."""
        return sorted(name for name in await self._store.names() if name != self._own)


def catalog_name(state_dir: Path) -> str:
    """The name of the catalog in this state folder: random, made when it is first asked for, then kept.

    Raises `ConfigurationError` where the folder cannot be used.
    """
    path = state_dir / _NAME_FILE
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return path.read_text().strip() or _begun_anew(path)
        with open(descriptor, "w") as file:
            file.write(name := uuid.uuid4().hex)
        return name
    except OSError as error:
        raise ConfigurationError(
            f"The state folder {state_dir} cannot be used ({error.strerror}): name another one with --state-dir."
        ) from error


def _begun_anew(path: Path) -> str:
    """A server was killed after it had made the file and before it had written it."""
    path.unlink()
    return catalog_name(path.parent)
