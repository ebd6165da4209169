"""One connection of a runtime: bytes in, routed to the endpoint's module, one write out."""

from __future__ import annotations

import asyncio
import fcntl
import termios
from collections.abc import Callable
from typing import cast

from thaw.environment.runtime_api import (
    credentials,
    extension_error,
    extension_event_next,
    extension_register,
    init_error,
    invocation_error,
    invocation_next,
    invocation_response,
    ping,
    report,
    restore_error,
    restore_next,
    telemetry_subscription,
)
from thaw.environment.runtime_api.conversation import Conversation, Waiter
from thaw.environment.runtime_api.http import (
    BAD_REQUEST,
    CONTINUE,
    NOT_ALLOWED,
    NOT_FOUND,
    BadRequest,
    Request,
    RequestReader,
    Sink,
    refusal,
)

Endpoint = Callable[[Conversation, Request, Waiter], bytes | None]

_RUNTIME = "/2018-06-01/runtime"
_INVOCATION = f"{_RUNTIME}/invocation/"
_EXTENSION = "/2020-01-01/extension"
_ROUTES: dict[str, tuple[bytes, Endpoint]] = {
    f"{_RUNTIME}/invocation/next": (b"GET", invocation_next.serve),
    f"{_RUNTIME}/init/error": (b"POST", init_error.serve),
    f"{_RUNTIME}/restore/next": (b"GET", restore_next.serve),
    f"{_RUNTIME}/restore/error": (b"POST", restore_error.serve),
    "/2021-04-23/credentials": (b"GET", credentials.serve),
    "/2018-06-01/ping": (b"GET", ping.serve),
    report.PATH: (b"POST", report.serve),
    f"{_EXTENSION}/register": (b"POST", extension_register.serve),
    f"{_EXTENSION}/event/next": (b"GET", extension_event_next.serve),
    f"{_EXTENSION}/init/error": (b"POST", extension_error.serve_init),
    f"{_EXTENSION}/exit/error": (b"POST", extension_error.serve_exit),
    "/2022-07-01/telemetry": (b"PUT", telemetry_subscription.serve_telemetry),
    "/2020-08-15/logs": (b"PUT", telemetry_subscription.serve_logs),
}
_OF_INVOCATION: dict[str, Endpoint] = {"response": invocation_response.serve, "error": invocation_error.serve}
# What a function may make the server hold: connections, and answers that it does not read.
CONNECTION_LIMIT = 32
_UNREAD_LIMIT = 8 << 20
_WRONG_ID = refusal("400 Bad Request", "InvalidRequestID", "Invalid request ID")


def route(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Let the endpoint answer; None where it will answer later."""
    found = _ROUTES.get(request.path)
    if found is not None:
        method, endpoint = found
        return endpoint(conversation, request, waiter) if request.method == method else NOT_ALLOWED
    if not request.path.startswith(_INVOCATION):
        return NOT_FOUND
    request_id, _, last = request.path[len(_INVOCATION) :].partition("/")
    of_invocation = _OF_INVOCATION.get(last)
    if of_invocation is None:
        return NOT_FOUND
    if request.method != b"POST":
        return NOT_ALLOWED
    current = conversation.invocation
    if current is not None and request_id != current.request_id:
        return _WRONG_ID
    return of_invocation(conversation, request, waiter)


class Connection(asyncio.Protocol):
    """An asyncio protocol; `connections` is the sandbox's set of open ones."""

    def __init__(self, conversation: Conversation, connections: set[Connection]) -> None:
        self._conversation = conversation
        self._connections = connections
        self._reader = RequestReader(self._body_begins)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        if len(self._connections) > CONNECTION_LIMIT:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._conversation.forget(self)
        self._connections.discard(self)
        self._transport = None
        if self._reader.streaming:
            invocation_response.cut_short(self._conversation)

    def data_received(self, data: bytes) -> None:
        try:
            requests = self._reader.feed(data)
        except BadRequest:
            self.send(BAD_REQUEST)
            self.close()
            return
        for request in requests:
            answer = route(self._conversation, request, self)
            if answer is not None:
                self.send(answer)
        if self._reader.expects_continue:
            self.send(CONTINUE)

    def _body_begins(self, request: Request) -> Sink | None:
        """A streamed response goes on as it comes; only that of the invocation at hand may."""
        current = self._conversation.invocation
        if current is None or request.path != f"{_INVOCATION}{current.request_id}/response":
            return None
        return invocation_response.begin(self._conversation, request, self)

    def pause(self) -> None:
        """Reads no more until `resume`: the runtime's writes wait."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self._transport is not None:
            self._transport.resume_reading()

    @property
    def unread(self) -> bool:
        """Whether bytes have come that are not read yet, but will be."""
        if self._transport is None or self._transport.is_closing() or not self._transport.is_reading():
            return False
        waiting = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
        return any(waiting)

    def send(self, answer: bytes) -> None:
        """One write; nothing where the runtime has hung up. One that asks on and on without reading is cut off."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > _UNREAD_LIMIT:
            self._transport.abort()
        else:
            self._transport.write(answer)

    def close(self) -> None:
        """Hang up after what was sent has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def port(self) -> int:
        """The runtime's own TCP port of this connection."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return int(peer[1]) if peer else 0
