"""Requests and responses as the operations see them, and the reading of bodies of bounded size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from thaw.errors import ServiceError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INVOKE_LIMIT = 6_291_456
REQUEST_LIMIT = 70_167_211
_CALLS = frozenset(("Invoke", "InvokeAsync", "InvokeWithResponseStream"))
# What is read and thrown away of a body that is too large, so that the client gets to see the answer.
_DRAIN_LIMIT = 4 * REQUEST_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Header names are lower case, query values percent-decoded, `raw_path` is as it was sent.

    `base_url` is how the client reached the server ("http://127.0.0.1:3001"), `client` its address. `raw_query` and
    `raw_headers` are what was sent; of a header that came several times, `headers` has the last one.
    """

    request_id: str
    method: str
    raw_path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    base_url: str
    raw_query: str = ""
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response; the request's id is added to the headers when it is sent.

    Where there are `pieces`, they are the body, sent one by one; a BrokenStream among them ends the connection.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = field(default=((b"content-type", b"application/json"),))
    pieces: AsyncGenerator[bytes, None] | None = None


class BrokenStream(Exception):
    """A response whose head is sent cannot be completed: only a connection that ends early tells the client."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete; there is nobody to answer."""


Handler = Callable[[Any, Request], Awaitable[Response]]


def json_response(status: int, document: Mapping[str, Any]) -> Response:
    """A JSON body; members that are None are left out, as Lambda does."""
    return Response(status=status, body=msgspec.json.encode(without_none(document)))


def without_none(document: Mapping[str, Any]) -> dict[str, Any]:
    """The members that have a value."""
    return {name: value for name, value in document.items() if value is not None}


def no_content() -> Response:
    """204: done, and there is nothing to say."""
    return Response(status=204, headers=())


async def read_body(receive: Receive, operation: str) -> bytes:
    """The whole body; raises the 413 that Lambda answers where it is larger than the operation takes."""
    limit = INVOKE_LIMIT if operation in _CALLS else REQUEST_LIMIT
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size += len(message.get("body", b""))
        if size <= limit:
            chunks.append(message.get("body", b""))
        if not message.get("more_body") or size > _DRAIN_LIMIT:
            break
    if size > limit:
        raise too_large(operation, limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def too_large(operation: str, limit: int) -> ServiceError:
    """The 413 of a request that is larger than its operation takes."""
    if operation in _CALLS:
        text = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
        return ServiceError("RequestTooLargeException", text)
    text = f"Request must be smaller than {limit} bytes for the {operation} operation"
    return ServiceError("RequestEntityTooLargeException", text)
