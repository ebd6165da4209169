"""Rounds of restore, call and destroy, for as long as asked: what the server holds must not grow with them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from serving import Served, descendants, served

pytestmark = [pytest.mark.soak, pytest.mark.root, pytest.mark.package_index]

SOURCE = "import os\ndef handler(event, context):\n    return [event, os.getpid()]\n"
WARM_UP_ROUNDS = 200
GROWTH_LIMIT = 1.2
"""Of resident memory; it settles, and must not climb for hours."""


def holdings(running: Served) -> dict[str, int]:
    """Descriptors, processes and resident memory (KiB) of the server when the last environments are gone."""
    time.sleep(2)
    pid = running.process.pid
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "processes": len(descendants(pid)),
        "resident": int(fields["VmRSS"].split()[0]),
    }


def rounds(running: Served, version: str, until: float, at_least: int) -> int:
    done = 0
    while done < at_least or time.monotonic() < until:
        reply = running.call("f", done, version)
        assert reply.payload[0] == done
        assert "Restore Duration" in reply.log
        done += 1
    return done


def test_rounds_of_restore_call_and_destroy_leak_nothing(tmp_path: Path) -> None:
    minutes = float(os.environ.get("SOAK_MINUTES", "120"))
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        running.create("f", SOURCE, SnapStart={"ApplyOn": "PublishedVersions"})
        version = running.publish("f")
        rounds(running, version, 0, WARM_UP_ROUNDS)
        before = holdings(running)
        done = rounds(running, version, time.monotonic() + minutes * 60, WARM_UP_ROUNDS)
        after = holdings(running)
    print(f"{done} rounds: {before} -> {after}")
    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["processes"] <= before["processes"] + 2
    assert after["resident"] <= before["resident"] * GROWTH_LIMIT
