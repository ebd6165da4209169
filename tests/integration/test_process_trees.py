"""Published versions with child processes and extensions: each clone has a whole tree, with the state of the first."""

from __future__ import annotations

import json
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from packing import package
from serving import Served, functions_of, served
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]
SNAP_START = {"ApplyOn": "PublishedVersions"}

# Three kinds of companions: a pool of processes, a helper behind pipes, and an internal extension.
FUNCTION = """
import http.client, json, multiprocessing, os, random, ssl, subprocess, sys, threading, time
context = multiprocessing.get_context("fork")

def square(number):
    return [number * number, os.getpid()]

pool = context.Pool(2)
workers = sorted(worker.pid for worker in pool._pool)
warm = pool.map(abs, range(4))  # of a module that is imported: pickling waits for imports
helper = subprocess.Popen(
    [sys.executable, "-uc", "import sys\\nn = 0\\nfor line in sys.stdin:\\n    n += 1\\n    print(n, line.strip())"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
)
helper.stdin.write("init\\n")
first = helper.stdout.readline()
ssl.RAND_bytes(8)  # from now on there is a generator with a state
started = random.random()

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
seen = []

def ask(method, path, headers, body=None):
    api.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = api.getresponse()
    return answer.headers, json.loads(answer.read())

identifier = ask("POST", "register", {"Lambda-Extension-Name": "inner"}, '{"events": ["INVOKE"]}')[0][
    "Lambda-Extension-Identifier"
]

def listen():
    while True:
        seen.append(ask("GET", "event/next", {"Lambda-Extension-Identifier": identifier})[1]["requestId"])

threading.Thread(target=listen, daemon=True).start()

def handler(event, context):
    helper.stdin.write(f"{event}\\n")
    line = helper.stdout.readline()
    end = time.monotonic() + 10
    while context.aws_request_id not in seen and time.monotonic() < end:
        time.sleep(0.005)
    found = pool.map(square, range(20))
    return {
        "squares": [square for square, _ in found] == [number * number for number in range(20)],
        "own": {pid for _, pid in found} <= set(workers),
        "helper": line.split(),
        "alive": helper.poll(),
        "internal": seen == [context.aws_request_id],
        "started": started,
        "drawn": [ssl.RAND_bytes(8).hex()],
    }
"""
EXTENSION = """#!/usr/bin/env python3
import http.client, json, os, sys, uuid
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def ask(method, path, headers, body=None):
    api.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = api.getresponse()
    return answer.headers, json.loads(answer.read())

headers, _ = ask("POST", "register", {"Lambda-Extension-Name": "outer"}, '{"events": ["INVOKE", "SHUTDOWN"]}')
state, count = uuid.uuid4().hex, 0
while True:
    identifier = {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}
    _, event = ask("GET", "event/next", identifier)
    count += 1
    print(f"outer {json.dumps([state, count, event['eventType'], event.get('requestId'), os.getpid()])}", flush=True)
    if event["eventType"] == "SHUTDOWN":
        sys.exit(0)
"""


def publish(running: Served, **settings: Any) -> str:
    content = package({"extensions/outer": (stat.S_IFREG | 0o755, EXTENSION.encode())})
    answer = running.client.publish_layer_version(LayerName="outer", Content={"ZipFile": content})
    layers = [answer["LayerVersionArn"]]
    running.create("f", FUNCTION, SnapStart=SNAP_START, Layers=layers, Timeout=30, MemorySize=1024, **settings)
    return running.publish("f")


def told(running: Served) -> list[list[Any]]:
    """What extensions printed of the events that they got."""
    lines = [line.split("outer ", 1)[1] for line in running.log("f").splitlines() if "outer [" in line]
    return [json.loads(line) for line in lines]


def reports(running: Served) -> list[bool]:
    """Of each call's REPORT, whether it was restored for. They come when extensions are done, after the answer."""
    return [
        "\tRestore Duration" in line for line in running.log("f").splitlines() if line.startswith("REPORT RequestId")
    ]


def test_a_tree_with_extensions_comes_back_in_every_clone(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        version = publish(running)
        with ThreadPoolExecutor(3) as callers:
            replies = list(callers.map(lambda event: running.call("f", event, version), ["a", "b", "c"]))
        for event, reply in zip("abc", replies, strict=True):
            assert {name: reply.payload[name] for name in ("squares", "own", "helper", "alive", "internal")} == {
                "squares": True, "own": True, "helper": ["2", event], "alive": None, "internal": True,
            }  # fmt: skip
        assert len({reply.payload["started"] for reply in replies}) == 1
        assert len({reply.payload["drawn"][0] for reply in replies}) == 3, "random numbers of clones differ"
        until_true(lambda: reports(running) == [True] * 3, "all three were restored")
        until_true(lambda: sum(each[2] == "SHUTDOWN" for each in told(running)) >= 3, "idle clones are shut down")
        until_true(lambda: not functions_of(running.process.pid), "their processes are gone")
    events = [each for each in told(running) if each[2] == "INVOKE"]
    assert len({state for state, *_ in events}) == 1, "all clones have the state that Init made"
    assert [count for _, count, *_ in events] == [1, 1, 1]
    assert len({number for *_, number in events}) == 1, "processes keep their numbers"


def in_groups(pid: int) -> bool:
    """Whether the group that limits a process's memory is one of an environment."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    groups = {controllers: path for _, controllers, path in lines}
    return re.search(r"/thaw-[^/]+/", groups.get("memory", groups.get("", "")) + "/") is not None


def test_every_process_of_a_clone_is_in_its_control_groups_and_freezes_with_it(tmp_path: Path) -> None:
    with served(tmp_path / "state") as running:
        version = publish(running)
        running.call("f", "a", version)
        until_true(lambda: reports(running) == [True], "it was restored")
        server = running.process.pid
        until_true(lambda: all(in_groups(pid) for pid in functions_of(server)), "all are in the groups")
        assert len(functions_of(server)) == 5
        # Between calls nothing of it runs; the next call finds everybody.
        reply = running.call("f", "b", version)
        assert (reply.payload["helper"], reply.payload["squares"]) == (["3", "b"], True)
        until_true(lambda: reports(running) == [True, False], "the same one answers")


INTERNAL = (
    "import http.client, json, os, threading, time\napi = http.client"
    + FUNCTION.partition("\napi = http.client")[2].partition("\ndef handler")[0]
    + """
def handler(event, context):
    end = time.monotonic() + 10
    while context.aws_request_id not in seen and time.monotonic() < end:
        time.sleep(0.005)
    return [seen == [context.aws_request_id], os.getpid()]
"""
)


def test_an_internal_extension_alone_goes_on_in_every_clone(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        running.create("f", INTERNAL, SnapStart=SNAP_START)
        version = running.publish("f")
        for _ in range(5):
            reply = running.call("f", None, version)
            assert reply.payload[0] is True
        until_true(lambda: reports(running) == [True] * 5, "all five were restored")
