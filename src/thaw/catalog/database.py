"""The SQL database under the catalog: engines, transactions, migrations.

SQLite runs in WAL mode, so reads never wait for a write. `synchronous=FULL` makes each commit reach the disk before
the caller hears of it: NORMAL would survive kill -9 too, but could lose the last commits when the machine itself stops,
and the control plane commits too rarely for the difference (one fsync) to matter.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from thaw.errors import ConfigurationError, StoreFull

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000")


class Database:
    """Two engines on one SQLite file: a writer (one transaction at a time) and a reader."""

    def __init__(self, path: Path) -> None:
        self._path = path
        url = f"sqlite+aiosqlite:///{path}"
        self._writer = _engine(url, "BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
        self._reader = _engine(url, "BEGIN", pool_size=4)
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Makes the file (mode 0600) if there is none, and brings its tables up to date.

        Raises ConfigurationError for a file that is no catalog, or one of a newer version.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.touch(mode=0o600)
        try:
            async with self.write() as connection:
                await connection.run_sync(_migrate)
        except (DatabaseError, CommandError) as error:
            await self.close()
            raise ConfigurationError(
                f"The catalog {self._path} cannot be opened ({_first_line(error)}): use the version of Thaw that wrote "
                "it, or move it away to begin with an empty one."
            ) from error

    async def close(self) -> None:
        """Gives back every connection."""
        await self._reader.dispose()
        await self._writer.dispose()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that holds the write lock from its start; it commits at the end, or rolls back on an error.

        Raises StoreFull where the disk is full.
        """
        try:
            async with self._writing, self._writer.begin() as connection:
                yield connection
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
                raise
            raise StoreFull(
                f"The catalog {self._path} cannot be written, because its disk is full: free space there, and try "
                "again."
            ) from error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection that sees one committed state of the database."""
        async with self._reader.connect() as connection:
            yield connection


def _engine(url: str, begin: str, **pool: Any) -> AsyncEngine:
    """An engine whose transactions open with `begin`; the driver's own, late BEGIN is switched off."""
    engine = create_async_engine(url, **pool)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "thaw.catalog:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
