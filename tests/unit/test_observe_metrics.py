"""Metrics by the minute."""

from __future__ import annotations

import pytest

from thaw.observe.metrics import MINUTE_S, RETENTION_S, SAMPLE, Metrics, Statistics


class Clock:
    now = 1_000_000_020.0

    def __call__(self) -> float:
        return self.now


def test_values_are_found_by_function_resource_and_altogether() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    metrics.record("f", "live", {"Duration": 4.0, "Errors": 0.0})
    clock.now += MINUTE_S
    metrics.record("f", None, {"Duration": 8.0})
    metrics.record("g", None, {"Duration": 1.0})
    span = {"start": clock.now - 200, "end": clock.now + 200}
    by_function = metrics.statistics("Duration", [("FunctionName", "f")], period=60, **span)
    assert [(moment % 60, one.total) for moment, one in by_function] == [(0, 4.0), (0, 8.0)]
    ((_, whole),) = metrics.statistics("Duration", [("FunctionName", "f")], period=86400, **span)
    assert (whole.statistic("Average"), whole.statistic("Maximum"), whole.statistic("SampleCount")) == (6.0, 8.0, 2.0)
    resource = [("Resource", "f:live"), ("FunctionName", "f")]
    assert [one.total for _, one in metrics.statistics("Duration", resource, period=60, **span)] == [4.0]
    assert sum(one.total for _, one in metrics.statistics("Duration", [], period=60, **span)) == 13.0
    assert ("Errors", (("FunctionName", "f"),)) in set(metrics.series())
    assert metrics.statistics("Duration", [("FunctionName", "h")], period=60, **span) == []


def test_old_minutes_are_forgotten() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    metrics.record("f", None, {"Duration": 1.0})
    clock.now += RETENTION_S + 2 * MINUTE_S
    metrics.record("g", None, {"Duration": 1.0})
    assert {dict(dimensions).get("FunctionName") for _, dimensions in metrics.series()} == {None, "g"}


@pytest.mark.parametrize("count", [1, SAMPLE, 20 * SAMPLE])
def test_percentiles_stay_close_with_a_bounded_sample(count: int) -> None:
    statistics = Statistics()
    for number in range(count):
        statistics.add(float(number))
    assert len(statistics.sample) <= SAMPLE
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        value = statistics.statistic(name)
        assert value is not None
        assert abs(value - share * count) <= max(2.0, count * 0.01)
    assert statistics.statistic("p101") is None
    assert statistics.statistic("Median") is None


def test_minutes_become_hours_after_a_while() -> None:
    clock = Clock()
    clock.now -= clock.now % 3600
    begun = clock.now
    metrics = Metrics(clock)
    for minute in range(60):
        for value in range(50):
            metrics.record("f", None, {"Duration": float(value + minute)})
        clock.now += MINUTE_S
    clock.now += 4 * 3600
    metrics.record("f", None, {"Duration": 1.0})
    asked = [("FunctionName", "f")]
    ((moment, hour),) = metrics.statistics("Duration", asked, start=begun, end=begun + 3600, period=60)
    assert (moment, hour.count, hour.least, hour.most) == (begun, 3000, 0.0, 108.0)
    assert max(len(one.sample) for minutes in metrics._series.values() for one in minutes.values()) <= SAMPLE
    median = hour.statistic("p50")
    assert median is not None
    assert abs(median - 54) <= 2
