"""`thaw bench`: the suite "python" - what a start costs without and with a snapshot, in figures.

All cases are measured in one run, on the function of the demonstration, through the HTTP front of a server process of
its own. Cold and restored starts take turns (A B A B …), each in a fresh environment: its sandbox comes from the pool,
the memory image is resident, and its clone was forked ahead of the call; "on_call" is without that. The caller's clock
includes HTTP on loopback; durations of phases are those of Lambda's REPORT lines.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thaw.cli.screen import Progress, progress, wide_console
from thaw.cli.stopping import stoppable

if TYPE_CHECKING:
    from rich.table import Table

    from thaw.cli.example import Example
    from thaw.cli.figures import Record
    from thaw.cli.measuring import Sample

SUITE = "python"
OUTPUT = Path("build/bench")
PUBLISHES = 5
WARM_CALLS_PER_START = 4
CLONES = 10
# Columns from which the table has room for all its figures.
WIDE = 100
# Pairs of which the table shows how many times smaller the second is.
RATIOS = (
    ("cold_init", "restore_first_response"),
    ("cold_init", "restore"),
    ("cold_first_response", "restore_first_response"),
    ("cold_init", "on_call_first_response"),
)


def bench(
    calls: Annotated[int, typer.Option(help="Fresh environments per case", min=2)] = 60,
    output: Annotated[Path, typer.Option(help="Folder for the records")] = OUTPUT,
) -> None:
    """Measure starts of the demonstration's function; writes <output>/python.json and prints a table."""
    from thaw.cli.figures import write_records

    console = wide_console()
    output.mkdir(parents=True, exist_ok=True)  # what cannot be written to is told before minutes of measuring
    with stoppable(), progress(console) as step:
        records = measure(calls, step)
    path = output / f"{SUITE}.json"
    write_records(path, records)
    console.print(table_of(records, wide=console.width >= WIDE))
    console.print(f"Records are in {path}.")


def measure(calls: int, step: Progress) -> list[Record]:
    """Runs the suite; `step` is told what is being done."""
    from thaw.cli.example import build_example

    with tempfile.TemporaryDirectory(prefix="thaw-bench-") as folder:
        state_dir = Path(folder)
        example = build_example(step)
        return _Suite(example, state_dir, calls, step).run()


class _Suite:
    """One run: the function, its two versions, and the values by case."""

    def __init__(self, example: Example, state_dir: Path, calls: int, step: Progress) -> None:
        self._example = example
        self._state_dir = state_dir
        self._calls = calls
        self._step = step
        self._values: dict[tuple[str, str, str], Sequence[float]] = {}

    def run(self) -> list[Record]:
        from thaw.cli.figures import record

        self._starts_and_publishes()
        self._forked_on_call()
        self._warm()
        self._memory()
        ran_with = surroundings(self._example)
        return [
            record(SUITE, case, metric, unit, values, ran_with) for (case, metric, unit), values in self._values.items()
        ]

    def _starts_and_publishes(self) -> None:
        from thaw.cli.demo import FUNCTION, create
        from thaw.cli.measuring import http_caller, in_turn, publish, wait_active
        from thaw.cli.process import lambda_client, serving

        with serving(self._state_dir, idle_timeout_s=0) as server:
            client = lambda_client(server.url)
            create(client, self._example)
            wait_active(client, FUNCTION)
            publish(client, FUNCTION)
            client.update_function_configuration(FunctionName=FUNCTION, SnapStart={"ApplyOn": "PublishedVersions"})
            wait_active(client, FUNCTION)
            self._step(f"publishing {PUBLISHES} snapshots")
            self._publishes(client)
            self._step(f"calling both versions in turn, in {self._calls} fresh environments each")
            with http_caller(server.url, FUNCTION, self._example.payload) as call:
                call("2")  # from here on the memory image is resident
                samples = in_turn(call, ["1", "2"], self._calls, self._step.counter(2 * self._calls))
        self._starts(samples["1"], samples["2"])

    def _forked_on_call(self) -> None:
        """The same without clones that wait for their call: what a burst of calls sees."""
        from thaw.cli.demo import FUNCTION
        from thaw.cli.measuring import http_caller, in_turn, reported
        from thaw.cli.process import serving

        self._step(f"calling {self._calls} clones that are forked on call")
        with (
            serving(self._state_dir, idle_timeout_s=0, fork_ahead=False) as server,
            http_caller(server.url, FUNCTION, self._example.payload) as call,
        ):
            call("2")
            samples = in_turn(call, ["2"], self._calls, self._step.counter(self._calls))["2"]
        self._values["restore_on_call", "restore", "ms"] = reported(samples, "Restore Duration")
        self._values["on_call_first_response", "caller", "ms"] = [sample.caller_ms for sample in samples]

    def _publishes(self, client: Any) -> None:
        """Publish times; the last versions' Init is taken off by what its INIT_REPORT line says."""
        from thaw.cli.demo import FUNCTION
        from thaw.cli.measuring import publish, wait_active

        totals, without_init = [], []
        for number in range(PUBLISHES):
            client.update_function_configuration(FunctionName=FUNCTION, Description=f"publish {number}")
            wait_active(client, FUNCTION)
            version, seconds = publish(client, FUNCTION)
            totals.append(seconds)
            without_init.append(seconds - self._init_seconds(version))
        self._values["publish", "total", "s"] = totals
        self._values["publish", "without_init", "s"] = without_init

    def _init_seconds(self, version: str) -> float:
        from thaw.cli.demo import FUNCTION
        from thaw.cli.logs import LogReader

        for _, stream, text in LogReader(self._state_dir / "logs" / "aws" / "lambda" / FUNCTION).new_events():
            if f"[{version}]" in stream and text.startswith("INIT_REPORT Init Duration: "):
                return float(text.split()[3]) / 1000
        raise AssertionError(f"version {version} has no INIT_REPORT line")

    def _starts(self, cold: list[Sample], restored: list[Sample]) -> None:
        from thaw.cli.measuring import reported

        self._values["cold_init", "init", "ms"] = reported(cold, "Init Duration")
        self._values["cold_first_response", "caller", "ms"] = [sample.caller_ms for sample in cold]
        self._values["restore", "restore", "ms"] = reported(restored, "Restore Duration")
        self._values["restore_first_response", "caller", "ms"] = [sample.caller_ms for sample in restored]

    def _warm(self) -> None:
        from thaw.cli.demo import FUNCTION
        from thaw.cli.measuring import http_caller
        from thaw.cli.process import serving

        count = self._calls * WARM_CALLS_PER_START
        self._step(f"calling a warm clone {count} times")
        with serving(self._state_dir) as server, http_caller(server.url, FUNCTION, self._example.payload) as call:
            call("2")
            samples = []
            for _ in range(count):
                time.sleep(0.005)  # long enough for the environment to be frozen between calls, as it is in life
                samples.append(call("2"))
        self._values["warm", "caller", "ms"] = [sample.caller_ms for sample in samples]
        self._values["warm", "handler", "ms"] = [sample.report["Duration"] for sample in samples]

    def _memory(self) -> None:
        from thaw.cli.demo import FUNCTION
        from thaw.cli.measuring import memory_of_clones

        self._step(f"looking into {CLONES} idle clones")
        clones = memory_of_clones(self._state_dir, FUNCTION, "2", CLONES, self._example.payload)
        self._values["clone_private_mib", "private_dirty", "MiB"] = [clone.private_dirty_mib for clone in clones]
        self._values["clone_private_mib", "proportional", "MiB"] = [clone.proportional_mib for clone in clones]


def surroundings(example: Example) -> dict[str, Any]:
    """What a record was measured with."""
    return {
        "function": example.title,
        "runtime": example.runtime,
        "memory_size_mib": 1769,
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "server_python": platform.python_version(),
    }


def table_of(records: Sequence[Record], *, wide: bool = True) -> Table:
    """The records for people, with the ratios that matter; without min and p90 where the terminal is not `wide`."""
    from rich.table import Table

    shares = ("min", "p50", "p90", "p99", "max") if wide else ("p50", "p99", "max")
    table = Table(title=f"suite {SUITE}", title_justify="left")
    for heading in ("case", "metric", "n", *shares, "unit"):
        table.add_column(heading, justify="left" if heading in ("case", "metric", "unit") else "right")
    for one in records:
        figures = (f"{getattr(one, share):,.2f}" for share in shares)
        table.add_row(one.case, one.metric, str(one.n), *figures, one.unit)
    by_case = {one.case: one for one in records}
    table.add_section()
    for before, after in RATIOS:
        pairs = ((getattr(by_case[before], share), getattr(by_case[after], share)) for share in shares)
        table.add_row(before, f"/ {after}", "", *(f"{first / second:,.0f}" for first, second in pairs), "×")
    return table
