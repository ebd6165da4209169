"""Function URLs served: http://<url-id>.lambda-url.<region>.localhost:<port>/ on the port of the API.

Clients that cannot resolve names below "localhost" reach the same function at /thaw/urls/<url-id>/ on any host.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import msgspec

from thaw.api import cors
from thaw.api.http import INVOKE_LIMIT, BrokenStream, Receive, Request, Response, read_body, too_large
from thaw.api.identifier import Identifier
from thaw.api.invocation import Invocation, StreamedAnswer, trace_of
from thaw.api.signatures import Signatures
from thaw.api.url_event import HEAD_LIMIT, HTTP_INTEGRATION, SEPARATOR, NotAnAnswer, event_of, response_of
from thaw.catalog.attachments import Attached, FunctionUrl
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import LATEST
from thaw.errors import ServiceError

_log = logging.getLogger(__name__)
_HOST = re.compile(r"([a-z0-9]+)\.lambda-url\.")
_PATH = re.compile(r"/thaw/urls/([a-z0-9]+)(/.*)?")
_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)


class FunctionUrls:
    """Finds the URL of a request and answers it with what its function returns."""

    def __init__(self, catalog: Catalog, invocation: Invocation, signatures: Signatures | None) -> None:
        self._catalog = catalog
        self._invocation = invocation
        self._signatures = signatures

    def find(self, request: Request) -> tuple[str, str] | None:
        """The URL's id and the path below it, or None for a request to the API."""
        host = request.headers.get("host", "").lower()
        if ".lambda-url." in host and (match := _HOST.match(host)):
            return match[1], request.raw_path
        if request.raw_path.startswith("/thaw/urls/") and (match := _PATH.fullmatch(request.raw_path)):
            return match[1], match[2] or "/"
        return None

    async def answer(self, url_id: str, path: str, request: Request, receive: Receive) -> Response:
        """Runs one request; a function that fails is a 502, as on Lambda."""
        body = await read_body(receive, "Invoke")
        found = await self._catalog.url(url_id)
        if found is None:
            return _forbidden(None)
        asked = cors.preflight(found.value.cors, request.method, request.headers)
        if asked is not None:
            return asked
        if not await self._permitted(found.value, request, body):
            return _forbidden()
        response = await self._run(found, path, request, body)
        return cors.allow(found.value.cors, request.headers, response)

    async def _permitted(self, url: FunctionUrl, request: Request, body: bytes) -> bool:
        """Whether the request may go to the function: AWS_IAM wants a signature where the server knows access keys."""
        if url.auth_type != "AWS_IAM" or self._signatures is None:
            return True
        try:
            await self._signatures.verify(self._signatures.claim(request), request, body)
        except ServiceError as error:
            _log.info("A request to the URL %s was refused: %s", url.url_id, error)
            return False
        return True

    async def _run(self, found: Attached[FunctionUrl], path: str, request: Request, body: bytes) -> Response:
        url = found.value
        identifier = Identifier(found.function_name, None if found.qualifier == LATEST else found.qualifier)
        trace_id = trace_of(request)
        traced = replace(request, headers={**request.headers, "x-amzn-trace-id": trace_id})
        event = event_of(request, path, url.url_id, body, trace_id)
        if len(event) > INVOKE_LIMIT:
            raise too_large("Invoke", INVOKE_LIMIT)
        header = (b"x-amzn-trace-id", trace_id.encode("latin-1", "replace"))
        response = await self._called(identifier, event, traced, streamed=url.invoke_mode == "RESPONSE_STREAM")
        return response if response.status == 502 else replace(response, headers=(*response.headers, header))

    async def _called(self, identifier: Identifier, event: bytes, request: Request, *, streamed: bool) -> Response:
        """What the function says; 502 where it failed or said nothing that HTTP can carry."""
        if streamed:
            ran = await self._invocation.run_streamed(identifier, event, None, request)
            if isinstance(ran, StreamedAnswer):
                return await _streamed(ran, identifier)
        else:
            ran = await self._invocation.run(identifier, event, None, request)
        answer = ran[1]
        if answer.function_error is not None:
            return _bad_gateway()
        try:
            return response_of(answer.payload, streamed=streamed)
        except NotAnAnswer as error:
            return _no_answer(identifier, error)


async def _streamed(streamed: StreamedAnswer, identifier: Identifier) -> Response:
    """A response whose body follows. Its head, where the function sends one, is waited for."""
    pieces, start = streamed.pieces(), b""
    content_type = streamed.stream.content_type.partition(";")[0].strip().lower()
    try:
        if content_type == HTTP_INTEGRATION:
            async for piece in pieces:
                start += piece
                if SEPARATOR in start or len(start) > HEAD_LIMIT:
                    break
            head = response_of(start, streamed=True, headed=True)
        else:
            given = streamed.stream.content_type.encode("latin-1") or b"application/octet-stream"
            head = Response(status=200, headers=((b"content-type", given),))
    except NotAnAnswer as error:
        await pieces.aclose()
        return _no_answer(identifier, error)
    return Response(status=head.status, headers=head.headers, pieces=_body(streamed, pieces, head.body))


async def _body(
    streamed: StreamedAnswer, pieces: AsyncGenerator[bytes, None], start: bytes
) -> AsyncGenerator[bytes, None]:
    """The pieces after the head; raises BrokenStream where the function failed on its way."""
    async with aclosing(pieces):
        if start:
            yield start
        async for piece in pieces:
            yield piece
    try:
        answer = await streamed.calling
    except ServiceError as error:
        raise BrokenStream(str(error)) from error
    if answer.function_error is not None:
        raise BrokenStream(f"{streamed.call.invoked_arn} failed: {answer.payload.decode(errors='replace')}")


def _no_answer(identifier: Identifier, error: NotAnAnswer) -> Response:
    _log.warning("%s answered its URL with no HTTP response: %s", identifier.name, error)
    return _bad_gateway()


def _bad_gateway() -> Response:
    return Response(status=502, body=b"Internal Server Error")


def _forbidden(message: str | None = _FORBIDDEN) -> Response:
    return Response(
        status=403,
        body=msgspec.json.encode({"Message": message}),
        headers=((b"content-type", b"application/json"), (b"x-amzn-errortype", b"AccessDeniedException")),
    )
