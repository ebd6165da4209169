"""Reading logs while functions write them: StartLiveTail, and what `aws logs tail` and `sam logs` ask for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from serving import Served, served
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

GROUP = "/aws/lambda/talks"
ARN = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"
SOURCE = "def handler(event, context):\n    print('said', event)\n    return event\n"
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("state")) as running:
        running.create("talks", SOURCE)
        running.call("talks", "first")
        yield running


def logs_client(server: Served) -> Any:
    """StartLiveTail has a host of its own at AWS; with one server for all it is told not to use it."""
    return boto3.client(
        "logs", endpoint_url=server.process.url, region_name="us-east-1", aws_access_key_id="x",
        aws_secret_access_key="x", config=Config(inject_host_prefix=False),
    )  # fmt: skip


def test_boto3_tails_a_group(server: Served) -> None:
    answer = logs_client(server).start_live_tail(logGroupIdentifiers=[ARN], logEventFilterPattern="said")
    stream = iter(answer["responseStream"])
    start = next(stream)["sessionStart"]
    assert start["logGroupIdentifiers"] == [ARN]
    server.call("talks", "live")
    found: list[dict[str, Any]] = []
    while not found:
        found += next(stream)["sessionUpdate"]["sessionResults"]
    assert [one["message"] for one in found] == ["said live"]
    answer["responseStream"].close()


def lines_of(command: list[str], environment: dict[str, str], server: Served, said: str) -> str:
    """Runs a command that goes on for ever until it prints what the function says meanwhile."""
    process = subprocess.Popen(
        command, env={**os.environ, **KEYS, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    printed: list[str] = []
    assert process.stdout is not None
    reading = threading.Thread(target=lambda: printed.extend(process.stdout or ()), daemon=True)
    reading.start()

    def heard() -> bool:
        assert process.poll() is None, "".join(printed)
        server.call("talks", said)
        return any(said in line for line in printed)

    try:
        until_true(heard, f"{command} printed what the function said", limit_s=60)
    finally:
        process.kill()
        process.wait()
        reading.join(10)
        process.stdout.close()
    return "".join(printed)


def test_the_aws_cli_tails_a_group(server: Served) -> None:
    program = str(Path(sys.executable).with_name("aws"))
    environment = {"AWS_DISABLE_HOST_PREFIX_INJECTION": "true", "PYTHONUNBUFFERED": "1"}
    command = [program, "--endpoint-url", server.process.url, "logs", "start-live-tail", "--log-group-identifiers", ARN]
    assert "said by the CLI" in lines_of(command, environment, server, "by the CLI")


def test_version_two_of_the_aws_cli_follows_a_group(server: Served) -> None:
    program = os.environ.get("THAW_TEST_AWS_CLI_2") or shutil.which("aws2")
    if program is None:
        pytest.skip("`aws logs tail` needs version 2 of the AWS CLI: name it in THAW_TEST_AWS_CLI_2")
    command = [program, "--endpoint-url", server.process.url, "logs", "tail", GROUP, "--follow", "--format", "short"]
    printed = lines_of(command, {"AWS_PAGER": "", "PYTHONUNBUFFERED": "1"}, server, "to version two")
    assert "said first" in printed
    assert "said to version two" in printed


def test_the_calls_that_aws_logs_tail_and_sam_logs_make(server: Served) -> None:
    """FilterLogEvents from a time on, page after page, and again from the last event's time; each event once."""
    client = logs_client(server)
    seen: dict[str, str] = {}
    begin = 0

    def look() -> None:
        nonlocal begin
        pages = client.get_paginator("filter_log_events").paginate(
            logGroupName=GROUP, startTime=begin, interleaved=True, PaginationConfig={"PageSize": 2}
        )
        for page in pages:
            for event in page["events"]:
                assert {"eventId", "ingestionTime", "logStreamName", "message", "timestamp"} <= set(event)
                assert seen.setdefault(event["eventId"], event["message"]) == event["message"]
                begin = max(begin, event["timestamp"])

    look()
    server.call("talks", "later")
    look()
    said = [message for message in seen.values() if message.startswith("said")]
    assert said[0] == "said first"
    assert said.count("said later") == 1


def test_a_session_ends_with_the_server(tmp_path: Path) -> None:
    with served(tmp_path / "state") as running:
        running.create("talks", SOURCE)
        running.call("talks", "x")
        answer = logs_client(running).start_live_tail(logGroupIdentifiers=[GROUP])
        assert "sessionStart" in next(iter(answer["responseStream"]))
    assert all("sessionUpdate" in event for event in answer["responseStream"])
