"""HTTP requests as events of API Gateway, payload formats 1.0 (REST APIs) and 2.0 (HTTP APIs), and answers back.

The shapes are those of API Gateway's developer guide: "Set up Lambda proxy integrations" and "Create AWS Lambda proxy
integrations for HTTP APIs in API Gateway". Format 2.0 is that of function URLs, with a route.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from thaw.api.http import Request, Response
from thaw.api.url_event import event_of, response_of
from thaw.cli.local.routes import Route


class NotAnAnswer(Exception):
    """What the function returned is no HTTP response; `str(error)` says why."""


def event_for(request: Request, route: Route, parameters: Mapping[str, str], body: bytes, account_id: str) -> bytes:
    """The event (JSON) of one request."""
    if route.payload == "2.0":
        return _version_2(request, route, parameters, body, account_id)
    return json.dumps(_version_1(request, route, parameters, body, account_id)).encode()


def _version_2(request: Request, route: Route, parameters: Mapping[str, str], body: bytes, account_id: str) -> bytes:
    trace = request.headers.get("x-amzn-trace-id", "")
    event: dict[str, Any] = json.loads(event_of(request, request.raw_path, route.api.api_id, body, trace))
    context = event["requestContext"]
    context |= {"accountId": account_id, "routeKey": route.key, "stage": route.api.stage}
    event["routeKey"] = route.key
    if parameters:
        event["pathParameters"] = dict(parameters)
    return json.dumps(event).encode()


def _version_1(
    request: Request, route: Route, parameters: Mapping[str, str], body: bytes, account_id: str
) -> dict[str, Any]:
    headers = _headers(request)
    query = {name: list(values) for name, values in request.query.items()}
    is_binary = _is_binary(route, request.headers.get("content-type", ""), body)
    text = base64.b64encode(body).decode() if is_binary else body.decode()
    event: dict[str, Any] = {
        "resource": "/" + route.path.lstrip("/") if route.path != "$default" else "$default",
        "path": request.raw_path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": dict(parameters) or None,
        "stageVariables": None,
        "requestContext": _context_1(request, route, account_id),
        "body": text if body else None,
        "isBase64Encoded": is_binary,
    }
    return event if route.api.is_rest else {"version": "1.0", **event}


def _headers(request: Request) -> dict[str, list[str]]:
    """Every value of every header; names as browsers and curl write them over HTTP/1.1."""
    found: dict[str, list[str]] = {}
    for raw_name, raw_value in request.raw_headers:
        name = "-".join(part.capitalize() for part in raw_name.decode("latin-1").split("-"))
        found.setdefault(name, []).append(raw_value.decode("latin-1"))
    scheme, _, host = request.base_url.partition("://")
    port = host.rpartition(":")[2]
    found |= {
        "X-Forwarded-For": [request.client],
        "X-Forwarded-Port": [port if port.isdigit() else "80"],
        "X-Forwarded-Proto": [scheme],
    }
    return found


def _context_1(request: Request, route: Route, account_id: str) -> dict[str, Any]:
    moment = time.time()
    stage = "" if route.api.stage == "$default" else f"/{route.api.stage}"
    return {
        "accountId": account_id,
        "apiId": route.api.api_id,
        "domainName": request.headers.get("host", "").partition(":")[0],
        "domainPrefix": route.api.api_id,
        "extendedRequestId": request.request_id,
        "httpMethod": request.method,
        "identity": {"sourceIp": request.client, "userAgent": request.headers.get("user-agent", ""), "user": None,
                     "userArn": None, "accountId": None, "caller": None, "apiKey": None},
        "path": f"{stage}{request.raw_path}",
        "protocol": "HTTP/1.1",
        "requestId": request.request_id,
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(moment)),
        "requestTimeEpoch": int(moment * 1000),
        "resourceId": route.key,
        "resourcePath": route.path,
        "stage": route.api.stage,
    }  # fmt: skip


def _is_binary(route: Route, content_type: str, body: bytes) -> bool:
    """Whether a body comes as base64: its type is one of the API's binary types, or it is no text at all."""
    if not body:
        return False
    if _matches(route.api.binary_types, content_type):
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return True
    return False


def _matches(types: Sequence[str], content_type: str) -> bool:
    """Whether a media type is one of `types`; "image/*" and "*/*" stand for all of a kind."""
    given = content_type.partition(";")[0].strip().lower()
    main = given.partition("/")[0]
    return any(kind in ("*/*", given, f"{main}/*") for kind in types) and (bool(given) or "*/*" in types)


# --- answers ----------------------------------------------------------------------------------------------------------


def response_for(route: Route, request: Request, payload: bytes) -> Response:
    """The HTTP response that a function's answer stands for. Raises NotAnAnswer."""
    from thaw.api.url_event import NotAnAnswer as NoUrlAnswer

    if route.payload != "2.0":
        return _response_1(route, request, payload)
    try:
        return response_of(payload, streamed=False)
    except NoUrlAnswer as error:
        raise NotAnAnswer(str(error)) from error


def _response_1(route: Route, request: Request, payload: bytes) -> Response:
    answer = json.loads(payload)
    if not isinstance(answer, dict) or "statusCode" not in answer:
        raise NotAnAnswer('it is no object with a "statusCode"')
    unknown = set(answer) - {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded", "cookies"}
    if unknown and route.api.is_rest:
        raise NotAnAnswer(f"API Gateway does not know its members {', '.join(sorted(unknown))}")
    headers = _answered_headers(answer)
    body = answer.get("body")
    if body is not None and not isinstance(body, str):
        raise NotAnAnswer("its body is no text: json.dumps makes one")
    content = (body or "").encode()
    if answer.get("isBase64Encoded") and _sends_binary(route, request, dict(headers)):
        content = _decoded(body or "")
    try:
        status = int(answer["statusCode"])
    except (TypeError, ValueError):
        raise NotAnAnswer(f"{answer['statusCode']!r} is no status code") from None
    if not any(name == b"content-type" for name, _ in headers):
        headers.append((b"content-type", b"application/json"))
    return Response(status=status, body=content, headers=tuple(headers))


def _answered_headers(answer: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    single, several = answer.get("headers") or {}, answer.get("multiValueHeaders") or {}
    if not isinstance(single, dict) or not isinstance(several, dict):
        raise NotAnAnswer("its headers are no objects")
    values = {str(name).lower(): [value] for name, value in single.items()}
    values |= {str(name).lower(): list(value) for name, value in several.items()}
    return [
        (name.encode("latin-1"), _header_value(one))
        for name, all_of in values.items()
        for one in all_of
        if name != "content-length"
    ]


def _header_value(value: Any) -> bytes:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if any(character in text for character in "\r\n\0"):
        raise NotAnAnswer("a header has a line break in it")
    return text.encode("utf-8")


def _sends_binary(route: Route, request: Request, headers: Mapping[bytes, bytes]) -> bool:
    """REST APIs decode for the binary types that they name (in Accept or the answer's type), HTTP APIs always."""
    if not route.api.is_rest:
        return True
    accept = request.headers.get("accept", "").partition(",")[0]
    own = headers.get(b"content-type", b"").decode("latin-1")
    return _matches(route.api.binary_types, accept) or _matches(route.api.binary_types, own)


def _decoded(body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAnAnswer(f"its body is not base64: {error}") from error
