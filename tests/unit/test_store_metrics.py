"""The figures of the store's tiers, as Prometheus reads them."""

from __future__ import annotations

import pytest

from thaw.api.telemetry.prometheus import Exposition
from thaw.observe.metrics import Metrics
from thaw.store.counted import Counters


def test_prometheus_reads_hits_misses_bytes_and_latency_of_every_tier() -> None:
    near, origin = Counters(misses=3, rejected=1), Counters(failures=2, writes=5, bytes_written=500)
    near.note_read(0.002, 100)
    near.note_read(0.3, 50)
    metrics = Metrics()
    metrics.tiers = {"l1": near, "l3": origin}
    text = Exposition(metrics).answer().body.decode()
    for line in (
        'thaw_chunk_hits_total{tier="l1"} 2.0',
        'thaw_chunk_misses_total{tier="l1"} 3.0',
        'thaw_chunk_rejected_total{tier="l1"} 1.0',
        'thaw_chunk_read_bytes_total{tier="l1"} 150.0',
        'thaw_chunk_failures_total{tier="l3"} 2.0',
        'thaw_chunk_writes_total{tier="l3"} 5.0',
        'thaw_chunk_written_bytes_total{tier="l3"} 500.0',
        'thaw_chunk_read_seconds_bucket{le="0.001",tier="l1"} 0.0',
        'thaw_chunk_read_seconds_bucket{le="0.0025",tier="l1"} 1.0',
        'thaw_chunk_read_seconds_bucket{le="0.5",tier="l1"} 2.0',
        'thaw_chunk_read_seconds_bucket{le="+Inf",tier="l1"} 2.0',
        'thaw_chunk_read_seconds_count{tier="l1"} 2.0',
    ):
        assert line in text.splitlines()
    assert near.read_total_s == pytest.approx(0.302)
