"""Downloads of code packages and layers: signed links to this server that work for ten minutes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from urllib.parse import quote, unquote, urlencode

from thaw.api.http import Request, Response
from thaw.api.ports import LayerPackages, Publishing
from thaw.catalog import refusals
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from thaw.catalog.layers import LayerVersion
from thaw.errors import ServiceError

PREFIX = "/thaw/packages/"
_FUNCTIONS = f"{PREFIX}functions/"
_LAYERS = f"{PREFIX}layers/"
_LIFETIME_S = 600


class PackageLinks:
    """Makes and honours the links; the key lives as long as the server, so a restart ends every link."""

    def __init__(
        self,
        catalog: Catalog,
        publishing: Publishing,
        layers: LayerPackages | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._publishing = publishing
        self._layers = layers
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def link(self, base_url: str, configuration: Configuration) -> str:
        """The URL of a configuration's deployment package."""
        path = f"{_FUNCTIONS}{configuration.function_name}/{quote(configuration.version)}"
        return f"{base_url}{path}?{self._query(_package(configuration))}"

    def layer_link(self, base_url: str, layer: LayerVersion) -> str:
        """The URL of a layer version's zip."""
        return f"{base_url}{_LAYERS}{layer.layer_name}/{layer.version}?{self._query(layer.content_key)}"

    async def download(self, request: Request) -> Response:
        """The zip; raises AccessDeniedException for a link that is forged, over, or of code that was replaced."""
        if request.raw_path.startswith(_LAYERS):
            content = await self._layer(request)
        else:
            content = await self._function(request)
        return Response(status=200, body=content, headers=((b"content-type", b"application/zip"),))

    async def _function(self, request: Request) -> bytes:
        name, _, version = request.raw_path.removeprefix(_FUNCTIONS).partition("/")
        configuration = await self._catalog.version(unquote(name), unquote(version))
        self._check(request, _package(configuration))
        return await self._publishing.code(configuration)

    async def _layer(self, request: Request) -> bytes:
        name, _, version = request.raw_path.removeprefix(_LAYERS).partition("/")
        number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
        layer = await self._catalog.layers.version(unquote(name), number)
        if layer is None or self._layers is None:
            raise refusals.no_resource()
        self._check(request, layer.content_key)
        return await self._layers.layer_content(layer.content_key)

    def _query(self, what: str) -> str:
        expires = str(int(self._clock()) + _LIFETIME_S)
        return urlencode({"expires": expires, "signature": self._signature(what, expires)})

    def _check(self, request: Request, what: str) -> None:
        expires = request.query.get("expires", [""])[0]
        signature = request.query.get("signature", [""])[0]
        expected = self._signature(what, expires)
        if not hmac.compare_digest(signature.encode(), expected.encode()) or int(expires) < self._clock():
            raise ServiceError(
                "AccessDeniedException",
                "This link is not valid (any more): ask for a new one where you had it from.",
            )

    def _signature(self, what: str, expires: str) -> str:
        return hmac.new(self._key, f"{what}\n{expires}".encode(), hashlib.sha256).hexdigest()


def _package(configuration: Configuration) -> str:
    """What a link is for: this code of this version of this creation of the function."""
    return "\n".join((configuration.function_id, configuration.version, configuration.code_key))
