"""Responses that functions in JavaScript stream with `awslambda.streamifyResponse`, through AWS's own client."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from serving import Served, served, share_runtimes
from thaw.errors import RuntimeNotFound
from thaw.runtimes import Runtimes
from thaw.runtimes.node import discover

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = b"""
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const made = Math.random();
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  stream.setContentType("text/plain");
  stream.write("first ");
  await pause(300);
  stream.write("second ");
  if (event.fail) throw new RangeError("half way");
  stream.write(String(made));
  stream.end();
  await stream.finished();
});
exports.web = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 418, headers: { "x-pot": "tea" } });
  stream.write("short and ");
  await pause(300);
  stream.write("stout");
  stream.end();
  await stream.finished();
});
exports.large = awslambda.streamifyResponse(async (event, stream) => {
  for (let i = 0; i < event.mib; i++) {
    if (!stream.write(Buffer.alloc(1 << 20, i))) await new Promise((done) => stream.once("drain", done));
  }
  stream.end();
  await stream.finished();
});
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = asyncio.run(discover())
    if not found:
        pytest.skip("node is not on this machine: streaming from JavaScript is not tested")
    state = tmp_path_factory.mktemp("state")
    share_runtimes(state)
    try:
        asyncio.run(Runtimes(state).find(found[0].name))
    except RuntimeNotFound as error:
        pytest.skip(f"streaming from JavaScript is not tested: {error}")
    with served(state) as running:
        yield dataclasses.replace(running, runtime=found[0].name)


def create(server: Served, name: str, handler: str, **settings: object) -> None:
    entries = {"index.js": SOURCE}
    server.create(name, entries, handler=f"index.{handler}", Timeout=20, MemorySize=1024, **settings)


def chunks(server: Served, event: object, function: str, qualifier: str = "$LATEST") -> tuple[list[bytes], object]:
    answer = server.client.invoke_with_response_stream(
        FunctionName=function, Qualifier=qualifier, Payload=json.dumps(event).encode()
    )
    found = list(answer["EventStream"])
    return [one["PayloadChunk"]["Payload"] for one in found[:-1]], found[-1]["InvokeComplete"]


def test_pieces_errors_and_a_clone(server: Served) -> None:
    create(server, "stream", "handler", SnapStart={"ApplyOn": "PublishedVersions"})
    found, complete = chunks(server, {}, "stream")
    assert len(found) >= 2
    assert b"".join(found).startswith(b"first second 0.")
    assert complete == {}
    failed, complete = chunks(server, {"fail": True}, "stream")
    assert b"".join(failed) == b"first second "
    assert isinstance(complete, dict)
    assert complete["ErrorCode"] == "Unhandled"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "half way"
    again, complete = chunks(server, {}, "stream")
    assert b"".join(again).startswith(b"first second 0.")
    version = server.publish("stream")
    assert b"".join(chunks(server, {}, "stream", version)[0]).startswith(b"first second 0.")


def test_a_url_with_status_and_headers(server: Served) -> None:
    create(server, "web", "web")
    url = server.client.create_function_url_config(
        FunctionName="web", AuthType="NONE", InvokeMode="RESPONSE_STREAM"
    )["FunctionUrl"]  # fmt: skip
    connection = http.client.HTTPConnection(urlsplit(server.process.url).netloc, timeout=60)
    connection.request("GET", "/", headers={"Host": urlsplit(url).netloc})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-pot"]) == (418, "tea")
    assert answer.read() == b"short and stout"
    connection.close()


def test_more_than_a_buffered_response_may_have(server: Served) -> None:
    create(server, "large", "large")
    found, complete = chunks(server, {"mib": 20}, "large")
    assert b"".join(found) == b"".join(bytes([number]) * (1 << 20) for number in range(20))
    assert complete == {}
    whole = server.client.invoke(FunctionName="large", Payload=b'{"mib": 20}')
    assert whole["FunctionError"] == "Unhandled"
    assert json.loads(whole["Payload"].read())["errorType"] == "Function.ResponseSizeTooLarge"
