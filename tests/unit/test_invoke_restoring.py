"""A snapshot that cannot be loaded, whatever the reason: the call starts afresh, and the log says why."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from thaw.catalog.configuration import Configuration
from thaw.chunk import Manifest
from thaw.errors import RestoreRefused, StoreError
from thaw.invoke.restoring import Restoring
from thaw.observe.log_stream import LogStream

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
CONFIGURATION = Configuration(function_id="1", function_name="f", function_arn=ARN, version="1", snapshot_key="key")


class Parts:
    """Preparing, and snapshots of which reading a manifest raises `error`."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.renewed: list[Configuration] = []

    async def settings(self, *_: object) -> Any:
        return None

    async def load_manifest(self, *_: object) -> Manifest:
        raise self.error

    def restoring(self) -> Restoring:
        part = cast(Any, self)
        return Restoring(part, part, part, resident_limit=1, restore_limit_s=1, renew=self.renewed.append)


@pytest.mark.parametrize(
    ("error", "line", "renewed"),
    [
        (
            ZeroDivisionError("the inside"),
            "The snapshot could not be restored: Loading it met a fault of the server (ZeroDivisionError: the inside), "
            "which its log tells more about. This call starts afresh.",
            False,
        ),
        (
            StoreError("The chunk is gone."),
            "The snapshot could not be restored: The chunk is gone. This call starts afresh.",
            True,
        ),
        (
            RestoreRefused("Another processor."),
            "The snapshot cannot be used: Another processor. This call starts afresh, a new snapshot is taken.",
            True,
        ),
    ],
)
async def test_a_snapshot_that_cannot_be_loaded_costs_no_call(
    error: Exception, line: str, renewed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    parts, log = Parts(error), LogStream(None, "g", "1")
    heard: list[str] = []
    log.subscribe(lambda moment, text: heard.append(text.decode()))
    restoring = parts.restoring()
    with caplog.at_level(logging.ERROR):
        assert await restoring.clone(CONFIGURATION, "request", log) is None
    assert heard == [line]
    assert parts.renewed == ([CONFIGURATION] if renewed else [])
    assert ("Traceback" in caplog.text) is isinstance(error, ZeroDivisionError)
    await restoring.close()
