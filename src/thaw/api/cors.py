"""Cross-origin requests to function URLs, answered from the URL's Cors settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thaw.api.http import Response

Headers = tuple[tuple[bytes, bytes], ...]
_PREFIX = b"access-control-"


def preflight(cors: Mapping[str, Any] | None, method: str, headers: Mapping[str, str]) -> Response | None:
    """The answer to a browser's question before a request, or None where the request is for the function."""
    if cors is None or method != "OPTIONS" or "access-control-request-method" not in headers:
        return None
    allowed = _origin(cors, headers.get("origin"))
    if allowed is None:
        return Response(status=200, headers=())
    return Response(
        status=200,
        headers=(
            *allowed,
            *_list(cors, "AllowMethods", "allow-methods"),
            *_list(cors, "AllowHeaders", "allow-headers"),
            *(((_PREFIX + b"max-age", str(cors["MaxAge"]).encode()),) if cors.get("MaxAge") is not None else ()),
        ),
    )


def allow(cors: Mapping[str, Any] | None, headers: Mapping[str, str], response: Response) -> Response:
    """The response with the URL's headers for the request's origin in place of the function's own."""
    if cors is None or "origin" not in headers:
        return response
    own = tuple(one for one in response.headers if not one[0].startswith(_PREFIX))
    allowed = _origin(cors, headers["origin"])
    more = () if allowed is None else (*allowed, *_list(cors, "ExposeHeaders", "expose-headers"))
    return replace(response, headers=(*own, *more))


def _origin(cors: Mapping[str, Any], origin: str | None) -> Headers | None:
    """The headers that allow an origin, or None where it is not allowed."""
    patterns: Sequence[str] = cors.get("AllowOrigins") or ()
    if origin is None or not any(_matches(pattern, origin) for pattern in patterns):
        return None
    # A browser does not take "*" together with credentials.
    if "*" in patterns and not cors.get("AllowCredentials"):
        return ((_PREFIX + b"allow-origin", b"*"),)
    credentials = ((_PREFIX + b"allow-credentials", b"true"),) if cors.get("AllowCredentials") else ()
    return ((_PREFIX + b"allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"), *credentials)


def _matches(pattern: str, origin: str) -> bool:
    """A star stands for any part of a host."""
    if pattern == "*":
        return True
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), origin, re.IGNORECASE) is not None


def _list(cors: Mapping[str, Any], member: str, header: str) -> Headers:
    values = cors.get(member)
    return ((_PREFIX + header.encode(), ",".join(values).encode("utf-8")),) if values else ()
