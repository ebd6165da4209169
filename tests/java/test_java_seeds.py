"""The Java examples of two published articles (examples/seeds/java) against real servers."""

from __future__ import annotations

import functools
import http.server
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from integration.test_seeds import gateway, postgres
from java import jdk
from packing import package
from serving import ROLE, Served
from thaw.cli.measuring import wait_active

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]
SNAP_START = {"ApplyOn": "PublishedVersions"}


@functools.cache
def code() -> bytes:
    return package(jdk.entries(jdk.maven_project(jdk.SEEDS)))


def publish_seed(server: Served, handler: str, **variables: str) -> tuple[str, str]:
    """Creates and publishes one of the handlers with SnapStart; its name and version."""
    name = handler.partition("::")[0]
    server.client.create_function(
        FunctionName=name, Runtime=jdk.oldest(), Role=ROLE, Handler=f"com.example.{handler}", Timeout=60,
        MemorySize=1024, Code={"ZipFile": code()}, SnapStart=SNAP_START, Environment={"Variables": variables},
    )  # fmt: skip
    wait_active(server.client, name)
    return name, server.publish(name)


@contextmanager
def greeting(address: str) -> Iterator[str]:
    """A web server that greets, and counts nothing; its address."""

    class Greeting(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = b"good morning"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Nothing: the test's output is not the place."""

    with http.server.ThreadingHTTPServer((address, 0), Greeting) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://{address}:{listening.server_address[1]}/"
        finally:
            listening.shutdown()
            thread.join()


def test_hello_handler_runs_its_hooks(server: Served) -> None:
    function, version = publish_seed(server, "HelloHandler::handleRequest")
    reply = server.call(function, "Mark", version)
    assert reply.payload == "Hello Mark"
    streams = [[line for line in stream if line in HOOKS] for stream in jdk.printed(server, function)]
    assert HOOKS[:1] in streams
    assert HOOKS[1:] in streams


HOOKS = ["Before Checkpoint", "After Restore", "Handler execution"]


def test_database_token_and_http_clients_are_renewed_in_each_clone(server: Served) -> None:
    address = gateway(server)
    with postgres(address) as database, greeting(address) as url:
        function, version = publish_seed(
            server, "ClientsHandler::handleRequest", DB_USER=database.user, DB_PASSWORD=database.password,
            DB_URL=f"jdbc:postgresql://{address}:{database.port}/postgres", PRIME_URL=url,
        )  # fmt: skip
        assert "primed with good morning and 42" in server.log(function)
        event = {"url": url, "sql": "SELECT pg_backend_pid()"}
        replies = [server.call(function, event, version) for _ in range(3)]
    assert [reply.error for reply in replies] == [None] * 3, replies[0].payload
    assert {reply.payload["http"] for reply in replies} == {"good morning"}
    assert len({reply.payload["token"] for reply in replies}) == 3
    assert all(uuid.UUID(reply.payload["token"]) for reply in replies)
    # Each clone has a connection, and so a server process, of its own.
    assert len({reply.payload["database"] for reply in replies}) == 3


@contextmanager
def dynamodb(address: str) -> Iterator[tuple[str, Any]]:
    """A DynamoDB endpoint with a table of products; its address, and a client of it."""
    moto_server = pytest.importorskip(
        "moto.server", reason="no DynamoDB endpoint for tests: pip install 'moto[server]'"
    )
    import boto3

    running = moto_server.ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    running.start()
    try:
        url = f"http://{address}:{running.get_host_and_port()[1]}"
        keys = {"aws_access_key_id": "ASIATHAW000000000000", "aws_secret_access_key": "thaw"}
        client = boto3.client("dynamodb", endpoint_url=url, region_name="us-east-1", **keys)
        client.create_table(
            TableName="products", KeySchema=[{"AttributeName": "productId", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "productId", "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST",
        )  # fmt: skip
        yield url, client
    finally:
        running.stop()


def test_product_handler_reads_from_dynamodb(server: Served) -> None:
    with dynamodb(gateway(server)) as (url, client):
        function, version = publish_seed(
            server, "ProductHandler::handleRequest", PRODUCTS_TABLE="products", AWS_ENDPOINT_URL_DYNAMODB=url
        )
        # Written after the snapshot: a clone that answered from memory would not know it.
        item = {"productId": {"S": "7"}, "name": {"S": "Kettle"}, "price": {"N": "19"}}
        client.put_item(TableName="products", Item=item)
        found = server.call(function, {"pathParameters": {"id": "7"}}, version)
        absent = server.call(function, {"pathParameters": {"id": "8"}}, version)
    assert found.error is None, found.payload
    assert found.payload["statusCode"] == 200
    assert found.payload["body"] == '{"id": "7", "name": "Kettle", "price": 19}'
    assert absent.payload["statusCode"] == 404
    assert "Environment restored at " in server.log(function)
