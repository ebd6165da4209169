"""HTTP to a function's event and back: payload format 2.0 of function URLs.

The shapes are those of Lambda's developer guide ("Invoking Lambda function URLs") and of recorded answers.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from thaw.api.http import Request, Response

_TEXT = re.compile(r"\s*(?:text/|application/(?:[^;]*\+)?(?:json|xml|javascript|graphql|yaml))", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
# These describe the connection that they came over, not what the function says.
_OF_THE_CONNECTION = frozenset(
    ("connection", "content-length", "date", "keep-alive", "transfer-encoding", "upgrade", "x-amzn-requestid")
)
_JSON = (b"content-type", b"application/json")
# A streamed response with status and headers: these as JSON, the separator, the body.
HTTP_INTEGRATION = "application/vnd.awslambda.http-integration-response"
SEPARATOR = b"\0" * 8
HEAD_LIMIT = 1 << 20


class NotAnAnswer(Exception):
    """What the function returned is no HTTP response; `str(error)` says why."""


def event_of(request: Request, path: str, url_id: str, body: bytes, trace_id: str) -> bytes:
    """The event (JSON) of a request to a URL; `path` is what follows the URL, still percent-encoded."""
    headers = _joined(request.raw_headers)
    cookies = headers.pop("cookie", None)
    encoded = bool(body) and not _is_text(headers.get("content-type", ""), body)
    shown = headers | {
        "x-forwarded-for": request.client,
        "x-forwarded-proto": request.base_url.partition(":")[0],
        "x-forwarded-port": _port(request.base_url),
        "x-amzn-trace-id": trace_id,
    }
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.raw_query,
        "cookies": cookies.split("; ") if cookies else None,
        "headers": shown,
        "queryStringParameters": {name: ",".join(values) for name, values in request.query.items()} or None,
        "requestContext": _context(request, path, url_id, headers),
        "body": (base64.b64encode(body).decode() if encoded else body.decode()) if body else None,
        "isBase64Encoded": encoded,
    }
    return msgspec.json.encode({name: value for name, value in event.items() if value is not None})


def _context(request: Request, path: str, url_id: str, headers: Mapping[str, str]) -> dict[str, Any]:
    moment = time.time()
    return {
        "accountId": "anonymous",
        "apiId": url_id,
        "domainName": headers.get("host", "").partition(":")[0],
        "domainPrefix": url_id,
        "http": {
            "method": request.method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": request.client,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(moment)),
        "timeEpoch": int(moment * 1000),
    }


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; one that came several times is joined by commas (cookies by semicolons)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        separator = "; " if name == "cookie" else ","
        found[name] = f"{found[name]}{separator}{value}" if name in found else value
    return found


def _is_text(content_type: str, body: bytes) -> bool:
    """Whether a body is put into the event as it is; everything else is base64, as on Lambda."""
    if not _TEXT.match(content_type):
        return False
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _port(base_url: str) -> str:
    scheme, _, host = base_url.partition("://")
    _, colon, port = host.rpartition(":")
    return port if colon and port.isdigit() else {"https": "443"}.get(scheme, "80")


def response_of(payload: bytes, *, streamed: bool, headed: bool = False) -> Response:
    """The HTTP response that a function's answer stands for. Raises NotAnAnswer.

    An object with "statusCode" is a response; anything else is the body of a 200, a string without its quotes.
    A streamed answer is a body as it is, or a response's head as JSON, eight zero bytes, and the body; with `headed`
    it can be the latter only.
    """
    if streamed:
        head, separator, rest = payload.partition(SEPARATOR)
        if headed and not separator:
            raise NotAnAnswer("the stream does not begin with a head and eight zero bytes")
        if not separator:
            return Response(status=200, body=payload, headers=((b"content-type", b"application/octet-stream"),))
        return _structured({"statusCode": 200, **_object(head)}, rest)
    try:
        answer = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Response(status=200, body=payload, headers=(_JSON,))
    if isinstance(answer, dict) and "statusCode" in answer:
        return _structured(answer, _body(answer))
    return Response(status=200, body=_text(answer), headers=(_JSON,))


def _object(head: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(head, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotAnAnswer(f"the head of the stream is no JSON object: {error}") from error


def _text(value: Any) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else msgspec.json.encode(value)


def _body(answer: Mapping[str, Any]) -> bytes:
    body = answer.get("body")
    if body is None:
        return b""
    if not answer.get("isBase64Encoded"):
        return _text(body)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise NotAnAnswer(f"the body is not base64: {error}") from error


def _structured(answer: Mapping[str, Any], body: bytes) -> Response:
    status = answer["statusCode"]
    if isinstance(status, str) and status.isascii() and status.isdigit():
        status = int(status)
    if type(status) is not int or not 200 <= status <= 599:
        raise NotAnAnswer(f"{status!r} is no status code of a final response")
    headers, cookies = answer.get("headers") or {}, answer.get("cookies") or []
    if not isinstance(headers, dict) or not isinstance(cookies, list):
        raise NotAnAnswer("headers must be an object and cookies a list")
    sent = [_header(name, value) for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION]
    sent += [_header("set-cookie", cookie) for cookie in cookies]
    if all(name != b"content-type" for name, _ in sent):
        sent.append(_JSON)
    return Response(status=status, body=b"" if status in (204, 304) else body, headers=tuple(sent))


def _header(name: str, value: Any) -> tuple[bytes, bytes]:
    """One header; a line break in it would let a function's input forge others."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
        raise NotAnAnswer(f"the header {name!r} holds characters that HTTP does not allow")
    try:
        return name.lower().encode(), text.encode("latin-1")
    except UnicodeEncodeError:
        return name.lower().encode(), text.encode()
