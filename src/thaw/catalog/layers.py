"""Layers: numbered, immutable packages that functions mount at /opt, and who may use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from thaw.catalog import refusals, tables
from thaw.catalog.configuration import UsedLayer
from thaw.catalog.database import Database
from thaw.catalog.transitions import new_revision, now

_layers = tables.layer_versions
Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVersion:
    """One version of a layer.

    `code_sha256` is base64 as Lambda shows it, `content_key` the same digest in hex, `code_size` bytes of the zip.
    Lists that were not given are None. `policy_revision` is "" until there is a first statement.
    """

    layer_name: str
    layer_arn: str
    version: int = 0
    description: str = ""
    license_info: str | None = None
    compatible_runtimes: tuple[str, ...] | None = None
    compatible_architectures: tuple[str, ...] | None = None
    created_date: str = ""
    code_sha256: str
    code_size: int
    content_key: str
    statements: tuple[Statement, ...] = ()
    policy_revision: str = ""

    @property
    def version_arn(self) -> str:
        """The ARN with the version's number."""
        return f"{self.layer_arn}:{self.version}"

    def suits(self, runtime: str | None, architecture: str | None) -> bool:
        """Whether the version says that it is made for both; None asks for nothing."""
        return (runtime is None or runtime in (self.compatible_runtimes or ())) and (
            architecture is None or architecture in (self.compatible_architectures or ())
        )


class LayerCatalog:
    """The layers of one catalog.

    `changing` is to be held from looking a layer up until the function that uses it is stored, and from deleting a
    layer version until its content is gone: otherwise a function could be left with a layer that no longer exists.
    """

    def __init__(self, database: Database, *, region: str, account_id: str) -> None:
        self._database = database
        self._arn = f"arn:aws:lambda:{region}:{account_id}:layer:"
        self.changing = asyncio.Lock()

    def arn(self, name: str, version: int | None = None) -> str:
        """The ARN of a layer, or of one of its versions."""
        return self._arn + name if version is None else f"{self._arn}{name}:{version}"

    async def publish(self, draft: LayerVersion) -> LayerVersion:
        """Stores the next version of a layer; returns it with its number and date."""
        async with self._database.write() as connection:
            number = await _next_number(connection, draft.layer_name)
            layer = replace(draft, version=number, created_date=now())
            row = {"layer_name": layer.layer_name, "number": number, "content_key": layer.content_key}
            await connection.execute(insert(_layers).values(**row, document=_encode(layer)))
        return layer

    async def version(self, name: str, number: int) -> LayerVersion | None:
        """A layer version, or None."""
        async with self._database.read() as connection:
            return await _load(connection, name, number)

    async def versions(self, name: str | None = None) -> list[LayerVersion]:
        """The versions of one layer or of all layers: by name, the newest first."""
        query = select(_layers.c.document).order_by(_layers.c.layer_name, _layers.c.number.desc())
        if name is not None:
            query = query.where(_layers.c.layer_name == name)
        async with self._database.read() as connection:
            return [_decode(row) for row in await connection.execute(query)]

    async def delete(self, name: str, number: int) -> LayerVersion | None:
        """Forgets a layer version and returns it; None where there was none. Functions that use it keep it."""
        async with self._database.write() as connection:
            layer = await _load(connection, name, number)
            await connection.execute(delete(_layers).where(_is(name, number)))
        return layer

    async def use(self, arns: Iterable[tuple[str, str, int]]) -> tuple[UsedLayer, ...]:
        """Layers as a function is to use them, of (ARN, name, version) triples.

        Raises InvalidParameterValueException where one does not exist.
        """
        used = []
        async with self._database.read() as connection:
            for arn, name, number in arns:
                layer = await _load(connection, name, number)
                if layer is None:
                    raise refusals.layer_unusable(arn)
                used.append(UsedLayer(arn=arn, code_size=layer.code_size, content_key=layer.content_key))
        return tuple(used)

    async def used_content(self, keys: Sequence[str]) -> set[str]:
        """Those of the content keys that a layer version or a function still needs: the others may go."""
        async with self._database.read() as connection:
            return {key for key in keys if await _needed(connection, key)}

    async def change_policy(
        self,
        name: str,
        number: int,
        change: Callable[[tuple[Statement, ...]], tuple[Statement, ...]],
        revision: str | None,
    ) -> LayerVersion:
        """Replaces the statements of a layer version's policy by what `change` makes of them.

        Raises ResourceNotFoundException, PreconditionFailedException where `revision` is not the policy's.
        """
        async with self._database.write() as connection:
            layer = await _load(connection, name, number)
            if layer is None:
                raise refusals.layer_not_found(self.arn(name, number))
            if revision is not None and revision != layer.policy_revision:
                raise refusals.wrong_revision("GetLayerPolicy")
            changed = replace(layer, statements=change(layer.statements), policy_revision=new_revision())
            await connection.execute(update(_layers).where(_is(name, number)).values(document=_encode(changed)))
        return changed


def _is(name: str, number: int) -> Any:
    return (_layers.c.layer_name == name) & (_layers.c.number == number)


def _encode(layer: LayerVersion) -> str:
    return msgspec.json.encode(layer).decode()


def _decode(row: Row[Any]) -> LayerVersion:
    return msgspec.json.decode(row.document, type=LayerVersion)


async def _load(connection: AsyncConnection, name: str, number: int) -> LayerVersion | None:
    if not 0 < number < 2**31:
        return None
    row = (await connection.execute(select(_layers.c.document).where(_is(name, number)))).first()
    return None if row is None else _decode(row)


async def _next_number(connection: AsyncConnection, name: str) -> int:
    counters = tables.layer_counters
    where = counters.c.layer_name == name
    last = (await connection.execute(select(counters.c.last_version).where(where))).scalar()
    if last is None:
        await connection.execute(insert(counters).values(layer_name=name, last_version=1))
        return 1
    await connection.execute(update(counters).where(where).values(last_version=last + 1))
    return int(last) + 1


async def _needed(connection: AsyncConnection, key: str) -> bool:
    """A hex SHA-256 occurs in a document only as what it is, so looking for its text is exact."""
    versions = tables.versions
    mentioned = or_(func.instr(versions.c.document, key) > 0, func.instr(versions.c.serving, key) > 0)
    for query in (
        select(_layers.c.number).where(_layers.c.content_key == key).limit(1),
        select(versions.c.number).where(mentioned).limit(1),
    ):
        if (await connection.execute(query)).first() is not None:
            return True
    return False
