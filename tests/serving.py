"""Real servers for tests: `thaw serve` as a process, boto3 in front of it, and what it leaves on the machine."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packing import Entries, package
from thaw.cli.measuring import publish, wait_active
from thaw.cli.process import ServerProcess, lambda_client, serving
from thaw.environment.cgroup import find_layout
from thaw.environment.users import BLOCK, FIRST_NUMBER, FUNCTION_UID
from thaw.runtimes import Runtimes
from waiting import until_true

ROLE = "arn:aws:iam::000000000000:role/test"
# The function's runtime client is installed once per checkout, not once per test.
SHARED_RUNTIMES = Path(__file__).parents[1] / "build" / "test-runtimes"


def newest_runtime() -> str:
    """The newest Python for functions on this machine."""
    return asyncio.run(Runtimes(SHARED_RUNTIMES).names())[0]


@dataclass
class Served:
    """A running server with a boto3 client."""

    process: ServerProcess
    state_dir: Path
    client: Any
    runtime: str = field(default_factory=newest_runtime)

    def create(self, name: str, source: str | Entries, *, handler: str = "app.handler", **settings: Any) -> None:
        """Creates a function and waits until it is Active; text is the module app.py."""
        entries: Entries = {"app.py": source.encode()} if isinstance(source, str) else source
        self.client.create_function(
            FunctionName=name, Runtime=self.runtime, Role=ROLE, Handler=handler, Code={"ZipFile": package(entries)},
            **({"MemorySize": 512} | settings),
        )  # fmt: skip
        wait_active(self.client, name)

    def publish(self, name: str) -> str:
        """Publishes a version and waits until it is Active."""
        return publish(self.client, name)[0]

    def call(self, name: str, event: Any = None, qualifier: str = "$LATEST") -> Reply:
        """One call, with the end of its log."""
        answer = self.client.invoke(
            FunctionName=name, Qualifier=qualifier, Payload=json.dumps(event).encode(), LogType="Tail"
        )
        return Reply(answer)

    def log(self, name: str) -> str:
        """Everything in the function's log group, stream after stream."""
        folder = self.state_dir / "logs" / "aws" / "lambda" / name
        lines = [
            line for file in sorted(folder.rglob("*.log")) for line in file.read_text(errors="replace").split("\n")
        ]
        return "\n".join(line.partition(" ")[2] for line in lines)


class Reply:
    """What a call was answered with."""

    def __init__(self, answer: dict[str, Any]) -> None:
        import base64

        self.error: str | None = answer.get("FunctionError")
        self.version: str = answer["ExecutedVersion"]
        self.log = base64.b64decode(answer["LogResult"]).decode(errors="replace")
        self.payload: Any = json.loads(answer["Payload"].read())


@contextmanager
def served(state_dir: Path, **settings: Any) -> Iterator[Served]:
    """A server on a free port with `state_dir`; everything of it is gone at the end."""
    share_runtimes(state_dir)
    with serving(state_dir, **settings) as process:
        yield Served(process, state_dir, lambda_client(process.url))


def share_runtimes(state_dir: Path) -> None:
    """Lets the server of `state_dir` find the runtime clients that earlier tests installed."""
    SHARED_RUNTIMES.mkdir(parents=True, exist_ok=True)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    link = state_dir / "runtimes"
    if not link.exists():
        link.symlink_to(SHARED_RUNTIMES)


# --- what a server has on the machine ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traces:
    """Everything outside its state folder that belongs to one running server."""

    processes: frozenset[tuple[int, str]]
    groups: frozenset[Path]
    links: frozenset[str]

    @classmethod
    def of(cls, server: int) -> Traces:
        """Looks at the server's process tree."""
        pids = [server, *descendants(server)]
        groups = frozenset(path for pid in pids for path in _groups_of(pid))
        return cls(frozenset((pid, start_of(pid)) for pid in pids), groups, frozenset(links_of(server)))

    def left(self) -> list[str]:
        """What of it is still there."""
        processes = [f"process {pid}" for pid, start in self.processes if start and start_of(pid) == start]
        groups = [str(path) for path in self.groups if path.exists()]
        links = [name for name in self.links if Path("/sys/class/net", name).exists()]
        return processes + groups + links

    def assert_gone(self) -> None:
        """Kernel threads remove links and groups a moment after their last user."""
        until_true(lambda: not self.left(), f"nothing left of the server: {self.left()}")


def start_of(pid: int) -> str:
    """When a process started, in ticks, which tells it from a later one with its number; "" where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [*children, *(below for child in children for below in descendants(child))]


def functions_of(server: int) -> list[int]:
    """The processes that run functions."""
    return [pid for pid in descendants(server) if _is_function(_owner(pid))]


def templates_of(server: int) -> set[int]:
    """The processes from which clones are made: they hold a function's memory and never run it."""
    found = set()
    for pid in descendants(server):
        try:
            if b"template" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
        except FileNotFoundError:
            continue  # it ended while it was looked at
    return found


def _is_function(user: int) -> bool:
    """In each block the first number is the sandboxes' root, then come those of a function and its PID 1 in turn."""
    place = (user - FIRST_NUMBER) % BLOCK
    return user == FUNCTION_UID or (user > FIRST_NUMBER and place > 0 and place % 2 == 0)


def _owner(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return -1


def _groups_of(pid: int) -> Iterator[Path]:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return
    for line in lines:
        if (match := re.search(r"/(thaw-[^/]+)", line)) is not None:
            yield from (path for root in find_layout().roots() if (path := root / match[1]).exists())


def links_of(server: int) -> Iterator[str]:
    """A server holds the abstract socket thaw-network-<n> for its link thaw<n>."""
    sockets = {_target(entry) for entry in Path(f"/proc/{server}/fd").iterdir()}
    for line in Path("/proc/net/unix").read_text().splitlines():
        match = re.search(r" (\d+) @thaw-network-(\d+)$", line)
        if match is not None and f"socket:[{match[1]}]" in sockets:
            yield f"thaw{match[2]}"


def _target(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except FileNotFoundError:
        return ""
