"""Provisioned concurrency: environments that were initialised before anybody calls, and are never closed as idle.

What is asked for hangs on versions and aliases in the catalog; here it is brought about for versions. An alias with
weights has its environments spread over its versions by their share of the calls, as on Lambda.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from thaw.catalog.attachments import Attached, ProvisionedConcurrency
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration, names_version
from thaw.environment.execution import Environment
from thaw.errors import EnvironmentFailure, ServiceError, ThawError
from thaw.invoke.assignment import Assignment

logger = logging.getLogger(__name__)

INIT_FAILED = "FUNCTION_ERROR_INIT_FAILURE"


class Provisioner:
    """The Provisioning port of the AWS front. `make(configuration)` gives an environment that waits for calls."""

    def __init__(
        self,
        catalog: Catalog,
        assignment: Assignment[Environment],
        make: Callable[[Configuration], Awaitable[Environment]],
    ) -> None:
        self._catalog = catalog
        self._assignment = assignment
        self._make = make
        self._provided: dict[str, Mapping[str, int]] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    async def start(self) -> None:
        """Begins to provide what the catalog asks for."""
        self._assignment.lost = self._lost
        for name in {one.function_name for one in await self._catalog.attachments.everywhere(ProvisionedConcurrency)}:
            self._begin(name)

    async def close(self) -> None:
        """Stops; the environments belong to the assignment."""
        for task in self._working.values():
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)

    async def provisioning_changed(self, name: str, qualifier: str) -> None:
        """Brings the environments of a function, in the background, to what the catalog asks for."""
        self._begin(name)

    def _lost(self, configuration: Configuration) -> None:
        """An environment ended: another one takes its place."""
        self._begin(configuration.function_name)

    def _begin(self, name: str) -> None:
        if name in self._working:
            self._again.add(name)
            return
        self._working[name] = task = asyncio.create_task(self._work(name))
        task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        del self._working[name]
        if name in self._again:
            self._again.discard(name)
            self._begin(name)

    async def _work(self, name: str) -> None:
        try:
            await self._bring_about(name)
        except ServiceError as error:
            logger.info("provisioned concurrency of %s stopped: %s", name, error)
            self._provided.pop(name, None)
        except Exception:
            logger.exception("provisioned concurrency of %s stopped at a defect", name)

    # --- the work ----------------------------------------------------------------------------------------------------

    async def _bring_about(self, name: str) -> None:
        asked = await self._catalog.attachments.of_function(ProvisionedConcurrency, name)
        shares = {one.qualifier: await self._shares(one) for one in asked}
        wanted = Counter[str]()
        for share in shares.values():
            wanted.update(share)
        for version in self._provided.get(name, {}).keys() - wanted.keys():
            await self._release(name, version)
        self._provided[name] = wanted
        for qualifier in shares:
            # Where one takes another's place (its process died) what was READY stays so, as on Lambda.
            await self._report(name, qualifier, shares[qualifier], None)
        failures = {version: await self._provide(name, version, count) for version, count in wanted.items()}
        for qualifier, share in shares.items():
            reasons = [reason for version in share if (reason := failures[version]) is not None]
            await self._report(name, qualifier, share, reasons[0] if reasons else "")

    async def _shares(self, asked: Attached[ProvisionedConcurrency]) -> Mapping[str, int]:
        """Environments by version."""
        requested = asked.value.requested
        if names_version(asked.qualifier):
            return {asked.qualifier: requested}
        alias = await self._catalog.alias(asked.function_name, asked.qualifier)
        others = {version: round(requested * weight) for version, weight in alias.weights.items()}
        return {alias.function_version: requested - sum(others.values()), **others}

    async def _release(self, name: str, version: str) -> None:
        """What was provided becomes ordinary: it is closed once it is idle."""
        fleet = self._assignment.fleet(await self._catalog.resolve(name, version))
        await self._assignment.provision(fleet, 0, self._make)

    async def _provide(self, name: str, version: str, count: int) -> str | None:
        """Why it could not be done, None where it was."""
        fleet = self._assignment.fleet(await self._catalog.resolve(name, version))
        try:
            await self._assignment.provision(fleet, count, self._make)
        except EnvironmentFailure as failure:
            logger.info("no provisioned concurrency of %s:%s: %s", name, version, failure)
            return INIT_FAILED
        except ThawError as error:
            logger.warning("no provisioned concurrency of %s:%s: %s", name, version, error)
            return str(error)
        return None

    async def _report(self, name: str, qualifier: str, share: Mapping[str, int], failure: str | None) -> None:
        """Tells the catalog how many there are; `failure` is None while the work goes on, "" where it went well."""
        there = 0
        for version, count in share.items():
            fleet = self._assignment.fleet(await self._catalog.resolve(name, version))
            there += min(count, len(fleet.provisioned))
        state: dict[str, object] = {"allocated": there, "available": there}
        if failure == "" and there >= sum(share.values()):
            state |= {"status": "READY", "status_reason": None}
        elif failure:
            state |= {"status": "FAILED", "status_reason": failure}
        await self._catalog.concurrency.report(name, qualifier, **state)
