"""The little of HTTP/1.1 that runtimes speak to the Runtime API: requests in, prepared answers out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

# Lambda's limit for a response: 6 MiB and 100 bytes.
BODY_LIMIT = 6 * 1024 * 1024 + 100
# "The maximum response payload size for streamed responses is 200 MB" (Lambda's developer guide).
STREAM_LIMIT = 200 * 1024 * 1024
_HEAD_LIMIT = 65536


Sink = Callable[[bytes], None]


class BadRequest(Exception):
    """What came is not HTTP/1.1; the connection has to be closed."""


@dataclass(slots=True)
class Request:
    """One request. Names of headers and trailers are in lower case.

    `body` is cut at BODY_LIMIT, and `body_size` counts all of it. Where there is a `sink`, the body goes there as it
    comes, up to STREAM_LIMIT, and `body` stays empty.
    """

    method: bytes
    path: str
    headers: dict[bytes, bytes]
    body: bytearray = field(default_factory=bytearray)
    body_size: int = 0
    sink: Sink | None = None
    trailers: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        """Bytes that Lambda allows."""
        return BODY_LIMIT if self.sink is None else STREAM_LIMIT

    @property
    def too_large(self) -> bool:
        """Whether the body was longer than that."""
        return self.body_size > self.limit

    def header(self, name: bytes) -> str:
        """A header's value; "" where it is absent."""
        return self.headers.get(name, b"").decode("latin-1")


class RequestReader:
    """Cuts requests out of the bytes of one connection. Holds at most one body of BODY_LIMIT.

    `begin` is shown the head of every request that has a body in chunks, and tells where such a body is to go.
    """

    def __init__(self, begin: Callable[[Request], Sink | None] = lambda request: None) -> None:
        self._begin = begin
        self._buffer = bytearray()
        self._request: Request | None = None
        self._remaining = 0
        self._chunked = False

    def feed(self, data: bytes) -> list[Request]:
        """The requests that `data` completes, in order. Raises BadRequest."""
        self._buffer += data
        requests: list[Request] = []
        while (request := self._advance()) is not None:
            requests.append(request)
            self._request = None
        return requests

    @property
    def expects_continue(self) -> bool:
        """Whether the sender waits for "100 Continue" before it sends the rest of the request at hand."""
        return self._request is not None and self._request.headers.pop(b"expect", b"").lower() == b"100-continue"

    @property
    def streaming(self) -> bool:
        """Whether a body is on its way to its sink."""
        return self._request is not None and self._request.sink is not None

    def _advance(self) -> Request | None:
        if self._request is None:
            self._request = self._head()
        if self._request is None:
            return None
        complete = self._read_chunks(self._request) if self._chunked else self._read_body(self._request)
        return self._request if complete else None

    def _head(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise BadRequest("the head is longer than 64 KiB")
            return None
        request = _parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self._chunked = request.headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        self._remaining = 0 if self._chunked else _length(request.headers.get(b"content-length", b"0"), 10)
        if self._chunked:
            request.sink = self._begin(request)
        return request

    def _read_body(self, request: Request) -> bool:
        """Move what has come of the body; whether that was all."""
        size = min(self._remaining, len(self._buffer))
        if size:
            self._keep(request, size)
            self._remaining -= size
        return self._remaining == 0

    def _read_chunks(self, request: Request) -> bool:
        """As `_read_body`, for chunked transfer encoding."""
        while True:
            if self._remaining > 2:
                size = min(self._remaining - 2, len(self._buffer))
                self._keep(request, size)
                self._remaining -= size
            if self._remaining in (1, 2):  # the line end after a chunk
                size = min(self._remaining, len(self._buffer))
                del self._buffer[:size]
                self._remaining -= size
            if self._remaining:
                return False
            size_line = self._line()
            if size_line is None:
                return False
            size = _length(size_line.split(b";", 1)[0].strip(), 16)
            if size == 0:
                return self._read_trailers(request)
            self._remaining = size + 2

    def _read_trailers(self, request: Request) -> bool:
        """The lines up to the empty one. Where it has not come yet, the final chunk is read once more."""
        while (line := self._line()) is not None:
            if not line:
                return True
            name, _, value = line.partition(b":")
            request.trailers[name.lower()] = value.strip()
        self._buffer[:0] = b"0\r\n"
        return False

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise BadRequest("a chunk's head is longer than 64 KiB")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _keep(self, request: Request, size: int) -> None:
        kept = min(size, request.limit - request.body_size)
        if kept > 0 and request.sink is not None:
            request.sink(bytes(memoryview(self._buffer)[:kept]))
        elif kept > 0:
            request.body += memoryview(self._buffer)[:kept]
        request.body_size += size
        del self._buffer[:size]


def _parse_head(head: bytes) -> Request:
    lines = head.lstrip(b"\r\n").split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        raise BadRequest("the first line is not a request")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise BadRequest("a header has no colon")
        headers[name.lower()] = value.strip()
    return Request(words[0], words[1].split(b"?", 1)[0].decode("latin-1"), headers)


def _length(text: bytes, number_base: int) -> int:
    try:
        value = int(text, number_base)
    except ValueError:
        value = -1
    if value < 0:
        raise BadRequest("a length is not a number")
    return value


def answer(
    status: str, body: bytes, content_type: str = "application/json", headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """A whole response; `status` is for example "403 Forbidden", `headers` are further ones."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def refusal(status: str, error_type: str, message: str) -> bytes:
    """A response with the error document that runtimes expect."""
    document = json.dumps({"errorMessage": message, "errorType": error_type}, separators=(",", ":"))
    return answer(status, f"{document}\n".encode())


ACCEPTED = answer("202 Accepted", b'{"status":"OK"}\n')
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NOT_FOUND = answer("404 Not Found", b"404 page not found\n", "text/plain; charset=utf-8")
NOT_ALLOWED = answer("405 Method Not Allowed", b"")
BAD_REQUEST = answer("400 Bad Request", b"400 Bad Request\n", "text/plain; charset=utf-8")
# What a clone reads first: the answer to the request that its snapshot was taken in.
RESTORED = answer("200 OK", b"")
