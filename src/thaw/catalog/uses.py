"""When versions were called last: kept in memory, and stored now and then, because it changes with every call."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from thaw.catalog import tables
from thaw.catalog.configuration import Configuration
from thaw.catalog.database import Database

_uses = tables.uses
Key = tuple[str, str]


class Uses:
    """Times in seconds since the epoch, by function id and version; `clock` gives the present one."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._times: dict[Key, float] = {}
        self._changed: set[Key] = set()

    async def load(self) -> None:
        """Reads what was stored; call it once, at start. Times that were noted already stay."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(_uses))
            stored = {(row.function_id, row.version): row.last_used for row in rows}
        self._times = stored | self._times

    def note(self, configuration: Configuration) -> None:
        """The configuration is called now."""
        key = (configuration.function_id, configuration.version)
        self._times[key] = self._clock()
        self._changed.add(key)

    def idle_s(self, configuration: Configuration) -> float:
        """Seconds since the last call; a version that was never seen counts from now on."""
        key = (configuration.function_id, configuration.version)
        if key not in self._times:
            self.note(configuration)
        return self._clock() - self._times[key]

    async def store(self, known: Collection[Key] | None = None) -> None:
        """Stores what changed; what is not in `known` (all versions that exist) is forgotten."""
        if known is not None:
            await self._forget([key for key in self._times if key not in known])
        changed, self._changed = self._changed, set()
        if changed:
            await self._save({key: self._times[key] for key in changed if key in self._times})

    async def _save(self, times: Mapping[Key, float]) -> None:
        rows = [{"function_id": key[0], "version": key[1], "last_used": moment} for key, moment in times.items()]
        if not rows:
            return
        statement = insert(_uses)
        replacing = statement.on_conflict_do_update(
            index_elements=[_uses.c.function_id, _uses.c.version], set_={"last_used": statement.excluded.last_used}
        )
        async with self._database.write() as connection:
            await connection.execute(replacing, rows)

    async def _forget(self, keys: Collection[Key]) -> None:
        if not keys:
            return
        async with self._database.write() as connection:
            for function_id, version in keys:
                where = (_uses.c.function_id == function_id) & (_uses.c.version == version)
                await connection.execute(delete(_uses).where(where))
        for key in keys:
            self._times.pop(key, None)
            self._changed.discard(key)
