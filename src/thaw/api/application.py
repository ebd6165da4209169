"""The Lambda API as a raw ASGI application; uvicorn hosts it.

Every request goes the same way: route, body of bounded size, compiled decoder, handler of its operation. Whatever goes
wrong becomes an error in Lambda's wire form; nothing that a client sends ends a connection without an answer.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from ipaddress import ip_address
from urllib.parse import parse_qs

from thaw.api.account import Account
from thaw.api.aliases import Aliases
from thaw.api.code_source import CodeSource
from thaw.api.concurrency import ConcurrencyLimits
from thaw.api.event_invoke import EventInvokeConfigs
from thaw.api.function_settings import FunctionSettings
from thaw.api.function_urls import FunctionUrls
from thaw.api.functions import Functions
from thaw.api.http import (
    BrokenStream,
    ClientGone,
    Handler,
    Message,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    read_body,
)
from thaw.api.identifier import Identifiers
from thaw.api.invocation import Invocation
from thaw.api.layers import Layers
from thaw.api.packages import PREFIX, PackageLinks
from thaw.api.permissions import Permissions
from thaw.api.ports import ApiSettings, Invoking, LayerPackages, Provisioning, Publishing
from thaw.api.protocol.operation import RequestParts
from thaw.api.protocol.service import LambdaProtocol
from thaw.api.signatures import Signatures, read_access_keys
from thaw.api.telemetry.cloudwatch import CloudWatch
from thaw.api.telemetry.live_tail import LiveTail
from thaw.api.telemetry.logs import Logs
from thaw.api.telemetry.prometheus import PATH as METRICS_PATH
from thaw.api.telemetry.prometheus import Exposition
from thaw.api.telemetry.telemetry import Telemetry
from thaw.api.url_configs import UrlConfigs
from thaw.api.versions import Versions
from thaw.catalog.catalog import Catalog
from thaw.errors import CodePackageError, RuntimeNotFound, ServiceError, ThawError
from thaw.observe.log_reader import LogReader
from thaw.observe.metrics import Metrics

_log = logging.getLogger(__name__)

UNREADABLE_PACKAGE = "Could not unzip uploaded file. Please check your file, then try to upload again."


class Application:
    """The ASGI callable; made by `create_application`."""

    def __init__(
        self,
        protocol: LambdaProtocol,
        handlers: Mapping[str, Handler],
        packages: PackageLinks,
        urls: FunctionUrls,
        signatures: Signatures | None,
        telemetry: Telemetry | None,
        exposition: Exposition | None,
    ) -> None:
        self._protocol = protocol
        self._handlers = handlers
        self._packages = packages
        self._urls = urls
        self._signatures = signatures
        self._telemetry = telemetry
        self._exposition = exposition

    @property
    def implemented(self) -> frozenset[str]:
        """The names of the operations that are carried out; all others of the model answer 501."""
        return frozenset(self._handlers)

    @property
    def telemetry(self) -> Sequence[tuple[str, str]]:
        """Service and name of the operations of CloudWatch Logs and CloudWatch that are carried out."""
        return () if self._telemetry is None else self._telemetry.operations

    def stop(self) -> None:
        """Ends answers that would go on for ever; call it before the server waits for its requests."""
        if self._telemetry is not None:
            self._telemetry.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            request = _request(scope)
            await _send(receive, send, request, await self._answer(request, receive))
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _answer(self, request: Request, receive: Receive) -> Response:
        try:
            return await self._dispatch(request, receive)
        except ServiceError as error:
            return self._error(error)
        except ClientGone:
            return Response(status=400)
        except CodePackageError as error:
            _log.info("A deployment package was refused: %s", error)
            return self._error(ServiceError("InvalidParameterValueException", UNREADABLE_PACKAGE))
        except RuntimeNotFound as error:
            return self._error(ServiceError("InvalidParameterValueException", str(error)))
        except ThawError as error:
            _log.error("Request %s failed: %s", request.request_id, error)
            return self._error(ServiceError("ServiceException", str(error), type="Service"))
        except Exception:
            _log.exception("Request %s failed unexpectedly", request.request_id)
            text = f"An internal error occurred: the server's log tells more about request {request.request_id}."
            return self._error(ServiceError("ServiceException", text, type="Service"))

    async def _dispatch(self, request: Request, receive: Receive) -> Response:
        if request.method == "GET" and request.raw_path.startswith(PREFIX):
            return await self._packages.download(request)
        if self._telemetry is not None and (asked := self._telemetry.find(request)) is not None:
            return await self._telemetry.answer(asked, request, await read_body(receive, asked.operation))
        if self._exposition is not None and self._may_scrape(request):
            return self._exposition.answer()
        url = self._urls.find(request)
        if url is not None:
            return await self._urls.answer(*url, request, receive)
        claim = None if self._signatures is None else self._signatures.claim(request)
        found = self._protocol.routes.find(request.method, request.raw_path, request.query)
        if found is None:
            await read_body(receive, "unknown")
            raise ServiceError(
                "UnknownOperationException",
                f"{request.method} {request.raw_path} is no operation of the Lambda API: check the endpoint and path.",
            )
        name, path = found
        body = await read_body(receive, name)
        if self._signatures is not None and claim is not None:
            await self._signatures.verify(claim, request, body)
        handler = self._handlers.get(name)
        if handler is None:
            raise ServiceError(
                "NotImplementedException", f"The operation {name} is not implemented by this server yet."
            )
        parts = RequestParts(path=path, query=request.query, headers=request.headers, body=body)
        return await handler(self._protocol.operations[name].decode(parts), request)

    def _may_scrape(self, request: Request) -> bool:
        """Prometheus cannot sign its requests: where others have to, only this machine may read without."""
        wanted = (request.method, request.raw_path) == ("GET", METRICS_PATH)
        return wanted and (self._signatures is None or ip_address(request.client or "0.0.0.0").is_loopback)

    def _error(self, error: ServiceError) -> Response:
        headers = ((b"content-type", b"application/json"), (b"x-amzn-errortype", error.code.encode()))
        return Response(
            status=self._protocol.error_status(error), body=self._protocol.error_body(error), headers=headers
        )


def create_application(
    settings: ApiSettings,
    catalog: Catalog,
    publishing: Publishing,
    invoking: Invoking,
    *,
    layers: LayerPackages | None = None,
    provisioning: Provisioning | None = None,
    logs: LogReader | None = None,
    metrics: Metrics | None = None,
) -> Application:
    """Compiles the protocol and joins the operations to what carries them out. The catalog must be open.

    Operations on layers answer 501 where nothing is given that keeps their packages, those on provisioned concurrency
    where nothing is given that provides it. Raises ConfigurationError where the credentials file is unusable.
    """
    identifiers = Identifiers(settings)
    packages = PackageLinks(catalog, publishing, layers)
    source = CodeSource(settings.s3_endpoint, settings.region)
    layering = Layers(catalog, layers, settings, source, packages)
    invocation = Invocation(catalog, publishing, invoking, identifiers)
    handlers = {
        **Functions(
            catalog, publishing, identifiers, packages, source, layering, aws_parity=settings.aws_parity
        ).handlers(),
        **layering.handlers(),
        **Versions(catalog, publishing, identifiers).handlers(),
        **Aliases(catalog, identifiers, provisioning).handlers(),
        **invocation.handlers(),
        **UrlConfigs(catalog, identifiers, settings).handlers(),
        **Permissions(catalog, identifiers).handlers(),
        **ConcurrencyLimits(catalog, identifiers, provisioning).handlers(),
        **EventInvokeConfigs(catalog, identifiers).handlers(),
        **FunctionSettings(catalog, identifiers).handlers(),
        **Account(catalog, identifiers).handlers(),
    }
    signatures = _signatures(settings)
    urls = FunctionUrls(catalog, invocation, signatures)
    telemetry = None if logs is None or metrics is None else _telemetry(settings, logs, metrics)
    exposition = None if metrics is None else Exposition(metrics)
    return Application(LambdaProtocol.compiled(), handlers, packages, urls, signatures, telemetry, exposition)


def _telemetry(settings: ApiSettings, logs: LogReader, metrics: Metrics) -> Telemetry:
    signatures = {name: found for name in ("logs", "monitoring") if (found := _signatures(settings, name)) is not None}
    reading = Logs(logs, region=settings.region, account_id=settings.account_id)
    return Telemetry(reading, CloudWatch(metrics), LiveTail(reading.find, reading.arn), signatures)


def _signatures(settings: ApiSettings, service: str = "lambda") -> Signatures | None:
    """What verifies requests, or None where everybody may call."""
    if settings.credentials_file is None:
        return None
    return Signatures(read_access_keys(settings.credentials_file), region=settings.region, service=service)


def _request(scope: Scope) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    raw_path = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"].decode("latin-1")
    return Request(
        request_id=str(uuid.uuid4()),
        method=scope["method"],
        raw_path=raw_path.decode("latin-1"),
        query=parse_qs(query, keep_blank_values=True) if query else {},
        headers=headers,
        base_url=f"{scope.get('scheme', 'http')}://{headers.get('host') or _server(scope)}",
        raw_query=query,
        raw_headers=scope["headers"],
        client=(scope.get("client") or ("",))[0],
    )


def _server(scope: Scope) -> str:
    host, port = scope.get("server") or ("127.0.0.1", None)
    return f"{host}:{port}" if port else str(host)


async def _send(receive: Receive, send: Send, request: Request, response: Response) -> None:
    headers = [*response.headers, (b"x-amzn-requestid", request.request_id.encode())]
    if response.pieces is not None:
        head = {"type": "http.response.start", "status": response.status, "headers": headers}
        await _send_pieces(receive, send, head, response.pieces)
        return
    if response.status != 204:
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def _send_pieces(receive: Receive, send: Send, head: Message, pieces: AsyncGenerator[bytes, None]) -> None:
    """A body of unknown length, as long as there is a client.

    Where it breaks off, the missing end makes the server close the connection.
    """
    await send(head)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        async with aclosing(pieces):
            while (piece := await _next_piece(pieces, gone)) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except BrokenStream as error:
        _log.warning("A streamed response broke off: %s", error)
        return
    finally:
        gone.cancel()
    await send({"type": "http.response.body", "body": b""})


async def _next_piece(pieces: AsyncGenerator[bytes, None], gone: asyncio.Future[None]) -> bytes | None:
    """What comes next; None at the end, and where the client has gone."""
    coming = asyncio.ensure_future(anext(pieces, None))
    try:
        await asyncio.wait((coming, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait((coming,))
    return None if coming.cancelled() else coming.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    """Answers the server's start and stop events; what they start and stop belongs to the composition root."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
