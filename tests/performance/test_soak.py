"""Rounds of restore, call and destroy, for as long as asked: what the server holds must not grow with them."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from packing import package
from serving import Served, Traces, descendants, served

pytestmark = [pytest.mark.soak, pytest.mark.root, pytest.mark.package_index]

PLAIN = "import os\ndef handler(event, context):\n    return [event, os.getpid()]\n"
# A child process behind pipes, shared memory with it, and an external extension: all of it goes with every clone.
TREE = """
import mmap, os, subprocess, sys
memory = mmap.mmap(-1, 4096)
echo = subprocess.Popen([sys.executable, "-uc", "import sys\\nfor line in sys.stdin: print(line.strip())"],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
def handler(event, context):
    echo.stdin.write(f"{event}\\n")
    return [int(echo.stdout.readline()), os.getpid()]
"""
EXTENSION = """#!/usr/bin/env python3
import http.client, os, sys
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def ask(method, path, headers, body=None):
    api.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = api.getresponse()
    return answer.headers, answer.read()
headers, _ = ask("POST", "register", {"Lambda-Extension-Name": "outer"}, '{"events": ["INVOKE", "SHUTDOWN"]}')
identifier = headers["Lambda-Extension-Identifier"]
while b"SHUTDOWN" not in ask("GET", "event/next", {"Lambda-Extension-Identifier": identifier})[1]:
    pass
"""
WARM_UP_ROUNDS = 200
ROUNDS = 1000
GROWTH_LIMIT = 1.2
"""Of resident memory; it settles, and must not climb for hours."""


def holdings(running: Served) -> dict[str, int]:
    """What the server has when the last environments are gone: descriptors, processes, mounts, control groups, network
    links, and resident memory (KiB)."""
    time.sleep(2)
    pid = running.process.pid
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    traces = Traces.of(pid)
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "processes": len(descendants(pid)),
        "mounts": len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()),
        "groups": sum(len(list(group.rglob("*/"))) for group in traces.groups),
        "links": len(traces.links),
        "resident": int(fields["VmRSS"].split()[0]),
    }


def rounds(running: Served, version: str, until: float, at_least: int) -> int:
    done = 0
    while done < at_least or time.monotonic() < until:
        reply = running.call("f", done, version)
        assert reply.payload[0] == done
        assert "Restore Duration" in reply.log
        done += 1
    return done


@pytest.mark.parametrize("kind", ["plain", "tree"])
def test_rounds_of_restore_call_and_destroy_leak_nothing(tmp_path: Path, kind: str) -> None:
    minutes = float(os.environ.get("SOAK_MINUTES", "120")) / 2
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        layers = [_extension_layer(running)] if kind == "tree" else []
        source = TREE if kind == "tree" else PLAIN
        running.create("f", source, SnapStart={"ApplyOn": "PublishedVersions"}, Layers=layers)
        version = running.publish("f")
        rounds(running, version, 0, WARM_UP_ROUNDS)
        before = holdings(running)
        done = rounds(running, version, time.monotonic() + minutes * 60, ROUNDS)
        after = holdings(running)
        traces = Traces.of(running.process.pid)
    print(f"{kind}, {done} rounds: {before} -> {after}")
    assert after.pop("resident") <= before.pop("resident") * GROWTH_LIMIT
    # Ready sandboxes come and go one at a time, each with its share of everything.
    assert {name: count for name, count in after.items() if count > before[name] + 2} == {}
    traces.assert_gone()


def _extension_layer(running: Served) -> str:
    content = package({"extensions/outer": (stat.S_IFREG | 0o755, EXTENSION.encode())})
    answer = running.client.publish_layer_version(LayerName="outer", Content={"ZipFile": content})
    arn: str = answer["LayerVersionArn"]
    return arn
