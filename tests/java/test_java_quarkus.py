"""The Quarkus example (examples/quarkus), deployed from its SAM template, over a real PostgreSQL."""

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
    """An event of API Gateway, as far as Quarkus reads it."""
    headers = {"Accept": ["application/json"], "Content-Type": ["application/json"]}
    return {
        "httpMethod": method, "path": path, "multiValueHeaders": headers, "isBase64Encoded": False,
        "body": None if body is None else json.dumps(body),
    }  # fmt: skip


def deploy(server: Served, database: Postgres) -> None:
    """The example's own template, which lies beside what was built of it."""
    template = jdk.maven_project(jdk.QUARKUS, "package").parent.parent / "template.yaml"
    address = f"jdbc:postgresql://{database.address}:{database.port}/postgres"
    values = {"DatabaseUrl": address, "DatabaseUser": database.user, "DatabasePassword": database.password}
    jdk.deploy(server, template, values)


def test_crud_through_clones_that_open_their_own_connections(server: Served) -> None:
    jdk.java("java17")  # as the template says
    with postgres(gateway(server)) as database:
        deploy(server, database)
        # The bean's hook closed its connection before the snapshot.
        assert database.connections() == 0

        def ask(method: str, path: str, body: Any = None, function: str = "notes-snapstart") -> tuple[int, Any]:
            reply, status, document = jdk.ask(server, function, request(method, path, body))
            assert ("Restore Duration" in reply.log) == (function == "notes-snapstart")
            return status, document

        # Each request goes to a clone of its own.
        assert ask("GET", "/notes") == (200, [])
        status, note = ask("POST", "/notes", {"text": "thaw the peas"})
        assert (status, note["text"]) == (201, "thaw the peas")
        path = f"/notes/{note['id']}"
        assert ask("GET", path, function="notes-on-demand") == (200, note)
        assert ask("PUT", path, {"text": "eat the peas"}) == (200, note | {"text": "eat the peas"})
        assert ask("POST", "/notes", {"text": " "})[0] == 400
        assert ask("DELETE", path)[0] == 204
        assert ask("GET", path)[0] == 404

        said = jdk.printed(server, "notes-snapstart", "INFO")
        assert said.count(["INFO  connection opened", "INFO  connection closed"]) == 1  # Init
        assert said.count(["INFO  connection opened"]) == 6  # the clones
