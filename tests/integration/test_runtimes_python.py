"""Every Python that Thaw has a client for: frozen and thawed where this machine has it, skipped by name where not."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator

import pytest

import fetched
from serving import Served, Traces, served
from thaw.runtimes import Runtimes

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

VERSIONS = [f"python3.{minor}" for minor in range(9, 15)]

SOURCE = """
import os, random, sqlite3, ssl, sys, threading, uuid
from snapshot_restore_py import register_after_restore, register_before_snapshot

made, order, beats, ready = uuid.uuid4().hex, ["init"], [], threading.Event()
register_before_snapshot(order.append, "before")
register_after_restore(order.append, "after")
database = sqlite3.connect(":memory:", check_same_thread=False)
database.execute("create table t (word)")
database.execute("insert into t values (?)", ("kept",))

def beat():
    while True:
        beats.append(ready.wait(0.01))

threading.Thread(target=beat, daemon=True).start()

def handler(event, context):
    count = len(beats)
    while len(beats) == count:      # the thread goes on in the clone
        ready.wait(0.01)
    return {"event": event, "version": "python%d.%d" % sys.version_info[:2], "made": made, "order": order,
            "kept": database.execute("select word from t").fetchone()[0], "drawn": random.random(),
            "secret": ssl.RAND_bytes(8).hex(), "own": os.getpid() == int(os.readlink("/proc/self")),
            "calls": order.append("call") or order.count("call")}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    state_dir = tmp_path_factory.mktemp("state")
    fetched.add_to(state_dir)
    with served(state_dir, idle_timeout_s=0) as running:
        yield running
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


@pytest.fixture(scope="module")
def here(server: Served) -> tuple[str, ...]:
    return asyncio.run(Runtimes(server.state_dir).names())


@pytest.mark.parametrize("name", VERSIONS)
def test_a_function_is_frozen_and_thawed(server: Served, here: tuple[str, ...], name: str) -> None:
    if name not in here:
        pytest.skip(f"{name} is not on this machine, so it is not tested: install it, or let {fetched.HOW}")
    versioned = dataclasses.replace(server, runtime=name)
    function = name.replace(".", "-")
    versioned.create(function, SOURCE, SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=20)
    version = versioned.publish(function)
    replies = [versioned.call(function, number, version) for number in range(3)]
    assert all("Restore Duration" in reply.log for reply in replies), replies[0].log
    answers = [reply.payload for reply in replies]
    assert [answer["event"] for answer in answers] == [0, 1, 2]
    assert {answer["version"] for answer in answers} == {name}
    assert {answer["kept"] for answer in answers} == {"kept"}
    assert len({answer["made"] for answer in answers}) == 1
    assert {answer["calls"] for answer in answers} == {1}
    assert {answer["own"] for answer in answers} == {True}  # its process number
    assert all(answer["order"][:3] == ["init", "before", "after"] for answer in answers)
    assert len({answer["drawn"] for answer in answers}) == len({answer["secret"] for answer in answers}) == 3
