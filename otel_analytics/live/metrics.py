"""What the instrumented application tells Prometheus: its requests, and how their events fare.

Imports prometheus_client, so not to be imported before `directory.prepare` was called.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from otel_analytics.errors import SettingsError
from otel_analytics.live.directory import VARIABLE
from otel_analytics.live.summed import AllProcesses
from otel_analytics.live.unhurried import unhurried
from otel_analytics.record import KNOWN_METHODS, OTHER_METHOD, UNMATCHED_ROUTE, Event
from otel_analytics_exporters.delivery import BUFFER_FULL, EXPORT_FAILED, REJECTED, SHUTDOWN

HistogramName = Literal[
    "http_server_request_duration_seconds",
    "http_server_request_body_size_bytes",
    "http_server_response_body_size_bytes",
    "http_server_request_db_queries",
]
GaugeName = Literal[
    "http_server_active_requests",
    "otel_analytics_buffer_events",
]
CounterName = Literal[
    "http_server_cache_requests_total",
    "otel_analytics_events_accepted_total",
    "otel_analytics_events_dropped_total",
    "otel_analytics_capture_errors_total",
]

_CREATED: Final = "_created"
_EXEMPLAR_PAUSE_US: Final = 10_000_000
"""Between two exemplars of a series, unless a request took longer than the last one: a few are enough."""

_M = TypeVar("_M", bound=MetricWrapperBase)

METHOD: Final = "http_request_method"
ROUTE: Final = "http_route"
STATUS: Final = "http_response_status_code"
CACHE_STATUS: Final = "cache_status"
"""The convention has no attribute for it; this is the name of RFC 9211's header."""

_METHODS: Final = (*sorted(KNOWN_METHODS), OTHER_METHOD)
OTHER_ROUTES: Final = "(other)"
OTHER_CACHE_STATUS: Final = "_OTHER"
CACHE_STATUSES: Final = frozenset({"hit", "miss", "bypass", "stale", "expired", "revalidated"})
"""Kept apart; an application can say anything."""

DURATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds, those of the OpenTelemetry conventions."""
SIZE_BUCKETS: Final = tuple(float(4**power) for power in range(4, 13))
"""Bytes, from 256 to 16 Mi."""
QUERY_BUCKETS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)

_HISTOGRAMS: Final[dict[HistogramName, tuple[str, tuple[str, ...], tuple[float, ...]]]] = {
    "http_server_request_duration_seconds": (
        "Duration of requests, to the last byte of the response body.",
        (METHOD, ROUTE, STATUS),
        DURATION_BUCKETS,
    ),
    "http_server_request_body_size_bytes": (
        "Size of request bodies as they passed.",
        (METHOD, ROUTE),
        SIZE_BUCKETS,
    ),
    "http_server_response_body_size_bytes": (
        "Size of response bodies as they passed, after compression.",
        (METHOD, ROUTE),
        SIZE_BUCKETS,
    ),
    "http_server_request_db_queries": (
        "Database queries made for a request.",
        (METHOD, ROUTE),
        QUERY_BUCKETS,
    ),
}
_GAUGES: Final[dict[GaugeName, tuple[str, tuple[str, ...]]]] = {
    "http_server_active_requests": ("Requests in progress.", (METHOD,)),
    "otel_analytics_buffer_events": ("Events in memory that are not delivered yet.", ()),
}
_COUNTERS: Final[dict[CounterName, tuple[str, tuple[str, ...]]]] = {
    "http_server_cache_requests_total": (
        "Requests of which a cache said what it did.",
        (ROUTE, CACHE_STATUS),
    ),
    "otel_analytics_events_accepted_total": ("Events delivered.", ()),
    "otel_analytics_events_dropped_total": ("Events given up.", ("reason",)),
    "otel_analytics_capture_errors_total": (
        "Errors of the capture, none of which reached the application.",
        (),
    ),
}


class _Series(dict[tuple[str | int, ...], _M], Collector):
    """The series of a metric by their label values: `labels` looks them up too, but takes a lock for it."""

    def __init__(self, metric: _M, names: tuple[str, ...]) -> None:
        super().__init__()
        self._metric = metric
        self._names = names
        if not names:
            self[()] = metric

    def __missing__(self, labels: tuple[str | int, ...]) -> _M:
        series = self[labels] = self._metric.labels(*labels)
        return series

    def describe(self) -> Iterable[Metric]:
        """The metric without its series."""
        return self._metric.describe()

    def collect(self) -> Iterator[Metric]:
        """See the base class."""
        for metric in self.describe():
            yield unhurried(metric, self._samples)

    def _samples(self) -> Iterator[Sample]:
        for labels, series in self.copy().items():
            named = dict(zip(self._names, map(str, labels), strict=True))
            for metric in series.collect():
                for sample in metric.samples:
                    # When it began would be one series more for each that Prometheus has to keep.
                    if not sample.name.endswith(_CREATED):
                        yield sample._replace(labels={**named, **sample.labels})


class Behind(Protocol):
    """Who has requests that are over and not counted yet."""

    def catch_up(self) -> None:
        """Count them."""


class _Instruments(Collector):
    """All metrics of one registry; registered as one, so entirely or not at all.

    Attributes:
        behind: Who has to catch up before anything is shown.
    """

    def __init__(self) -> None:
        self.behind: WeakSet[Behind] = WeakSet()
        self.histograms: dict[HistogramName, _Series[Histogram]] = {
            name: _Series(Histogram(name, text, labels, registry=None, buckets=buckets), labels)
            for name, (text, labels, buckets) in _HISTOGRAMS.items()
        }
        self.gauges: dict[GaugeName, _Series[Gauge]] = {
            name: _Series(Gauge(name, text, labels, registry=None, multiprocess_mode="livesum"), labels)
            for name, (text, labels) in _GAUGES.items()
        }
        self.counters: dict[CounterName, _Series[Counter]] = {
            name: _Series(Counter(name, text, labels, registry=None), labels)
            for name, (text, labels) in _COUNTERS.items()
        }

    def describe(self) -> Iterator[Metric]:
        for each in self._all():
            yield from each.describe()

    def collect(self) -> Iterator[Metric]:
        self.catch_up()
        for each in self._all():
            yield from each.collect()

    def catch_up(self) -> None:
        with _register_lock:  # else one might be added meanwhile
            behind = list(self.behind)
        for each in behind:
            each.catch_up()

    def _all(self) -> "Iterator[_Series[Any]]":
        return chain(self.histograms.values(), self.gauges.values(), self.counters.values())


_registered: Final[WeakKeyDictionary[CollectorRegistry, _Instruments]] = WeakKeyDictionary()
"""A registry takes each name once, and several applications may share it."""
_register_lock: Final = threading.Lock()


def _instruments(registry: CollectorRegistry) -> _Instruments:
    with _register_lock:
        found = _registered.get(registry)
        if found is None:
            found = _Instruments()
            try:
                registry.register(found)
            except ValueError as error:
                raise SettingsError(f"{error}; give otel-analytics a registry of its own") from error
            _registered[registry] = found
        return found


def _after_fork_in_child() -> None:
    # What the parent is behind with is the parent's to count; and a thread of it may have held a lock.
    for each in list(_registered.values()):
        each.behind = WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class LiveMetrics:
    """Counts requests as they begin and end. Any thread may call it; a process makes it after a fork.

    Several on one registry count into the same metrics.
    """

    def __init__(self, registry: CollectorRegistry, *, max_routes: int, behind: Behind | None = None) -> None:
        """Register the metrics; nothing is counted yet.

        Args:
            registry: Where they are to appear.
            max_routes: Distinct routes a metric may have, besides `UNMATCHED_ROUTE`; further ones together
                are `OTHER_ROUTES`. Each worker process counts for itself.
            behind: Who has to catch up before the registry shows anything.

        Raises:
            SettingsError: The registry has metrics of these names from elsewhere.
        """
        metrics = _instruments(registry)
        if behind is not None:
            with _register_lock:
                metrics.behind.add(behind)
        self._durations = metrics.histograms["http_server_request_duration_seconds"]
        self._request_sizes = metrics.histograms["http_server_request_body_size_bytes"]
        self._response_sizes = metrics.histograms["http_server_response_body_size_bytes"]
        self._queries = metrics.histograms["http_server_request_db_queries"]
        self._cache = metrics.counters["http_server_cache_requests_total"]
        self._active = metrics.gauges["http_server_active_requests"]
        self._in_progress: dict[str, set[object]] = {method: set() for method in _METHODS}
        self._counted_active: dict[str, int] = {}
        self._active_lock = threading.Lock()
        self._exemplars: dict[tuple[str, str, int], tuple[int, float]] = {}
        self._max_routes = max_routes + 1
        self._routes = {UNMATCHED_ROUTE: UNMATCHED_ROUTE}
        self._routes_lock = threading.Lock()

    def request_started(self, request: object, method: str) -> None:
        """Note that a request is in progress; `request_ended` must follow.

        Args:
            request: Stands for it.
            method: A known one, or `_OTHER`.
        """
        # Two changes of a gauge a request would cost ten times as much.
        self._in_progress[method].add(request)

    def request_ended(self, request: object, method: str) -> None:
        """It no longer is.

        Args:
            request: The same as at its start.
            method: Likewise.
        """
        self._in_progress[method].discard(request)

    def count_active(self) -> None:
        """Show how many requests are in progress now."""
        with self._active_lock:
            for method, requests in self._in_progress.items():
                now = len(requests)
                more = now - self._counted_active.get(method, 0)
                if more:  # others on the same registry have theirs in the gauge
                    self._active[(method,)].inc(more)
                    self._counted_active[method] = now

    def observe(self, event: Event, *, sampled: bool = False) -> None:
        """Count a request that is over.

        Args:
            event: What became of it.
            sampled: Whether its span is exported, so that its trace can be found.
        """
        method = event.method
        if method not in self._counted_active:  # so that none in progress is 0
            self._active[(method,)].inc(0)
            self._counted_active[method] = 0
        route = self._routes.get(event.route) or self._admit(event.route)
        series = method, route, event.status_code
        exemplar = self._exemplar(series, event) if sampled else None
        self._durations[series].observe(event.duration_ms / 1000, exemplar)
        if event.request_size_bytes:  # most requests have no body, and a histogram is a dozen series
            self._request_sizes[method, route].observe(event.request_size_bytes)
        if event.response_size_bytes is not None:
            self._response_sizes[method, route].observe(event.response_size_bytes)
        if event.db_query_count is not None:
            self._queries[method, route].observe(event.db_query_count)
        if event.cache_status is not None:
            status = event.cache_status if event.cache_status in CACHE_STATUSES else OTHER_CACHE_STATUS
            self._cache[route, status].inc()

    def _exemplar(self, series: tuple[str, str, int], event: Event) -> dict[str, str] | None:
        """What leads from the series to the trace of this request; None where there is a recent one."""
        pause_until, duration_ms = self._exemplars.get(series, (0, 0.0))
        if event.timestamp_us < pause_until and event.duration_ms <= duration_ms:
            return None
        if event.trace_id is None or event.span_id is None:
            return None
        self._exemplars[series] = (event.timestamp_us + _EXEMPLAR_PAUSE_US, event.duration_ms)
        return {"trace_id": event.trace_id, "span_id": event.span_id}

    def _admit(self, route: str) -> str:
        with self._routes_lock:
            if len(self._routes) < self._max_routes:
                self._routes[route] = route
            return self._routes.get(route, OTHER_ROUTES)


class PipelineMetrics:
    """What became of the events of this application. Any thread may call it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics; everything is 0, each reason for a drop too, so that a rate sees the first.

        Args:
            registry: Where they are to appear.

        Raises:
            SettingsError: The registry has metrics of these names from elsewhere.
        """
        metrics = _instruments(registry)
        self._accepted = metrics.counters["otel_analytics_events_accepted_total"][()]
        self._dropped = metrics.counters["otel_analytics_events_dropped_total"]
        self._errors = metrics.counters["otel_analytics_capture_errors_total"][()]
        self._buffer = metrics.gauges["otel_analytics_buffer_events"][()]
        for reason in (BUFFER_FULL, EXPORT_FAILED, REJECTED, SHUTDOWN):
            self._dropped[(reason,)].inc(0)

    def accepted(self, events: int) -> None:
        """Count events that were delivered."""
        self._accepted.inc(events)

    def dropped(self, reason: str, events: int) -> None:
        """Count events that were given up.

        Args:
            reason: One of a few, as it becomes a label.
            events: How many.
        """
        self._dropped[(reason,)].inc(events)

    def buffered(self, events: int) -> None:
        """Take over how many events wait for delivery in this process."""
        self._buffer.set(events)

    def capture_error(self) -> None:
        """Count an error that was kept from the application."""
        self._errors.inc()


def exposition(registry: CollectorRegistry, accept_header: str) -> tuple[bytes, str]:
    """What a scrape is answered with: the body and its content type.

    Where several processes share their metrics, these are the sums over all of them, whichever registry they
    are in. Figures that only make sense for one process, such as `process_*`, are then left out.

    Args:
        registry: What to show in a single process.
        accept_header: Decides between the text format and OpenMetrics.
    """
    encode, content_type = choose_encoder(accept_header)
    shared = values.ValueClass is not values.MutexValue
    if shared:  # else the registry sees to it
        for each in list(_registered.values()):
            each.catch_up()
    return encode(AllProcesses(Path(os.environ[VARIABLE])) if shared else registry), content_type
