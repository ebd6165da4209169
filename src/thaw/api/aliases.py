"""CreateAlias, GetAlias, UpdateAlias, DeleteAlias, ListAliases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thaw.api import members, paging
from thaw.api.http import Handler, Request, Response, json_response, no_content
from thaw.api.identifier import Identifiers
from thaw.api.ports import Provisioning
from thaw.api.resource import Resource
from thaw.catalog.attachments import ProvisionedConcurrency
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import LATEST, Alias


class Aliases(Resource):
    """The operations on aliases."""

    def __init__(self, catalog: Catalog, identifiers: Identifiers, provisioning: Provisioning | None) -> None:
        super().__init__(catalog, identifiers)
        self._provisioning = provisioning

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {
            "CreateAlias": self.create,
            "DeleteAlias": self.delete,
            "GetAlias": self.get,
            "ListAliases": self.list,
            "UpdateAlias": self.update,
        }

    async def create(self, arguments: Any, _: Request) -> Response:
        """CreateAlias."""
        name = self._name(arguments)
        alias = Alias(
            function_name=name,
            name=arguments.name,
            alias_arn=self._catalog.function_arn(name, arguments.name),
            function_version=arguments.function_version,
            description=arguments.description or "",
            weights=_weights(arguments) or {},
        )
        _check_routing(alias)
        return json_response(201, members.alias_document(await self._catalog.create_alias(alias)))

    async def get(self, arguments: Any, _: Request) -> Response:
        """GetAlias."""
        return json_response(
            200, members.alias_document(await self._catalog.alias(self._name(arguments), arguments.name))
        )

    async def update(self, arguments: Any, _: Request) -> Response:
        """UpdateAlias; an empty RoutingConfig takes the second version away."""

        def change(alias: Alias) -> Alias:
            weights = _weights(arguments)
            changed = replace(
                alias,
                function_version=arguments.function_version or alias.function_version,
                description=alias.description if arguments.description is None else arguments.description,
                weights=alias.weights if weights is None else weights,
            )
            _check_routing(changed)
            return changed

        name = self._name(arguments)
        alias = await self._catalog.update_alias(name, arguments.name, change, revision_id=arguments.revision_id)
        if await self._catalog.attachments.get(ProvisionedConcurrency, name, alias.name) is not None:
            await self._tell(name, alias.name)
        return json_response(200, members.alias_document(alias))

    async def delete(self, arguments: Any, _: Request) -> Response:
        """DeleteAlias; one that is not there is no error, as on Lambda."""
        name = self._name(arguments)
        provisioned = await self._catalog.attachments.get(ProvisionedConcurrency, name, arguments.name)
        await self._catalog.delete_alias(name, arguments.name)
        if provisioned is not None:
            await self._tell(name, arguments.name)
        return no_content()

    async def list(self, arguments: Any, _: Request) -> Response:
        """ListAliases by name, all or those that point to FunctionVersion."""
        size = paging.page_size(arguments.max_items)
        (after,) = paging.read_marker(arguments.marker, tuple[str], ("",))
        found = await self._catalog.aliases(self._name(arguments), function_version=arguments.function_version)
        rest = [alias for alias in found if alias.name > after]
        page, marker = paging.one_page(rest, size, lambda alias: (alias.name,))
        return json_response(200, {"NextMarker": marker, "Aliases": [members.alias_document(item) for item in page]})

    async def _tell(self, name: str, alias: str) -> None:
        if self._provisioning is not None:
            await self._provisioning.provisioning_changed(name, alias)

    def _name(self, arguments: Any) -> str:
        return self._identifiers.read(arguments.function_name).name


def _weights(arguments: Any) -> dict[str, float] | None:
    if arguments.routing_config is None:
        return None
    return arguments.routing_config.additional_version_weights or {}


def _check_routing(alias: Alias) -> None:
    """Raises InvalidParameterValueException for routing that Lambda does not admit."""
    if "PUBLISHED" in alias.function_version:
        raise members.refuse(f"{alias.function_version} is not supported by this server: name a version.")
    if len(alias.weights) > 1:
        raise members.refuse("Number of items in AdditionalVersionWeights cannot be greater than 1")
    if alias.weights and alias.function_version == LATEST:
        raise members.refuse(f"{LATEST} is not supported for an alias pointing to more than 1 version")
    if alias.function_version in alias.weights:
        version = alias.function_version
        raise members.refuse(
            f"Invalid function version {version}. "
            f"Function version {version} is already included in routing configuration."
        )
