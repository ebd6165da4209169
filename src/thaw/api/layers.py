"""Layers: publishing, reading, listing and deleting their versions, and who may use them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from thaw.api import members, paging, statements
from thaw.api.code_source import CodeSource, digests
from thaw.api.http import Handler, Request, Response, json_response, no_content, without_none
from thaw.api.packages import PackageLinks
from thaw.api.ports import ApiSettings, LayerPackages
from thaw.api.protocol.model import lambda_model
from thaw.catalog import refusals
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import UsedLayer
from thaw.catalog.layers import LayerVersion
from thaw.errors import ServiceError

_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?P<region>[^:]+):(?P<account>\d{12}):layer:(?P<name>[a-zA-Z0-9-_]+)(?::(?P<version>\d+))?",
    re.ASCII,
)
_MOST_LAYERS = 5


@dataclass(frozen=True, slots=True)
class LayerIdentifier:
    """A layer as a client named it; `version` is None for the layer as a whole."""

    region: str
    account: str
    name: str
    version: int | None


class Layers:
    """The operations on layers, and the check of the layers that a function names."""

    def __init__(
        self,
        catalog: Catalog,
        packages: LayerPackages | None,
        settings: ApiSettings,
        source: CodeSource,
        links: PackageLinks,
    ) -> None:
        self._catalog = catalog
        self._layers = catalog.layers
        self._packages = packages
        self._settings = settings
        self._source = source
        self._links = links

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler; none where nothing keeps the packages."""
        if self._packages is None:
            return {}
        return {
            "AddLayerVersionPermission": self.add_permission,
            "DeleteLayerVersion": self.delete,
            "GetLayerVersion": self.get,
            "GetLayerVersionByArn": self.get_by_arn,
            "GetLayerVersionPolicy": self.get_policy,
            "ListLayers": self.list_layers,
            "ListLayerVersions": self.list_versions,
            "PublishLayerVersion": self.publish,
            "RemoveLayerVersionPermission": self.remove_permission,
        }

    # --- versions ----------------------------------------------------------------------------------------------------

    async def publish(self, arguments: Any, request: Request) -> Response:
        """PublishLayerVersion; the zip is stored before the version is."""
        name = self._name(arguments)
        _check_runtimes(arguments.compatible_runtimes)
        content = await self._source.read(arguments.content, "Please provide a source for layer content.")
        sums = await asyncio.to_thread(digests, content)
        draft = LayerVersion(
            layer_name=name,
            layer_arn=self._layers.arn(name),
            description=arguments.description or "",
            license_info=arguments.license_info,
            compatible_runtimes=_tuple(arguments.compatible_runtimes),
            compatible_architectures=_tuple(arguments.compatible_architectures),
            code_sha256=sums["code_sha256"],
            code_size=sums["code_size"],
            content_key=sums["code_key"],
        )
        async with self._layers.changing:
            await self._kept.store_layer(content)
            layer = await self._layers.publish(draft)
        return json_response(201, self._whole(layer, request))

    async def get(self, arguments: Any, request: Request) -> Response:
        """GetLayerVersion."""
        _check_number(arguments.version_number)
        return await self._answer(self._name(arguments), arguments.version_number, request)

    async def get_by_arn(self, arguments: Any, request: Request) -> Response:
        """GetLayerVersionByArn."""
        layer = _parsed(arguments.arn)
        if layer is None or not self._own(layer):
            raise refusals.no_resource()
        return await self._answer(layer.name, layer.version or 0, request)

    async def list_layers(self, arguments: Any, _: Request) -> Response:
        """ListLayers: each layer with its latest version that suits the filter."""
        _check_runtime(arguments.compatible_runtime)
        suiting = await self._suiting(None, arguments)
        latest = [next(versions) for _, versions in groupby(suiting, lambda layer: layer.layer_name)]
        (after,) = paging.read_marker(arguments.marker, tuple[str], ("",))
        rest = [layer for layer in latest if layer.layer_name > after]
        page, marker = paging.one_page(rest, paging.page_size(arguments.max_items), lambda layer: (layer.layer_name,))
        layers = [
            {"LayerName": one.layer_name, "LayerArn": one.layer_arn, "LatestMatchingVersion": _item(one)}
            for one in page
        ]
        return json_response(200, {"NextMarker": marker, "Layers": layers})

    async def list_versions(self, arguments: Any, _: Request) -> Response:
        """ListLayerVersions, the newest first; a layer that is not there has none, as on Lambda."""
        _check_runtime(arguments.compatible_runtime)
        (before,) = paging.read_marker(arguments.marker, tuple[int], (2**31,))
        found = [one for one in await self._suiting(self._name(arguments), arguments) if one.version < before]
        page, marker = paging.one_page(found, paging.page_size(arguments.max_items), lambda layer: (layer.version,))
        return json_response(200, {"NextMarker": marker, "LayerVersions": [_item(layer) for layer in page]})

    async def delete(self, arguments: Any, _: Request) -> Response:
        """DeleteLayerVersion; one that is not there is no error, and functions keep the layers that they use."""
        _check_number(arguments.version_number)
        async with self._layers.changing:
            gone = await self._layers.delete(self._name(arguments), arguments.version_number)
            if gone is not None:
                await self._kept.layers_dropped([gone.content_key])
        return no_content()

    # --- policies ----------------------------------------------------------------------------------------------------

    async def add_permission(self, arguments: Any, _: Request) -> Response:
        """AddLayerVersionPermission."""
        name, number = self._name(arguments), arguments.version_number
        statement = without_none(
            {
                "Sid": arguments.statement_id,
                "Effect": "Allow",
                "Principal": statements.principal(arguments.principal),
                "Action": arguments.action,
                "Resource": self._layers.arn(name, number),
                "Condition": arguments.organization_id
                and {"StringEquals": {"aws:PrincipalOrgID": arguments.organization_id}},
            }
        )
        layer = await self._layers.change_policy(
            name, number, lambda before: statements.added(before, statement), arguments.revision_id
        )
        return json_response(201, {"Statement": statements.text(statement), "RevisionId": layer.policy_revision})

    async def get_policy(self, arguments: Any, _: Request) -> Response:
        """GetLayerVersionPolicy."""
        name, number = self._name(arguments), arguments.version_number
        layer = await self._layers.version(name, number)
        if layer is None:
            raise refusals.layer_not_found(self._layers.arn(name, number))
        if not layer.statements:
            raise refusals.no_policy()
        policy = statements.policy_text(layer.statements)
        return json_response(200, {"Policy": policy, "RevisionId": layer.policy_revision})

    async def remove_permission(self, arguments: Any, _: Request) -> Response:
        """RemoveLayerVersionPermission."""
        await self._layers.change_policy(
            self._name(arguments),
            arguments.version_number,
            lambda before: statements.removed(before, arguments.statement_id),
            arguments.revision_id,
        )
        return no_content()

    # --- layers of functions -----------------------------------------------------------------------------------------

    async def used(self, arns: Iterable[str]) -> tuple[UsedLayer, ...]:
        """The layers that a function names, in its order; hold `catalog.layers.changing` until it is stored.

        Raises InvalidParameterValueException (too many, two of one layer, another region, not there) and
        AccessDeniedException (another account's).
        """
        named = [(arn, self._usable(arn)) for arn in arns]
        if len(named) > _MOST_LAYERS:
            raise members.refuse(f"Cannot reference more than {_MOST_LAYERS} layers.")
        seen: dict[str, str] = {}
        for arn, layer in named:
            if layer.name in seen:
                raise members.refuse(
                    "Two different versions of the same layer are not allowed to be referenced in the same function. "
                    f"{seen[layer.name]} and {arn} are versions of the same layer."
                )
            seen[layer.name] = arn
        return await self._layers.use([(arn, layer.name, layer.version or 0) for arn, layer in named])

    def _usable(self, arn: str) -> LayerIdentifier:
        layer = _parsed(arn)
        if layer is None:
            raise refusals.layer_unusable(arn)
        if layer.region != self._settings.region:
            raise members.refuse(
                "Layers are not in the same region as the function. "
                f"Layers are expected to be in region {self._settings.region}."
            )
        if not self._own(layer):
            raise ServiceError(
                "AccessDeniedException",
                f"User: arn:aws:iam::{self._settings.account_id}:root is not authorized to perform: "
                f"lambda:GetLayerVersion on resource: {arn} because no resource-based policy allows the "
                "lambda:GetLayerVersion action",
            )
        return layer

    # --- parts -------------------------------------------------------------------------------------------------------

    @property
    def _kept(self) -> LayerPackages:
        if self._packages is None:
            raise ServiceError("NotImplementedException", "Layers are not implemented by this server yet.")
        return self._packages

    def _own(self, layer: LayerIdentifier) -> bool:
        return (layer.region, layer.account) == (self._settings.region, self._settings.account_id)

    def _name(self, arguments: Any) -> str:
        """The plain name of a LayerName that may be an ARN. Raises ResourceNotFoundException for a foreign one."""
        given: str = arguments.layer_name
        if not given.startswith("arn:"):
            return given
        layer = _parsed(given)
        if layer is None or not self._own(layer):
            raise refusals.no_resource()
        return layer.name

    async def _answer(self, name: str, number: int, request: Request) -> Response:
        layer = await self._layers.version(name, number)
        if layer is None:
            raise refusals.no_resource()
        return json_response(200, self._whole(layer, request))

    async def _suiting(self, name: str | None, arguments: Any) -> list[LayerVersion]:
        found = await self._layers.versions(name)
        return [
            layer for layer in found if layer.suits(arguments.compatible_runtime, arguments.compatible_architecture)
        ]

    def _whole(self, layer: LayerVersion, request: Request) -> dict[str, Any]:
        """A layer version with its content, as all operations but the lists answer it."""
        content = {
            "Location": self._links.layer_link(request.base_url, layer),
            "CodeSha256": layer.code_sha256,
            "CodeSize": layer.code_size,
        }
        return {"Content": content, "LayerArn": layer.layer_arn, **_item(layer)}


def _item(layer: LayerVersion) -> dict[str, Any]:
    return without_none(
        {
            "LayerVersionArn": layer.version_arn,
            "Version": layer.version,
            "Description": layer.description,
            "CreatedDate": layer.created_date,
            "CompatibleRuntimes": layer.compatible_runtimes,
            "CompatibleArchitectures": layer.compatible_architectures,
            "LicenseInfo": layer.license_info,
        }
    )


def _parsed(arn: str) -> LayerIdentifier | None:
    match = _ARN.fullmatch(arn)
    if match is None:
        return None
    version = None if match["version"] is None else int(match["version"])
    return LayerIdentifier(match["region"], match["account"], match["name"], version)


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _check_number(number: int) -> None:
    if number < 1:
        raise members.refuse("Layer Version Cannot be less than 1")


def _check_runtimes(runtimes: list[str] | None) -> None:
    known = lambda_model().shapes["Runtime"]["enum"]
    if set(runtimes or ()) - set(known):
        shown = f"[{', '.join(runtimes or ())}]"
        raise _not_in(shown, "compatibleRuntimes", known)


def _check_runtime(runtime: str | None) -> None:
    known = lambda_model().shapes["Runtime"]["enum"]
    if runtime is not None and runtime not in known:
        raise _not_in(runtime, "compatibleRuntime", known)


def _not_in(shown: str, path: str, known: Iterable[str]) -> ServiceError:
    return ServiceError(
        "ValidationException",
        f"1 validation error detected: Value '{shown}' at '{path}' failed to satisfy constraint: "
        f"Member must satisfy enum value set: [{', '.join(known)}]",
    )
