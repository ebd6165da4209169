"""What callers of a SnapStart version get while its restore fails, from a running server through boto3."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving import served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SLOW = """
import time
from snapshot_restore_py import register_after_restore
@register_after_restore
def wait():
    time.sleep(60)
def handler(event, context):
    return event
"""


def test_a_restore_that_takes_too_long_is_a_timeout_exception(tmp_path: Path) -> None:
    with served(tmp_path / "state", restore_limit_s=1) as running:
        running.create("slow", SLOW, SnapStart={"ApplyOn": "PublishedVersions"})
        version = running.publish("slow")
        with pytest.raises(running.client.exceptions.SnapStartTimeoutException) as caught:
            running.call("slow", 1, version)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 408
        message = "Lambda couldn't restore the snapshot within the timeout limit."
        assert caught.value.response["Message"] == message
        assert "RESTORE_REPORT Restore Duration: " in running.log("slow")
        assert "\tStatus: timeout" in running.log("slow")
        assert running.call("slow", 2).payload == 2  # $LATEST has no snapshot
