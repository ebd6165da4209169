"""`make bench`: the suite "burst", 200 calls at once, each of which gets a clone of its own; clones that are trees."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from performance.test_soak import TREE
from serving import served
from thaw.cli.bench import OUTPUT
from thaw.cli.figures import Record, record, report_values, write_records
from thaw.cli.screen import wide_console

pytestmark = [
    pytest.mark.bench,
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SUITE = "burst"
CALLS = 200
BURSTS = 5
TREES = 50
PLAIN = "import os\ndef handler(event, context):\n    return os.getpid()\n"
_PAUSE_S = 2.0


async def _call(url: str, version: str, began: float) -> float:
    """Milliseconds until the answer of a call that a clone served."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    path = f"/2015-03-31/functions/f/invocations?Qualifier={version}"
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nX-Amz-Log-Type: Tail\r\nContent-Length: 2\r\n\r\n{{}}"
    writer.write(head.encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    headers = dict(line.lower().split(": ", 1) for line in answer.split("\r\n")[1:] if line)
    await reader.readexactly(int(headers["content-length"]))
    elapsed = (time.perf_counter() - began) * 1e3
    writer.close()
    tail = next(line for line in answer.split("\r\n") if line.lower().startswith("x-amz-log-result"))
    assert "Restore Duration" in base64.b64decode(tail.split(": ", 1)[1]).decode(errors="replace")
    assert answer.startswith("HTTP/1.1 200")
    return elapsed


async def _burst(url: str, version: str) -> list[float]:
    began = time.perf_counter()
    return list(await asyncio.gather(*(_call(url, version, began) for _ in range(CALLS))))


def measured_bursts(folder: Path) -> list[Record]:
    """Each answer of all bursts, and the last one of each burst."""
    each: list[float] = []
    last: list[float] = []
    with served(folder, idle_timeout_s=0) as running:
        running.create("f", PLAIN, SnapStart={"ApplyOn": "PublishedVersions"}, MemorySize=128)
        version = running.publish("f")
        running.call("f", 0, version)
        for _ in range(BURSTS):
            time.sleep(_PAUSE_S)
            found = asyncio.run(_burst(running.process.url, version))
            each += found
            last.append(max(found))
    ran_with = {"calls": CALLS, "cpus": os.cpu_count()}
    return [
        record(SUITE, "answer", "latency", "ms", each, ran_with),
        record(SUITE, "last_answer", "latency", "ms", last, ran_with),
    ]


def measured_trees(folder: Path) -> list[Record]:
    """A function with a child process, which comes back with it."""
    values: list[float] = []
    with served(folder, idle_timeout_s=0) as running:
        running.create("f", TREE, SnapStart={"ApplyOn": "PublishedVersions"})
        version = running.publish("f")
        running.call("f", 0, version)
        for number in range(TREES):
            values.append(report_values(running.call("f", number, version).log)["Restore Duration"])
    return [record(SUITE, "tree", "restore", "ms", values, {"processes": 2})]


def test_the_suite_burst_is_measured(tmp_path: Path) -> None:
    console = wide_console()
    records = measured_bursts(tmp_path / "bursts") + measured_trees(tmp_path / "trees")
    write_records(Path(__file__).parents[2] / OUTPUT / f"{SUITE}.json", records)
    for one in records:
        figures = f"{one.min:9.2f} {one.p50:9.2f} {one.p90:9.2f} {one.p99:9.2f} {one.max:9.2f}"
        console.print(f"{one.case:16} {one.metric:10} {one.n:6} {figures} {one.unit}")
