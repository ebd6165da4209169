"""`make bench`: the suite "store". It measures and writes records; how fast is fast enough is for people to say."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from performance.store_bench import SUITE, TIERS, VARIANTS, measure, summary
from thaw.cli.bench import OUTPUT
from thaw.cli.figures import write_records
from thaw.cli.screen import wide_console

pytestmark = [
    pytest.mark.bench,
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

ROUNDS = int(os.environ.get("THAW_BENCH_ROUNDS", "15"))
LARGE_MIB = int(os.environ.get("THAW_BENCH_LARGE_MIB", "2048"))
CASES = {tier + variant for tier in TIERS for variant in VARIANTS} | {
    "resident", "without_the_store", "chunk_l1", "publish", "first_after_publish", "hundredth_after_publish",
    "small_image", "large_image",
}  # fmt: skip


def test_the_suite_store_is_measured_in_one_run(tmp_path: Path) -> None:
    console = wide_console()
    work = measure(tmp_path, ROUNDS, large_mib=LARGE_MIB, step=lambda text: console.print(f"• {text}"))
    records = asyncio.run(work)
    path = Path(__file__).parents[2] / OUTPUT / f"{SUITE}.json"
    write_records(path, records)
    for one in records:
        figures = f"{one.min:9.2f} {one.p50:9.2f} {one.p90:9.2f} {one.max:9.2f}"
        console.print(f"{one.case:24} {one.metric:16} {one.n:4} {figures} {one.unit}")
    console.print(*summary(records), sep="\n")
    assert {one["case"] for one in json.loads(path.read_text())} == CASES
