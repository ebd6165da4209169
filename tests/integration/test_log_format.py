"""LoggingConfig on a running server: the format JSON, its levels, and a log group of one's own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from serving import Served, served
from thaw.cli.measuring import wait_active

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = """
import logging, os
logger = logging.getLogger()
def handler(event, context):
    print("printed")
    print('{"level": "DEBUG", "message": "an object below the level"}')
    logger.debug("not important")
    logger.info("somewhat important")
    logger.warning("important")
    if event == "fail":
        raise ValueError("no")
    if event == "exit":
        os._exit(3)
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_LAMBDA_LOG_")}
"""
INFO = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("state")) as running:
        running.create("json", SOURCE, LoggingConfig=INFO, SnapStart={"ApplyOn": "PublishedVersions"})
        yield running


def logged(server: Served, group: str) -> list[str]:
    """All messages of a group, as CloudWatch Logs answers them."""
    client = boto3.client(
        "logs", endpoint_url=server.process.url, region_name="us-east-1", aws_access_key_id="test",
        aws_secret_access_key="test",
    )  # fmt: skip
    pages = client.get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"].rstrip("\n") for page in pages for event in page["events"]]


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_call_in_json(server: Served) -> None:
    reply = server.call("json")
    assert reply.payload == {
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/json",
        "AWS_LAMBDA_LOG_STREAM_NAME": reply.payload["AWS_LAMBDA_LOG_STREAM_NAME"],
    }
    found = objects(reply.log.splitlines())
    assert [one["type"] for one in found if "type" in one] == ["platform.start", "platform.report"]
    messages = [(one["level"], one["message"]) for one in found if "level" in one]
    assert messages == [("INFO", "somewhat important"), ("WARNING", "important")]
    assert "printed" in reply.log.splitlines()
    metrics = found[-1]["record"]["metrics"]
    assert {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"} == set(metrics)
    assert "platform.initStart" in [one.get("type") for one in objects(logged(server, "/aws/lambda/json"))]


def test_errors_in_json(server: Served) -> None:
    failed = objects(server.call("json", "fail").log.splitlines())
    error = next(one for one in failed if one.get("level") == "ERROR")
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no")
    assert failed[-1]["record"]["status"] == "success"  # the environment is well, as on Lambda's REPORT line
    ended = objects(server.call("json", "exit").log.splitlines())
    assert ended[-1]["type"] == "platform.report"
    record = ended[-1]["record"]
    assert (record["status"], record["errorType"]) == ("error", "Runtime.ExitError")


def test_a_clone_in_json(server: Served) -> None:
    version = server.publish("json")
    reply = server.call("json", 1, version)
    report = objects(reply.log.splitlines())[-1]["record"]["metrics"]
    assert report["restoreDurationMs"] > 0
    kinds = [one.get("type") for one in objects(logged(server, "/aws/lambda/json"))]
    assert kinds.count("platform.restoreStart") == kinds.count("platform.restoreReport") == 1
    assert "platform.initReport" in kinds


def test_levels_and_a_group_of_ones_own(server: Served) -> None:
    levels = {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "WARN", "LogGroup": "/my/group"}
    server.create("levels", SOURCE, LoggingConfig=levels)
    assert server.call("levels").payload["AWS_LAMBDA_LOG_GROUP_NAME"] == "/my/group"
    found = objects(logged(server, "/my/group"))
    assert not [one for one in found if "type" in one]
    assert {one["message"] for one in found} == {
        "an object below the level", "not important", "somewhat important", "important"
    }  # fmt: skip
    server.client.update_function_configuration(FunctionName="levels", LoggingConfig={"LogFormat": "Text"})
    wait_active(server.client, "levels")
    reply = server.call("levels")
    assert set(reply.payload) == {"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"}
    assert reply.log.splitlines()[-1].startswith("REPORT RequestId: ")
