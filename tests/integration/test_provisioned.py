"""Provisioned concurrency through boto3."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from serving import Served, functions_of, served
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = """
import os
kind = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
def handler(event, context):
    return [kind, context.function_version]
"""


def ready(running: Served, qualifier: str) -> bool:
    config = running.client.get_provisioned_concurrency_config(FunctionName="f", Qualifier=qualifier)
    assert config["Status"] in ("IN_PROGRESS", "READY")
    wanted = config["RequestedProvisionedConcurrentExecutions"]
    return config["Status"] == "READY" and config["AvailableProvisionedConcurrentExecutions"] == wanted


def test_environments_are_ready_before_the_first_call_and_after_their_end(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state, idle_timeout_s=0.1) as running:
        client = running.client
        running.create("f", SOURCE)
        version = running.publish("f")
        client.create_alias(FunctionName="f", Name="live", FunctionVersion=version)
        answer = client.put_provisioned_concurrency_config(
            FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=2
        )
        assert answer["Status"] == "IN_PROGRESS"
        until_true(lambda: ready(running, "live"), "both are ready")
        reply = running.call("f", qualifier="live")
        assert reply.payload == ["provisioned-concurrency", version]
        assert "Init Duration" not in reply.log
        before = set(functions_of(running.process.pid))
        assert len(before) == 2
        os.kill(min(before), signal.SIGKILL)
        running.call("f", qualifier="live")
        running.call("f", qualifier="live")
        until_true(lambda: len(set(functions_of(running.process.pid)) - {min(before)}) == 2, "another one came")
        os.kill(running.process.pid, signal.SIGKILL)
    with served(state, idle_timeout_s=0.1) as running:
        until_true(lambda: len(functions_of(running.process.pid)) == 2, "they are back after a restart")
        until_true(lambda: ready(running, "live"), "both are ready again")
        assert running.call("f", qualifier="live").payload[0] == "provisioned-concurrency"
        running.client.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="live")
        until_true(lambda: not functions_of(running.process.pid), "none is kept any more")
        assert running.call("f", qualifier="live").payload[0] == "on-demand"


def test_a_failing_init_is_the_status(tmp_path: Path) -> None:
    with served(tmp_path / "state") as running:
        running.create("f", "raise RuntimeError('in init')\n")
        version = running.publish("f")
        running.client.put_provisioned_concurrency_config(
            FunctionName="f", Qualifier=version, ProvisionedConcurrentExecutions=1
        )

        def failed() -> bool:
            config = running.client.get_provisioned_concurrency_config(FunctionName="f", Qualifier=version)
            return (config["Status"], config.get("StatusReason")) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")

        until_true(failed, "the status tells")
