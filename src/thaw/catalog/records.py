"""Rows of the tables to Configurations and Aliases, and back; every function works inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thaw.catalog import tables
from thaw.catalog.configuration import LATEST, Alias, Configuration, names_version

_versions = tables.versions
_aliases = tables.aliases


def version_number(version: str) -> int:
    """The number under which a version is stored; $LATEST is 0, and what cannot be a version's number is -1."""
    if version == LATEST:
        return 0
    # "0", "01" and numbers beyond SQL's integers were never given to a version.
    return int(version) if version[:1] != "0" and len(version) < 10 and names_version(version) else -1


def decode_configuration(document: str) -> Configuration:
    """A stored Configuration; members that older documents lack get their defaults."""
    return msgspec.json.decode(document, type=Configuration)


def _encode(value: Configuration | Alias | Mapping[str, str]) -> str:
    return msgspec.json.encode(value).decode()


def _columns(configuration: Configuration) -> dict[str, Any]:
    return {
        "state": configuration.state,
        "last_update_status": configuration.last_update_status,
        "code_key": configuration.code_key,
        "document": _encode(configuration),
    }


async def insert_function(connection: AsyncConnection, latest: Configuration, tags: Mapping[str, str]) -> None:
    """Stores a new function and its $LATEST."""
    row = {"name": latest.function_name, "function_id": latest.function_id, "tags": _encode(tags)}
    await connection.execute(insert(tables.functions).values(row))
    await insert_version(connection, latest)


async def insert_version(connection: AsyncConnection, configuration: Configuration) -> None:
    """Stores a configuration that is not there yet."""
    key = {"function_name": configuration.function_name, "number": version_number(configuration.version)}
    await connection.execute(insert(_versions).values(key | _columns(configuration)))


async def save_version(
    connection: AsyncConnection, configuration: Configuration, *, serving: Configuration | None = None
) -> None:
    """Replaces a stored configuration, and what serves calls in its place meanwhile."""
    values = _columns(configuration) | {"serving": None if serving is None else _encode(serving)}
    where = (_versions.c.function_name == configuration.function_name) & (
        _versions.c.number == version_number(configuration.version)
    )
    await connection.execute(update(_versions).where(where).values(values))


async def load_version(
    connection: AsyncConnection, name: str, number: int
) -> tuple[Configuration, Configuration | None] | None:
    """A configuration and, where another one serves calls in its place, that one."""
    query = select(_versions.c.document, _versions.c.serving).where(
        _versions.c.function_name == name, _versions.c.number == number
    )
    row = (await connection.execute(query)).first()
    return None if row is None else (_configuration(row), _serving(row))


def _configuration(row: Any) -> Configuration:
    return decode_configuration(row.document)


def _serving(row: Any) -> Configuration | None:
    return None if row.serving is None else decode_configuration(row.serving)


async def next_number(connection: AsyncConnection, name: str) -> int:
    """Takes the next version number of a function's name."""
    number = await last_number(connection, name) + 1
    counters = tables.counters
    if number == 1:
        await connection.execute(insert(counters).values(function_name=name, last_version=1))
    else:
        taken = update(counters).where(counters.c.function_name == name).values(last_version=number)
        await connection.execute(taken)
    return number


async def last_number(connection: AsyncConnection, name: str) -> int:
    """The highest version number that was ever given under a name; 0 where there is none."""
    counters = tables.counters
    query = select(counters.c.last_version).where(counters.c.function_name == name)
    return int((await connection.execute(query)).scalar() or 0)


async def versions_of(connection: AsyncConnection, name: str, after: int, limit: int | None) -> list[Configuration]:
    """The configurations of a function with a number above `after`, in order."""
    query = select(_versions.c.document).where(_versions.c.function_name == name, _versions.c.number > after)
    rows = await connection.execute(query.order_by(_versions.c.number).limit(limit))
    return [_configuration(row) for row in rows]


async def configurations(
    connection: AsyncConnection, after: tuple[str, int], limit: int, all_versions: bool
) -> list[Configuration]:
    """Configurations of all functions beyond (name, number), in order; only $LATEST unless `all_versions`."""
    query = select(_versions.c.document).where(tuple_(_versions.c.function_name, _versions.c.number) > after)
    if not all_versions:
        query = query.where(_versions.c.number == 0)
    rows = await connection.execute(query.order_by(_versions.c.function_name, _versions.c.number).limit(limit))
    return [_configuration(row) for row in rows]


async def unsettled(connection: AsyncConnection) -> list[Configuration]:
    """Every configuration that is Pending or whose update is in progress."""
    query = select(_versions.c.document).where(
        (_versions.c.state == "Pending") | (_versions.c.last_update_status == "InProgress")
    )
    rows = await connection.execute(query.order_by(_versions.c.function_name, _versions.c.number))
    return [_configuration(row) for row in rows]


async def delete_version(connection: AsyncConnection, name: str, number: int) -> None:
    """Forgets one version and what hangs on it."""
    await _delete_attachments(connection, name, str(number))
    where = (_versions.c.function_name == name) & (_versions.c.number == number)
    await connection.execute(delete(_versions).where(where))


async def delete_function(connection: AsyncConnection, name: str) -> None:
    """Forgets a function, its versions and aliases; its counter stays."""
    await connection.execute(delete(tables.functions).where(tables.functions.c.name == name))


async def load_tags(connection: AsyncConnection, name: str) -> dict[str, str]:
    """The tags of a function."""
    query = select(tables.functions.c.tags).where(tables.functions.c.name == name)
    return msgspec.json.decode((await connection.execute(query)).scalar_one(), type=dict[str, str])


async def save_tags(connection: AsyncConnection, name: str, tags: Mapping[str, str]) -> None:
    """Replaces the tags of a function."""
    await connection.execute(update(tables.functions).where(tables.functions.c.name == name).values(tags=_encode(tags)))


async def load_alias(connection: AsyncConnection, name: str, alias: str) -> Alias | None:
    """An alias, or None."""
    query = select(_aliases.c.document).where(_aliases.c.function_name == name, _aliases.c.name == alias)
    document = (await connection.execute(query)).scalar()
    return None if document is None else msgspec.json.decode(document, type=Alias)


async def aliases_of(connection: AsyncConnection, name: str) -> Sequence[Alias]:
    """The aliases of a function by name."""
    query = select(_aliases.c.document).where(_aliases.c.function_name == name).order_by(_aliases.c.name)
    return [msgspec.json.decode(row.document, type=Alias) for row in await connection.execute(query)]


async def insert_alias(connection: AsyncConnection, alias: Alias) -> None:
    """Stores a new alias."""
    row = {"function_name": alias.function_name, "name": alias.name, "document": _encode(alias)}
    await connection.execute(insert(_aliases).values(row))


async def save_alias(connection: AsyncConnection, alias: Alias) -> None:
    """Replaces a stored alias."""
    where = (_aliases.c.function_name == alias.function_name) & (_aliases.c.name == alias.name)
    await connection.execute(update(_aliases).where(where).values(document=_encode(alias)))


async def delete_alias(connection: AsyncConnection, name: str, alias: str) -> None:
    """Forgets an alias and what hangs on it; one that is not there is no error."""
    await _delete_attachments(connection, name, alias)
    where = (_aliases.c.function_name == name) & (_aliases.c.name == alias)
    await connection.execute(delete(_aliases).where(where))


async def _delete_attachments(connection: AsyncConnection, name: str, qualifier: str) -> None:
    table = tables.attachments
    where = (table.c.function_name == name) & (table.c.qualifier == qualifier)
    await connection.execute(delete(table).where(where))


async def code_usage(connection: AsyncConnection) -> tuple[int, int]:
    """How many functions there are, and the bytes of all their code packages (each version counts, as on Lambda)."""
    rows = await connection.execute(select(_versions.c.number, _versions.c.document))
    found = [(row.number, _configuration(row).code_size) for row in rows]
    return sum(number == 0 for number, _ in found), sum(size for _, size in found)


async def used_code_keys(connection: AsyncConnection, keys: Sequence[str]) -> set[str]:
    """Those of the keys that some configuration names, the serving ones included."""
    rows = await connection.execute(
        select(_versions.c.code_key, _versions.c.serving).where(
            _versions.c.code_key.in_(keys) | _versions.c.serving.is_not(None)
        )
    )
    found: set[str] = set()
    for row in rows:
        serving = _serving(row)
        found.update({row.code_key} if serving is None else {row.code_key, serving.code_key})
    return found & set(keys)
