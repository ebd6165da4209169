"""The same metrics for Prometheus: GET /metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric, SummaryMetricFamily

from thaw.api.http import Response
from thaw.observe.metrics import Metrics

PATH = "/metrics"
_COUNTERS = {"Invocations": "thaw_invocations", "Errors": "thaw_errors", "Throttles": "thaw_throttles"}
_TIMES = {
    "Duration": "thaw_duration_seconds",
    "InitDuration": "thaw_init_duration_seconds",
    "RestoreDuration": "thaw_restore_duration_seconds",
}
_TIERS = {
    "thaw_chunk_hits": ("Chunks that a tier of the snapshot store had.", "hits"),
    "thaw_chunk_misses": ("Chunks that a tier was asked for and did not have.", "misses"),
    "thaw_chunk_rejected": ("Chunks of a tier that did not open, and were evicted.", "rejected"),
    "thaw_chunk_failures": ("Requests that a tier did not answer.", "failures"),
    "thaw_chunk_read_bytes": ("Bytes that were read from a tier.", "bytes_read"),
    "thaw_chunk_writes": ("Chunks that were written to a tier.", "writes"),
    "thaw_chunk_written_bytes": ("Bytes that were written to a tier.", "bytes_written"),
}


class Exposition:
    """A Prometheus collector over what functions, and the tiers of their snapshots, did since the server started."""

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
        yield from self._tiers()

    def _tiers(self) -> Iterator[Metric]:
        """One family per figure of the snapshot store, labelled by tier (l1, l2, l3)."""
        tiers = self._metrics.tiers
        for shown, (meaning, name) in _TIERS.items():
            counter = CounterMetricFamily(shown, meaning, labels=["tier"])
            for tier, figures in tiers.items():
                counter.add_metric([tier], getattr(figures, name))
            yield counter
        times = HistogramMetricFamily("thaw_chunk_read_seconds", "Time to read and open a chunk.", labels=["tier"])
        for tier, figures in tiers.items():
            classes = [
                ("+Inf" if math.isinf(bound) else f"{bound:g}", count) for bound, count in figures.read_classes()
            ]
            times.add_metric([tier], buckets=classes, sum_value=figures.read_total_s)
        yield times

    def _of(self, name: str) -> Iterator[tuple[str, tuple[int, float]]]:
        for (metric, function_name), statistics in sorted(self._metrics.totals.items(), key=lambda item: item[0]):
            if metric == name:
                yield function_name, (statistics.count, statistics.total)

    def answer(self) -> Response:
        """The text that Prometheus reads."""
        headers = ((b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),)
        return Response(status=200, body=generate_latest(self._registry), headers=headers)


def _bound(seconds: float) -> str:
    return "+Inf" if math.isinf(seconds) else f"{seconds:g}"
