"""A snapshot is restored on another machine: one with another boot id, whose clocks stand much earlier."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving import Served, served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

OFFSET_S = 50_000_000  # more than a machine is up, so that clocks of another one are behind in any case
BOOT_ID = "/proc/sys/kernel/random/boot_id"
OTHER_BOOT = "0a1b2c3d-0000-4000-8000-00000000cafe"
SNAP_START = {"ApplyOn": "PublishedVersions"}

SOURCE = """
import threading, time
LONG = time.CLOCK_BOOTTIME
made, woken = (time.monotonic(), time.clock_gettime(LONG), time.time()), threading.Event()

def wait():
    time.sleep(0.2)
    woken.set()

def handler(event, context):
    threading.Thread(target=wait).start()
    before = time.monotonic()
    woken.wait(10)
    slept = time.monotonic() - before
    with open("/proc/uptime") as file:
        return {"made": made, "now": (before, time.clock_gettime(LONG), time.time()), "slept": slept,
                "uptime": float(file.read().split()[0])}
"""


def elsewhere(folder: Path) -> Path:
    """A stand-in for the interpreter: it starts a server as if on another machine, by its clocks and boot id."""
    (folder / "boot_id").write_text(f"{OTHER_BOOT}\n")
    program = folder / "python"
    program.write_text(
        f"#!/bin/sh\nexec unshare --time --monotonic {OFFSET_S} --boottime {OFFSET_S} --mount "
        f'sh -c \'mount --bind {folder}/boot_id {BOOT_ID} && exec {sys.executable} "$@"\' sh "$@"\n'
    )
    program.chmod(0o755)
    return program


def can_pretend(program: Path) -> bool:
    """Whether this kernel moves a process into its time namespace at exec (since 6.0), and permits all of it."""
    code = "import time; print(time.monotonic())"
    said = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    return said.returncode == 0 and float(said.stdout) > OFFSET_S


def published(server: Served) -> str:
    server.create("clocks", SOURCE, SnapStart=SNAP_START)
    return server.publish("clocks")


def test_the_monotonic_clock_never_runs_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = elsewhere(tmp_path)
    if not can_pretend(program):
        pytest.skip("this kernel starts no program in a time namespace, so another machine cannot be imitated")
    state = tmp_path / "state"
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(program))
        with served(state, idle_timeout_s=0) as server:
            seen = Path(f"/proc/{server.process.pid}/root{BOOT_ID}").read_text()
            version = published(server)
            there = server.call("clocks", qualifier=version).payload
    assert there["now"][0] > OFFSET_S
    assert seen == f"{OTHER_BOOT}\n" != Path(BOOT_ID).read_text()
    with served(state, idle_timeout_s=0) as server:
        replies = [server.call("clocks", qualifier=version) for _ in range(3)]
        fresh = server.call("clocks").payload
    assert fresh["now"][0] < OFFSET_S, "this machine's own clock is behind"
    for reply in replies:
        assert "Restore Duration" in reply.log  # a clone, not a fresh start
        here = reply.payload
        assert here["made"] == there["made"]
        assert all(now >= made for now, made in zip(here["now"], here["made"], strict=True)), json.dumps(here)
        assert all(now - made < 3600 for now, made in zip(here["now"], here["made"], strict=True)), json.dumps(here)
        assert 0.1 < here["slept"] < 10
        assert here["uptime"] > OFFSET_S


def test_where_the_clocks_went_on_clones_have_this_machines(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as server:
        version = published(server)
        payload = server.call("clocks", qualifier=version).payload
        assert payload["now"][0] < OFFSET_S
        assert payload["now"][0] >= payload["made"][0]
