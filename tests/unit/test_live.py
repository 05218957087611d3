import contextlib
import datetime as dt
import os
import re
import warnings
from pathlib import Path
from typing import get_args

import pytest
from backend import NOW, make_event
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_analytics import worker_metrics
from otel_analytics.errors import SettingsError
from otel_analytics.live.metrics import (
    CounterName,
    GaugeName,
    HistogramName,
    LiveMetrics,
    PipelineMetrics,
    exposition,
)

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def registry():
    return CollectorRegistry()


def samples(registry, name):
    """Label values, in the order of the labels' names, to value."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == name
    }


def test_a_request_is_counted_in_every_histogram(registry):
    live = LiveMetrics(registry, max_routes=10)
    live.observe(
        make_event(
            duration_ms=80.0,
            status_code=201,
            method="POST",
            request_size_bytes=300,
            response_size_bytes=5_000,
            db_query_count=0,
        )
    )

    key = ("POST", "201", "/items/{id}")
    assert samples(registry, "http_server_request_duration_seconds_sum") == {key: pytest.approx(0.08)}
    below = samples(registry, "http_server_request_duration_seconds_bucket")
    assert below[(*key, "0.075")] == 0
    assert below[(*key, "0.1")] == 1
    bounds = "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 +Inf"
    assert " ".join(labels[-1] for labels in below) == bounds
    key = ("POST", "/items/{id}")
    assert samples(registry, "http_server_request_body_size_bytes_sum") == {key: 300}
    assert samples(registry, "http_server_response_body_size_bytes_sum") == {key: 5_000}
    assert samples(registry, "http_server_request_db_queries_bucket")[(*key, "0.0")] == 1


def test_what_was_not_observed_is_not_counted(registry):
    LiveMetrics(registry, max_routes=10).observe(make_event(request_size_bytes=0))

    assert samples(registry, "http_server_request_duration_seconds_count") == {
        ("GET", "200", "/items/{id}"): 1
    }
    for name in (
        "http_server_request_body_size_bytes_count",
        "http_server_response_body_size_bytes_count",
        "http_server_request_db_queries_count",
        "http_server_cache_requests_total",
    ):
        assert samples(registry, name) == {}, name


def test_routes_past_the_limit_share_one_value(registry):
    live = LiveMetrics(registry, max_routes=2)
    for route in ("/a", "/b", "/c", "/d", "/a", "/c", "(unmatched)"):
        live.observe(make_event(route=route, response_size_bytes=1, cache_status="hit"))

    expected = {"/a": 2, "/b": 1, "(other)": 3, "(unmatched)": 1}
    durations = samples(registry, "http_server_request_duration_seconds_count")
    assert {route: count for (_, _, route), count in durations.items()} == expected
    sizes = samples(registry, "http_server_response_body_size_bytes_count")
    assert {route: count for (_, route), count in sizes.items()} == expected
    hits = samples(registry, "http_server_cache_requests_total")
    assert {route: count for (_, route), count in hits.items()} == expected


def test_only_known_cache_states_become_labels(registry):
    live = LiveMetrics(registry, max_routes=2)
    for status in ("hit", "miss", "miss", "key=7", "key=8"):
        live.observe(make_event(route="/a", cache_status=status))

    assert samples(registry, "http_server_cache_requests_total") == {
        ("hit", "/a"): 1,
        ("miss", "/a"): 2,
        ("_OTHER", "/a"): 2,
    }


def test_nothing_of_a_user_or_a_raw_path_reaches_the_page(registry):
    LiveMetrics(registry, max_routes=2).observe(
        make_event(route_full="/items/4711?sort=asc", user_id="ada", query_params={"sort": "secret-sort"})
    )
    body, _ = exposition(registry, "")
    assert b"/items/{id}" in body
    for raw in (b"4711", b"ada", b"secret-sort"):
        assert raw not in body


def test_requests_in_progress(registry):
    live = LiveMetrics(registry, max_routes=2)
    requests = dict(enumerate(("GET", "GET", "POST")))
    for number, method in requests.items():
        live.request_started(number, method)
    live.request_ended(0, "GET")
    live.count_active()
    assert samples(registry, "http_server_active_requests") == {("GET",): 1, ("POST",): 1}
    live.request_ended(1, "GET")
    live.count_active()
    live.count_active()
    assert samples(registry, "http_server_active_requests") == {("GET",): 0, ("POST",): 1}


def test_no_request_in_progress_is_0_also_where_nobody_saw_one_in_progress(registry):
    live = LiveMetrics(registry, max_routes=2)
    live.request_started(0, "GET")
    live.request_ended(0, "GET")
    live.observe(make_event())
    assert samples(registry, "http_server_active_requests") == {("GET",): 0}


def test_requests_in_progress_of_several_applications_on_one_registry_add_up(registry):
    applications = [LiveMetrics(registry, max_routes=2) for _ in range(2)]
    for live in applications:
        live.request_started(0, "GET")
        live.count_active()
    assert samples(registry, "http_server_active_requests") == {("GET",): 2}


class Behind:
    """Counts one request more whenever it catches up."""

    def __init__(self, registry):
        self._live = LiveMetrics(registry, max_routes=2, behind=self)

    def catch_up(self):
        self._live.observe(make_event())


def counted(registry):
    return list(samples(registry, "http_server_request_duration_seconds_count").values())


def test_who_is_behind_catches_up_before_anything_is_shown(registry):
    behind = Behind(registry)
    assert counted(registry) == [1]
    del behind  # the application is gone, its figures stay
    assert counted(registry) == [1]


def test_a_forked_child_leaves_alone_what_its_parent_is_behind_with(registry):
    behind = Behind(registry)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of Python warn of what is tested here
        child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = len(counted(registry))
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert counted(registry) == [1]
    assert behind


def test_several_on_one_registry_count_together(registry):
    for _ in range(2):
        LiveMetrics(registry, max_routes=2).observe(make_event())
        PipelineMetrics(registry).accepted(3)
    assert samples(registry, "http_server_request_duration_seconds_count") == {
        ("GET", "200", "/items/{id}"): 2
    }
    assert samples(registry, "otel_analytics_events_accepted_total") == {(): 6}


def test_a_name_that_is_taken_is_refused_and_leaves_nothing_behind(registry):
    taken = Gauge("http_server_active_requests", "Somebody else's.", registry=registry)
    with pytest.raises(SettingsError, match="registry of its own"):
        LiveMetrics(registry, max_routes=2)
    registry.unregister(taken)
    LiveMetrics(registry, max_routes=2)


def test_the_pipeline_reports_on_itself(registry):
    pipeline = PipelineMetrics(registry)
    pipeline.accepted(5)
    pipeline.dropped("buffer_full", 2)
    pipeline.dropped("shutdown", 1)
    pipeline.buffered(7)
    pipeline.buffered(4)
    pipeline.capture_error()

    assert samples(registry, "otel_analytics_events_accepted_total") == {(): 5}
    assert samples(registry, "otel_analytics_events_dropped_total") == {
        ("buffer_full",): 2,
        ("export_failed",): 0,
        ("rejected",): 0,
        ("shutdown",): 1,
    }
    assert samples(registry, "otel_analytics_buffer_events") == {(): 4}
    assert samples(registry, "otel_analytics_capture_errors_total") == {(): 1}


def exemplars(registry):
    """Bucket to trace id, of the durations."""
    body, _ = exposition(registry, OPENMETRICS)
    return {
        sample.labels["le"]: sample.exemplar.labels["trace_id"]
        for family in parse_openmetrics(body.decode())
        for sample in family.samples
        if sample.exemplar
    }


def test_an_exemplar_leads_to_the_trace_of_a_sampled_request(registry):
    live = LiveMetrics(registry, max_routes=2)
    live.observe(make_event(duration_ms=80.0, trace_id="a" * 32, span_id="b" * 16))
    assert exemplars(registry) == {}
    live.observe(make_event(duration_ms=80.0, trace_id="c" * 32, span_id="d" * 16), sampled=True)
    assert exemplars(registry) == {"0.1": "c" * 32}
    body, _ = exposition(registry, OPENMETRICS)
    assert b'# {span_id="dddddddddddddddd",trace_id="cccccccccccccccccccccccccccccccc"} 0.08 ' in body
    assert b"trace_id" not in exposition(registry, "")[0]


def test_a_series_has_few_exemplars_but_those_of_its_slowest_requests(registry):
    live = LiveMetrics(registry, max_routes=2)
    for seconds, duration_ms, trace in ((0, 80.0, "a"), (1, 80.0, "b"), (2, 700.0, "c"), (3, 20.0, "d")):
        event = make_event(NOW + seconds * SECOND, duration_ms=duration_ms, trace_id=trace, span_id="1")
        live.observe(event, sampled=True)
    assert exemplars(registry) == {"0.1": "a", "0.75": "c"}
    live.observe(make_event(NOW + 13 * SECOND, duration_ms=80.0, trace_id="e", span_id="1"), sampled=True)
    assert exemplars(registry) == {"0.1": "e", "0.75": "c"}


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4", parse_text),
        (OPENMETRICS, "application/openmetrics-text", parse_openmetrics),
    ],
)
def test_the_page_is_in_the_format_asked_for(registry, accept, content_type, parse):
    LiveMetrics(registry, max_routes=2).observe(make_event(cache_status="hit"))
    PipelineMetrics(registry).dropped("buffer_full", 1)
    Counter("orders", "The application's own.", registry=registry).inc()

    body, answered = exposition(registry, accept)
    assert answered.startswith(content_type)
    names = {sample.name for family in parse(body.decode()) for sample in family.samples}
    assert names > {"orders_total", "http_server_request_duration_seconds_bucket"}
    # No series more for when each began, but in the application's own.
    assert {name for name in names if name.endswith("_created")} == {"orders_created"}


def test_names_keep_to_the_rules_of_prometheus(registry):
    """Those that promtool checks: base units last, `_total` on counters and on nothing else, help on all."""
    LiveMetrics(registry, max_routes=2)
    for name in get_args(CounterName):
        assert name.endswith("_total")
    for name in (*get_args(GaugeName), *get_args(HistogramName)):
        assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
    families = {family.name: family for family in registry.collect()}
    for name in (*get_args(CounterName), *get_args(GaugeName), *get_args(HistogramName)):
        assert families[name.removesuffix("_total")].documentation


def test_each_metric_of_application_and_worker_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    described = re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE)
    told = [
        *((name, "histogram") for name in get_args(HistogramName)),
        *((name, "gauge") for name in (*get_args(GaugeName), *get_args(worker_metrics.GaugeName))),
        *((name, "counter") for name in get_args(CounterName)),
        *((f"{name}_total", "counter") for name in get_args(worker_metrics.CounterName)),
        *((f"{name}_total", "counter") for name in get_args(worker_metrics.LedgerName)),
        (f"{worker_metrics.LEDGER_DROPPED}_total", "counter"),
        (worker_metrics.BATCH_SECONDS, "histogram"),
        (worker_metrics.CANDIDATE_SCORE, "gauge"),
    ]
    assert sorted(described) == sorted(told)


def test_the_default_registry_keeps_the_figures_of_the_process():
    body, _ = exposition(REGISTRY, "")
    assert b"python_info" in body
