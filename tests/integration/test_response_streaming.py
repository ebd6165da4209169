"""Responses that reach the caller while the function produces them: boto3's event stream, and function URLs."""

from __future__ import annotations

import base64
import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from serving import Served, served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

# A runtime of its own: the module never returns from its import, it speaks the Runtime API with chunks. It waits for a
# file in /tmp between pieces, which the next call cannot make: the test sees a piece before the function may go on.
STREAMING = """
import base64, http.client, json, os, socket, time
api = os.environ["AWS_LAMBDA_RUNTIME_API"]
BASE = "/2018-06-01/runtime/"

def next_invocation():
    connection = http.client.HTTPConnection(api)
    connection.request("GET", BASE + "invocation/next")
    answer = connection.getresponse()
    return answer.headers["Lambda-Runtime-Aws-Request-Id"], json.loads(answer.read())

def chunk(data):
    return b"%x\\r\\n%s\\r\\n" % (len(data), data)

def respond(request, content_type, pieces, end):
    host, port = api.split(":")
    with socket.create_connection((host, int(port))) as wire:
        head = ["POST " + BASE + "invocation/" + request + "/response HTTP/1.1", "Host: " + api,
                "Lambda-Runtime-Function-Response-Mode: streaming", "Transfer-Encoding: chunked",
                "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
                "Content-Type: " + content_type, "", ""]
        wire.sendall("\\r\\n".join(head).encode())
        for piece in pieces:
            wire.sendall(chunk(piece))
        wire.sendall(end)
        if end:
            wire.recv(1000)

HTTP = "application/vnd.awslambda.http-integration-response"
PRELUDE = json.dumps({"statusCode": 201, "headers": {"x-made-by": "stream", "content-type": "text/html"},
                      "cookies": ["a=1"]}).encode()

def asked(port):
    # Waits until the caller says that it has what was sent: it listens on a port of its machine.
    with socket.create_connection((GATEWAY, port)) as wire:
        return wire.recv(1)

def pieces(event):
    kind = event.get("kind")
    yield b"first"
    if "port" in event:
        asked(event["port"])
    if kind == "large":
        for number in range(event["mib"]):
            yield bytes([number % 256]) * (1 << 20)
    if kind == "exit":
        time.sleep(0.3)  # what was sent is to be there before the end is
        os._exit(3)
    if kind == "sleep":
        time.sleep(60)
    yield b"second"

def head(event):
    if event.get("kind") == "no-head":
        yield b"x" * (1 << 20) + b"y"
        return
    yield PRELUDE[:10]
    yield PRELUDE[10:] + bytes(8) + b"start "
    yield from pieces(event)

route = [line.split() for line in open("/proc/net/route")][1:]
GATEWAY = next(socket.inet_ntoa(bytes.fromhex(words[2])[::-1]) for words in route if words[1] == "00000000")
FAILED = (b"0\\r\\nLambda-Runtime-Function-Error-Type: Function.Broken\\r\\nLambda-Runtime-Function-Error-Body: "
          + base64.b64encode(b'{"errorMessage": "half way", "errorType": "Broken"}') + b"\\r\\n\\r\\n")
while True:
    request, event = next_invocation()
    of_url = "requestContext" in event
    if of_url:
        event = json.loads(event["queryStringParameters"]["event"])
    if event.get("kind") == "empty":
        respond(request, "text/plain", [], b"0\\r\\n\\r\\n")
        continue
    print("streaming", request)
    end = {"fail": FAILED, "cut": b""}.get(event.get("kind"), b"0\\r\\n\\r\\n")
    respond(request, HTTP if of_url and event.get("kind") != "plain" else "text/plain",
            head(event) if of_url and event.get("kind") != "plain" else pieces(event), end)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("state")) as running:
        running.create("stream", STREAMING, Timeout=30)
        running.create("plain", "def handler(event, context):\n    return {'got': event}\n")
        running.client.create_function_url_config(
            FunctionName="stream", AuthType="NONE", InvokeMode="RESPONSE_STREAM", Cors={"AllowOrigins": ["*"]}
        )
        yield running


def events(server: Served, event: dict[str, Any], function: str = "stream") -> Iterator[dict[str, Any]]:
    answer = server.client.invoke_with_response_stream(
        FunctionName=function, Payload=json.dumps(event).encode(), LogType="Tail"
    )
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "$LATEST"
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    yield from answer["EventStream"]


def read(server: Served, event: dict[str, Any], function: str = "stream") -> tuple[bytes, dict[str, Any]]:
    """The whole payload and the last event."""
    found = list(events(server, event, function))
    assert all(list(one) == ["PayloadChunk"] for one in found[:-1])
    payload: bytes = b"".join(one["PayloadChunk"]["Payload"] for one in found[:-1])
    complete: dict[str, Any] = found[-1]["InvokeComplete"]
    return payload, complete


@contextmanager
def signal_to_function() -> Iterator[tuple[int, Any]]:
    """A port on which the function waits, and what lets it go on."""
    import socket

    with socket.create_server(("0.0.0.0", 0)) as listener:
        listener.settimeout(30)

        def let_go() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"!")

        yield listener.getsockname()[1], let_go


def test_a_piece_arrives_before_the_function_goes_on(server: Served) -> None:
    with signal_to_function() as (port, let_go):
        stream = events(server, {"port": port})
        assert next(stream) == {"PayloadChunk": {"Payload": b"first"}}
        let_go()
        assert next(stream) == {"PayloadChunk": {"Payload": b"second"}}
        complete = next(stream)["InvokeComplete"]
        assert "ErrorCode" not in complete
        log = base64.b64decode(complete["LogResult"]).decode()
        assert log.startswith(("INIT_START", "START RequestId: "))
        assert "streaming " in log
        assert "REPORT RequestId: " in log
        assert next(stream, None) is None


def test_an_empty_stream_and_one_of_many_megabytes(server: Served) -> None:
    assert read(server, {"kind": "empty"})[0] == b""
    payload, complete = read(server, {"kind": "large", "mib": 24})
    assert payload == b"first" + b"".join(bytes([number]) * (1 << 20) for number in range(24)) + b"second"
    assert "ErrorCode" not in complete


def test_an_error_on_the_way_is_told_at_the_end(server: Served) -> None:
    payload, complete = read(server, {"kind": "fail"})
    assert payload == b"firstsecond"
    assert complete["ErrorCode"] == "Unhandled"
    assert json.loads(complete["ErrorDetails"]) == {"errorMessage": "half way", "errorType": "Broken"}


def test_a_process_that_ends_on_the_way_and_a_connection_that_does(server: Served) -> None:
    payload, complete = read(server, {"kind": "exit"})
    assert payload == b"first"
    assert complete["ErrorCode"] == "Unhandled"
    assert json.loads(complete["ErrorDetails"])["errorType"] in ("Runtime.ExitError", "Runtime.TruncatedResponse")
    payload, complete = read(server, {"kind": "cut"})
    assert payload == b"firstsecond"
    assert json.loads(complete["ErrorDetails"])["errorType"] == "Runtime.TruncatedResponse"


def test_a_timeout_on_the_way(server: Served) -> None:
    server.create("slow", STREAMING, Timeout=1)
    payload, complete = read(server, {"kind": "sleep"}, "slow")
    assert payload == b"first"
    assert "Task timed out after 1.00 seconds" in complete["ErrorDetails"]


def test_a_function_that_does_not_stream_answers_in_one_piece(server: Served) -> None:
    found = list(events(server, {"n": 1}, "plain"))
    assert found[0] == {"PayloadChunk": {"Payload": b'{"got": {"n": 1}}'}}
    assert list(found[1]) == ["InvokeComplete"]


def test_a_streaming_function_called_the_ordinary_way_answers_whole(server: Served) -> None:
    answer = server.client.invoke(FunctionName="stream", Payload=b"{}")
    assert answer["Payload"].read() == b"firstsecond"
    assert "FunctionError" not in answer
    failed = server.client.invoke(FunctionName="stream", Payload=b'{"kind": "fail"}')
    assert failed["FunctionError"] == "Unhandled"
    assert json.loads(failed["Payload"].read())["errorMessage"] == "half way"


def test_a_function_that_is_not_there_is_an_ordinary_error(server: Served) -> None:
    with pytest.raises(server.client.exceptions.ResourceNotFoundException):
        server.client.invoke_with_response_stream(FunctionName="nobody")


# -- function URLs --


def ask(server: Served, event: dict[str, Any]) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    from urllib.parse import quote

    url = server.client.get_function_url_config(FunctionName="stream")["FunctionUrl"]
    connection = http.client.HTTPConnection(urlsplit(server.process.url).netloc, timeout=30)
    headers = {"Host": urlsplit(url).netloc, "Origin": "http://shop.test"}
    connection.request("GET", f"/?event={quote(json.dumps(event))}", headers=headers)
    return connection, connection.getresponse()


def test_a_url_sends_head_and_pieces_as_they_come(server: Served) -> None:
    with signal_to_function() as (port, let_go):
        connection, answer = ask(server, {"port": port})
        assert answer.status == 201
        assert answer.headers["x-made-by"] == "stream"
        assert answer.headers["content-type"] == "text/html"
        assert answer.headers["set-cookie"] == "a=1"
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.read(11) == b"start first"
        let_go()
        assert answer.read() == b"second"
        connection.close()


def test_a_url_without_a_head_is_a_200_of_the_declared_type(server: Served) -> None:
    connection, answer = ask(server, {"kind": "plain"})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain")
    assert answer.read() == b"firstsecond"
    connection.close()


def test_a_url_whose_function_fails_on_the_way_breaks_off(server: Served) -> None:
    connection, answer = ask(server, {"kind": "fail"})
    assert answer.status == 201
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()


def test_a_head_that_never_ends_is_a_bad_gateway(server: Served) -> None:
    connection, answer = ask(server, {"kind": "no-head"})
    assert (answer.status, answer.read()) == (502, b"Internal Server Error")
    connection.close()
