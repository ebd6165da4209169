"""`make bench-java`: the Spring Boot example without and with SnapStart under an open-loop load of 100 calls a second.

    python tests/performance/java_bench.py [--minutes 10] [--rate 100] [--segment 60] [--runtime java17]

The versions take turns, a segment each, against one server and one PostgreSQL; their environments are closed while the
others have their turn, so every segment begins with cold starts. Each version may have two environments at once, as
many as this program assumes processors: more would only keep each other from starting. Calls that are due while both
are busy wait in line, and count from when they were due. Beside it: the first call of fresh environments one by one,
private memory, and how long the same application takes to start by itself with the JVM's own means (class data archive,
ahead-of-time cache).

Writes build/bench/java.json and build/bench/java.svg, and prints the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from integration.test_seeds import Postgres, gateway, postgres
from java import jdk
from java.test_java_spring import request
from packing import package
from performance.latency_plot import percentile_plot
from performance.open_loop import Call, OpenLoop
from serving import ROLE, Served, functions_of, served
from thaw.cli.figures import quantile, report_values
from thaw.cli.measuring import wait_active

OUTPUT = jdk.CHECKOUT / "build" / "bench"
IDLE_S = 2.0
CONCURRENCY = 2
SINGLE_CALLS = 24
STARTS = 5
PLAIN, PRIMED = "LambdaHandler", "PrimedLambdaHandler"
# Name, handler class, SnapStart.
VERSIONS = (("on-demand", PLAIN, False), ("SnapStart", PLAIN, True), ("SnapStart, primed", PRIMED, True))


def main() -> None:
    """Runs everything; the arguments are those of the module's docstring."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that server and database are stopped then, too
    code = package(jdk.entries(jdk.maven_project(jdk.SPRING)))
    with tempfile.TemporaryDirectory(prefix="thaw-bench-java-") as folder:
        with (
            served(Path(folder, "state"), idle_timeout_s=IDLE_S, init_limit_s=60) as server,
            postgres(gateway(server)) as database,
        ):
            bench = Bench(server, database, code, options)
            found = bench.run()
        print("starting the application by itself ...", flush=True)
        with address_of_loopback() as database:
            found["starts_s"] = plain_starts(Path(folder), database)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    series = {name: each.pop("latencies_ms") for name, each in found["versions"].items()}
    title = f"Spring Boot, {options.rate:g} calls a second, {options.minutes:g} minutes each, {options.runtime}"
    (OUTPUT / "java.svg").write_text(percentile_plot(title, series))
    (OUTPUT / "java.json").write_text(json.dumps(found, indent=1) + "\n")
    print_table(found)
    print(f"Records are in {OUTPUT / 'java.json'}, the plot in {OUTPUT / 'java.svg'}.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0, help="of load for each version")
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second")
    parser.add_argument("--segment", type=float, default=60.0, help="seconds of a turn")
    parser.add_argument("--runtime", default=jdk.oldest())
    return parser.parse_args()


class Bench:
    """One run against one server."""

    def __init__(self, server: Served, database: Postgres, code: bytes, options: argparse.Namespace) -> None:
        self._server = server
        self._code = code
        self._options = options
        self._variables = {
            "DB_URL": f"jdbc:postgresql://{database.address}:{database.port}/postgres",
            "DB_USER": database.user,
            "DB_PASSWORD": database.password,
        }
        self._published: dict[str, tuple[str, str]] = {}
        self._payload = b""

    def run(self) -> dict[str, Any]:
        """All figures by version."""
        versions = {name: self._publish(name, handler, snapped) for name, handler, snapped in VERSIONS}
        self._payload = self._one_product()
        for name in self._published:
            versions[name] |= self._first_calls(name)
        calls: dict[str, list[Call]] = {name: [] for name in self._published}
        segment = min(self._options.segment, self._options.minutes * 60)
        for turn in range(max(1, round(self._options.minutes * 60 / segment))):
            for name in self._published:
                print(f"turn {turn + 1}: {name}, {segment:g} s ...", flush=True)
                calls[name] += asyncio.run(self._load(name, segment, turn))
        for name, made in calls.items():
            versions[name] |= _summary(made)
        ran_with = vars(self._options) | {"processors": os.cpu_count(), "concurrency": CONCURRENCY, "idle_s": IDLE_S}
        return {"with": ran_with, "versions": versions}

    def _publish(self, name: str, handler: str, snapped: bool) -> dict[str, Any]:
        """Creates and publishes one function; how long the publish took."""
        function = f"products-{len(self._published)}"
        client = self._server.client
        settings = {"SnapStart": {"ApplyOn": "PublishedVersions"}} if snapped else {}
        client.create_function(
            FunctionName=function, Runtime=self._options.runtime, Role=ROLE, Timeout=60, MemorySize=2048,
            Handler=f"com.example.products.{handler}::handleRequest", Code={"ZipFile": self._code},
            Environment={"Variables": self._variables}, **settings,
        )  # fmt: skip
        wait_active(client, function)
        began = time.perf_counter()
        version = self._server.publish(function)
        client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=CONCURRENCY)
        self._published[name] = function, version
        return {"publish_s": time.perf_counter() - began}

    def _one_product(self) -> bytes:
        """Stores a product; the event that asks for it."""
        function, version = self._published["on-demand"]
        reply = self._server.call(function, request("POST", "/products", {"name": "Kettle", "price": 7}), version)
        assert reply.payload["statusCode"] == 201, reply.payload
        product = json.loads(reply.payload["body"])
        return json.dumps(request("GET", f"/products/{product['id']}")).encode()

    def _first_calls(self, name: str) -> dict[str, Any]:
        """First calls of fresh environments, one by one, and the private memory of one that has had its call."""
        print(f"first calls: {name} ...", flush=True)
        function, version = self._published[name]
        count = SINGLE_CALLS if name != "on-demand" else SINGLE_CALLS // 8
        callers, reports = [], []
        private = 0.0
        for _ in range(count):
            self._end_environments()
            began = time.perf_counter()
            reply = self._server.call(function, json.loads(self._payload), version)
            callers.append((time.perf_counter() - began) * 1e3)
            assert reply.payload["statusCode"] == 200, reply.payload
            reports.append(report_values(reply.log))
            private = max(map(_private_mib, functions_of(self._server.process.pid)))
        start = "Restore Duration" if "Restore Duration" in reports[0] else "Init Duration"
        print(
            f"  p50 {quantile(callers, 0.5):.1f} ms, min {min(callers):.1f} ms, {private:.1f} MiB private", flush=True
        )
        return {
            "first_call_ms": _quantiles(callers),
            "start": start,
            "start_ms": _quantiles([report[start] for report in reports]),
            "first_duration_ms": _quantiles([report["Duration"] for report in reports]),
            "private_mib": round(private, 1),
        }

    def _end_environments(self) -> None:
        """Waits until no environment is left: they are closed when nobody has called them for a while."""
        deadline = time.monotonic() + 60
        while functions_of(self._server.process.pid):
            assert time.monotonic() < deadline, "environments are not closed"
            time.sleep(0.2)

    async def _load(self, name: str, seconds: float, seed: int) -> list[Call]:
        await asyncio.to_thread(self._end_environments)
        function, version = self._published[name]
        loop = OpenLoop(self._server.process.url, function, version, self._payload, b"Kettle", CONCURRENCY)
        return await loop.run(self._options.rate, seconds, seed)


def _private_mib(pid: int) -> float:
    """0 for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def _quantiles(values: list[float]) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    found = {name: round(quantile(values, share), 2) for name, share in shares.items()}
    return {"n": len(values), "min": round(min(values), 2), **found, "max": round(max(values), 2)}


def _summary(calls: list[Call]) -> dict[str, Any]:
    latencies = [call.latency_ms for call in calls]
    return {
        "latency_ms": _quantiles(latencies),
        "wrong": sum(not call.right for call in calls),
        "retried": sum(call.retries > 0 for call in calls),
        "latencies_ms": latencies,
    }


# --- the application by itself ----------------------------------------------------------------------------------------


@contextmanager
def address_of_loopback() -> Iterator[Postgres]:
    """A PostgreSQL for programs outside of any sandbox."""
    with postgres("127.0.0.1") as database:
        yield database


def plain_starts(folder: Path, database: Postgres) -> dict[str, dict[str, float]]:
    """Seconds from exec to the end of a program that only starts the application's context, by the JVM's own means."""
    import zipfile

    classes = jdk.maven_project(jdk.SPRING)
    jar = folder / "application.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        for name, content in jdk.entries(classes).items():
            if not name.startswith("lib/") and isinstance(content, bytes):
                archive.writestr(name, content)
    path = os.pathsep.join([str(jar), *map(str, sorted((classes / "lib").glob("*.jar")))])
    environment = os.environ | {
        "DB_URL": f"jdbc:postgresql://127.0.0.1:{database.port}/postgres",
        "DB_USER": database.user, "DB_PASSWORD": database.password,
    }  # fmt: skip

    def start(java: Path, *flags: str) -> float:
        command = [str(java), *flags, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", path]
        command.append("com.example.products.Application")
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return time.perf_counter() - began

    name = max(jdk.homes(), key=lambda each: jdk.homes()[each].major)
    java = jdk.java(name).executable
    ways = [("class data archive", "-XX:ArchiveClassesAtExit={}", "-XX:SharedArchiveFile={}")]
    if jdk.java(name).major >= 25:
        ways.append(("ahead-of-time cache", "-XX:AOTCacheOutput={}", "-XX:AOTCache={}"))
    found = {f"{name}, plain": _quantiles([start(java) for _ in range(STARTS)])}
    for way, train, use in ways:
        cache = str(folder / way.replace(" ", "-"))
        start(java, train.format(cache))
        found[f"{name}, {way}"] = _quantiles([start(java, use.format(cache)) for _ in range(STARTS)])
    return found


# --- the table --------------------------------------------------------------------------------------------------------


def print_table(found: dict[str, Any]) -> None:
    """The article's table with more rows, then what stands beside it."""
    print(f"\n{'':22}{'p50':>10}{'p99':>10}{'p99.9':>12}{'max':>12}   calls  wrong  (ms)")
    for name, each in found["versions"].items():
        at = each["latency_ms"]
        print(
            f"{name:22}{at['p50']:>10,.2f}{at['p99']:>10,.1f}{at['p99.9']:>12,.1f}{at['max']:>12,.1f}"
            f"{at['n']:>8,}{each['wrong']:>7,}"
        )
    print(f"\n{'':22}{'first call p50':>16}{'min':>10}{'start p50':>12}{'private memory':>18}{'publish':>10}")
    for name, each in found["versions"].items():
        print(
            f"{name:22}{each['first_call_ms']['p50']:>13,.1f} ms{each['first_call_ms']['min']:>7,.1f} ms"
            f"{each['start_ms']['p50']:>9,.1f} ms{each['private_mib']:>14,.1f} MiB{each['publish_s']:>8,.2f} s"
        )
    print("\nThe application by itself, without Lambda's client (s, whole process)")
    for name, at in found["starts_s"].items():
        print(f"{name:32}{at['p50']:>8,.2f}")


if __name__ == "__main__":
    main()
