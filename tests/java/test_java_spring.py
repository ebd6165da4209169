"""The Spring Boot example (examples/spring-boot), deployed from its SAM template, over a real PostgreSQL."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from integration.test_seeds import Postgres, gateway, postgres
from java import jdk
from serving import Served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]


def request(method: str, path: str, body: Any = None) -> dict[str, Any]:
    """An event of API Gateway, as far as the container reads it."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    return {
        "httpMethod": method, "path": path, "resource": "/{proxy+}", "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "requestContext": {"identity": {}, "httpMethod": method}, "isBase64Encoded": False,
        "body": None if body is None else json.dumps(body),
    }  # fmt: skip


def deploy(server: Served, database: Postgres) -> None:
    """The example's own template, which lies beside what was built of it."""
    classes = jdk.maven_project(jdk.SPRING)
    template = classes.parent.parent / "template.yaml"
    values = {
        "DatabaseUrl": f"jdbc:postgresql://{database.address}:{database.port}/postgres",
        "DatabaseUser": database.user, "DatabasePassword": database.password, "PrimingRounds": "20",
    }  # fmt: skip
    jdk.deploy(server, template, values)


def test_crud_through_clones_that_share_one_database(server: Served) -> None:
    jdk.java("java17")  # as the template says
    with postgres(gateway(server)) as database:
        deploy(server, database)
        # Spring closed its connections before both snapshots.
        assert database.connections() == 0

        def ask(method: str, path: str, body: Any = None, function: str = "products-primed") -> tuple[int, Any]:
            return jdk.ask(server, function, request(method, path, body))[1:]

        # Each request goes to a clone of its own.
        assert ask("GET", "/products") == (200, [])
        status, kettle = ask("POST", "/products", {"name": "Kettle", "price": 19.5})
        assert (status, kettle["name"]) == (201, "Kettle")
        path = f"/products/{kettle['id']}"
        assert ask("GET", path, function="products-snapstart") == (200, {**kettle, "price": 19.5})
        assert ask("PUT", path, {"name": "Kettle", "price": 7})[0] == 200
        assert ask("POST", "/products", {"name": "", "price": 7})[0] == 400
        assert ask("DELETE", path)[0] == 204
        assert ask("GET", path)[0] == 404
