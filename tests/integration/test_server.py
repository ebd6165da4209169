"""The server as people run it: one process, one folder, one address; calls, versions, and a clean end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from serving import Served, Traces, functions_of, served
from thaw.cli.measuring import CallFailed, wait_active
from thaw.config import read_settings
from thaw.errors import ConfigurationError
from thaw.server import Server
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

ECHO = """
import os, random
started = random.random()
calls = 0
def handler(event, context):
    global calls
    calls += 1
    print("called with", event)
    return {"event": event, "calls": calls, "started": started, "version": context.function_version,
            "arn": context.invoked_function_arn, "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("state")) as running:
        traces = Traces.of(running.process.pid)
        yield running
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


def test_a_call_of_latest_reuses_its_environment(server: Served) -> None:
    server.create("reuse", ECHO)
    first, second = server.call("reuse", {"n": 1}), server.call("reuse", {"n": 2})
    assert (first.payload["calls"], second.payload["calls"]) == (1, 2)
    assert first.payload["started"] == second.payload["started"]
    assert first.payload["type"] == "on-demand"
    assert "Init Duration" in first.log
    assert "Init Duration" not in second.log
    assert "called with {'n': 2}" in second.log


def test_a_version_with_snapstart_is_a_clone_and_says_so(server: Served) -> None:
    server.create("snap", ECHO, SnapStart={"ApplyOn": "PublishedVersions"})
    version = server.publish("snap")
    found = server.client.get_function_configuration(FunctionName="snap", Qualifier=version)
    assert found["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    reply = server.call("snap", 1, version)
    assert reply.payload["type"] == "snap-start"
    assert reply.payload["version"] == version == reply.version
    assert "Restore Duration" in reply.log
    assert "Init Duration" not in reply.log
    log = server.log("snap")
    assert log.index("INIT_START") < log.index("INIT_REPORT Init Duration")
    assert "RESTORE_START Runtime Version: python:" in log
    assert "RESTORE_REPORT Restore Duration: " in log


def test_many_calls_at_once_have_an_environment_each_and_all_are_answered(server: Served) -> None:
    server.create("many", "import time\ndef handler(event, context):\n    time.sleep(0.2)\n    return event\n",
                  SnapStart={"ApplyOn": "PublishedVersions"})  # fmt: skip
    version = server.publish("many")
    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda number: server.call("many", number, version).payload, range(32)))
    assert replies == list(range(32))


def test_a_changed_function_is_called_with_its_new_code(server: Served) -> None:
    from packing import package

    server.create("change", "def handler(event, context):\n    return 'old'\n")
    assert server.call("change").payload == "old"
    new = package({"app.py": b"def handler(event, context):\n    return 'new'\n"})
    server.client.update_function_code(FunctionName="change", ZipFile=new)
    wait_active(server.client, "change")
    assert server.call("change").payload == "new"


def test_a_deleted_function_ends_its_environments(server: Served) -> None:
    server.create("gone", ECHO, SnapStart={"ApplyOn": "PublishedVersions"})
    version = server.publish("gone")
    before = set(functions_of(server.process.pid))
    server.call("gone", 1, version)
    mine = set(functions_of(server.process.pid)) - before
    assert mine
    server.client.delete_function(FunctionName="gone")
    until_true(lambda: not mine & set(functions_of(server.process.pid)), "the function's processes are gone")
    with pytest.raises(ClientError, match="Function not found"):
        server.call("gone", 1, version)


def test_code_can_be_downloaded_again(server: Served) -> None:
    import io
    import urllib.request
    import zipfile

    server.create("source", ECHO)
    location = server.client.get_function(FunctionName="source")["Code"]["Location"]
    with urllib.request.urlopen(location) as answer:
        assert zipfile.ZipFile(io.BytesIO(answer.read())).read("app.py").decode() == ECHO


def test_what_cannot_be_frozen_fails_the_publish_with_a_sentence_and_the_next_version_works(server: Served) -> None:
    source = (
        "import os, signal, subprocess\nchild = subprocess.Popen(['sleep', '600'])\n"
        "os.kill(child.pid, signal.SIGSTOP)\nos.waitpid(child.pid, os.WUNTRACED)\n"
        "def handler(event, context):\n    return 1\n"
    )
    server.create("tree", source, SnapStart={"ApplyOn": "PublishedVersions"})
    with pytest.raises(CallFailed, match=r"[Cc]hild process \d+ \('sleep'\) is stopped by a signal.*end it"):
        server.publish("tree")
    found = server.client.get_function_configuration(FunctionName="tree", Qualifier="1")
    assert (found["State"], found["StateReasonCode"]) == ("Failed", "FunctionError")
    assert "('sleep') is stopped by a signal" in server.log("tree")
    server.client.update_function_code(FunctionName="tree", ZipFile=_package(ECHO))
    wait_active(server.client, "tree")
    assert server.call("tree", 1, server.publish("tree")).payload["event"] == 1


def _package(source: str) -> bytes:
    from packing import package

    return package({"app.py": source.encode()})


def test_a_failing_after_restore_hook_is_a_snapstart_exception(server: Served) -> None:
    server.create("hook", "from snapshot_restore_py import register_after_restore\n@register_after_restore\n"
                  "def fail():\n    raise ValueError('no database')\ndef handler(event, context):\n    return 1\n",
                  SnapStart={"ApplyOn": "PublishedVersions"})  # fmt: skip
    version = server.publish("hook")
    with pytest.raises(server.client.exceptions.SnapStartException) as caught:
        server.call("hook", 1, version)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert "Status: error\tError Type: Runtime.AfterRestoreError" in server.log("hook")


def test_a_before_snapshot_hook_that_fails_fails_the_version(server: Served) -> None:
    server.create("before", "from snapshot_restore_py import register_before_snapshot\n@register_before_snapshot\n"
                  "def fail():\n    raise ValueError('not ready')\ndef handler(event, context):\n    return 1\n",
                  SnapStart={"ApplyOn": "PublishedVersions"})  # fmt: skip
    with pytest.raises(CallFailed, match="An error occurred during function initialization"):
        server.publish("before")


def test_a_second_server_on_the_same_folder_gets_one_sentence(server: Served) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "thaw.cli", "serve", "--state-dir", str(server.state_dir), "--port", "0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert second.stderr.strip() == (
        f"thaw: Another server (process {server.process.pid}) uses the state folder {server.state_dir}: stop it, or "
        "name another folder with --state-dir."
    )


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        second = subprocess.run(
            [sys.executable, "-m", "thaw.cli", "serve", "--state-dir", str(tmp_path), "--port", str(port)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in second.stderr


def test_sigterm_lets_a_running_call_end_and_leaves_nothing(tmp_path: Path) -> None:
    slow = "import time\ndef handler(event, context):\n    time.sleep(2)\n    return 'done'\n"
    with served(tmp_path / "state") as running:
        running.create("slow", slow, Timeout=30)
        with ThreadPoolExecutor(1) as thread:
            call = thread.submit(running.call, "slow")
            until_true(lambda: "START RequestId" in running.log("slow"), "the call runs")
            traces = Traces.of(running.process.pid)
            os.kill(running.process.pid, signal.SIGTERM)
            assert call.result(30).payload == "done"
        traces.assert_gone()


def test_a_timeout_ends_the_call_with_lambdas_text_and_the_next_call_is_fresh(server: Served) -> None:
    server.create(
        "late", "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n", Timeout=1
    )
    began = time.monotonic()
    reply = server.call("late", 30)
    assert time.monotonic() - began < 15
    assert reply.error == "Unhandled"
    assert "Task timed out after 1.00 seconds" in reply.payload["errorMessage"]
    assert server.call("late", 0).payload == 0


def test_every_call_gets_a_fresh_environment_without_idle_time(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        running.create("fresh", ECHO)
        assert [running.call("fresh").payload["calls"] for _ in range(3)] == [1, 1, 1]


def test_calls_beyond_the_limit_are_throttled(tmp_path: Path) -> None:
    async def burst(running: Served) -> list[object]:
        calls = [asyncio.to_thread(running.call, "busy", number) for number in range(6)]
        return await asyncio.gather(*calls, return_exceptions=True)

    with served(tmp_path / "state", max_environments=2) as running:
        running.create(
            "busy", "import time\ndef handler(event, context):\n    time.sleep(1)\n    return event\n", Timeout=10
        )
        outcomes = asyncio.run(burst(running))
        refused = [outcome for outcome in outcomes if isinstance(outcome, ClientError)]
        assert len(refused) == 4
        assert {error.response["Error"]["Code"] for error in refused} == {"TooManyRequestsException"}
        assert {error.response["Reason"] for error in refused} == {"ConcurrentInvocationLimitExceeded"}
        assert json.dumps(running.call("busy", "again").payload) == '"again"'


def test_the_aws_cli_publishes_and_calls_a_clone_with_the_lines_of_the_guide(server: Served, tmp_path: Path) -> None:
    cli = shutil.which("aws", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if cli is None:
        pytest.skip("the AWS CLI is not installed (pip install awscli)")
    server.create("guide", ECHO)
    environment = os.environ | {
        "AWS_ENDPOINT_URL": server.process.url, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "thaw", "AWS_SECRET_ACCESS_KEY": "thaw",
    }  # fmt: skip
    for line in (
        "update-function-configuration --function-name guide --snap-start ApplyOn=PublishedVersions",
        "wait function-updated-v2 --function-name guide",
        "publish-version --function-name guide",
        "wait published-version-active --function-name guide --qualifier 1",
        "invoke --function-name guide --qualifier 1 answer.json",
    ):
        done = subprocess.run(
            [cli, "lambda", *line.split()], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ExecutedVersion"] == "1"
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert (answer["type"], answer["version"]) == ("snap-start", "1")


async def test_without_credentials_it_listens_on_the_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        async with Server(read_settings(state_dir=tmp_path / "state", host="0.0.0.0", port=0)):
            pass
    assert str(raised.value) == (
        "The server does not listen on 0.0.0.0 without credentials, because anybody who reaches it could run code "
        "here: set THAW_CREDENTIALS_FILE to an AWS credentials file, or listen on 127.0.0.1."
    )
    assert not (tmp_path / "state").exists()
