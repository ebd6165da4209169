"""Reserved and provisioned concurrency, within the account's limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from thaw.catalog import attachments, records, tables
from thaw.catalog.attachments import Attachments, ProvisionedConcurrency, ReservedConcurrency, Writing
from thaw.catalog.configuration import LATEST, Alias, Configuration
from thaw.catalog.transitions import now
from thaw.errors import ServiceError

# Lambda's default quota of an account, and what it keeps for functions without reserved concurrency.
ACCOUNT_CONCURRENCY = 1000
LEAST_UNRESERVED = 100


class Concurrency:
    """The limits and reservations of all functions of one catalog."""

    def __init__(self, attached: Attachments, writing: Writing) -> None:
        self._attached = attached
        self._writing = writing

    async def reserve(self, name: str, executions: int) -> None:
        """Sets a function's reserved concurrency.

        Raises InvalidParameterValueException where too little would be left for the others, or where provisioned
        concurrency needs more; ResourceNotFoundException.
        """
        async with self._writing(name) as connection:
            await self._attached.load_holder(connection, name, LATEST)
            if await _unreserved(connection, without=name) - executions < LEAST_UNRESERVED:
                raise _invalid(
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{LEAST_UNRESERVED}]."
                )
            provisioned = sum((await _provisioned(connection, name)).values())
            if provisioned > executions:
                raise _invalid(
                    f" ReservedConcurrentExecutions  {executions} should not be lower than function's total "
                    f"provisioned concurrency [{provisioned}]."
                )
            reserved = ReservedConcurrency(executions=executions)
            await attachments.save(connection, ReservedConcurrency, name, LATEST, reserved)

    async def release(self, name: str) -> None:
        """Takes a function's reserved concurrency away. Raises ResourceNotFoundException."""
        await self._attached.change(ReservedConcurrency, name, LATEST, lambda _, __: None)

    async def unreserved(self) -> int:
        """What is left of the account's concurrency for functions without reserved concurrency."""
        reserved = await self._attached.everywhere(ReservedConcurrency)
        provisioned = await self._attached.everywhere(ProvisionedConcurrency)
        return _left(reserved, provisioned)

    async def provision(self, name: str, qualifier: str, requested: int) -> ProvisionedConcurrency:
        """Asks for ready environments of a version or an alias; they are IN_PROGRESS.

        Raises InvalidParameterValueException (SnapStart, $LATEST, limits), ResourceConflictException (a version and an
        alias that points to it), ResourceNotFoundException.
        """
        async with self._writing(name) as connection:
            holder = await self._attached.load_holder(connection, name, qualifier)
            await self._check_snap_start(connection, holder)
            others = await _provisioned(connection, name)
            others.pop(qualifier, None)
            await _check_overlap(connection, holder, others)
            await _check_limits(connection, name, sum(others.values()) + requested)
            config = ProvisionedConcurrency(requested=requested, last_modified=now())
            await attachments.save(connection, ProvisionedConcurrency, name, qualifier, config)
        return config

    async def unprovision(self, name: str, qualifier: str) -> bool:
        """Asks for no ready environments any more; whether there were some. Raises ResourceNotFoundException."""
        found: list[ProvisionedConcurrency] = []

        def forget(_: Any, before: ProvisionedConcurrency | None) -> None:
            found.extend([before] if before is not None else [])

        await self._attached.change(ProvisionedConcurrency, name, qualifier, forget)
        return bool(found)

    async def report(self, name: str, qualifier: str, **state: Any) -> ProvisionedConcurrency | None:
        """Stores how far provisioning got: `allocated`, `available`, `status`, `status_reason`.

        None where nothing is asked for (any more). Raises ResourceNotFoundException.
        """

        def update(_: Any, before: ProvisionedConcurrency | None) -> ProvisionedConcurrency | None:
            return None if before is None else replace(before, **state)

        return await self._attached.change(ProvisionedConcurrency, name, qualifier, update)

    async def check_alias(self, connection: AsyncConnection, alias: Alias) -> None:
        """Raises InvalidParameterValueException where an alias with ready environments moves to a SnapStart version."""
        if await attachments.load(connection, ProvisionedConcurrency, alias.function_name, alias.name) is not None:
            await self._check_snap_start(connection, alias)

    async def _check_snap_start(self, connection: AsyncConnection, holder: Configuration | Alias) -> None:
        if isinstance(holder, Alias):
            for version in (holder.function_version, *holder.weights):
                await self._check_snap_start(
                    connection, await self._attached.load_holder(connection, holder.function_name, version)
                )
        elif holder.version == LATEST:
            raise _invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        elif holder.snap_start:
            raise _invalid("Provisioned Concurrency is not supported for SnapStart enabled functions.")


def _invalid(text: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", text)


async def _check_overlap(connection: AsyncConnection, holder: Configuration | Alias, others: dict[str, int]) -> None:
    """A version and an alias that points to it cannot both have provisioned concurrency."""
    if isinstance(holder, Alias):
        if others.keys() & {holder.function_version, *holder.weights}:
            raise ServiceError(
                "ResourceConflictException",
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
            )
        return
    for alias in await records.aliases_of(connection, holder.function_name):
        if alias.name in others and holder.version in (alias.function_version, *alias.weights):
            raise ServiceError("ResourceConflictException", "Version is pointed by a Provisioned Concurrency alias")


async def _check_limits(connection: AsyncConnection, name: str, total: int) -> None:
    """`total` is what the function asks for, all its versions and aliases together."""
    reserved = await attachments.load(connection, ReservedConcurrency, name, LATEST)
    if reserved is not None:
        if total > reserved.executions:
            raise _invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution "
                "for function"
            )
        return
    unreserved = await _unreserved(connection, without=name)
    if total > unreserved:
        raise _invalid(
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency "
            f"[{unreserved}]."
        )
    if unreserved - total < LEAST_UNRESERVED:
        raise _invalid(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
            f"its minimum value of [{LEAST_UNRESERVED}]."
        )


async def _provisioned(connection: AsyncConnection, name: str) -> dict[str, int]:
    """Requested environments by qualifier."""
    found = await attachments.listed(connection, ProvisionedConcurrency, tables.attachments.c.function_name == name)
    return {one.qualifier: one.value.requested for one in found}


async def _unreserved(connection: AsyncConnection, *, without: str) -> int:
    """As `Concurrency.unreserved`, as if one function asked for nothing."""
    reserved = await attachments.listed(connection, ReservedConcurrency)
    provisioned = await attachments.listed(connection, ProvisionedConcurrency)
    return _left(
        [one for one in reserved if one.function_name != without],
        [one for one in provisioned if one.function_name != without],
    )


def _left(
    reserved: list[attachments.Attached[ReservedConcurrency]],
    provisioned: list[attachments.Attached[ProvisionedConcurrency]],
) -> int:
    """Provisioned concurrency counts within the function's reserved concurrency where it has one."""
    holders = {one.function_name for one in reserved}
    taken = sum(one.value.executions for one in reserved)
    taken += sum(one.value.requested for one in provisioned if one.function_name not in holders)
    return ACCOUNT_CONCURRENCY - taken
