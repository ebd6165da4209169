"""`make bench`: the suite "api". It measures and writes records; how fast is fast enough is for people to say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from performance.api_bench import SUITE, measure
from thaw.cli.bench import OUTPUT
from thaw.cli.figures import write_records
from thaw.cli.screen import wide_console

pytestmark = [
    pytest.mark.bench,
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

CALLS = int(os.environ.get("THAW_BENCH_CALLS", "500"))
SECONDS = float(os.environ.get("THAW_BENCH_SECONDS", "10"))
FUNCTIONS = int(os.environ.get("THAW_BENCH_FUNCTIONS", "10000"))
# Lambda takes zips of up to 52,428,800 bytes in a request.
ZIP_MB = int(os.environ.get("THAW_BENCH_ZIP_MB", "50"))


def test_the_suite_api_is_measured_in_one_run(tmp_path: Path) -> None:
    console = wide_console()
    records = measure(
        tmp_path, calls=CALLS, seconds=SECONDS, functions=FUNCTIONS, zip_mb=ZIP_MB,
        step=lambda text: console.print(f"• {text}"),
    )  # fmt: skip
    path = Path(__file__).parents[2] / OUTPUT / f"{SUITE}.json"
    write_records(path, records)
    for one in records:
        figures = f"{one.min:9.2f} {one.p50:9.2f} {one.p90:9.2f} {one.p99:9.2f} {one.max:9.2f}"
        console.print(f"{one.case:16} {one.metric:10} {one.n:6} {figures} {one.unit}")
    written = {one["case"] for one in json.loads(path.read_text())}
    assert written == {"warm_call", "calls_at_once", "create_function", "list_functions"}
