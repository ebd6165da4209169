"""PublishVersion and ListVersionsByFunction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from thaw.api import members, paging
from thaw.api.http import Handler, Request, Response, json_response
from thaw.api.identifier import Identifiers
from thaw.api.ports import Publishing
from thaw.catalog.catalog import Catalog
from thaw.catalog.records import version_number

_Position = tuple[Annotated[int, Meta(ge=-1, le=2**31)]]


class Versions:
    """The operations on numbered versions."""

    def __init__(self, catalog: Catalog, publishing: Publishing, identifiers: Identifiers) -> None:
        self._catalog = catalog
        self._publishing = publishing
        self._identifiers = identifiers

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {"PublishVersion": self.publish, "ListVersionsByFunction": self.list}

    async def publish(self, arguments: Any, _: Request) -> Response:
        """PublishVersion; an unchanged function answers its last version, also with 201."""
        members.check_supported(arguments)
        version, new = await self._catalog.publish(
            self._identifiers.read_unqualified(arguments.function_name),
            description=arguments.description,
            code_sha256=arguments.code_sha256,
            revision_id=arguments.revision_id,
        )
        if new and version.snap_start:
            await self._publishing.version_published(version)
        return json_response(201, members.configuration_document(version))

    async def list(self, arguments: Any, _: Request) -> Response:
        """ListVersionsByFunction: $LATEST first, every ARN qualified, no states."""
        size = paging.page_size(arguments.max_items)
        (after,) = paging.read_marker(arguments.marker, _Position, (-1,))
        name = self._identifiers.read(arguments.function_name).name
        found = await self._catalog.versions(name, after=after, limit=size + 1)
        page, marker = paging.one_page(found, size, lambda item: (version_number(item.version),))
        versions = [members.listed_document(item, qualified=True) for item in page]
        return json_response(200, {"NextMarker": marker, "Versions": versions})
