"""CreateFunction, GetFunction(Configuration), UpdateFunctionCode, UpdateFunctionConfiguration, ListFunctions, …"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any

from msgspec import Meta

from thaw.api import members, paging
from thaw.api.code_source import CodeSource, digests
from thaw.api.http import Handler, Request, Response, json_response, no_content
from thaw.api.identifier import Identifiers
from thaw.api.layers import Layers
from thaw.api.packages import PackageLinks
from thaw.api.ports import Publishing
from thaw.catalog.attachments import ReservedConcurrency
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration, names_version
from thaw.catalog.records import version_number
from thaw.catalog.refusals import check_revision

_Position = tuple[str, Annotated[int, Meta(ge=-1, le=2**31)]]


class Functions:
    """The operations on functions as a whole and on $LATEST."""

    def __init__(
        self,
        catalog: Catalog,
        publishing: Publishing,
        identifiers: Identifiers,
        packages: PackageLinks,
        source: CodeSource,
        layers: Layers,
        *,
        aws_parity: bool,
    ) -> None:
        self._catalog = catalog
        self._publishing = publishing
        self._identifiers = identifiers
        self._packages = packages
        self._source = source
        self._layers = layers
        self._aws_parity = aws_parity

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {
            "CreateFunction": self.create,
            "DeleteFunction": self.delete,
            "GetFunction": self.get,
            "GetFunctionConfiguration": self.get_configuration,
            "ListFunctions": self.list,
            "UpdateFunctionCode": self.update_code,
            "UpdateFunctionConfiguration": self.update_configuration,
        }

    async def create(self, arguments: Any, _: Request) -> Response:
        """CreateFunction; with Publish=true the answer is version 1 (with the function's ARN, as on Lambda)."""
        name = self._identifiers.read_unqualified(arguments.function_name)
        members.check_name(name)
        members.check_supported(arguments)
        code = await self._source.read(arguments.code)
        draft = Configuration(
            function_id=uuid.uuid4().hex,
            function_name=name,
            function_arn=self._catalog.function_arn(name),
            package_type=arguments.package_type or "Zip",
            architectures=tuple(arguments.architectures or ("x86_64",)),
            other_members=members.given_others(arguments, {}),
            **members.given_settings(arguments, {}),
            **await asyncio.to_thread(digests, code),
        )
        members.check_rules(draft, aws_parity=self._aws_parity)
        async with self._layered(arguments) as layers:
            latest = await self._catalog.create_function(replace(draft, **layers), arguments.tags or {})
        try:
            await self._publishing.function_created(latest, code)
        except Exception:
            await self._catalog.delete_function(name, function_id=latest.function_id)
            raise
        answer = await self._publish(name) if arguments.publish else latest
        return json_response(201, members.configuration_document(answer, qualified=False))

    async def get(self, arguments: Any, request: Request) -> Response:
        """GetFunction: the configuration, and a link to this server that downloads the code for ten minutes."""
        configuration = await self._configuration(arguments)
        tags = await self._catalog.tags(configuration.function_name)
        location = self._packages.link(request.base_url, configuration)
        document = {
            "Configuration": self._document(configuration, arguments),
            "Code": {"RepositoryType": "S3", "Location": location},
            "Tags": tags or None,
            "Concurrency": await self._concurrency(configuration.function_name),
        }
        return json_response(200, document)

    async def _concurrency(self, name: str) -> dict[str, int] | None:
        reserved = await self._catalog.attachments.get(ReservedConcurrency, name)
        return None if reserved is None else {"ReservedConcurrentExecutions": reserved.executions}

    async def get_configuration(self, arguments: Any, _: Request) -> Response:
        """GetFunctionConfiguration."""
        return json_response(200, self._document(await self._configuration(arguments), arguments))

    async def list(self, arguments: Any, _: Request) -> Response:
        """ListFunctions: $LATEST of each function, or every version with FunctionVersion=ALL."""
        size = paging.page_size(arguments.max_items)
        every = arguments.function_version == "ALL"
        after = paging.read_marker(arguments.marker, _Position, ("", -1))
        found = await self._catalog.functions(after=after, limit=size + 1, all_versions=every)
        page, marker = paging.one_page(found, size, lambda item: (item.function_name, version_number(item.version)))
        functions = [members.listed_document(item, qualified=every) for item in page]
        return json_response(200, {"NextMarker": marker, "Functions": functions})

    async def update_configuration(self, arguments: Any, _: Request) -> Response:
        """UpdateFunctionConfiguration."""
        name = self._identifiers.read_unqualified(arguments.function_name)
        members.check_supported(arguments)

        def change(latest: Configuration) -> Configuration:
            others = members.given_others(arguments, latest.other_members)
            settings = members.given_settings(arguments, latest.logging_config)
            changed = replace(latest, **settings, **layers, other_members=others)
            members.check_rules(changed, aws_parity=self._aws_parity)
            return changed

        async with self._layered(arguments) as layers:
            updating = await self._catalog.update_configuration(name, change, revision_id=arguments.revision_id)
        try:
            await self._publishing.configuration_updated(updating)
        except Exception:
            await self._catalog.withdraw_update(updating)
            raise
        return json_response(200, members.configuration_document(updating))

    async def update_code(self, arguments: Any, _: Request) -> Response:
        """UpdateFunctionCode; DryRun only checks, Publish makes a version of the new code at once."""
        name = self._identifiers.read_unqualified(arguments.function_name)
        members.check_supported(arguments)
        if arguments.image_uri:
            raise members.refuse("Please don't provide ImageUri when updating a function with packageType Zip.")
        code = await self._source.read(arguments)
        fields = await asyncio.to_thread(digests, code)
        if arguments.architectures:
            fields["architectures"] = tuple(arguments.architectures)
        if arguments.dry_run:
            return await self._dry_run(name, fields, arguments.revision_id)
        updating = await self._catalog.update_configuration(
            name, lambda latest: replace(latest, **fields), revision_id=arguments.revision_id
        )
        try:
            await self._publishing.code_updated(updating, code)
        except Exception:
            await self._catalog.withdraw_update(updating)
            raise
        answer = await self._publish(name) if arguments.publish else updating
        return json_response(200, members.configuration_document(answer))

    async def delete(self, arguments: Any, _: Request) -> Response:
        """DeleteFunction: everything, or the one version that is named."""
        identifier = self._identifiers.read(arguments.function_name, arguments.qualifier)
        if identifier.qualifier is None:
            gone = await self._catalog.delete_function(identifier.name)
        elif names_version(identifier.qualifier):
            gone = await self._catalog.delete_version(identifier.name, identifier.qualifier)
        else:
            raise members.refuse("Deletion of aliases is not currently supported.")
        if gone:
            await self._publishing.deleted(gone)
        return no_content()

    @asynccontextmanager
    async def _layered(self, arguments: Any) -> AsyncIterator[dict[str, Any]]:
        """The field `layers` where a request names it; the layers stay while the body runs."""
        if arguments.layers is None:
            yield {}
            return
        async with self._catalog.layers.changing:
            yield {"layers": await self._layers.used(arguments.layers)}

    async def _publish(self, name: str) -> Configuration:
        version, new = await self._catalog.publish(name, settled=False)
        if new and version.snap_start:
            await self._publishing.version_published(version)
        return version

    async def _dry_run(self, name: str, fields: Mapping[str, Any], revision_id: str | None) -> Response:
        latest = await self._catalog.function(name)
        check_revision(revision_id, latest.revision_id)
        return json_response(200, members.configuration_document(replace(latest, **fields)))

    async def _configuration(self, arguments: Any) -> Configuration:
        identifier = self._identifiers.read(arguments.function_name, arguments.qualifier)
        return await self._catalog.version(identifier.name, identifier.qualifier)

    def _document(self, configuration: Configuration, arguments: Any) -> dict[str, Any]:
        """The document with the ARN qualified as the caller qualified the function."""
        qualifier = self._identifiers.read(arguments.function_name, arguments.qualifier).qualifier
        document = members.configuration_document(configuration)
        document["FunctionArn"] = self._catalog.function_arn(configuration.function_name, qualifier)
        return document
