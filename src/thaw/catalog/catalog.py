"""What exists: functions, versions, aliases. Every write is one transaction; reads of the invoke path are in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thaw.catalog import attachments, records, refusals, transitions
from thaw.catalog.attachments import Attached, Attachments, FunctionUrl, ReservedConcurrency
from thaw.catalog.concurrency import Concurrency
from thaw.catalog.configuration import LATEST, Alias, Configuration, names_version
from thaw.catalog.database import Database
from thaw.catalog.events import EventQueue
from thaw.catalog.layers import LayerCatalog
from thaw.catalog.uses import Uses

Change = Callable[[Configuration], Configuration]
# What a qualifier stands for: versions and the share of calls (0.0 to 1.0) that each beyond the first one gets.
_Target = tuple[Configuration, tuple[tuple[float, Configuration], ...]]


class Catalog:
    """The catalog of one server, in a SQLite file.

    Errors are ServiceErrors with Lambda's codes and texts. What a method returns is what was committed; after an error
    nothing was.
    """

    def __init__(self, path: Path, *, region: str, account_id: str, draw: Callable[[], float] = random.random) -> None:
        self._database = Database(path)
        self.attachments = Attachments(self._database, self._write, self.function_arn)
        self.concurrency = Concurrency(self.attachments, self._write)
        self.events = EventQueue(self._database)
        self.uses = Uses(self._database)
        self.layers = LayerCatalog(self._database, region=region, account_id=account_id)
        self._arn = f"arn:aws:lambda:{region}:{account_id}:function:"
        self._draw = draw
        self._targets: dict[str, dict[str, _Target]] = {}
        self._urls: dict[str, Attached[FunctionUrl]] = {}
        self._changes = 0

    async def open(self) -> None:
        """Opens the file, making or migrating it as needed."""
        await self._database.open()

    async def close(self) -> None:
        """Closes the file."""
        await self._database.close()

    def function_arn(self, name: str, qualifier: str | None = None) -> str:
        """The ARN of a function, or of one of its versions or aliases."""
        return self._arn + name if qualifier is None else f"{self._arn}{name}:{qualifier}"

    # --- the invoke path -------------------------------------------------------------------------------------------

    async def resolve(self, name: str, qualifier: str | None = None) -> Configuration:
        """The configuration that a call of name:qualifier gets; no SQL where it was resolved before.

        An alias with weights draws one of its versions anew for each call. While an update of $LATEST is in progress,
        and after one that failed, $LATEST is its previous configuration.
        """
        qualifier = qualifier or LATEST
        target = self._targets.get(name, {}).get(qualifier)
        if target is None:
            changes = self._changes
            target = await self._target(name, qualifier)
            # A write since then may have changed what was read: then this answer is not worth keeping.
            if changes == self._changes:
                self._targets.setdefault(name, {})[qualifier] = target
        return _drawn(target, self._draw) if target[1] else target[0]

    async def _target(self, name: str, qualifier: str) -> _Target:
        async with self._database.read() as connection:
            if names_version(qualifier):
                return await self._serving(connection, name, qualifier), ()
            alias = await records.load_alias(connection, name, qualifier)
            if alias is None:
                raise refusals.function_not_found(self.function_arn(name, qualifier))
            others = [
                (weight, await self._serving(connection, name, version)) for version, weight in alias.weights.items()
            ]
            return await self._serving(connection, name, alias.function_version), tuple(others)

    async def _serving(self, connection: AsyncConnection, name: str, version: str) -> Configuration:
        stored = await records.load_version(connection, name, records.version_number(version))
        if stored is None:
            raise refusals.function_not_found(self.function_arn(name, version))
        reserved = await attachments.load(connection, ReservedConcurrency, name, LATEST)
        configuration, serving = stored
        return replace(
            configuration if serving is None else serving,
            reserved_concurrency=None if reserved is None else reserved.executions,
        )

    async def url(self, url_id: str) -> Attached[FunctionUrl] | None:
        """The function URL with an id, or None; no SQL where it was found before."""
        found = self._urls.get(url_id)
        if found is None:
            changes = self._changes
            found = await self.attachments.by_lookup(FunctionUrl, url_id)
            if found is not None and changes == self._changes:
                self._urls[url_id] = found
        return found

    # --- functions and versions --------------------------------------------------------------------------------------

    async def create_function(self, draft: Configuration, tags: Mapping[str, str]) -> Configuration:
        """Stores a new function; its $LATEST is Pending. Raises ResourceConflictException where the name is taken."""
        latest = transitions.created(draft)
        async with self._write(latest.function_name) as connection:
            if await records.load_version(connection, latest.function_name, 0) is not None:
                raise refusals.function_exists(latest.function_name)
            await records.insert_function(connection, latest, tags)
        return latest

    async def function(self, name: str) -> Configuration:
        """$LATEST as it was last set (not necessarily what serves calls). Raises ResourceNotFoundException."""
        return await self.version(name, None)

    async def version(self, name: str, qualifier: str | None) -> Configuration:
        """$LATEST, a version, or the version that an alias points to first. Raises ResourceNotFoundException."""
        async with self._database.read() as connection:
            return await self._load(connection, name, qualifier)

    async def _load(self, connection: AsyncConnection, name: str, qualifier: str | None) -> Configuration:
        version = qualifier or LATEST
        if not names_version(version):
            alias = await records.load_alias(connection, name, version)
            if alias is None:
                raise refusals.function_not_found(self.function_arn(name, qualifier))
            version = alias.function_version
        stored = await records.load_version(connection, name, records.version_number(version))
        if stored is None:
            raise refusals.function_not_found(self.function_arn(name, qualifier))
        return stored[0]

    async def functions(
        self, *, after: tuple[str, int] = ("", -1), limit: int = 50, all_versions: bool = False
    ) -> list[Configuration]:
        """Up to `limit` functions ($LATEST, or every version) beyond (name, number; 0 is $LATEST), by name."""
        async with self._database.read() as connection:
            return await records.configurations(connection, after, limit, all_versions)

    async def versions(self, name: str, *, after: int = -1, limit: int | None = None) -> list[Configuration]:
        """$LATEST (number 0) and the versions with a number above `after`. Raises ResourceNotFoundException."""
        async with self._database.read() as connection:
            await self._load(connection, name, None)
            return await records.versions_of(connection, name, after, limit)

    async def pending_versions(self) -> list[Configuration]:
        """Everything that waits for publish: Pending, or with an update in progress; for going on after a crash."""
        async with self._database.read() as connection:
            return await records.unsettled(connection)

    async def update_configuration(self, name: str, change: Change, *, revision_id: str | None = None) -> Configuration:
        """Changes $LATEST; LastUpdateStatus is InProgress, and the previous configuration serves calls meanwhile.

        `change` makes the new configuration from the current one; a ServiceError that it raises changes nothing.
        Raises PreconditionFailedException, and ResourceConflictException while a creation or an update is going on.
        """
        async with self._write(name) as connection:
            latest, serving = await self._latest(connection, name)
            refusals.check_revision(revision_id, latest.revision_id)
            refusals.check_settled(latest)
            changed = transitions.updating(change(latest))
            await records.save_version(connection, changed, serving=serving or latest)
        return changed

    async def withdraw_update(self, updating: Configuration) -> None:
        """Takes back an update whose code or settings turned out to be unusable before anybody was told of it."""
        async with self._write(updating.function_name) as connection:
            latest, serving = await self._latest(connection, updating.function_name)
            same = latest.settings_digest == updating.settings_digest and latest.last_update_status == "InProgress"
            if serving is not None and same:
                await records.save_version(connection, serving)

    async def publish(
        self,
        name: str,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        revision_id: str | None = None,
        settled: bool = True,
    ) -> tuple[Configuration, bool]:
        """Makes a version of $LATEST, and says whether it is new: an unchanged function keeps its last version.

        A last version whose snapshot failed does not count: Lambda would answer with it for ever, which leaves no way
        to try again. `settled` False publishes a $LATEST that is still being created or updated (Publish=true).
        Raises PreconditionFailedException, InvalidParameterValueException (CodeSha256), ResourceConflictException.
        """
        async with self._write(name) as connection:
            latest, _ = await self._latest(connection, name)
            if settled:
                _check_publishable(latest)
            refusals.check_revision(revision_id, latest.revision_id)
            if code_sha256 and code_sha256 != latest.code_sha256:
                raise refusals.wrong_code(code_sha256, latest.code_sha256)
            last = await records.load_version(connection, name, await records.last_number(connection, name) or -1)
            if last is not None and last[0].state != "Failed" and last[0].settings_digest == latest.settings_digest:
                return last[0], False
            number = await records.next_number(connection, name)
            version = transitions.published(latest, number, description)
            await records.insert_version(connection, version)
        return version, True

    async def set_state(
        self, name: str, version: str, *, function_id: str | None = None, **changes: Any
    ) -> Configuration:
        """Moves $LATEST or a version to another state; the keywords are those of `transitions.with_state`.

        These are state, last_update_status (each with _reason and _reason_code), optimization_status, snapshot_key and
        runtime_version_arn. `function_id` guards against a function that was deleted and created again meanwhile.
        When $LATEST settles, so do versions without SnapStart that were published from it while it was unsettled.
        Raises ResourceNotFoundException where the version is gone.
        """
        async with self._write(name) as connection:
            stored = await records.load_version(connection, name, records.version_number(version))
            if stored is None or function_id not in (None, stored[0].function_id):
                raise refusals.function_not_found(self.function_arn(name, version))
            before, serving = stored
            configuration = transitions.with_state(before, **changes)
            keep = configuration.last_update_status in ("InProgress", "Failed")
            await records.save_version(connection, configuration, serving=serving if keep else None)
            if version == LATEST and _unsettled(before) and not _unsettled(configuration):
                await _settle_versions(connection, configuration)
        return configuration

    async def delete_function(self, name: str, *, function_id: str | None = None) -> list[Configuration]:
        """Deletes a function with its versions and aliases; returns what there was, for cleaning up.

        `function_id` guards against a successor of the same name. Raises ResourceNotFoundException.
        """
        async with self._write(name) as connection:
            latest, serving = await self._latest(connection, name)
            if function_id not in (None, latest.function_id):
                raise refusals.function_not_found(self.function_arn(name))
            gone = await records.versions_of(connection, name, -1, None)
            await records.delete_function(connection, name)
        return gone if serving is None else [*gone, serving]

    async def delete_version(self, name: str, version: str) -> list[Configuration]:
        """Deletes one version; one that is not there is no error (as measured on Lambda).

        Raises ResourceConflictException where aliases point to it, InvalidParameterValueException for $LATEST.
        """
        if version == LATEST:
            raise refusals.latest_cannot_go()
        async with self._write(name) as connection:
            await self._latest(connection, name)
            holders = [
                alias.name
                for alias in await records.aliases_of(connection, name)
                if version == alias.function_version or version in alias.weights
            ]
            if holders:
                raise refusals.version_in_use(holders)
            stored = await records.load_version(connection, name, records.version_number(version))
            if stored is None:
                return []
            await records.delete_version(connection, name, records.version_number(version))
        return [stored[0]]

    async def code_keys(self, keys: Sequence[str]) -> set[str]:
        """Those of the code keys that some version still uses: the others may go from the origin."""
        async with self._database.read() as connection:
            return await records.used_code_keys(connection, keys)

    async def code_usage(self) -> tuple[int, int]:
        """How many functions there are, and the bytes of all code packages."""
        async with self._database.read() as connection:
            return await records.code_usage(connection)

    # --- tags ------------------------------------------------------------------------------------------------------

    async def tags(self, name: str) -> dict[str, str]:
        """The tags of a function. Raises ResourceNotFoundException."""
        async with self._database.read() as connection:
            await self._load(connection, name, None)
            return await records.load_tags(connection, name)

    async def change_tags(self, name: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        """Replaces the tags of a function by what `change` makes of them."""
        async with self._write(name) as connection:
            await self._latest(connection, name)
            await records.save_tags(connection, name, change(await records.load_tags(connection, name)))

    # --- aliases ---------------------------------------------------------------------------------------------------

    async def create_alias(self, alias: Alias) -> Alias:
        """Stores a new alias. Raises ResourceConflictException, ResourceNotFoundException."""
        stored = replace(alias, revision_id=transitions.new_revision())
        async with self._write(alias.function_name) as connection:
            if await records.load_version(connection, alias.function_name, 0) is None:
                raise refusals.function_not_found(self.function_arn(alias.function_name, alias.function_version))
            if await records.load_alias(connection, alias.function_name, alias.name) is not None:
                raise refusals.alias_exists(alias.alias_arn)
            await self._check_targets(connection, stored)
            await records.insert_alias(connection, stored)
        return stored

    async def alias(self, name: str, alias: str) -> Alias:
        """An alias. Raises ResourceNotFoundException."""
        async with self._database.read() as connection:
            await self._load(connection, name, None)
            found = await records.load_alias(connection, name, alias)
        if found is None:
            raise refusals.alias_not_found(self.function_arn(name, alias))
        return found

    async def aliases(self, name: str, *, function_version: str | None = None) -> list[Alias]:
        """The aliases of a function by name, or those of them that point to `function_version`."""
        async with self._database.read() as connection:
            await self._load(connection, name, None)
            found = await records.aliases_of(connection, name)
        return [
            alias
            for alias in found
            if function_version is None
            or function_version == alias.function_version
            or function_version in alias.weights
        ]

    async def update_alias(
        self, name: str, alias: str, change: Callable[[Alias], Alias], *, revision_id: str | None = None
    ) -> Alias:
        """Changes an alias. Raises PreconditionFailed-, ResourceNotFound- and ResourceConflictException."""
        async with self._write(name) as connection:
            await self._latest(connection, name)
            before = await records.load_alias(connection, name, alias)
            if before is None:
                raise refusals.no_alias_to_update(self.function_arn(name, alias))
            refusals.check_revision(revision_id, before.revision_id)
            changed = replace(change(before), revision_id=transitions.new_revision())
            await self._check_targets(connection, changed)
            await self.concurrency.check_alias(connection, changed)
            await records.save_alias(connection, changed)
        return changed

    async def delete_alias(self, name: str, alias: str) -> None:
        """Deletes an alias; one that is not there is no error."""
        async with self._write(name) as connection:
            await self._latest(connection, name)
            await records.delete_alias(connection, name, alias)

    async def _check_targets(self, connection: AsyncConnection, alias: Alias) -> None:
        for version in (alias.function_version, *alias.weights):
            if (await self._load(connection, alias.function_name, version)).state == "Failed":
                raise refusals.wrong_state("Failed")

    # --- transactions ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _write(self, name: str) -> AsyncIterator[AsyncConnection]:
        """A write transaction on one function; what was resolved for it is forgotten afterwards, however it ended."""
        try:
            async with self._database.write() as connection:
                yield connection
        finally:
            self._changes += 1
            self._targets.pop(name, None)
            self._urls.clear()

    async def _latest(self, connection: AsyncConnection, name: str) -> tuple[Configuration, Configuration | None]:
        stored = await records.load_version(connection, name, 0)
        if stored is None:
            raise refusals.function_not_found(self.function_arn(name))
        return stored


def _drawn(target: _Target, draw: Callable[[], float]) -> Configuration:
    first, others = target
    rest = draw()
    for weight, configuration in others:
        if rest < weight:
            return configuration
        rest -= weight
    return first


def _unsettled(latest: Configuration) -> bool:
    return latest.state == "Pending" or latest.last_update_status == "InProgress"


def _check_publishable(latest: Configuration) -> None:
    refusals.check_settled(latest)
    if "Failed" in (latest.state, latest.last_update_status):
        raise refusals.wrong_state("Failed")


async def _settle_versions(connection: AsyncConnection, latest: Configuration) -> None:
    """Gives the outcome of $LATEST to the versions that were published from it and wait for nothing else."""
    for version in await records.versions_of(connection, latest.function_name, 0, None):
        if version.state == "Pending" and not version.snap_start and version.code_key == latest.code_key:
            await records.save_version(connection, transitions.settled_as(latest, version))
