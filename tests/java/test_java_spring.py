"""The Spring Boot example (examples/spring-boot), primed, over a real PostgreSQL."""

from __future__ import annotations

import json
import os
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
HANDLER = "com.example.products.PrimedLambdaHandler::handleRequest"


def request(method: str, path: str, body: Any = None) -> dict[str, Any]:
    """An event of API Gateway, as far as the container reads it."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    return {
        "httpMethod": method, "path": path, "resource": "/{proxy+}", "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "requestContext": {"identity": {}, "httpMethod": method}, "isBase64Encoded": False,
        "body": None if body is None else json.dumps(body),
    }  # fmt: skip


def test_crud_through_clones_that_share_one_database(server: Served) -> None:
    code = package(jdk.entries(jdk.maven_project(jdk.SPRING)))
    with postgres(gateway(server)) as database:
        variables = {
            "DB_URL": f"jdbc:postgresql://{database.address}:{database.port}/postgres",
            "DB_USER": database.user,
            "DB_PASSWORD": database.password,
            "PRIMING_ROUNDS": "20",
        }
        server.client.create_function(
            FunctionName="spring", Runtime=jdk.oldest(), Role=ROLE, Handler=HANDLER, Timeout=30, MemorySize=2048,
            Code={"ZipFile": code}, SnapStart={"ApplyOn": "PublishedVersions"}, Environment={"Variables": variables},
        )  # fmt: skip
        wait_active(server.client, "spring")
        version = server.publish("spring")
        # Spring closed its connections before the snapshot.
        assert database.connections() == 0

        def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            reply = server.call("spring", request(method, path, body), version)
            assert reply.error is None, reply.payload
            text = reply.payload.get("body")
            return reply.payload["statusCode"], json.loads(text) if text else None

        # Each request goes to a clone of its own.
        assert ask("GET", "/products") == (200, [])
        status, kettle = ask("POST", "/products", {"name": "Kettle", "price": 19.5})
        assert (status, kettle["name"]) == (201, "Kettle")
        path = f"/products/{kettle['id']}"
        assert ask("GET", path) == (200, {**kettle, "price": 19.5})
        assert ask("PUT", path, {"name": "Kettle", "price": 7})[0] == 200
        assert ask("POST", "/products", {"name": "", "price": 7})[0] == 400
        assert ask("DELETE", path)[0] == 204
        assert ask("GET", path)[0] == 404
