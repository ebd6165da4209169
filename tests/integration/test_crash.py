"""Kill -9: of a function in the middle of a call, and of the server in the middle of a publish."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from serving import Traces, functions_of, served, templates_of
from thaw.cli.measuring import wait_active
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SLEEPER = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"
SNAP_START = {"ApplyOn": "PublishedVersions"}


@pytest.mark.parametrize("snap_start", [False, True], ids=["fresh", "clone"])
def test_a_function_killed_in_its_call_fails_that_call_only(snap_start: bool, tmp_path: Path) -> None:
    with served(tmp_path / "state") as running:
        running.create("sleeper", SLEEPER, Timeout=60, SnapStart=SNAP_START if snap_start else {"ApplyOn": "None"})
        version = running.publish("sleeper")
        with ThreadPoolExecutor(1) as thread:
            before = set(functions_of(running.process.pid))
            call = thread.submit(running.call, "sleeper", 50, version)
            until_true(lambda: "START RequestId" in running.log("sleeper"), "the call runs")
            (pid,) = set(functions_of(running.process.pid)) - before - templates_of(running.process.pid)
            os.kill(pid, signal.SIGKILL)
            reply = call.result(20)
        assert reply.error == "Unhandled"
        assert reply.payload["errorType"] == "Runtime.ExitError"
        assert "signal: killed" in reply.payload["errorMessage"]
        assert running.call("sleeper", 0, version).payload == 0
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


def test_a_server_killed_in_a_publish_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    slow_init = "import time\ntime.sleep(1.5)\ndef handler(event, context):\n    return ['alive', event]\n"
    with served(state) as first:
        first.create("published", slow_init, Timeout=20, SnapStart=SNAP_START)
        done = first.publish("published")
        first.client.update_function_configuration(FunctionName="published", Description="again")
        wait_active(first.client, "published")
        cut_off = first.client.publish_version(FunctionName="published")["Version"]
        until_true(lambda: first.log("published").count("INIT_START") == 2, "the second publish is in its Init")
        traces = Traces.of(first.process.pid)
        os.kill(first.process.pid, signal.SIGKILL)
        traces.assert_gone()
    with served(state) as second:
        found = second.client.get_function_configuration(FunctionName="published", Qualifier=cut_off)
        assert found["State"] in ("Pending", "Active")
        assert second.call("published", 1, done).payload == ["alive", 1]
        wait_active(second.client, "published", cut_off)
        reply = second.call("published", 2, cut_off)
        assert reply.payload == ["alive", 2]
        assert "Restore Duration" in reply.log
        versions = second.client.list_versions_by_function(FunctionName="published")["Versions"]
        assert [version["Version"] for version in versions] == ["$LATEST", done, cut_off]
        traces = Traces.of(second.process.pid)
    traces.assert_gone()
    assert not list((state / "code").glob(".*")), "no half unpacked code"
    assert not [path for path in (state / "origin").rglob("*") if path.is_file() and ".part" in path.name]


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.2, 0.3, 0.45])
def test_a_server_killed_at_any_moment_of_a_publish_ends_it_after_a_restart(delay_s: float, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state) as first:
        first.create("published", SLEEPER, Timeout=20, SnapStart=SNAP_START)
        version = first.client.publish_version(FunctionName="published")["Version"]
        time.sleep(delay_s)
        traces = Traces.of(first.process.pid)
        os.kill(first.process.pid, signal.SIGKILL)
        traces.assert_gone()
    with served(state) as second:
        wait_active(second.client, "published", version)
        assert "Restore Duration" in second.call("published", 0, version).log


def test_a_server_killed_with_calls_running_leaves_nothing_and_serves_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state) as first, ThreadPoolExecutor(4) as threads:
        first.create("sleeper", SLEEPER, Timeout=60, SnapStart=SNAP_START)
        version = first.publish("sleeper")
        calls = [threads.submit(first.call, "sleeper", 50, version) for _ in range(4)]
        until_true(lambda: first.log("sleeper").count("START RequestId") == 4, "the calls run")
        traces = Traces.of(first.process.pid)
        os.kill(first.process.pid, signal.SIGKILL)
        for call in calls:
            with pytest.raises((BotoCoreError, ClientError)):
                call.result(20)
        traces.assert_gone()
    with served(state) as second:
        assert second.call("sleeper", 0, version).payload == 0
