"""What hangs on a function ($LATEST), a version or an alias and is not part of a configuration.

Each kind is a dataclass; at most one of a kind hangs on one qualifier, and it goes when what it hangs on is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from thaw.catalog import records, refusals, tables
from thaw.catalog.configuration import LATEST, Alias, Configuration, names_version
from thaw.catalog.database import Database
from thaw.catalog.transitions import new_revision

_table = tables.attachments
Holder = Configuration | Alias
Writing = Callable[[str], AbstractAsyncContextManager[AsyncConnection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The resource policy; its RevisionId is that of what it hangs on."""

    statements: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventInvokeConfig:
    """What becomes of asynchronous calls: retries (None: 2), greatest age in seconds (None: 6 hours), destinations."""

    maximum_retry_attempts: int | None = None
    maximum_event_age_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None
    last_modified: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservedConcurrency:
    """How many calls of a function may run at one time; hangs on $LATEST, holds for all versions together."""

    executions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionedConcurrency:
    """Environments that are kept ready for a version or an alias. `status` is IN_PROGRESS, READY or FAILED."""

    requested: int
    allocated: int = 0
    available: int = 0
    status: str = "IN_PROGRESS"
    status_reason: str | None = None
    last_modified: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionUrl:
    """A URL of a function ($LATEST) or of an alias. `cors` is the API's Cors structure."""

    url_id: str
    auth_type: str
    invoke_mode: str = "BUFFERED"
    cors: Mapping[str, Any] | None = None
    creation_time: str = ""
    last_modified_time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeManagement:
    """When a version takes a newer runtime: Auto, FunctionUpdate or Manual (then with the runtime's version ARN)."""

    update_runtime_on: str = "Auto"
    runtime_version_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recursion:
    """Whether Lambda ends loops of a function with itself ("Terminate") or lets them be ("Allow")."""

    recursive_loop: str = "Terminate"


Kind = TypeVar("Kind")
_KINDS: Mapping[type[Any], str] = {
    Policy: "policy",
    EventInvokeConfig: "event-invoke",
    ReservedConcurrency: "reserved-concurrency",
    ProvisionedConcurrency: "provisioned-concurrency",
    FunctionUrl: "url",
    RuntimeManagement: "runtime-management",
    Recursion: "recursion",
}


@dataclass(frozen=True, slots=True)
class Attached(Generic[Kind]):
    """An attachment and what it hangs on."""

    function_name: str
    qualifier: str
    value: Kind


class Attachments:
    """Reads and changes attachments. A qualifier None means $LATEST."""

    def __init__(self, database: Database, writing: Writing, function_arn: Callable[[str, str | None], str]) -> None:
        self._database = database
        self._writing = writing
        self._function_arn = function_arn

    async def holder(self, name: str, qualifier: str | None) -> Holder:
        """The configuration or alias that a qualifier names. Raises ResourceNotFoundException."""
        async with self._database.read() as connection:
            return await self.load_holder(connection, name, qualifier)

    async def get(self, kind: type[Kind], name: str, qualifier: str | None = None) -> Kind | None:
        """The attachment of a kind, or None."""
        async with self._database.read() as connection:
            return await load(connection, kind, name, qualifier or LATEST)

    async def of_function(self, kind: type[Kind], name: str) -> list[Attached[Kind]]:
        """The attachments of a kind of a function and its versions and aliases, by qualifier."""
        async with self._database.read() as connection:
            return await listed(connection, kind, _table.c.function_name == name)

    async def everywhere(self, kind: type[Kind]) -> list[Attached[Kind]]:
        """Every attachment of a kind."""
        async with self._database.read() as connection:
            return await listed(connection, kind)

    async def by_lookup(self, kind: type[Kind], lookup: str) -> Attached[Kind] | None:
        """The attachment with a second name (a URL's id), or None."""
        async with self._database.read() as connection:
            found = await listed(connection, kind, _table.c.lookup == lookup)
        return found[0] if found else None

    async def change(
        self,
        kind: type[Kind],
        name: str,
        qualifier: str | None,
        change: Callable[[Holder, Kind | None], Kind | None],
        *,
        lookup: Callable[[Kind], str] | None = None,
        new_revision_of_holder: bool = False,
    ) -> Kind | None:
        """Replaces an attachment by what `change` makes of it (None: there is none any more) and returns it.

        Raises ResourceNotFoundException where the holder is not there, and what `change` raises; then nothing changed.
        """
        async with self._writing(name) as connection:
            holder = await self.load_holder(connection, name, qualifier)
            before = await load(connection, kind, name, qualifier or LATEST)
            after = change(holder, before)
            found_by = lookup(after) if lookup is not None and after is not None else None
            await save(connection, kind, name, qualifier or LATEST, after, found_by)
            if new_revision_of_holder:
                await _renew(connection, holder)
        return after

    async def load_holder(self, connection: AsyncConnection, name: str, qualifier: str | None) -> Holder:
        """As `holder`, inside a transaction."""
        version = qualifier or LATEST
        if not names_version(version) and "$" not in version:
            alias = await records.load_alias(connection, name, version)
            if alias is None:
                raise refusals.alias_not_found(self._function_arn(name, version))
            return alias
        stored = await records.load_version(connection, name, records.version_number(version))
        if stored is None:
            raise refusals.function_not_found(self._function_arn(name, qualifier))
        return stored[0]


async def load(connection: AsyncConnection, kind: type[Kind], name: str, qualifier: str) -> Kind | None:
    """An attachment, or None; inside a transaction."""
    row = (await connection.execute(select(_table.c.document).where(_is(kind, name, qualifier)))).first()
    return None if row is None else msgspec.json.decode(row.document, type=kind)


async def save(
    connection: AsyncConnection, kind: type[Any], name: str, qualifier: str, value: Any, lookup: str | None = None
) -> None:
    """Stores an attachment in place of the one before it; None takes it away."""
    await connection.execute(delete(_table).where(_is(kind, name, qualifier)))
    if value is not None:
        row = {"function_name": name, "qualifier": qualifier, "kind": _KINDS[kind], "lookup": lookup}
        await connection.execute(insert(_table).values(**row, document=msgspec.json.encode(value).decode()))


async def listed(connection: AsyncConnection, kind: type[Kind], *where: Any) -> list[Attached[Kind]]:
    """The attachments of a kind that fit conditions; inside a transaction."""
    query = select(_table).where(_table.c.kind == _KINDS[kind], *where)
    rows = await connection.execute(query.order_by(_table.c.function_name, _table.c.qualifier))
    return [Attached(row.function_name, row.qualifier, msgspec.json.decode(row.document, type=kind)) for row in rows]


def _is(kind: type[Any], name: str, qualifier: str) -> Any:
    return (_table.c.function_name == name) & (_table.c.qualifier == qualifier) & (_table.c.kind == _KINDS[kind])


async def _renew(connection: AsyncConnection, holder: Holder) -> None:
    """Gives what an attachment hangs on a new RevisionId, as Lambda does when its policy changes."""
    if isinstance(holder, Alias):
        await records.save_alias(connection, replace(holder, revision_id=new_revision()))
        return
    number = records.version_number(holder.version)
    stored = await records.load_version(connection, holder.function_name, number)
    serving = stored[1] if stored is not None else None
    await records.save_version(connection, replace(holder, revision_id=new_revision()), serving=serving)
