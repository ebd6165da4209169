"""A version that nobody calls: Inactive, then not ready, then Active again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving import served
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]


def test_an_idle_version_comes_back_after_a_call(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state) as running:
        running.create("f", "def handler(event, context): return event\n", SnapStart={"ApplyOn": "PublishedVersions"})
        version = running.publish("f")
    with served(state, snapshot_idle_s=0.2) as running:

        def configuration() -> dict[str, object]:
            found: dict[str, object] = running.client.get_function_configuration(FunctionName="f", Qualifier=version)
            return found

        until_true(lambda: configuration()["State"] == "Inactive", "the version is idle")
        assert configuration()["StateReasonCode"] == "Idle"
        assert not [path for path in (state / "origin" / "manifests").rglob("*") if path.is_file()]
    with served(state) as running:
        with pytest.raises(running.client.exceptions.SnapStartNotReadyException) as caught:
            running.call("f", 1, version)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
        until_true(lambda: configuration()["State"] == "Active", "the version is back")
        reply = running.call("f", 2, version)
        assert reply.payload == 2
        assert "Restore Duration" in reply.log
