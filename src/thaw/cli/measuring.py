"""Calls with a clock beside them, and the memory of clones; `thaw demo` and `thaw bench` measure the same way."""

from __future__ import annotations

import asyncio
import base64
import http.client
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from thaw.cli.figures import report_values
from thaw.errors import ThawError

# After a call its environment is torn down and the pool makes another sandbox; calls are not to run into that.
PAUSE_S = 0.05
PUBLISH_LIMIT_S = 300.0
POLL_S = 0.005


class CallFailed(ThawError):
    """A measured call did not succeed, so that there is nothing to measure."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One call: by the caller's clock in ms, what its REPORT line said (ms, MB), and the answer."""

    caller_ms: float
    report: dict[str, float]
    payload: bytes


Caller = Callable[[str], Sample]
"""Calls the function under a qualifier."""


def boto_caller(client: Any, function: str, payload: bytes = b"{}") -> Caller:
    """Calls through a boto3 client."""

    def call(qualifier: str) -> Sample:
        began = time.perf_counter()
        answer = client.invoke(FunctionName=function, Qualifier=qualifier, Payload=payload, LogType="Tail")
        content = answer["Payload"].read()
        elapsed_ms = (time.perf_counter() - began) * 1e3
        return _sample(elapsed_ms, answer["LogResult"], answer.get("FunctionError"), content)

    return call


@contextmanager
def http_caller(url: str, function: str, payload: bytes = b"{}") -> Iterator[Caller]:
    """Calls over one kept-alive HTTP connection: as little client as possible on the clock."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port)

    def call(qualifier: str) -> Sample:
        path = f"/2015-03-31/functions/{function}/invocations?Qualifier={qualifier}"
        began = time.perf_counter()
        connection.request("POST", path, payload, {"X-Amz-Log-Type": "Tail"})
        response = connection.getresponse()
        content = response.read()
        elapsed_ms = (time.perf_counter() - began) * 1e3
        if response.status != 200:
            raise CallFailed(f"The call of {function} was answered with {response.status}: {content.decode()}")
        error = response.getheader("X-Amz-Function-Error")
        return _sample(elapsed_ms, response.getheader("X-Amz-Log-Result") or "", error, content)

    try:
        yield call
    finally:
        connection.close()


def _sample(elapsed_ms: float, log: str, error: str | None, content: bytes) -> Sample:
    tail = base64.b64decode(log).decode(errors="replace")
    if error is not None:
        raise CallFailed(f"The function failed ({error}): {content.decode(errors='replace')}\n{tail}")
    return Sample(elapsed_ms, report_values(tail), content)


def in_turn(
    call: Caller, qualifiers: Sequence[str], rounds: int, done: Callable[[], None] = lambda: None
) -> dict[str, list[Sample]]:
    """Calls A B A B …, `rounds` times, so that whatever else happens on the machine happens to all of them."""
    samples: dict[str, list[Sample]] = {qualifier: [] for qualifier in qualifiers}
    for _ in range(rounds):
        for qualifier in qualifiers:
            samples[qualifier].append(call(qualifier))
            done()
            time.sleep(PAUSE_S)
    return samples


def reported(samples: Sequence[Sample], name: str) -> list[float]:
    """One value of all REPORT lines; raises CallFailed where a call was not what it was to measure."""
    values = [sample.report[name] for sample in samples if name in sample.report]
    if len(values) != len(samples):
        missing = len(samples) - len(values)
        raise CallFailed(f"{missing} of {len(samples)} calls have no {name}: see the function's log with `thaw logs`.")
    return values


def publish(client: Any, function: str) -> tuple[str, float]:
    """Publishes a version and waits until it is Active; returns its number and how long that took, in seconds."""
    began = time.perf_counter()
    version = client.publish_version(FunctionName=function)["Version"]
    wait_active(client, function, version)
    return version, time.perf_counter() - began


def wait_active(client: Any, function: str, qualifier: str = "$LATEST") -> None:
    """Waits until a version is ready (boto3's waiters look only once a second). Raises CallFailed where it failed."""
    deadline = time.monotonic() + PUBLISH_LIMIT_S
    while time.monotonic() < deadline:
        found = client.get_function_configuration(FunctionName=function, Qualifier=qualifier)
        statuses = (found["State"], found.get("LastUpdateStatus"))
        if "Failed" in statuses:
            reason = found.get("StateReason") or found.get("LastUpdateStatusReason")
            raise CallFailed(f"{function}:{qualifier} failed: {reason}")
        if statuses == ("Active", "Successful"):
            return
        time.sleep(POLL_S)
    raise CallFailed(f"{function}:{qualifier} was not ready within {PUBLISH_LIMIT_S:.0f} s.")


RESIDENT_S = 1.0
"""How long after the first clone the rest of a snapshot has certainly arrived in memory (seconds)."""


@dataclass(frozen=True, slots=True)
class CloneMemory:
    """Memory of one idle clone in MiB: pages that are its own, and its share of everything that it maps."""

    private_dirty_mib: float
    proportional_mib: float


@dataclass(frozen=True, slots=True)
class SnapshotSize:
    """Bytes of a snapshot: pages in the memory image, the plan, /tmp, and what the store holds for it, sealed."""

    memory: int
    plan: int
    disk: int
    stored: int


def read_clone_memory(pid: int) -> CloneMemory:
    """From /proc/<pid>/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    values = {name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return CloneMemory(values["Private_Dirty"], values["Pss"])


def memory_of_clones(state_dir: Path, function: str, qualifier: str, count: int, payload: bytes) -> list[CloneMemory]:
    """Starts the server on `state_dir` in this process, lets `count` clones of the then resident snapshot serve two
    calls each, and reads what each holds while all of them exist."""
    import uvloop

    return uvloop.run(_memory_of_clones(state_dir, function, qualifier, count, payload))


async def _memory_of_clones(
    state_dir: Path, function: str, qualifier: str, count: int, payload: bytes
) -> list[CloneMemory]:
    from thaw.config import read_settings
    from thaw.environment.invocation import Invocation
    from thaw.server import Server

    async with Server(read_settings(state_dir=state_dir, port=0)) as server:
        configuration = await server.catalog.resolve(function, qualifier)
        assignment = server.invoker.assignment
        fleet = assignment.fleet(configuration)
        first = await assignment.obtain(fleet, uuid.uuid4().hex)
        await asyncio.sleep(RESIDENT_S)
        clones = [await assignment.obtain(fleet, uuid.uuid4().hex) for _ in range(count)]
        for clone in clones * 2:
            request = str(uuid.uuid4())
            await clone.invoke(Invocation(request_id=request, payload=payload, invoked_arn=configuration.function_arn))
        await asyncio.sleep(0.1)
        found = [read_clone_memory(clone.host_pid) for clone in clones]
        for clone in (first, *clones):
            assignment.give_back(fleet, clone, usable=True)
    return found


def size_of_snapshot(state_dir: Path, function: str, qualifier: str) -> SnapshotSize:
    """Reads the manifest of a version's snapshot."""
    return asyncio.run(_size_of_snapshot(state_dir, function, qualifier))


async def _size_of_snapshot(state_dir: Path, function: str, qualifier: str) -> SnapshotSize:
    from thaw.catalog.catalog import Catalog
    from thaw.config import read_settings
    from thaw.server import CATALOG_FILE
    from thaw.store.origin import open_store

    settings = read_settings(state_dir=state_dir)
    catalog = Catalog(state_dir / CATALOG_FILE, region=settings.region, account_id=settings.account_id)
    await catalog.open()
    store = open_store(settings)
    try:
        key = (await catalog.version(function, qualifier)).snapshot_key
        if key is None:
            raise CallFailed(f"{function}:{qualifier} has no snapshot.")
        manifest = await store.snapshots.load_manifest(key)
    finally:
        store.close()
        await catalog.close()
    sections = (manifest.memory, manifest.plan, manifest.disk)
    distinct = {place.id: place.size for section in sections for place in section.chunks}
    return SnapshotSize(manifest.memory.size, manifest.plan.size, manifest.disk.size, sum(distinct.values()))
