"""Metrics as CloudWatch has them: statistics by name and dimensions, in memory, by the minute for three hours and by
the hour for two weeks.

They begin anew with each server: what must not be lost is in the functions' logs (REPORT lines).
"""

from __future__ import annotations

import math
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

NAMESPACE = "AWS/Lambda"
MINUTE_S = 60
HOUR_S = 3600
RECENT_S = 3 * HOUR_S
RETENTION_S = 15 * 86400
# Beyond this many values a minute's percentiles are estimated from an evenly thinned sample.
SAMPLE = 256

# CloudWatch's units of the metrics that functions have.
UNITS: Mapping[str, str] = {
    "Invocations": "Count",
    "Errors": "Count",
    "Throttles": "Count",
    "Duration": "Milliseconds",
    "InitDuration": "Milliseconds",
    "RestoreDuration": "Milliseconds",
    "PostRuntimeExtensionsDuration": "Milliseconds",
    "ConcurrentExecutions": "Count",
}
Dimensions = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Statistics:
    """What is known of the values of some time; `sample` holds all of them, or every `stride`-th."""

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    sample: array[float] = field(default_factory=lambda: array("d"))
    stride: int = 1

    def add(self, value: float) -> None:
        """One more value."""
        if self.count % self.stride == 0:
            self.sample.append(value)
            if len(self.sample) > SAMPLE:
                del self.sample[1::2]
                self.stride *= 2
        self.count += 1
        self.total += value
        self.least = min(self.least, value)
        self.most = max(self.most, value)

    def merge(self, other: Statistics) -> None:
        """Takes the values of another time in, too."""
        weight = max(1, other.stride // self.stride)
        self.sample.extend(value for value in other.sample for _ in range(weight))
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def thin(self) -> None:
        """Keeps an evenly spaced part of the sample; no more values are added afterwards."""
        if len(self.sample) > SAMPLE:
            ordered = sorted(self.sample)
            step = len(ordered) / SAMPLE
            self.sample = array("d", (ordered[int((place + 0.5) * step)] for place in range(SAMPLE)))
            self.stride = max(1, self.count // SAMPLE)

    def statistic(self, name: str) -> float | None:
        """ "Average", "Sum", "Minimum", "Maximum", "SampleCount" or a percentile such as "p99.9"; None: unknown."""
        plain = {
            "SampleCount": float(self.count),
            "Sum": self.total,
            "Average": self.total / self.count,
            "Minimum": self.least,
            "Maximum": self.most,
        }
        if name in plain:
            return plain[name]
        try:
            share = float(name.removeprefix("p")) / 100
        except ValueError:
            return None
        if not name.startswith("p") or not 0 <= share <= 1:
            return None
        ordered = sorted(self.sample)
        return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


class TierFigures(Protocol):
    """What one tier of the snapshot store was asked for since the server started."""

    @property
    def hits(self) -> int: ...
    @property
    def misses(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def writes(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def read_total_s(self) -> float: ...

    def read_classes(self) -> list[tuple[float, int]]:
        """How many reads took at most so many seconds, ascending; the last bound is infinite."""
        ...


class Metrics:
    """The metrics of one server; `clock` gives seconds since the epoch. `tiers` are those of its snapshot store."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._series: defaultdict[tuple[str, Dimensions], dict[int, Statistics]] = defaultdict(dict)
        self._cleaned = 0.0
        self.tiers: Mapping[str, TierFigures] = {}
        self.totals: defaultdict[tuple[str, str], Statistics] = defaultdict(Statistics)

    def record(self, function_name: str, qualifier: str | None, values: Mapping[str, float]) -> None:
        """Values of one call, by metric, of a function called by name or with a qualifier."""
        now = self._clock()
        minute = int(now // MINUTE_S) * MINUTE_S
        resource = function_name if qualifier is None else f"{function_name}:{qualifier}"
        by_function = (("FunctionName", function_name),)
        for name, value in values.items():
            self.totals[name, function_name].add(value)
            for dimensions in ((), by_function, (*by_function, ("Resource", resource))):
                minutes = self._series[name, dimensions]
                if minute not in minutes:
                    minutes[minute] = Statistics()
                minutes[minute].add(value)
        if now - self._cleaned > HOUR_S:
            self._clean(now)

    def series(self) -> Iterator[tuple[str, Dimensions]]:
        """Every metric with its dimensions."""
        yield from sorted(self._series.copy())

    def statistics(
        self, name: str, dimensions: Sequence[tuple[str, str]], *, start: float, end: float, period: int
    ) -> list[tuple[int, Statistics]]:
        """Statistics for every period of `period` seconds that has values, with its start, in order."""
        merged: dict[int, Statistics] = {}
        for minute, one in self._series.get((name, tuple(sorted(dimensions))), {}).items():
            if start - start % MINUTE_S <= minute < end:
                merged.setdefault(minute - minute % period, Statistics()).merge(one)
        return sorted(merged.items())

    def _clean(self, now: float) -> None:
        self._cleaned = now
        for key, minutes in list(self._series.items()):
            for moment in [moment for moment in minutes if moment < now - RETENTION_S]:
                del minutes[moment]
            _join_hours(minutes, now - RECENT_S)
            if not minutes:
                del self._series[key]


def _join_hours(minutes: dict[int, Statistics], before: float) -> None:
    """Joins the minutes of every hour that has ended before some time."""
    hours: defaultdict[int, list[int]] = defaultdict(list)
    for moment in minutes:
        if moment - moment % HOUR_S + HOUR_S <= before:
            hours[moment - moment % HOUR_S].append(moment)
    for hour, moments in hours.items():
        if len(moments) > 1:
            whole = Statistics()
            for moment in moments:
                whole.merge(minutes.pop(moment))
            whole.thin()
            minutes[hour] = whole
