"""A server that runs out of descriptors: calls fail in a sentence of AWS's shape, nothing leaks, and it goes on."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from serving import Served, served
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]
FUNCTION = """
import time
def handler(event, context):
    time.sleep(event)
    return "done"
"""
CALLS = 8
# Room for so many further descriptors: too few for a connection, for an environment, for all environments.
ROOMS = (4, 12, 25, 60)


def links(pid: int) -> list[str]:
    """What the process has open."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


def rest(pid: int) -> list[str]:
    """What is not a connection: clients keep theirs."""
    return [link for link in links(pid) if not link.startswith("socket:")]


def calling(running: Served, qualifier: str) -> Callable[[int], dict[str, Any]]:
    """Gives a caller without second tries, which returns the error of its call; {} for none."""
    url = f"{running.process.url}/2015-03-31/functions/f/invocations?Qualifier={qualifier}"

    def call(_: int) -> dict[str, Any]:
        try:
            with urlopen(Request(url, b"0.2", method="POST"), timeout=30) as answer:
                assert answer.read() == b'"done"'
                return {}
        except HTTPError as error:
            return {"status": error.code, "type": error.headers["x-amzn-errortype"], **json.loads(error.read())}
        except (URLError, ConnectionError):
            return {}  # there was no room for the connection itself

    return call


@pytest.mark.parametrize("settings", [{}, {"SnapStart": {"ApplyOn": "PublishedVersions"}}], ids=["afresh", "clones"])
def test_without_descriptors_calls_fail_in_a_sentence_and_nothing_leaks(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with served(tmp_path / "state", idle_timeout_s=0, pool_size=4, fork_ahead=False) as running:
        running.create("f", FUNCTION, Timeout=20, **settings)
        pid, call = running.process.pid, calling(running, running.publish("f"))
        with ThreadPoolExecutor(CALLS) as callers:
            assert list(callers.map(call, range(CALLS))) == [{}] * CALLS
            until_true(lambda: sum(link.endswith("/pids.max") for link in rest(pid)) == 4, "the pool is full")
            before = sorted(rest(pid))
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            errors: list[dict[str, Any]] = []
            for room in ROOMS:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(links(pid)) + room, hard))
                try:
                    errors += list(callers.map(call, range(CALLS)))
                finally:
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
                assert call(0) == {}, "the server goes on"
        told = [error for error in errors if error]
        assert told, "there was too little room"
        for error in told:
            if error["status"] == 400:
                # libuv hangs up on who connects while no descriptor is left; a clone's runtime then ends by itself.
                assert error["Message"] == "The Restore phase failed: Runtime exited with error: exit status 1."
                continue
            assert (error["status"], error["type"]) == (500, "ServiceException")
            assert "Too many open files" in error["Message"]
        until_true(lambda: len(rest(pid)) <= len(before), "everything is closed")
