"""Nothing of a sandbox or of a server stays on the machine: after close, and after kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxes import call, is_root, running, workshop
from serving import links_of
from thaw.environment.cgroup import PREFIX, find_layout

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_root(), reason="sandboxes need root")]

ECHO = "def handler(event, context):\n    return event\n"


@dataclass(frozen=True)
class Traces:
    """What one server has on the machine (other servers may come and go meanwhile)."""

    groups: frozenset[Path]
    link: str
    processes: frozenset[int]
    namespaces: frozenset[str]

    def left(self) -> list[str]:
        """What is still there."""
        found = [str(group) for group in self.groups if group.exists()]
        found += [f"link {self.link}"] if self.link in os.listdir("/sys/class/net") else []
        found += [f"process {pid}" for pid in self.processes if running(pid)]
        return found + sorted(self.namespaces & all_namespaces())


def traces(server: int) -> Traces:
    """Of the server with process number `server`: its own groups, its link, and all below it."""
    pids = {pid for group in groups() for file in group.rglob("cgroup.procs") for pid in numbers(file)}
    pids = {pid for pid in pids if is_below(pid, server)}
    names = {
        group.name for group in groups() if pids & {n for file in group.rglob("cgroup.procs") for n in numbers(file)}
    }
    own = frozenset(group for group in groups() if group.name in names)
    (link,) = links_of(server)
    inside = frozenset(name for pid in pids for name in namespaces_of(pid)) - frozenset(namespaces_of(os.getpid()))
    return Traces(own, link, frozenset(pids) | frozenset(children(server)), inside)


def groups() -> set[Path]:
    return {path for root in find_layout().roots() for path in root.glob(f"{PREFIX}*")}


def numbers(file: Path) -> set[int]:
    try:
        return {int(word) for word in file.read_text().split()}
    except OSError:
        return set()  # the group went while it was looked at


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def is_below(pid: int, server: int) -> bool:
    """Whether `server` is an ancestor."""
    while pid > 1 and pid != server:
        pid = parent(pid)
    return pid == server


def mounts() -> int:
    return len(Path("/proc/self/mountinfo").read_text().splitlines())


def children(pid: int) -> set[int]:
    return numbers(Path(f"/proc/{pid}/task/{pid}/children"))


def namespaces_of(pid: int) -> set[str]:
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "mnt", "pid", "ipc", "uts")}
    except OSError:
        return set()  # it ended while it was looked at


def all_namespaces() -> set[str]:
    return {name for process in Path("/proc").glob("[0-9]*") for name in namespaces_of(int(process.name))}


def eventually(condition: Callable[[], bool], limit_s: float = 10.0) -> bool:
    """Kernel threads remove links and namespaces a moment after their last user."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def test_closing_leaves_nothing(tmp_path: Path) -> None:
    before = mounts()
    async with workshop(tmp_path, pool_size=2) as shop:
        await shop.pool.filled()
        environment = await shop.ready(ECHO)
        await call(environment)
        await shop.pool.filled()
        found = traces(os.getpid())
        assert len(found.groups) >= 1
        assert len(found.processes) >= 4  # PID 1 of three sandboxes, and one function
        assert len(found.namespaces) == 3 * 5
        assert mounts() == before
    assert eventually(lambda: not found.left()), found.left()
    assert mounts() == before


async def test_descriptors_do_not_grow(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await (await shop.ready(ECHO)).close()  # what is opened once
        await shop.pool.filled()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            environment = await shop.ready(ECHO)
            await call(environment)
            await environment.close()
        await shop.pool.filled()
        assert len(os.listdir("/proc/self/fd")) == before


async def test_a_launch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async with workshop(tmp_path, pool_size=0) as shop:
        environment = await shop.ready(ECHO)
        assert groups_inside()
        await environment.close()
        assert not groups_inside()
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(Exception, match="/var/task of a sandbox cannot be made"):
            await shop.launched(ECHO, task=tmp_path / "absent")
        assert len(os.listdir("/proc/self/fd")) == before
        assert not groups_inside()


def groups_inside() -> set[Path]:
    """The groups of environments of this process's pools: it holds the lock of the folder that they are in."""
    held = {Path(os.readlink(entry)) for entry in Path("/proc/self/fd").iterdir() if entry.exists()}
    return {path for group in groups() & held for path in group.glob("*/")}


SERVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from sandboxes import call, workshop

async def main():
    async with workshop(Path({folder!r}), pool_size=2) as shop:
        await shop.pool.filled()
        idle = await shop.ready("def handler(event, context):\\n    return event\\n")
        await call(idle)
        while not idle.frozen:
            await asyncio.sleep(0.01)
        fork = "import os, time\\ndef handler(event, context):\\n    os.fork()\\n    time.sleep(600)\\n"
        busy = await shop.ready(fork, timeout_s=900)
        task = asyncio.create_task(call(busy))
        while len(busy.processes()) < 3:
            await asyncio.sleep(0.01)
        print(*idle.processes(), *busy.processes(), flush=True)
        await task

asyncio.run(main())
"""


def test_kill_nine_of_the_server_leaves_nothing(tmp_path: Path) -> None:
    before = mounts()
    program = SERVER.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        pids = [int(word) for word in server.stdout.readline().split()]
        found = traces(server.pid)
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    server.stdout.close()
    assert len(pids) == 5
    assert set(pids) <= found.processes
    assert len(found.namespaces) >= 2 * 5
    assert eventually(lambda: not found.left()), found.left()
    assert not [pid for pid in pids if running(pid)]
    assert mounts() == before


def test_a_new_server_removes_what_a_dead_one_could_not(tmp_path: Path) -> None:
    """The reaper was killed too: the next server's reaper finds the groups, because nobody holds their lock."""
    left = [root / f"{PREFIX}dead{os.getpid()}" for root in find_layout().roots()]
    for folder in left:
        (folder / "inside").mkdir(parents=True)
    held = subprocess.Popen(["sleep", "600"])
    for folder in left:
        (folder / "inside" / "cgroup.procs").write_text(str(held.pid))

    async def serve() -> None:
        async with workshop(tmp_path, pool_size=0):
            while any(folder.exists() for folder in left):
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(serve(), 20))
    assert held.wait(10) == -signal.SIGKILL


async def test_two_servers_do_not_disturb_each_other(tmp_path: Path) -> None:
    async with workshop(tmp_path) as one:
        first = await one.ready(ECHO)
        async with workshop(tmp_path) as two:
            second = await two.ready(ECHO)
            assert (await call(second, 2)).payload == b"2"
            assert (await call(first, 1)).payload == b"1"
        assert (await call(first, 3)).payload == b"3"
