"""The operations that call functions.

Nothing here touches SQL once a qualifier was resolved, and the compiled protocol costs microseconds.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from thaw.api import event_stream, members
from thaw.api.http import Handler, Request, Response, json_response, no_content
from thaw.api.identifier import Identifier, Identifiers
from thaw.api.ports import Invoking, Publishing
from thaw.catalog.catalog import Catalog
from thaw.catalog.refusals import check_invocable
from thaw.environment.streaming import ResponseStream
from thaw.errors import ServiceError
from thaw.invoke.call import Answer, Call

_LOG_TAIL = 4096
# "The maximum payload size is 6 MB for synchronous invocations and 1 MB for asynchronous invocations" (service model).
EVENT_LIMIT = 1 << 20
_syntax: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """A call whose function streams: its pieces, and `calling`, which ends after them."""

    call: Call
    stream: ResponseStream
    calling: asyncio.Future[Answer]

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The response; a call whose response nobody wants any more goes on, as on Lambda, and is thrown away."""
        try:
            async for piece in self.stream.pieces():
                yield piece
        finally:
            self.stream.end()
            self.calling.add_done_callback(_retrieve)


class Invocation:
    """The operations that call functions."""

    def __init__(self, catalog: Catalog, publishing: Publishing, invoking: Invoking, identifiers: Identifiers) -> None:
        self._catalog = catalog
        self._publishing = publishing
        self._invoking = invoking
        self._identifiers = identifiers

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {
            "Invoke": self.invoke,
            "InvokeAsync": self.invoke_async,
            "InvokeWithResponseStream": self.stream,
        }

    async def invoke(self, arguments: Any, request: Request) -> Response:
        """Invoke: RequestResponse, Event and DryRun. An error of the function is a 200 with X-Amz-Function-Error."""
        if arguments.tenant_id or arguments.durable_execution_name:
            raise members.refuse("TenantId and DurableExecutionName are not supported by this server: leave them out.")
        if arguments.invocation_type == "DryRun":
            return await self._dry_run(arguments)
        asked = self._asked(arguments)
        if arguments.invocation_type == "Event":
            await self._enqueue(*asked, request)
            return Response(status=202, headers=())
        call, answer = await self.run(*asked, request)
        return _response(answer, call, tail=arguments.log_type == "Tail")

    async def stream(self, arguments: Any, request: Request) -> Response:
        """InvokeWithResponseStream: the answer as it comes, then how the call ended; one chunk where the function does
        not stream."""
        if arguments.tenant_id:
            raise members.refuse("TenantId is not supported by this server: leave it out.")
        if arguments.invocation_type == "DryRun":
            return await self._dry_run(arguments)
        tail = arguments.log_type == "Tail"
        streamed = await self.run_streamed(*self._asked(arguments), request)
        if isinstance(streamed, StreamedAnswer):
            headers = _headers(streamed.call.executed_version, streamed.call, event_stream.CONTENT_TYPE)
            return Response(status=200, headers=tuple(headers), pieces=_events(streamed, tail=tail))
        call, answer = streamed
        headers = _headers(answer.executed_version, call, event_stream.CONTENT_TYPE)
        chunks = [] if answer.function_error is not None or not answer.payload else [_chunk(answer.payload)]
        return Response(status=200, body=b"".join((*chunks, _complete(answer, tail=tail))), headers=tuple(headers))

    async def invoke_async(self, arguments: Any, request: Request) -> Response:
        """InvokeAsync, the older form of Invoke with InvocationType Event."""
        identifier = self._identifiers.read(arguments.function_name)
        await self._enqueue(identifier, _checked_payload(arguments.invoke_args), None, request)
        return json_response(202, {"Status": 202})

    async def run(
        self, identifier: Identifier, payload: bytes, client_context: str | None, request: Request
    ) -> tuple[Call, Answer]:
        """Calls a function, version or alias and waits. Raises ServiceError where it is not there or not Active."""
        call = await self._ready_call(identifier, payload, client_context, request)
        return call, await self._invoking.invoke(call)

    async def run_streamed(
        self, identifier: Identifier, payload: bytes, client_context: str | None, request: Request
    ) -> StreamedAnswer | tuple[Call, Answer]:
        """As `run`, but returns as soon as the function begins to stream, if it does."""
        stream = ResponseStream()
        call = replace(await self._ready_call(identifier, payload, client_context, request), stream=stream)
        calling = asyncio.ensure_future(self._invoking.invoke(call))
        try:
            if await stream.begins_before(calling):
                return StreamedAnswer(call, stream, calling)
            return call, await calling
        except asyncio.CancelledError:
            calling.cancel()
            raise

    async def _ready_call(
        self, identifier: Identifier, payload: bytes, client_context: str | None, request: Request
    ) -> Call:
        """A call that can run now; raises ServiceError where the version is not Active."""
        call = await self._call(identifier, payload, client_context, request)
        if call.configuration.state != "Active":
            await self._publishing.awaken(call.configuration)
            check_invocable(call.configuration)
        return call

    async def _enqueue(
        self, identifier: Identifier, payload: bytes, client_context: str | None, request: Request
    ) -> None:
        """Puts a call into the queue; one of a function that is not Active waits there."""
        if len(payload) > EVENT_LIMIT:
            raise ServiceError(
                "RequestTooLargeException",
                f"{len(payload)} byte payload is too large for the Event invocation type (limit {EVENT_LIMIT} bytes)",
            )
        call = await self._call(identifier, payload, client_context, request)
        await self._publishing.awaken(call.configuration)
        await self._invoking.enqueue(call)

    async def _call(self, identifier: Identifier, payload: bytes, client_context: str | None, request: Request) -> Call:
        configuration = await self._catalog.resolve(identifier.name, identifier.qualifier)
        return Call(
            configuration=configuration,
            executed_version=configuration.version,
            invoked_arn=self._catalog.function_arn(identifier.name, identifier.qualifier),
            payload=payload,
            request_id=request.request_id,
            client_context=client_context,
            trace_id=trace_of(request),
            wants_log=request.headers.get("x-amz-log-type") == "Tail",
        )

    def _asked(self, arguments: Any) -> tuple[Identifier, bytes, str | None]:
        """What a request calls, with which payload and client context."""
        identifier = self._identifiers.read(arguments.function_name, arguments.qualifier)
        return identifier, _checked_payload(arguments.payload), _checked_context(arguments.client_context)

    async def _dry_run(self, arguments: Any) -> Response:
        identifier = self._identifiers.read(arguments.function_name, arguments.qualifier)
        await self._catalog.resolve(identifier.name, identifier.qualifier)
        return no_content()


def _checked_payload(payload: bytes) -> bytes:
    """The payload, or {} where there is none; raises InvalidRequestContentException where it is not JSON."""
    if not payload:
        return b"{}"
    try:
        _syntax.decode(payload)
        if not payload.isascii():
            payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServiceError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {error}",
        ) from error
    return payload


def _checked_context(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        context = msgspec.json.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        context = None
    if not isinstance(context, dict):
        raise ServiceError(
            "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."
        )
    return text


def trace_of(request: Request) -> str:
    """The X-Ray trace header of a request, or a new one that says "not sampled"."""
    given = request.headers.get("x-amzn-trace-id")
    return given or f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled=0"


def _response(answer: Answer, call: Call, *, tail: bool) -> Response:
    headers = _headers(answer.executed_version, call, b"application/json")
    if answer.function_error is not None:
        headers.append((b"x-amz-function-error", answer.function_error.encode()))
    if tail:
        headers.append((b"x-amz-log-result", base64.b64encode(answer.log_tail[-_LOG_TAIL:])))
    return Response(status=200, body=answer.payload, headers=tuple(headers))


def _retrieve(calling: asyncio.Future[Answer]) -> None:
    """How a call ended whose caller has gone is in the function's log; asyncio need not complain."""
    if not calling.cancelled():
        calling.exception()


async def _events(streamed: StreamedAnswer, *, tail: bool) -> AsyncGenerator[bytes, None]:
    """A chunk for everything that arrives, and the end of the call."""
    async with aclosing(streamed.pieces()) as pieces:
        async for piece in pieces:
            yield _chunk(piece)
    try:
        yield _complete(await streamed.calling, tail=tail)
    except ServiceError as error:  # the head is sent: what went wrong can only be told here
        end = {"ErrorCode": error.code, "ErrorDetails": error.message}
        yield event_stream.event("InvokeComplete", "application/json", msgspec.json.encode(end))


def _chunk(payload: bytes) -> bytes:
    return event_stream.event("PayloadChunk", "application/octet-stream", payload)


def _complete(answer: Answer, *, tail: bool) -> bytes:
    """The last event: an error of the function, and the log."""
    end: dict[str, str] = {}
    if answer.function_error is not None:
        end |= {"ErrorCode": answer.function_error, "ErrorDetails": answer.payload.decode("utf-8", "replace")}
    if tail:
        end["LogResult"] = base64.b64encode(answer.log_tail[-_LOG_TAIL:]).decode()
    return event_stream.event("InvokeComplete", "application/json", msgspec.json.encode(end))


def _headers(executed_version: str, call: Call, content_type: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", content_type),
        (b"x-amz-executed-version", executed_version.encode()),
        (b"x-amzn-trace-id", (call.trace_id or "").encode("latin-1", "replace")),
    ]
