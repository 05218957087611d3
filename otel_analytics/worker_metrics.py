"""What the worker tells Prometheus: about itself, about the pipeline, and what is worth caching."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from otel_analytics.analyze.absolute import Scored
from otel_analytics.ingest import Stored
from otel_analytics.store.ledger import LedgerRow
from otel_analytics.stream import ServerInfo, StreamStatus

GaugeName = Literal[
    "otel_analytics_worker_lag_entries",
    "otel_analytics_worker_lag_seconds",
    "otel_analytics_worker_pending_entries",
    "otel_analytics_worker_rollup_age_seconds",
    "otel_analytics_worker_last_error_timestamp_seconds",
    "otel_analytics_stream_entries",
    "otel_analytics_dead_letter_entries",
    "otel_analytics_partitions_ahead",
    "otel_analytics_rankings_kept_timestamp_seconds",
    "otel_analytics_ledger_missing",
    "otel_analytics_redis_may_evict",
    "otel_analytics_redis_memory_used_bytes",
    "otel_analytics_redis_memory_max_bytes",
]
CounterName = Literal[
    "otel_analytics_worker_stored",
    "otel_analytics_worker_duplicates",
    "otel_analytics_worker_dead",
    "otel_analytics_worker_errors",
]
LedgerName = Literal[
    "otel_analytics_ledger_accepted",
    "otel_analytics_ledger_replayed",
    "otel_analytics_ledger_purged",
    "otel_analytics_ledger_stored",
    "otel_analytics_ledger_duplicates",
    "otel_analytics_ledger_dead",
]
BATCH_SECONDS: Final = "otel_analytics_worker_batch_seconds"
LEDGER_DROPPED: Final = "otel_analytics_ledger_dropped"
CANDIDATE_SCORE: Final = "otel_analytics_cache_candidate_score"
CANDIDATE_LABELS: Final = ("http_request_method", "http_route", "pattern")
BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""
MOST_CANDIDATES: Final = 100
"""Series of `CANDIDATE_SCORE` at a time, whatever `top_n_routes` says."""
PATTERN_LENGTH: Final = 100
"""Characters of a pattern in a label at most."""

_GAUGES: Final[dict[GaugeName, str]] = {
    "otel_analytics_worker_lag_entries": "Entries on the stream that no worker has read.",
    "otel_analytics_worker_lag_seconds": "Age of the oldest entry that is not stored yet, 0 for none.",
    "otel_analytics_worker_pending_entries": "Entries read by some worker and not acknowledged yet.",
    "otel_analytics_worker_rollup_age_seconds": "Time since the oldest hour that waits for a rollup ended.",
    "otel_analytics_worker_last_error_timestamp_seconds": "When a server last failed, 0 for never.",
    "otel_analytics_stream_entries": "Entries on the stream, those kept for reading included.",
    "otel_analytics_dead_letter_entries": "Entries among the dead letters, to be replayed or purged.",
    "otel_analytics_partitions_ahead": "Days after today that have a partition, -1 where today has none.",
    "otel_analytics_rankings_kept_timestamp_seconds": "When rankings were last kept; absent where never.",
    "otel_analytics_ledger_missing": "Events accepted that are nowhere; below zero, more than were accepted.",
    "otel_analytics_redis_may_evict": "1 where Redis may delete the stream to make room, else 0.",
    "otel_analytics_redis_memory_used_bytes": "Memory that Redis uses.",
    "otel_analytics_redis_memory_max_bytes": "Memory that Redis may use; absent where it has no limit.",
}
_COUNTERS: Final[dict[CounterName, str]] = {
    "otel_analytics_worker_stored": "Events stored by this worker.",
    "otel_analytics_worker_duplicates": "Events that this worker found to be stored before.",
    "otel_analytics_worker_dead": "Events that this worker sent to the dead letters.",
    "otel_analytics_worker_errors": "Failures of Redis or PostgreSQL.",
}
_LEDGER: Final[dict[LedgerName, str]] = {
    "otel_analytics_ledger_accepted": "Events accepted by Redis, as it last said to a worker.",
    "otel_analytics_ledger_replayed": "Dead events put back on the stream, as Redis last said to a worker.",
    "otel_analytics_ledger_purged": "Dead events discarded for good, as Redis last said to a worker.",
    "otel_analytics_ledger_stored": "Events stored by all workers.",
    "otel_analytics_ledger_duplicates": "Events that workers found to be stored before.",
    "otel_analytics_ledger_dead": "Events that workers sent to the dead letters.",
}


class WorkerMetrics(Collector):
    """The figures, kept here and read at each scrape. What is not known yet is absent rather than 0.

    `otel_analytics_worker_*` counters are those of this process: add them up over workers. The
    `otel_analytics_ledger_*` ones are read from PostgreSQL, so they go on where they were after a restart,
    and are the same from each worker: take one, not the sum.

    Not prometheus_client's own counters: where PROMETHEUS_MULTIPROC_DIR is set they would end up among the
    metrics of the application.
    """

    def __init__(self) -> None:
        """Nothing has been counted or seen."""
        self._gauges: dict[GaugeName, float] = {"otel_analytics_worker_last_error_timestamp_seconds": 0.0}
        self._counters: dict[CounterName, int] = dict.fromkeys(_COUNTERS, 0)
        self._ledger: dict[LedgerName, int] = {}
        self._dropped: Mapping[str, int] = {}
        self._scores: Mapping[tuple[str, str, str], float] = {}
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

    def observe_stream(self, status: StreamStatus) -> None:
        """Take over how things stand on the stream."""
        self._gauges["otel_analytics_worker_lag_entries"] = status.undelivered
        self._gauges["otel_analytics_worker_lag_seconds"] = status.oldest_unprocessed_seconds
        self._gauges["otel_analytics_worker_pending_entries"] = status.pending
        self._gauges["otel_analytics_stream_entries"] = status.length
        self._gauges["otel_analytics_dead_letter_entries"] = status.dead_letters

    def observe_redis(self, server: ServerInfo) -> None:
        """Take over how Redis stands."""
        if server.eviction_policy is not None:
            self._gauges["otel_analytics_redis_may_evict"] = server.may_evict_stream
        if server.used_memory_bytes is not None:
            self._gauges["otel_analytics_redis_memory_used_bytes"] = server.used_memory_bytes
        self._gauges.pop("otel_analytics_redis_memory_max_bytes", None)
        if server.max_memory_bytes:
            self._gauges["otel_analytics_redis_memory_max_bytes"] = server.max_memory_bytes

    def observe_tables(
        self, *, rollup_age_seconds: float, partitions_ahead: int, rankings_kept: float | None
    ) -> None:
        """Take over how things stand in PostgreSQL.

        Args:
            rollup_age_seconds: Time since the oldest hour that waits for a rollup ended, 0 for none.
            partitions_ahead: Days after today that have a partition.
            rankings_kept: When rankings were last kept, seconds since 1970; None for never.
        """
        self._gauges["otel_analytics_worker_rollup_age_seconds"] = rollup_age_seconds
        self._gauges["otel_analytics_partitions_ahead"] = partitions_ahead
        if rankings_kept is not None:
            self._gauges["otel_analytics_rankings_kept_timestamp_seconds"] = rankings_kept

    def observe_audit(self, missing: int) -> None:
        """Take over how many accepted events are neither stored nor dead nor on the stream."""
        self._gauges["otel_analytics_ledger_missing"] = missing

    def observe_ledger(self, rows: Sequence[LedgerRow], dropped: Mapping[str, int]) -> None:
        """Take over the ledger.

        Args:
            rows: All epochs.
            dropped: Events that applications ever gave up, by reason.
        """
        self._ledger = {
            "otel_analytics_ledger_accepted": sum(row.accepted for row in rows),
            "otel_analytics_ledger_replayed": sum(row.replayed for row in rows),
            "otel_analytics_ledger_purged": sum(row.purged for row in rows),
            "otel_analytics_ledger_stored": sum(row.stored for row in rows),
            "otel_analytics_ledger_duplicates": sum(row.duplicates for row in rows),
            "otel_analytics_ledger_dead": sum(row.dead for row in rows),
        }
        self._dropped = dropped

    def rank(self, best: Iterable[Scored]) -> None:
        """Take over the absolute ranking, best first."""
        scores: dict[tuple[str, str, str], float] = {}
        for figures, score, _ in best:
            # Patterns with the same names have one series, that of the best.
            scores.setdefault((figures.method, figures.route, _names(figures.pattern)), score)
        self._scores = scores

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus wants them."""
        gauges, ledger, dropped, scores = dict(self._gauges), self._ledger, self._dropped, self._scores
        for gauge, text in _GAUGES.items():
            if gauge in gauges:
                yield GaugeMetricFamily(gauge, text, gauges[gauge])
        for counter, count in self._counters.items():
            yield CounterMetricFamily(counter, _COUNTERS[counter], count)
        for entry, events in ledger.items():
            yield CounterMetricFamily(entry, _LEDGER[entry], events)
        drops = CounterMetricFamily(
            LEDGER_DROPPED, "Events that applications gave up, as they reported.", labels=["reason"]
        )
        for reason, events in dropped.items():
            drops.add_metric([reason], events)
        yield drops
        candidates = GaugeMetricFamily(
            CANDIDATE_SCORE, "Score in the absolute ranking of what to cache.", labels=CANDIDATE_LABELS
        )
        for labels, score in scores.items():
            candidates.add_metric(labels, score)
        yield candidates
        bounds = [*map(str, BUCKETS), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._batch_counts), strict=True))
        yield HistogramMetricFamily(BATCH_SECONDS, "Time to store a batch.", buckets, self._batch_seconds)


def _names(pattern: str) -> str:
    """The names of a pattern's parameters, in so many characters at most; `-` for none.

    Not their values: whoever may scrape need not know what somebody looked for.
    """
    text = "".join(c if c.isprintable() else "?" for c in "&".join(json.loads(pattern))) or "-"
    return text if len(text) <= PATTERN_LENGTH else f"{text[: PATTERN_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"
