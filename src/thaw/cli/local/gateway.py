"""API Gateway in front of a workspace, as a raw ASGI application: route, event, call, answer; and hot reload."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from thaw.api import cors
from thaw.api.http import ClientGone, Receive, Request, Response, Scope, Send, read_body
from thaw.cli.local.events import NotAnAnswer, event_for, response_for
from thaw.cli.local.routes import Api, Route
from thaw.cli.local.workspace import Target
from thaw.errors import ServiceError

CALLS_AT_ONCE = 64
_JSON = ((b"content-type", b"application/json"),)
Find = Callable[[str], Target | None]


class Gateway:
    """The ASGI callable. `bring` swaps its routes while it runs; requests wait for that, and get the new code."""

    def __init__(self, client: Any, account_id: str, tell: Callable[[str], None]) -> None:
        self._client = client
        self._account_id = account_id
        self._tell = tell
        self._routes: Sequence[Route] = ()
        self._find: Find = lambda arn: None
        self._loading = asyncio.Lock()
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, "call")

    def close(self) -> None:
        """Ends the threads that carry calls."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def bring(self, work: Callable[[], tuple[Sequence[Route], Find]]) -> None:
        """Runs `work` in a thread and takes over what it gives; what it raises leaves everything as it was."""
        async with self._loading:
            # Not the loop's own threads: its end waits for those.
            loop = asyncio.get_running_loop()
            self._routes, self._find = await loop.run_in_executor(self._threads, work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] != "http":
            return
        request = _request(scope)
        began = time.perf_counter()
        try:
            route, response = await self._answer(request, receive)
        except ClientGone:
            return
        except ServiceError as error:
            route, response = None, _message(413, str(error))
        await _send(send, request, response)
        leads = "" if route is None or route.function_arn is None else f"  {self._name(route)}"
        elapsed_ms = (time.perf_counter() - began) * 1e3
        self._tell(f"{request.method} {request.raw_path} {response.status}, {elapsed_ms:,.0f} ms{leads}")

    def _name(self, route: Route) -> str:
        target = self._find(route.function_arn or "")
        return "" if target is None else target.logical_id

    async def _answer(self, request: Request, receive: Receive) -> tuple[Route | None, Response]:
        body = await read_body(receive, "Invoke")
        async with self._loading:
            routes = self._routes
        asked = self._preflight(routes, request)
        if asked is not None:
            return None, asked
        found = ((route, route.match(request.method, request.raw_path)) for route in routes)
        route, parameters = next(((route, match) for route, match in found if match is not None), (None, None))
        if route is None or parameters is None:
            rest = any(route.api.is_rest for route in routes)
            return None, _message(403, "Missing Authentication Token") if rest else _message(404, "Not Found")
        if route.unsupported is not None:
            return route, _message(501, route.unsupported)
        if route.function_arn is None:
            return route, Response(
                status=200, headers=tuple((k.lower().encode(), v.encode()) for k, v in route.headers.items())
            )
        response = await self._call(route, parameters, request, body)
        return route, cors.allow(route.api.cors, request.headers, response)

    def _preflight(self, routes: Sequence[Route], request: Request) -> Response | None:
        """A browser's question before a request: HTTP APIs answer it from their settings, whatever the route."""
        for api in _apis(routes, request):
            answer = cors.preflight(api.cors, request.method, request.headers)
            if answer is not None:
                return replace(answer, status=204)
        return None

    async def _call(self, route: Route, parameters: Mapping[str, str], request: Request, body: bytes) -> Response:
        target = self._find(route.function_arn or "")
        if target is None:
            return _message(500, f"{route.function_arn} is no function of the template: correct the integration.")
        event = event_for(request, route, parameters, body, self._account_id)
        payload, failed = await asyncio.get_running_loop().run_in_executor(self._threads, self._invoke, target, event)
        if failed:
            self._tell(f"{target.logical_id} failed: {payload.decode(errors='replace')}")
            return _failure(route)
        try:
            return response_for(route, request, payload)
        except NotAnAnswer as error:
            self._tell(f"{target.logical_id} gave no HTTP response: {error}.")
            return _failure(route)

    def _invoke(self, target: Target, event: bytes) -> tuple[bytes, bool]:
        """The function's answer, and whether it failed."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.invoke(FunctionName=target.name, Qualifier=target.qualifier, Payload=event)
        except (ClientError, BotoCoreError) as error:
            return str(error).encode(), True
        return answer["Payload"].read(), "FunctionError" in answer


def _apis(routes: Sequence[Route], request: Request) -> list[Api]:
    """APIs with CORS settings that have a route for this path, with any method."""
    found: list[Api] = []
    for route in routes:
        path_matches = any(route.match(method, request.raw_path) is not None for method in (route.method, "GET"))
        if route.api.cors and path_matches and route.api not in found:
            found.append(route.api)
    return found


def _failure(route: Route) -> Response:
    """What API Gateway says of a function that failed, or answered what is no response."""
    return _message(502, "Internal server error") if route.api.is_rest else _message(500, "Internal Server Error")


def _message(status: int, text: str) -> Response:
    import msgspec

    return Response(status=status, body=msgspec.json.encode({"message": text}), headers=_JSON)


def _request(scope: Scope) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    trace = headers.setdefault("x-amzn-trace-id", f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}")
    host, port = scope.get("server") or ("127.0.0.1", None)
    query = scope["query_string"].decode("latin-1")
    return Request(
        request_id=str(uuid.uuid4()),
        method=scope["method"],
        raw_path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
        query=parse_qs(query, keep_blank_values=True) if query else {},
        headers=headers,
        base_url=f"{scope.get('scheme', 'http')}://{headers.get('host') or f'{host}:{port}'}",
        raw_query=query,
        raw_headers=_with_trace(scope["headers"], trace),
        client=(scope.get("client") or ("",))[0],
    )


def _with_trace(headers: Sequence[tuple[bytes, bytes]], trace: str) -> list[tuple[bytes, bytes]]:
    """The headers as they came; API Gateway adds a trace id where there is none."""
    given = [(bytes(name), bytes(value)) for name, value in headers]
    has = any(name == b"x-amzn-trace-id" for name, _ in given)
    return given if has else [*given, (b"x-amzn-trace-id", trace.encode("latin-1"))]


async def _send(send: Send, request: Request, response: Response) -> None:
    headers = [*response.headers, (b"apigw-requestid", request.request_id.encode())]
    if response.status not in (204, 304):
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    # A HEAD request gets the headers only.
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else response.body})
