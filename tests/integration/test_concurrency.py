"""Limits of concurrent calls through boto3."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving import served
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SLEEPER = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"


def test_calls_beyond_the_reservation_are_throttled(tmp_path: Path) -> None:
    with served(tmp_path / "state") as running, ThreadPoolExecutor(1) as thread:
        client = running.client
        running.create("f", SLEEPER, Timeout=60)
        client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=1)
        held = thread.submit(running.call, "f", 2)
        until_true(lambda: "START RequestId" in running.log("f"), "the first call runs")
        with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
            running.call("f", 0)
        answer = caught.value.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert answer["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert held.result(20).payload == 2
        assert running.call("f", 0).payload == 0
        client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
        with pytest.raises(client.exceptions.TooManyRequestsException):
            running.call("f", 0)
        client.delete_function_concurrency(FunctionName="f")
        assert running.call("f", 0).payload == 0
