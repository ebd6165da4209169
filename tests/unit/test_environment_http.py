"""The Runtime API's HTTP: requests cut at every possible place, bounds, and the state machine behind them."""

from __future__ import annotations

import asyncio
import json

import pytest

from thaw.environment.invocation import Invocation
from thaw.environment.runtime_api.connection import Connection, route
from thaw.environment.runtime_api.conversation import Conversation, State
from thaw.environment.runtime_api.http import (
    ACCEPTED,
    BODY_LIMIT,
    NOT_FOUND,
    STREAM_LIMIT,
    BadRequest,
    Request,
    RequestReader,
    Sink,
)
from thaw.environment.streaming import HIGH_WATER, ResponseStream, Source

POST = b"POST /a/b?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-Thing:  v \r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;note=1\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n"
)
GET = b"GET /d HTTP/1.1\r\n\r\n"


def summary(request: Request) -> tuple[bytes, str, bytes]:
    return request.method, request.path, bytes(request.body)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_requests_come_out_whole_however_they_arrive(step: int) -> None:
    reader, data, found = RequestReader(), POST + CHUNKED + GET + POST, []
    for start in range(0, len(data), step):
        found += reader.feed(data[start : start + step])
    assert [summary(request) for request in found] == [
        (b"POST", "/a/b", b"hello"),
        (b"POST", "/c", b"abcdefg"),
        (b"GET", "/d", b""),
        (b"POST", "/a/b", b"hello"),
    ]
    assert found[0].header(b"x-thing") == "v"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / SPDY/1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"G" * 70000,
    ],
)
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        RequestReader().feed(data)


def test_a_body_over_the_limit_is_counted_but_not_kept() -> None:
    reader = RequestReader()
    size = BODY_LIMIT + 3_000_000
    found = reader.feed(b"POST /r HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
    block = bytes(1_000_000)
    sent = 0
    while sent < size:
        found += reader.feed(block[: size - sent])
        sent += len(block)
    assert found[0].too_large
    assert found[0].body_size == size
    assert len(found[0].body) == BODY_LIMIT


def test_a_sender_that_waits_for_100_continue_is_told_once() -> None:
    reader = RequestReader()
    assert reader.feed(b"POST /r HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n") == []
    assert [reader.expects_continue, reader.expects_continue] == [True, False]
    assert len(reader.feed(b"ok")) == 1


class Wire:
    """Stands for a connection, and for the environment behind the conversation."""

    port = 4242

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.heard: list[object] = []

    def send(self, answer: bytes) -> None:
        self.sent.append(answer)

    def runtime_ready(self) -> None:
        self.heard.append("ready")

    def restore_ready(self) -> None:
        self.heard.append("restore ready")

    def response_begins(self, content_type: str, source: Source) -> Sink | None:
        self.heard.append(("begins", content_type))
        return None if content_type == "collect/me" else self.heard.append

    def runtime_responded(self, payload: bytes) -> None:
        self.heard.append(payload)

    def runtime_failed(self, error_type: str, payload: bytes) -> None:
        self.heard.append((error_type, payload))

    def init_failed(self, error_type: str, payload: bytes) -> None:
        self.heard.append(("init", error_type))

    def restore_failed(self, error_type: str, payload: bytes) -> None:
        self.heard.append(("restore", error_type))


BASE = "/2018-06-01/runtime/"


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def conversation(wire: Wire) -> Conversation:
    made = Conversation()
    made.observer = wire
    made.snap_start = True
    made.token = "secret"
    return made


def ask(conversation: Conversation, wire: Wire, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The answer; b"" where it comes later."""
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    request = Request(method.encode(), path if path.startswith("/") else BASE + path, given, bytearray(body), len(body))
    return route(conversation, request, wire) or b""


def status(answer: bytes) -> int:
    return int(answer.split()[1])


CALL = Invocation(
    request_id="r-1", payload=b'{"a":1}', invoked_arn="arn:x", client_context='{\n"b":2}', trace_id="Root=1"
)


def test_an_invocation_that_waits_for_its_runtime(conversation: Conversation, wire: Wire) -> None:
    assert ask(conversation, wire, "GET", "invocation/next") == b""
    conversation.dispatch(CALL, 1234)
    head, _, payload = wire.sent[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Lambda-Runtime-Aws-Request-Id: r-1" in lines
    assert "Lambda-Runtime-Deadline-Ms: 1234" in lines
    assert "Lambda-Runtime-Invoked-Function-Arn: arn:x" in lines
    assert "Lambda-Runtime-Trace-Id: Root=1" in lines
    assert 'Lambda-Runtime-Client-Context: { "b":2}' in lines
    assert payload == b'{"a":1}'
    assert ask(conversation, wire, "POST", "invocation/r-1/response", b"42") == ACCEPTED
    assert ask(conversation, wire, "GET", "invocation/next") == b""
    assert wire.heard == ["ready", b"42", "ready"]


def test_an_invocation_that_comes_while_nobody_asks(conversation: Conversation, wire: Wire) -> None:
    ask(conversation, wire, "GET", "invocation/next")
    conversation.forget(wire)
    conversation.dispatch(CALL, 1)
    assert not wire.sent
    ask(conversation, wire, "GET", "invocation/next")
    assert len(wire.sent) == 1
    assert conversation.state is State.RUNNING


def test_asking_again_gives_the_same_invocation(conversation: Conversation, wire: Wire) -> None:
    ask(conversation, wire, "GET", "invocation/next")
    conversation.dispatch(CALL, 1)
    ask(conversation, wire, "GET", "invocation/next")
    assert wire.sent[0] == wire.sent[1]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Function.MyError", "Function.MyError"),
        ("Runtime.MyError", "Runtime.MyError"),
        ("Runtime.bad-form", "Runtime.Unknown"),
        ("whatever", "Function.Unknown"),
        ("", "Function.Unknown"),
    ],
)
def test_error_types(conversation: Conversation, wire: Wire, given: str, kept: str) -> None:
    ask(conversation, wire, "GET", "invocation/next")
    conversation.dispatch(CALL, 1)
    header = {"lambda_runtime_function_error_type": given}
    assert status(ask(conversation, wire, "POST", "invocation/r-1/error", b"{}", **header)) == 202
    assert wire.heard[-1] == (kept, b"{}")


@pytest.mark.parametrize(
    ("state", "method", "path"),
    [
        (State.STARTED, "POST", "invocation/r-1/response"),
        (State.STARTED, "POST", "invocation/r-1/error"),
        (State.STARTED, "POST", "restore/error"),
        (State.READY, "POST", "init/error"),
        (State.READY, "GET", "restore/next"),
        (State.RUNNING, "GET", "restore/next"),
        (State.RESPONDED, "POST", "invocation/r-1/response"),
        (State.INIT_ERROR, "GET", "invocation/next"),
        (State.RESTORE_ERROR, "GET", "invocation/next"),
        (State.RESTORING, "GET", "restore/next"),
    ],
)
def test_illegal_transitions(conversation: Conversation, wire: Wire, state: State, method: str, path: str) -> None:
    conversation.state = state
    answer = ask(conversation, wire, method, path)
    assert status(answer) == 403
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["errorType"] == "InvalidStateTransition"
    assert conversation.state is state
    assert not wire.heard


def test_restore(conversation: Conversation, wire: Wire) -> None:
    assert ask(conversation, wire, "GET", "restore/next") == b""
    assert conversation.state is State.RESTORE_READY
    conversation.state = State.RESTORING
    ask(conversation, wire, "GET", "invocation/next")
    assert wire.heard == ["restore ready", "ready"]


@pytest.mark.parametrize("path", ["restore/error", "init/error"])
def test_errors_while_restoring_are_restore_errors(conversation: Conversation, wire: Wire, path: str) -> None:
    conversation.state = State.RESTORING
    header = {"lambda_runtime_function_error_type": "Runtime.AfterRestoreError"}
    assert status(ask(conversation, wire, "POST", path, b"{}", **header)) == 202
    assert wire.heard == [("restore", "Runtime.AfterRestoreError")]


def test_routes_of_snap_start_are_absent_elsewhere(conversation: Conversation, wire: Wire) -> None:
    conversation.snap_start = False
    for method, path in (("GET", "restore/next"), ("POST", "restore/error"), ("GET", "/2021-04-23/credentials")):
        assert ask(conversation, wire, method, path) == NOT_FOUND


def test_credentials(conversation: Conversation, wire: Wire) -> None:
    path = "/2021-04-23/credentials"
    answer = ask(conversation, wire, "GET", path, authorization="secret")
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == {
        "AccessKeyId",
        "SecretAccessKey",
        "Token",
        "Expiration",
    }
    for wrong in ("", "Bearer secret", "secre"):
        assert status(ask(conversation, wire, "GET", path, authorization=wrong)) == 404
    conversation.token = ""
    assert status(ask(conversation, wire, "GET", path, authorization="")) == 404


def test_too_large_a_response(conversation: Conversation, wire: Wire) -> None:
    ask(conversation, wire, "GET", "invocation/next")
    conversation.dispatch(CALL, 1)
    request = Request(b"POST", BASE + "invocation/r-1/response", {}, bytearray(), BODY_LIMIT + 1)
    assert status(route(conversation, request, wire) or b"") == 413
    heard = wire.heard[-1]
    assert isinstance(heard, tuple)
    assert heard[0] == "Function.ResponseSizeTooLarge"
    assert "6291556 bytes" in json.loads(heard[1])["errorMessage"]


# -- streamed responses --

STREAMED = (
    b"POST /2018-06-01/runtime/invocation/r-1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
    b"Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Type: text/plain\r\n\r\n"
)


class Transport(asyncio.Transport):
    """What a connection writes, and whether it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.paused = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@pytest.fixture
def connection(conversation: Conversation, wire: Wire) -> Connection:
    """A connection of a runtime that has the invocation r-1."""
    ask(conversation, wire, "GET", "invocation/next")
    conversation.dispatch(CALL, 1)
    wire.heard.clear()
    made = Connection(conversation, set())
    made.connection_made(Transport())
    return made


def written(connection: Connection) -> bytes:
    transport = connection._transport
    assert isinstance(transport, Transport)
    return transport.written


def test_a_streamed_response_goes_on_piece_by_piece(connection: Connection, wire: Wire) -> None:
    connection.data_received(STREAMED)
    connection.data_received(b"3\r\nabc\r\n2\r\nd")
    assert wire.heard == [("begins", "text/plain"), b"abc", b"d"]
    connection.data_received(b"e\r\n0\r\n\r\n")
    assert wire.heard[3:] == [b"e", b""]
    assert written(connection) == ACCEPTED


def test_a_streamed_response_that_nobody_wants_streamed_is_collected(connection: Connection, wire: Wire) -> None:
    connection.data_received(STREAMED.replace(b"text/plain", b"collect/me") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert wire.heard == [("begins", "collect/me"), b"abcde"]


def test_an_error_on_the_way_comes_in_trailers(connection: Connection, wire: Wire) -> None:
    connection.data_received(STREAMED + b"3\r\nabc\r\n0\r\nLambda-Runtime-Function-Error-Type: Function.Broken\r\n")
    connection.data_received(b"Lambda-Runtime-Function-Error-Body: eyJlIjoxfQ==\r\n\r\n")
    assert wire.heard[1:] == [b"abc", ("Function.Broken", b'{"e":1}')]
    assert written(connection) == ACCEPTED


def test_a_stream_that_is_cut_short_is_an_error(connection: Connection, wire: Wire) -> None:
    connection.data_received(STREAMED + b"3\r\nab")
    connection.connection_lost(None)
    kind, document = wire.heard[-1]  # type: ignore[misc]
    assert kind == "Runtime.TruncatedResponse"
    assert json.loads(document)["errorMessage"] == "RequestId: r-1 Error: Response stream ended before it was complete"


def test_a_stream_of_another_invocation_is_refused(connection: Connection, wire: Wire) -> None:
    connection.data_received(STREAMED.replace(b"r-1", b"r-2") + b"3\r\nabc\r\n0\r\n\r\n")
    assert wire.heard == []
    assert status(written(connection)) == 400


def test_a_stream_over_its_limit_is_cut(connection: Connection, wire: Wire) -> None:
    connection.data_received(STREAMED)
    block = bytes(1 << 24)
    sent = 0
    while sent <= STREAM_LIMIT:
        connection.data_received(b"%x\r\n" % len(block) + block + b"\r\n")
        sent += len(block)
    connection.data_received(b"0\r\n\r\n")
    pieces = [one for one in wire.heard if isinstance(one, bytes)]
    assert sum(map(len, pieces)) == STREAM_LIMIT
    kind, document = wire.heard[-1]  # type: ignore[misc]
    assert kind == "Function.ResponseSizeTooLarge"
    text = f"Response payload size exceeded maximum allowed payload size ({STREAM_LIMIT} bytes)."
    assert json.loads(document)["errorMessage"] == text
    assert status(written(connection)) == 413


async def test_a_slow_caller_holds_the_function_back(connection: Connection) -> None:
    stream = ResponseStream()
    stream.begin("text/plain", connection)
    transport = connection._transport
    assert isinstance(transport, Transport)
    stream.write(bytes(HIGH_WATER))
    assert not transport.paused
    stream.write(b"more")
    assert transport.paused
    pieces = stream.pieces()
    assert len(await anext(pieces)) == HIGH_WATER
    assert not transport.paused
    stream.end()
    stream.write(b"dropped")
    assert [piece async for piece in pieces] == [b"more"]


async def test_a_call_that_ends_without_a_stream_never_begins_one() -> None:
    stream = ResponseStream()
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(ended.set_result, None)
    assert not await stream.begins_before(ended)
    stream.end()
    assert [piece async for piece in stream.pieces()] == []
