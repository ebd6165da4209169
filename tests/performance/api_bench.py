"""The suite "api": what the front costs. A server process of its own, a function that returns its event.

warm_call: one connection; `overhead` is the caller's time less the Duration of the call's REPORT line. calls_at_once:
many connections from a load generator in its own process, so many answers a second. create_function: a zip of random
bytes, until it is answered. list_functions: pages of 50 out of many functions.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import platform
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from serving import ROLE, Served, served
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from thaw.cli.figures import Record, record
from thaw.cli.measuring import http_caller
from thaw.config import read_settings
from thaw.server import CATALOG_FILE

SUITE = "api"
CONNECTIONS = 16
SOURCE = "def handler(event, context):\n    return event\n"
Step = Callable[[str], None]


def measure(folder: Path, *, calls: int, seconds: float, functions: int, zip_mb: int, step: Step) -> list[Record]:
    """Runs the suite in `folder`; `step` is told what is being done."""
    values: dict[tuple[str, str, str], list[float]] = {}
    with served(folder / "calls") as server:
        server.create("echo", SOURCE, MemorySize=1769)
        step(f"{calls} warm calls over one connection")
        values |= warm_calls(server, calls)
        step(f"calls over {CONNECTIONS} connections for {seconds:g} s, three times")
        values |= calls_at_once(server, seconds)
        step(f"functions from zips of {zip_mb} MB")
        values["create_function", "caller", "s"] = creations(server, zip_mb)
    step(f"{functions} functions, listed in pages of 50")
    asyncio.run(fill_catalog(folder / "listed", functions))
    with served(folder / "listed") as server:
        values["list_functions", "page", "ms"] = pages(server, functions)
    ran_with = {
        "connections": CONNECTIONS, "functions": functions, "zip_mb": zip_mb, "kernel": platform.release(),
        "processors": os.cpu_count(), "server_python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }  # fmt: skip
    return [record(SUITE, *key, found, ran_with) for key, found in values.items()]


def warm_calls(server: Served, count: int) -> dict[tuple[str, str, str], list[float]]:
    """The caller's time, and what of it the handler did not take."""
    with http_caller(server.process.url, "echo") as call:
        call("$LATEST")
        samples = []
        for _ in range(count):
            time.sleep(0.005)  # long enough for the environment to be frozen between calls, as it is in life
            samples.append(call("$LATEST"))
    caller = [sample.caller_ms for sample in samples]
    overhead = [sample.caller_ms - sample.report["Duration"] for sample in samples]
    return {("warm_call", "caller", "ms"): caller, ("warm_call", "overhead", "ms"): overhead}


def calls_at_once(server: Served, seconds: float) -> dict[tuple[str, str, str], list[float]]:
    """Answers a second, and latencies; the first round makes the environments and is not counted."""
    rates, latencies = [], []
    for number in range(4):
        found = loaded(server.process.url, CONNECTIONS, seconds)
        if number:
            rates.append(len(found["latencies_ms"]) / found["seconds"])
            latencies += found["latencies_ms"]
    return {("calls_at_once", "rate", "1/s"): rates, ("calls_at_once", "caller", "ms"): latencies}


def loaded(url: str, connections: int, seconds: float) -> dict[str, Any]:
    """What the load generator measured."""
    program = Path(__file__).with_name("load.py")
    done = subprocess.run(
        [sys.executable, str(program), url, "echo", str(connections), str(seconds)],
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def creations(server: Served, zip_mb: int) -> list[float]:
    """Seconds from the request to its answer."""
    found = []
    for number in range(5):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("app.py", SOURCE)
            archive.writestr("data", os.urandom(zip_mb * 10**6))
        code = {"ZipFile": buffer.getvalue()}
        began = time.perf_counter()
        server.client.create_function(
            FunctionName=f"large-{number}", Runtime=server.runtime, Role=ROLE, Handler="app.handler", Code=code
        )
        found.append(time.perf_counter() - began)
    return found


async def fill_catalog(state_dir: Path, functions: int) -> None:
    """Functions that exist on paper: lists read nothing but the catalog."""
    settings = read_settings(state_dir=state_dir)
    state_dir.mkdir(mode=0o700, parents=True)
    catalog = Catalog(state_dir / CATALOG_FILE, region=settings.region, account_id=settings.account_id)
    await catalog.open()
    draft = Configuration(
        function_id="", function_name="", function_arn="", runtime="python3.13", role=ROLE, handler="app.handler",
        code_sha256="A" * 43 + "=", code_key="0" * 64, code_size=1000, environment={"STAGE": "test", "TABLE": "t"},
    )  # fmt: skip
    for number in range(functions):
        name = f"function-{number:06d}"
        arn = catalog.function_arn(name)
        latest = replace(draft, function_id=uuid.uuid4().hex, function_name=name, function_arn=arn)
        await catalog.create_function(latest, {})
    await catalog.close()


@contextmanager
def lists(server: Served) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Asks for a page beyond a marker, over one connection."""
    connection = http.client.HTTPConnection(urlsplit(server.process.url).netloc)

    def page(marker: str) -> dict[str, Any]:
        connection.request("GET", "/2015-03-31/functions/" + (f"?Marker={quote(marker)}" if marker else ""))
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found

    yield page
    connection.close()


def pages(server: Served, functions: int) -> list[float]:
    """The time of every page, from the first to the last; raises AssertionError where functions are missing."""
    found, seen, marker = [], 0, ""
    with lists(server) as page:
        while marker is not None:
            began = time.perf_counter()
            answer = page(marker)
            found.append((time.perf_counter() - began) * 1e3)
            seen += len(answer["Functions"])
            marker = answer.get("NextMarker")
    assert seen == functions, f"{seen} of {functions} functions were listed"
    return found
