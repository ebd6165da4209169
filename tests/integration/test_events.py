"""Asynchronous calls through boto3: accepted means done in the end, whatever happens to the server."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from serving import served
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = """
import time
def handler(event, context):
    print("did", event)
    if isinstance(event, dict) and event.get("fail"):
        raise ValueError("as asked")
    if isinstance(event, (int, float)):
        time.sleep(0.2)
    return event
"""


def test_events_survive_kill_9_and_reach_their_destinations(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state) as first:
        first.create("f", SOURCE)
        for number in range(20):
            answer = first.client.invoke(FunctionName="f", InvocationType="Event", Payload=str(number).encode())
            assert answer["StatusCode"] == 202
            assert answer["Payload"].read() == b""
        os.kill(first.process.pid, signal.SIGKILL)
    with served(state, event_retry_s=0.05) as second:
        until_true(lambda: all(f"did {number}\n" in second.log("f") + "\n" for number in range(20)), "all are done")
        second.create("target", SOURCE)
        arn = second.client.get_function_configuration(FunctionName="target")["FunctionArn"]
        second.client.put_function_event_invoke_config(
            FunctionName="f", MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": arn}}
        )
        payload = json.dumps({"fail": True}).encode()
        accepted = second.client.invoke(FunctionName="f", InvocationType="Event", Payload=payload)
        until_true(lambda: "RetriesExhausted" in second.log("target"), "the destination is told")
        request_id = accepted["ResponseMetadata"]["RequestId"]
        assert second.log("f").count(f"START RequestId: {request_id}") == 2
        assert "'approximateInvokeCount': 2" in second.log("target")


def test_events_larger_than_lambdas_are_refused(tmp_path: Path) -> None:
    with served(tmp_path / "state") as running:
        running.create("f", SOURCE)
        with pytest.raises(running.client.exceptions.RequestTooLargeException):
            running.client.invoke(FunctionName="f", InvocationType="Event", Payload=b'"' + b"x" * (1 << 20) + b'"')
