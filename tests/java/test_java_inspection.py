"""What people are told of a JVM's snapshot: its classes, asked of the process after it was frozen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from java import jdk
from serving import Served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]


def published(server: Served, name: str, program: str = "Hooks", **variables: str) -> str:
    """`name:version` of a function with hooks."""
    server.create(
        name, jdk.program("Hooks"), handler=f"programs.{program}::handleRequest", Timeout=60, MemorySize=1024,
        SnapStart={"ApplyOn": "PublishedVersions"}, Environment={"Variables": variables},
    )  # fmt: skip
    return f"{name}:{server.publish(name)}"


def inspected(server: Served, version: str) -> Any:
    command = [sys.executable, "-m", "thaw.cli", "snapshot", "inspect", version, "--json"]
    done = subprocess.run([*command, "--state-dir", str(server.state_dir)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_inspect_counts_a_jvms_objects_by_class_and_clones_have_nothing_of_the_question(server: Served) -> None:
    found = inspected(server, published(server, "counted"))
    objects = found["objects"]
    assert objects["language"] == "Java"
    counted = {name: (number, size) for name, number, size in objects["types"]}
    assert counted["java.lang.String"][0] > 1000
    assert counted["byte[]"][1] >= 16 * counted["byte[]"][0]
    assert objects["total"][0] >= sum(number for number, _ in counted.values())
    assert "Attach Listener" not in {thread["name"] for thread in found["processes"][0]["threads"]}
    assert found["tmp"]["tmp_bytes"] == 0
    assert found["findings"] == []
    assert len(server.call("counted", {}, "1").payload) == 6, "the clone's hooks ran"


def test_a_jvm_that_does_not_want_to_be_asked_is_not_asked(server: Served) -> None:
    version = published(server, "silent", JAVA_TOOL_OPTIONS="-XX:+DisableAttachMechanism")
    assert inspected(server, version)["objects"] is None
    assert "Full thread dump" not in server.log("silent")


def test_a_class_that_is_not_there_is_told_by_the_client_as_without_snapstart(server: Served) -> None:
    published(server, "absent", "Nowhere")
    for version in ("$LATEST", "1"):
        assert server.call("absent", {}, version).payload["errorMessage"] == "Class not found: programs.Nowhere"
