"""What a server has on the machine while it serves clones is gone with it: stopped, or killed at once.

Other servers may come and go meanwhile, so that only things which are this server's are looked at: its processes and
their namespaces, its groups and links, and its temporary folders, for which it gets a place of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving import Traces, descendants, served, start_of
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

# Leaves something of each kind that a function can leave: a file, a child, shared memory.
MESSY = """
import os, subprocess, tempfile
open("/tmp/kept", "w").write("x")
def handler(event, context):
    subprocess.Popen(["sleep", "600"])
    open("/dev/shm/left" if os.path.isdir("/dev/shm") else "/tmp/left", "w").write("x")
    return sorted(os.listdir("/tmp"))
"""
KINDS = ("net", "mnt", "pid", "ipc", "uts", "user")


def namespaces(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        for kind in KINDS:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except (FileNotFoundError, PermissionError):
                continue  # it ended while it was looked at, or is above the container that the tests run in
    return found


def ticks() -> int:
    """The time in which processes say when they started."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def older_than(moment: int) -> list[int]:
    """Processes that were there at that time. Later ones of other servers may live in namespaces that got the numbers
    of those which are gone."""
    started = {int(name): start_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return [pid for pid, start in started.items() if start and int(start) <= moment]


def mounts_of(folder: Path) -> list[str]:
    """Mounts on this side that have to do with a folder."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]


def named(links: frozenset[str]) -> set[str]:
    """What has a name that people would see: network namespaces, tables of nftables, shared memory."""
    found = {str(path) for folder in ("/run/netns", "/dev/shm") for path in Path(folder).glob("*")}
    if shutil.which("nft") is not None:
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
        found |= {line for line in tables.splitlines() if line.split()[-1] in links}
    return {name for name in found if "thaw" in name}


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_nothing_is_left_of_a_server(ending: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    own = namespaces([os.getpid()])
    with served(tmp_path / "state", pool_size=2) as running:
        running.create("messy", MESSY, SnapStart={"ApplyOn": "PublishedVersions"})
        version = running.publish("messy")
        assert "kept" in running.call("messy", qualifier=version).payload
        assert "kept" in running.call("messy").payload
        server = running.process.pid
        traces = Traces.of(server)
        inside = namespaces(descendants(server)) - own
        assert len(traces.groups) >= 1
        # Two environments, and two sandboxes of the pool; not every machine permits user namespaces.
        assert len(inside) >= 4 * (len(KINDS) - 1)
        assert mounts_of(tmp_path) == []
        ended = ticks()
        os.kill(server, ending)
    traces.assert_gone()
    until_true(lambda: not inside & namespaces(older_than(ended)), "no process is in a namespace of the server's")
    until_true(lambda: not named(traces.links), "no table of the server is there")
    assert mounts_of(tmp_path) == []
    assert list(place.iterdir()) == []


STARTER = """
import sys, time
from pathlib import Path
from thaw.cli.process import serving
with serving(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


def test_a_command_that_is_killed_takes_its_server_with_it(tmp_path: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    traces = Traces.of(int(command.stdout.readline()))
    assert len(traces.processes) > 1
    command.kill()
    command.wait()
    command.stdout.close()
    traces.assert_gone()
