"""The same metrics for Prometheus: GET /metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily

from thaw.api.http import Response
from thaw.observe.metrics import Metrics

PATH = "/metrics"
_COUNTERS = {"Invocations": "thaw_invocations", "Errors": "thaw_errors", "Throttles": "thaw_throttles"}
_TIMES = {
    "Duration": "thaw_duration_seconds",
    "InitDuration": "thaw_init_duration_seconds",
    "RestoreDuration": "thaw_restore_duration_seconds",
}


class Exposition:
    """A Prometheus collector over what functions did since the server started."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """One family per metric, labelled by function."""
        for name, shown in _COUNTERS.items():
            counter = CounterMetricFamily(shown, f"{name} as CloudWatch counts them.", labels=["function_name"])
            for function_name, statistics in self._of(name):
                counter.add_metric([function_name], statistics[1])
            yield counter
        for name, shown in _TIMES.items():
            summary = SummaryMetricFamily(shown, f"{name} of calls, in seconds.", labels=["function_name"])
            for function_name, (count, total) in self._of(name):
                summary.add_metric([function_name], count_value=count, sum_value=total / 1000)
            yield summary

    def _of(self, name: str) -> Iterator[tuple[str, tuple[int, float]]]:
        for (metric, function_name), statistics in sorted(self._metrics.totals.items(), key=lambda item: item[0]):
            if metric == name:
                yield function_name, (statistics.count, statistics.total)

    def answer(self) -> Response:
        """The text that Prometheus reads."""
        headers = ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),)
        return Response(status=200, body=generate_latest(self._registry), headers=headers)
