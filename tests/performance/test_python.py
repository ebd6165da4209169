"""`make bench`: the suite "python". It measures and writes records; how fast is fast enough is for people to say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from thaw.cli.bench import OUTPUT, SUITE, measure, table_of
from thaw.cli.figures import write_records
from thaw.cli.screen import progress, wide_console

pytestmark = [
    pytest.mark.bench,
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

CASES = {
    "cold_init", "cold_first_response", "restore", "restore_first_response", "warm", "publish", "clone_private_mib",
}  # fmt: skip


def test_the_suite_python_is_measured_in_one_run() -> None:
    console = wide_console()
    with progress(console) as step:
        records = measure(60, step)
    path = Path(__file__).parents[2] / OUTPUT / f"{SUITE}.json"
    write_records(path, records)
    console.print(table_of(records))
    written = {(one["suite"], one["case"]): one for one in json.loads(path.read_text())}
    assert {case for _, case in written} == CASES
    assert all(written[SUITE, case]["n"] >= 50 for case in ("cold_init", "restore", "restore_first_response"))
