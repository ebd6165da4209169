"""Downloads of code packages: GetFunction's Code.Location, a signed link to this server that works for ten minutes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from urllib.parse import quote, unquote, urlencode

from thaw.api.http import Request, Response
from thaw.api.ports import Publishing
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from thaw.errors import ServiceError

PREFIX = "/thaw/packages/"
_LIFETIME_S = 600


class PackageLinks:
    """Makes and honours the links; the key lives as long as the server, so a restart ends every link."""

    def __init__(self, catalog: Catalog, publishing: Publishing, clock: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._publishing = publishing
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def link(self, base_url: str, configuration: Configuration) -> str:
        """The URL of a configuration's deployment package."""
        path = f"{PREFIX}{configuration.function_name}/{quote(configuration.version)}"
        expires = int(self._clock()) + _LIFETIME_S
        query = urlencode({"expires": expires, "signature": self._signature(configuration, str(expires))})
        return f"{base_url}{path}?{query}"

    async def download(self, request: Request) -> Response:
        """The zip; raises AccessDeniedException for a link that is forged, over, or of code that was replaced."""
        name, _, version = request.raw_path.removeprefix(PREFIX).partition("/")
        expires = request.query.get("expires", [""])[0]
        signature = request.query.get("signature", [""])[0]
        configuration = await self._catalog.version(unquote(name), unquote(version))
        expected = self._signature(configuration, expires)
        if not hmac.compare_digest(signature.encode(), expected.encode()) or int(expires) < self._clock():
            raise ServiceError(
                "AccessDeniedException",
                "This link is not valid (any more): call GetFunction again for a new one.",
            )
        code = await self._publishing.code(configuration)
        return Response(status=200, body=code, headers=((b"content-type", b"application/zip"),))

    def _signature(self, configuration: Configuration, expires: str) -> str:
        text = "\n".join((configuration.function_id, configuration.version, configuration.code_key, expires))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
