"""Reserved and provisioned concurrency: what users ask for, and how far provisioning got."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.api import members, paging
from thaw.api.http import Handler, Request, Response, json_response, no_content, without_none
from thaw.api.identifier import Identifier, Identifiers
from thaw.api.ports import Provisioning
from thaw.api.resource import Resource
from thaw.catalog.attachments import ProvisionedConcurrency, ReservedConcurrency
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import LATEST
from thaw.errors import ServiceError


class ConcurrencyLimits(Resource):
    """The operations on reserved and on provisioned concurrency."""

    def __init__(self, catalog: Catalog, identifiers: Identifiers, provisioning: Provisioning | None) -> None:
        super().__init__(catalog, identifiers)
        self._provisioning = provisioning

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler; provisioned concurrency only where something provides it."""
        reserved: dict[str, Handler] = {
            "DeleteFunctionConcurrency": self.release,
            "GetFunctionConcurrency": self.get_reserved,
            "PutFunctionConcurrency": self.reserve,
        }
        if self._provisioning is None:
            return reserved
        return reserved | {
            "DeleteProvisionedConcurrencyConfig": self.unprovision,
            "GetProvisionedConcurrencyConfig": self.get_provisioned,
            "ListProvisionedConcurrencyConfigs": self.list_provisioned,
            "PutProvisionedConcurrencyConfig": self.provision,
        }

    async def reserve(self, arguments: Any, _: Request) -> Response:
        """PutFunctionConcurrency; 0 stops all calls."""
        name = self._identifiers.read_unqualified(arguments.function_name)
        await self._catalog.concurrency.reserve(name, arguments.reserved_concurrent_executions)
        return json_response(200, {"ReservedConcurrentExecutions": arguments.reserved_concurrent_executions})

    async def get_reserved(self, arguments: Any, _: Request) -> Response:
        """GetFunctionConcurrency; an empty document where nothing is reserved."""
        name = self._identifiers.read(arguments.function_name).name
        await self._catalog.function(name)
        reserved = await self._catalog.attachments.get(ReservedConcurrency, name)
        return json_response(200, {"ReservedConcurrentExecutions": None if reserved is None else reserved.executions})

    async def release(self, arguments: Any, _: Request) -> Response:
        """DeleteFunctionConcurrency."""
        await self._catalog.concurrency.release(self._identifiers.read_unqualified(arguments.function_name))
        return no_content()

    async def provision(self, arguments: Any, _: Request) -> Response:
        """PutProvisionedConcurrencyConfig: 202, the environments come in the background."""
        where = self._identifiers.read(arguments.function_name, arguments.qualifier)
        requested = arguments.provisioned_concurrent_executions
        config = await self._catalog.concurrency.provision(where.name, where.qualifier or LATEST, requested)
        await self._tell(where)
        return json_response(202, _document(config))

    async def get_provisioned(self, arguments: Any, _: Request) -> Response:
        """GetProvisionedConcurrencyConfig."""
        where = self._published(arguments)
        await self._catalog.attachments.holder(where.name, where.qualifier)
        config = await self._catalog.attachments.get(ProvisionedConcurrency, where.name, where.qualifier)
        if config is None:
            raise ServiceError(
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )
        return json_response(200, _document(config))

    async def list_provisioned(self, arguments: Any, _: Request) -> Response:
        """ListProvisionedConcurrencyConfigs."""
        name = self._identifiers.read(arguments.function_name).name
        await self._catalog.function(name)
        found = await self._catalog.attachments.of_function(ProvisionedConcurrency, name)
        (after,) = paging.read_marker(arguments.marker, tuple[str], ("",))
        rest = [one for one in found if one.qualifier > after]
        page, marker = paging.one_page(rest, paging.page_size(arguments.max_items), lambda one: (one.qualifier,))
        configs = [
            {"FunctionArn": self._catalog.function_arn(name, one.qualifier), **_document(one.value)} for one in page
        ]
        return json_response(200, {"NextMarker": marker, "ProvisionedConcurrencyConfigs": configs})

    async def unprovision(self, arguments: Any, _: Request) -> Response:
        """DeleteProvisionedConcurrencyConfig; where there is none is no error."""
        where = self._published(arguments)
        if await self._catalog.concurrency.unprovision(where.name, where.qualifier or LATEST):
            await self._tell(where)
        return no_content()

    def _published(self, arguments: Any) -> Identifier:
        where = self._identifiers.read(arguments.function_name, arguments.qualifier)
        if where.qualifier in (None, LATEST):
            raise members.refuse("The function resource provided must be an alias or a published version.")
        return where

    async def _tell(self, where: Identifier) -> None:
        if self._provisioning is not None:
            await self._provisioning.provisioning_changed(where.name, where.qualifier or LATEST)


def _document(config: ProvisionedConcurrency) -> dict[str, Any]:
    return without_none(
        {
            "RequestedProvisionedConcurrentExecutions": config.requested,
            "AvailableProvisionedConcurrentExecutions": config.available,
            "AllocatedProvisionedConcurrentExecutions": config.allocated,
            "Status": config.status,
            "StatusReason": config.status_reason,
            "LastModified": config.last_modified,
        }
    )
