"""What the worker tells Prometheus about itself."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from otel_analytics.ingest import Stored
from otel_analytics.stream import StreamStatus

GaugeName = Literal[
    "otel_analytics_worker_lag_entries",
    "otel_analytics_worker_lag_seconds",
    "otel_analytics_worker_pending_entries",
    "otel_analytics_worker_rollup_age_seconds",
    "otel_analytics_worker_last_error_timestamp_seconds",
]
CounterName = Literal[
    "otel_analytics_worker_stored",
    "otel_analytics_worker_duplicates",
    "otel_analytics_worker_dead",
    "otel_analytics_worker_errors",
]
BATCH_SECONDS: Final = "otel_analytics_worker_batch_seconds"
BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""

_GAUGES: Final[dict[GaugeName, str]] = {
    "otel_analytics_worker_lag_entries": "Entries on the stream that no worker has read.",
    "otel_analytics_worker_lag_seconds": "Age of the oldest entry that is not stored yet, 0 for none.",
    "otel_analytics_worker_pending_entries": "Entries read by some worker and not acknowledged yet.",
    "otel_analytics_worker_rollup_age_seconds": "Time since the oldest hour that waits for a rollup ended.",
    "otel_analytics_worker_last_error_timestamp_seconds": "When a server last failed, 0 for never.",
}
_COUNTERS: Final[dict[CounterName, str]] = {
    "otel_analytics_worker_stored": "Events stored.",
    "otel_analytics_worker_duplicates": "Events that were stored before.",
    "otel_analytics_worker_dead": "Events that went to the dead letters.",
    "otel_analytics_worker_errors": "Failures of Redis or PostgreSQL.",
}


class WorkerMetrics(Collector):
    """The worker's figures, kept here and read at each scrape.

    Not prometheus_client's own counters: where PROMETHEUS_MULTIPROC_DIR is set they would end up among the
    metrics of the application.
    """

    def __init__(self) -> None:
        """Everything is 0."""
        self._gauges: dict[GaugeName, float] = dict.fromkeys(_GAUGES, 0.0)
        self._counters: dict[CounterName, int] = dict.fromkeys(_COUNTERS, 0)
        self._batch_counts = [0] * (len(BUCKETS) + 1)
        self._batch_seconds = 0.0

    def batch_done(self, stored: Stored, seconds: float) -> None:
        """Count a batch that was stored."""
        self._counters["otel_analytics_worker_stored"] += stored.stored
        self._counters["otel_analytics_worker_duplicates"] += stored.duplicates
        self._counters["otel_analytics_worker_dead"] += stored.dead
        self._batch_counts[bisect_left(BUCKETS, seconds)] += 1
        self._batch_seconds += seconds

    def failed(self, unix_seconds: float) -> None:
        """Count a failure of Redis or PostgreSQL at a time."""
        self._counters["otel_analytics_worker_errors"] += 1
        self._gauges["otel_analytics_worker_last_error_timestamp_seconds"] = unix_seconds

    def observe(self, stream: StreamStatus | None, rollup_age_seconds: float) -> None:
        """Take over how things stand.

        Args:
            stream: None where there is none.
            rollup_age_seconds: Time since the oldest hour that waits for a rollup ended.
        """
        if stream is not None:
            self._gauges["otel_analytics_worker_lag_entries"] = stream.undelivered
            self._gauges["otel_analytics_worker_lag_seconds"] = stream.oldest_unprocessed_seconds
            self._gauges["otel_analytics_worker_pending_entries"] = stream.pending
        self._gauges["otel_analytics_worker_rollup_age_seconds"] = rollup_age_seconds

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus wants them."""
        for gauge, value in self._gauges.items():
            yield GaugeMetricFamily(gauge, _GAUGES[gauge], value)
        for counter, count in self._counters.items():
            yield CounterMetricFamily(counter, _COUNTERS[counter], count)
        bounds = [*map(str, BUCKETS), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._batch_counts), strict=True))
        yield HistogramMetricFamily(BATCH_SECONDS, "Time to store a batch.", buckets, self._batch_seconds)
