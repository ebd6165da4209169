"""Measured values: their quantiles, the records that benchmarks write, and what REPORT lines say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPORT_VALUE = re.compile(
    r"(Init Duration|Billed Restore Duration|Restore Duration|Max Memory Used|Duration): ([\d.]+) (?:ms|MB)"
)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0.0 to 1.0) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def report_values(log: str) -> dict[str, float]:
    """What the last REPORT line of a log says: {"Duration": 1.23, "Restore Duration": 4.56, …}, in ms and MB."""
    lines = [line for line in log.splitlines() if line.startswith("REPORT ")]
    fields = lines[-1].split("\t") if lines else []
    return {match[1]: float(match[2]) for field in fields if (match := REPORT_VALUE.fullmatch(field.strip()))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of build/bench/<suite>.json: a metric of a case, with what it ran with."""

    suite: str
    case: str
    metric: str
    unit: str
    n: int
    min: float
    p50: float
    p90: float
    p99: float
    max: float
    with_: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As it is written: the last member is called "with"."""
        fields = asdict(self)
        return fields | {"with": fields.pop("with_")}


def record(
    suite: str, case: str, metric: str, unit: str, values: Sequence[float], ran_with: Mapping[str, Any]
) -> Record:
    """The record of measured `values`, of which there is at least one."""
    shares = {name: round(quantile(values, share), 4) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    return Record(
        suite=suite, case=case, metric=metric, unit=unit, n=len(values),
        min=round(min(values), 4), max=round(max(values), 4), with_=ran_with, **shares,
    )  # fmt: skip


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Replaces the file of a suite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([one.document() for one in records], indent=1) + "\n")
