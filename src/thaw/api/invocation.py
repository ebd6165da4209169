"""Invoke. Nothing here touches SQL once a qualifier was resolved, and the compiled protocol costs microseconds."""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from thaw.api import members
from thaw.api.http import Handler, Request, Response, no_content
from thaw.api.identifier import Identifier, Identifiers
from thaw.api.ports import Invoking, Publishing
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from thaw.catalog.refusals import check_invocable
from thaw.errors import ServiceError
from thaw.invoke.call import Answer, Call

_LOG_TAIL = 4096
_syntax: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


class Invocation:
    """The operation Invoke."""

    def __init__(self, catalog: Catalog, publishing: Publishing, invoking: Invoking, identifiers: Identifiers) -> None:
        self._catalog = catalog
        self._publishing = publishing
        self._invoking = invoking
        self._identifiers = identifiers

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {"Invoke": self.invoke}

    async def invoke(self, arguments: Any, request: Request) -> Response:
        """Invoke: RequestResponse and DryRun. An error of the function is a 200 with X-Amz-Function-Error."""
        _check_kind(arguments)
        identifier = self._identifiers.read(arguments.function_name, arguments.qualifier)
        if arguments.invocation_type == "DryRun":
            await self._catalog.resolve(identifier.name, identifier.qualifier)
            return no_content()
        trace_id = trace_of(request)
        answer = await self.run(
            identifier,
            _checked_payload(arguments.payload),
            request_id=request.request_id,
            trace_id=trace_id,
            client_context=_checked_context(arguments.client_context),
        )
        return _response(answer, trace_id, tail=arguments.log_type == "Tail")

    async def run(
        self,
        identifier: Identifier,
        payload: bytes,
        *,
        request_id: str,
        trace_id: str,
        client_context: str | None = None,
    ) -> Answer:
        """Runs one call of a function, version or alias. Raises ServiceError where it is not there or not Active."""
        configuration = await self._catalog.resolve(identifier.name, identifier.qualifier)
        if configuration.state != "Active":
            await self._refuse(configuration)
        call = Call(
            configuration=configuration,
            executed_version=configuration.version,
            invoked_arn=self._catalog.function_arn(identifier.name, identifier.qualifier),
            payload=payload,
            request_id=request_id,
            client_context=client_context,
            trace_id=trace_id,
        )
        return await self._invoking.invoke(call)

    async def _refuse(self, configuration: Configuration) -> None:
        """Answers a call of a version that is not Active; one whose snapshot was dropped begins a new one."""
        if configuration.state == "Inactive" and configuration.snap_start:
            pending = await self._catalog.set_state(
                configuration.function_name,
                configuration.version,
                function_id=configuration.function_id,
                state="Pending",
                state_reason="The function is being restored.",
                state_reason_code="Restoring",
                last_update_status=None,
                optimization_status="Off",
            )
            await self._publishing.version_published(pending)
        check_invocable(configuration)


def _check_kind(arguments: Any) -> None:
    if arguments.invocation_type == "Event":
        raise ServiceError(
            "NotImplementedException",
            "Invoke with InvocationType Event is not implemented by this server yet: use RequestResponse.",
        )
    if arguments.tenant_id or arguments.durable_execution_name:
        raise members.refuse("TenantId and DurableExecutionName are not supported by this server: leave them out.")


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


def _response(answer: Answer, trace_id: str, *, tail: bool) -> Response:
    headers = [
        (b"content-type", b"application/json"),
        (b"x-amz-executed-version", answer.executed_version.encode()),
        (b"x-amzn-trace-id", trace_id.encode("latin-1", "replace")),
    ]
    if answer.function_error is not None:
        headers.append((b"x-amz-function-error", answer.function_error.encode()))
    if tail:
        headers.append((b"x-amz-log-result", base64.b64encode(answer.log_tail[-_LOG_TAIL:])))
    return Response(status=200, body=answer.payload, headers=tuple(headers))
