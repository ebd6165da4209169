"""Clones that are forked before their call comes: a call cannot tell, but by how old its process is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import Served, Traces, descendants, served, start_of
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = """
import ctypes, os, random, struct, threading, time

from snapshot_restore_py import register_after_restore

libc = ctypes.CDLL(None)
timer = libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
assert libc.timerfd_settime(timer, 0, struct.pack("4q", 0, 0, 1000, 0), None) == 0
threading.Thread(target=threading.Event().wait, daemon=True).start()
restored = []
started = time.monotonic()


@register_after_restore
def note():
    restored.append(time.time())


def handler(event, context):
    if event == "exit":
        os._exit(3)
    left = ctypes.create_string_buffer(32)
    assert libc.timerfd_gettime(timer, left) == 0
    fields = open("/proc/self/stat").read().rpartition(")")[2].split()
    return {
        "born": int(fields[19]) / os.sysconf("SC_CLK_TCK"),
        "now": time.monotonic(),
        "hooks": restored,
        "left": struct.unpack("4q", left.raw)[2] + struct.unpack("4q", left.raw)[3] / 1e9,
        "name": open("/proc/self/comm").read().strip(),
        "threads": len(os.listdir("/proc/self/task")),
        "random": random.random(),
        "files": sorted(os.listdir("/tmp")),
    }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("ahead") / "state", idle_timeout_s=0) as running:
        yield running


def publish(server: Served, name: str) -> str:
    server.create(name, SOURCE, SnapStart={"ApplyOn": "PublishedVersions"})
    return server.publish(name)


def waiting_clone(server: Served) -> int | None:
    """A template's name, in the process numbers of a sandbox."""
    for pid in descendants(server.process.pid):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            continue
        numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
        if len(numbers) > 1 and status.startswith("Name:\tthaw-template"):
            return pid
    return None


def call_with_waiting_clone(server: Served, name: str, version: str) -> tuple[Any, float]:
    """The answer, and the moment of the call by the machine's clock of seconds since it started."""
    until_true(lambda: waiting_clone(server) is not None, "a clone waits for its call")
    time.sleep(0.3)
    asked = time.clock_gettime(time.CLOCK_BOOTTIME)
    reply = server.call(name, None, version)
    assert reply.error is None, reply.payload
    assert "RESTORE_REPORT" in server.log(name)
    assert "Restore Duration" in reply.log
    return reply.payload, asked


def test_calls_are_served_by_clones_that_waited_for_them(server: Served) -> None:
    version = publish(server, "waits")
    first = server.call("waits", None, version).payload
    assert first["threads"] == 2
    seen = []
    for _ in range(3):
        began = time.time()
        answer, asked = call_with_waiting_clone(server, "waits", version)
        assert answer["born"] < asked - 0.2, "the process was there before the call"
        (hook,) = answer["hooks"]
        assert began <= hook <= time.time(), "the hook ran during the call, once"
        assert (answer["name"], answer["threads"]) == (first["name"], 2)
        seen.append(answer["random"])
    assert len(set(seen)) == 3
    server.client.delete_function(FunctionName="waits")
    until_true(lambda: waiting_clone(server) is None, "a deleted function keeps no clone")


def test_timers_count_from_the_call_on(server: Served) -> None:
    version = publish(server, "timers")
    left = server.call("timers", None, version).payload["left"]
    assert 900 < left <= 1000
    until_true(lambda: waiting_clone(server) is not None, "a clone waits for its call")
    time.sleep(4)
    assert server.call("timers", None, version).payload["left"] > left - 3, "it had as much left as any other clone"
    server.client.delete_function(FunctionName="timers")


def test_a_waiting_clone_that_ended_costs_its_call_nothing(server: Served) -> None:
    version = publish(server, "killed")
    assert server.call("killed", None, version).error is None
    until_true(lambda: waiting_clone(server) is not None, "a clone waits for its call")
    victim = waiting_clone(server)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    until_true(lambda: not start_of(victim), "it is gone")
    assert server.call("killed", None, version).error is None
    for _ in range(5):  # The call may come before the news of the end.
        until_true(lambda: waiting_clone(server) is not None, "a clone waits for its call")
        if (victim := waiting_clone(server)) is not None:
            os.kill(victim, signal.SIGKILL)
        assert server.call("killed", None, version).error is None
    assert server.call("killed", "exit", version).error == "Unhandled"
    assert server.call("killed", None, version).error is None
    server.client.delete_function(FunctionName="killed")


def test_it_can_be_switched_off_and_leaves_nothing(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        version = publish(running, "f")
        assert running.call("f", None, version).error is None
        until_true(lambda: waiting_clone(running) is not None, "a clone waits for its call")
        traces = Traces.of(running.process.pid)
    traces.assert_gone()
    with served(tmp_path / "state", idle_timeout_s=0, fork_ahead=False) as running:
        for _ in range(2):
            asked = time.clock_gettime(time.CLOCK_BOOTTIME)
            reply = running.call("f", None, version)
            assert reply.payload["born"] >= asked - 0.02, "the process was forked for the call"
            time.sleep(0.2)
            assert waiting_clone(running) is None


def test_what_calls_write_is_copied_before_the_next_one(server: Served) -> None:
    """Once the first calls are over, a waiting clone has the pages that its call will write."""
    source = """
data = bytearray(b"x" * (8 << 20))

def handler(event, context):
    for place in range(0, len(data), 4096):
        data[place] = 1
"""
    server.create("writes", source, SnapStart={"ApplyOn": "PublishedVersions"})
    version = server.publish("writes")
    until_true(lambda: waiting_clone(server) is not None, "a clone waits for its call")
    before = private_mib(waiting_clone(server))
    assert before < 8, "nobody knows yet what calls write"

    def learnt() -> bool:
        server.call("writes", None, version)
        until_true(lambda: waiting_clone(server) is not None, "a clone waits for its call")
        try:
            return private_mib(waiting_clone(server)) > 8
        except (FileNotFoundError, ProcessLookupError):
            return False  # one that knows more has just taken its place

    until_true(learnt, "calls have shown what they write")


def private_mib(pid: int | None) -> float:
    """What a process has for itself, MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024
