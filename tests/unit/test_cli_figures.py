"""Figures: quantiles, records, REPORT lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thaw.cli.figures import quantile, record, report_values, write_records


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100)])
def test_quantiles_are_measured_values(share: float, expected: float) -> None:
    assert quantile([float(number) for number in range(100, 0, -1)], share) == expected


def test_the_quantiles_of_one_value_are_that_value() -> None:
    assert {quantile([7.0], share) for share in (0, 0.5, 0.99, 1)} == {7.0}


def test_a_restored_report_line_is_read() -> None:
    log = (
        "START RequestId: r Version: 2\nREPORT RequestId: r\tDuration: 2338.66 ms\tBilled Duration: 2521 ms\t"
        "Memory Size: 3009 MB\tMax Memory Used: 173 MB\tRestore Duration: 398.97 ms\t"
        "Billed Restore Duration: 182 ms\t\n"
    )
    assert report_values(log) == {
        "Duration": 2338.66,
        "Max Memory Used": 173.0,
        "Restore Duration": 398.97,
        "Billed Restore Duration": 182.0,
    }


def test_a_log_without_report_has_no_values() -> None:
    assert report_values("START RequestId: r\n") == {}


def test_records_have_the_documented_members(tmp_path: Path) -> None:
    path = tmp_path / "bench" / "python.json"
    write_records(path, [record("python", "restore", "duration", "ms", [3.0, 1.0, 2.0], {"kernel": "6.1"})])
    assert json.loads(path.read_text()) == [
        {
            "suite": "python", "case": "restore", "metric": "duration", "unit": "ms", "n": 3, "min": 1.0, "p50": 2.0,
            "p90": 3.0, "p99": 3.0, "max": 3.0, "with": {"kernel": "6.1"},
        }
    ]  # fmt: skip
