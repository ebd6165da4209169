"""Requests to CloudWatch and CloudWatch Logs: recognised, verified, decoded, answered in the protocol they came in.

::

    POST /                                                        JSON 1.0 and 1.1: X-Amz-Target names the operation
    POST /service/GraniteServiceVersion20100801/operation/<name>  Smithy RPC v2 with CBOR: today's SDKs
    POST /  application/x-www-form-urlencoded                      the query protocol: older SDKs
    GET  /metrics                                                 for Prometheus
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal
from urllib.parse import parse_qs

import botocore.session
import msgspec
from botocore.validate import ParamValidator

from thaw.api import event_stream
from thaw.api.http import Request, Response
from thaw.api.signatures import Signatures
from thaw.api.telemetry import cbor, query
from thaw.api.telemetry.cloudwatch import CloudWatch
from thaw.api.telemetry.live_tail import LiveTail
from thaw.api.telemetry.logs import Logs
from thaw.errors import ServiceError, ThawError

_log = logging.getLogger(__name__)

Protocol = Literal["json", "cbor", "query"]
Work = Callable[[Mapping[str, Any]], dict[str, Any]]
_TARGET = re.compile(r"(Logs_20140328|GraniteServiceVersion20100801)\.([A-Za-z]+)")
_RPC_PATH = re.compile(r"/service/GraniteServiceVersion20100801/operation/([A-Za-z]+)")
_FORM = "application/x-www-form-urlencoded"
_SIGNED_AS = {"logs": "logs", "cloudwatch": "monitoring"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants, as far as its head tells; the query protocol names its operation in the body."""

    service: str
    protocol: Protocol
    operation: str


class Telemetry:
    """Answers the requests that `find` recognises. `signatures` verifies, by the service's name for signing."""

    def __init__(
        self, logs: Logs, cloudwatch: CloudWatch, live_tail: LiveTail, signatures: Mapping[str, Signatures]
    ) -> None:
        self._signatures = signatures
        self._live_tail = live_tail
        self._work: Mapping[tuple[str, str], Work] = {
            ("logs", "DescribeLogGroups"): logs.describe_groups,
            ("logs", "DescribeLogStreams"): logs.describe_streams,
            ("logs", "GetLogEvents"): logs.get_events,
            ("logs", "FilterLogEvents"): logs.filter_events,
            ("cloudwatch", "ListMetrics"): cloudwatch.list_metrics,
            ("cloudwatch", "GetMetricStatistics"): cloudwatch.get_metric_statistics,
            ("cloudwatch", "GetMetricData"): cloudwatch.get_metric_data,
        }

    @property
    def operations(self) -> Sequence[tuple[str, str]]:
        """Service and name of what is carried out."""
        return sorted((*self._work, ("logs", "StartLiveTail")))

    @staticmethod
    def find(request: Request) -> Asked | None:
        """What the request wants of these services; None where it is for another one."""
        if request.method != "POST":
            return None
        if (match := _RPC_PATH.fullmatch(request.raw_path)) is not None:
            return Asked("cloudwatch", "cbor", match[1])
        if request.raw_path != "/":
            return None
        if (match := _TARGET.fullmatch(request.headers.get("x-amz-target", ""))) is not None:
            return Asked("logs" if match[1].startswith("Logs") else "cloudwatch", "json", match[2])
        if request.headers.get("content-type", "").startswith(_FORM):
            return Asked("cloudwatch", "query", "")
        return None

    async def answer(self, asked: Asked, request: Request, body: bytes) -> Response:
        """The answer, errors included."""
        operation = asked.operation or parse_qs(body.decode("latin-1")).get("Action", [""])[0]
        try:
            await self._verify(asked, request, body)
            if (asked.service, operation) == ("logs", "StartLiveTail"):
                return await self._tail(asked, request, body)
            document = await self._run(asked, operation, body)
        except ServiceError as error:
            return _error(asked, error, request, 403 if "Signature" in error.code or "Token" in error.code else 400)
        except ThawError as error:
            return _error(asked, ServiceError("InternalFailure", str(error)), request, 500)
        except Exception:
            _log.exception("Request %s failed unexpectedly", request.request_id)
            told = f"An internal error occurred: the server's log tells more about request {request.request_id}."
            return _error(asked, ServiceError("InternalFailure", told), request, 500)
        return _response(asked.protocol, operation, document, request)

    async def _verify(self, asked: Asked, request: Request, body: bytes) -> None:
        signatures = self._signatures.get(_SIGNED_AS[asked.service])
        if signatures is not None:
            await signatures.verify(signatures.claim(request), request, body)

    async def _run(self, asked: Asked, operation: str, body: bytes) -> dict[str, Any]:
        work = self._work.get((asked.service, operation))
        if work is None:
            raise ServiceError(
                "UnknownOperationException",
                f"The operation {operation or '(none)'} of {asked.service} is not implemented by this server.",
            )
        return await asyncio.to_thread(work, _arguments(asked, operation, body))

    async def _tail(self, asked: Asked, request: Request, body: bytes) -> Response:
        pieces = await self._live_tail.start(_arguments(asked, "StartLiveTail", body), request.request_id)
        return Response(status=200, headers=((b"content-type", event_stream.CONTENT_TYPE),), pieces=pieces)

    def stop(self) -> None:
        """Ends what would go on for ever: the server stops."""
        self._live_tail.stop()


@cache
def model(service: str) -> Any:
    """The botocore service model."""
    return botocore.session.get_session().get_service_model(service)


def _arguments(asked: Asked, operation: str, body: bytes) -> dict[str, Any]:
    """The arguments of a request. Raises ServiceError where they are not those of the model."""
    shape = model(asked.service).operation_model(operation).input_shape
    arguments = _decoded(asked.protocol, body, shape)
    try:
        report = ParamValidator().validate(arguments, shape)
    except (ValueError, RuntimeError, OverflowError) as error:  # of times that no calendar has
        raise ServiceError("ValidationError", f"A time in the request cannot be understood: {error}") from error
    if report.has_errors():
        raise ServiceError("ValidationError", report.generate_report())
    return arguments


def _decoded(protocol: Protocol, body: bytes, shape: Any) -> dict[str, Any]:
    try:
        if protocol == "query":
            return query.decode(body.decode(), shape)
        decoded = cbor.decode(body) if protocol == "cbor" else msgspec.json.decode(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ServiceError("SerializationException", f"The request cannot be read: {error}") from error
    if not isinstance(decoded, dict):
        raise ServiceError("SerializationException", "The request cannot be read: it is not a map of members")
    return decoded


def _response(protocol: Protocol, operation: str, document: Mapping[str, Any], request: Request) -> Response:
    if protocol == "cbor":
        return Response(status=200, body=cbor.encode(document), headers=_CBOR_HEADERS)
    if protocol == "query":
        body = query.encode(operation, model("cloudwatch").metadata["xmlNamespace"], document, request.request_id)
        return Response(status=200, body=body, headers=((b"content-type", b"text/xml"),))
    return Response(status=200, body=_json(document), headers=_JSON_HEADERS)


_CBOR_HEADERS = ((b"content-type", b"application/cbor"), (b"smithy-protocol", b"rpc-v2-cbor"))
_JSON_HEADERS = ((b"content-type", b"application/x-amz-json-1.1"),)


def _json(document: Mapping[str, Any]) -> bytes:
    """Times are seconds since the epoch in these protocols."""
    return msgspec.json.encode(_plain(document))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _error(asked: Asked, error: ServiceError, request: Request, status: int) -> Response:
    if asked.protocol == "query":
        namespace = model("cloudwatch").metadata["xmlNamespace"]
        body = query.encode_error(namespace, error.code, error.message, request.request_id)
        return Response(status=status, body=body, headers=((b"content-type", b"text/xml"),))
    compatible = (b"x-amzn-query-error", f"{error.code};Sender".encode())
    document = {"__type": error.code, "message": error.message}
    if asked.protocol == "cbor":
        return Response(status=status, body=cbor.encode(document), headers=(*_CBOR_HEADERS, compatible))
    headers = (*_JSON_HEADERS, (b"x-amzn-errortype", error.code.encode()))
    return Response(status=status, body=_json(document), headers=headers)
