"""The worker's metrics: over restarts, while a server is away, and the ranking among them."""

import contextlib
import datetime as dt
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from backend import DAY, HOUR, NOW, make_event, make_settings, produce, raw_postgres, raw_redis
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from waiting import until

from otel_analytics.analyze.absolute import Scored
from otel_analytics.embedded.process import free_port
from otel_analytics.figures import PatternFigures
from otel_analytics.maintenance import maintain
from otel_analytics.store.connection import connect
from otel_analytics.worker import Worker
from otel_analytics.worker_metrics import PATTERN_LENGTH, WorkerMetrics


@pytest.fixture
def settings(redis_url, migrated_dsn):
    return make_settings(redis_url, migrated_dsn)


def figures(registry):
    """Each series as its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def after_a_run(settings, now=NOW):
    registry = CollectorRegistry()
    with Worker(settings, clock=lambda: now, registry=registry) as worker:
        worker.run_once()
        return figures(registry)


def test_the_ledger_goes_on_where_it_was_when_the_worker_is_another(settings):
    again = make_event()
    produce(
        settings.redis_url, [again, make_event(), make_event(status_code=999)], dropped={"buffer_full": 3}
    )
    first = after_a_run(settings)
    produce(settings.redis_url, [again, make_event()], dropped={"buffer_full": 4, "shutdown": 1})
    second = after_a_run(settings)
    names = ("accepted", "stored", "duplicates", "dead", "replayed", "purged")
    ledger = [[seen[f"otel_analytics_ledger_{name}_total",] for name in names] for seen in (first, second)]
    assert ledger == [[3, 2, 0, 1, 0, 0], [5, 3, 1, 1, 0, 0]]
    assert second["otel_analytics_worker_stored_total",] == 1
    assert second["otel_analytics_ledger_dropped_total", "buffer_full"] == 7
    assert second["otel_analytics_ledger_dropped_total", "shutdown"] == 1
    assert second["otel_analytics_dead_letter_entries",] == 1


def test_forgotten_drops_still_count(settings):
    produce(settings.redis_url, [make_event()], dropped={"buffer_full": 3})
    assert after_a_run(settings)["otel_analytics_ledger_dropped_total", "buffer_full"] == 3
    with connect(settings.postgres_dsn) as connection:
        for days in (500, 1_000):
            maintain(connection, settings, now=NOW + days * DAY)
        assert connection.execute("SELECT hour, events FROM route_analytics_drops").fetchall() == [
            (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), 3)
        ]
    assert after_a_run(settings)["otel_analytics_ledger_dropped_total", "buffer_full"] == 3


def test_what_is_not_known_is_absent(settings):
    registry = CollectorRegistry()
    with Worker(settings, registry=registry):
        names = {name for name, *_ in figures(registry)}
    assert "otel_analytics_worker_stored_total" in names
    assert not any("ledger" in name or "lag" in name or "partitions" in name for name in names)


def test_partitions_ahead_are_counted_up_to_the_first_gap(settings):
    assert after_a_run(settings)["otel_analytics_partitions_ahead",] == 1
    registry = CollectorRegistry()
    with (
        raw_postgres(settings.postgres_dsn) as connection,
        Worker(settings, clock=lambda: NOW, registry=registry) as worker,
    ):
        connection.execute(f"DROP TABLE route_analytics_{NOW:y%Ym%md%d}")
        worker._observe()
        assert figures(registry)["otel_analytics_partitions_ahead",] == -1


def test_how_redis_stands(settings):
    registry = CollectorRegistry()
    with raw_redis(settings.redis_url) as client, Worker(settings, registry=registry) as worker:
        worker._observe()
        before = figures(registry)
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", 2**30)
        try:
            worker._due.clear()
            worker._observe()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 0)
        after = figures(registry)
    assert before["otel_analytics_redis_may_evict",] == 0
    assert before["otel_analytics_redis_memory_used_bytes",] > 100_000
    assert ("otel_analytics_redis_memory_max_bytes",) not in before
    assert after["otel_analytics_redis_may_evict",] == 1
    assert after["otel_analytics_redis_memory_max_bytes",] == 2**30


def test_lag_is_told_while_postgresql_is_away(settings):
    settings = make_settings(settings.redis_url, settings.postgres_dsn, worker_metrics_port=free_port())
    server, _, database = settings.postgres_dsn.rpartition("/")
    stop = threading.Event()
    with (
        ThreadPoolExecutor(1) as pool,
        Worker(settings) as worker,
        raw_postgres(f"{server}/postgres") as admin,
    ):
        running = pool.submit(worker.run, stop)
        try:
            until(lambda: served(settings).get("otel_analytics_worker_lag_seconds") == 0)
            admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
            )
            produce(settings.redis_url, [make_event()])
            until(lambda: served(settings).get("otel_analytics_worker_lag_seconds"), seconds=40)
            seen = served(settings)
            assert seen["otel_analytics_worker_pending_entries"] == 1
            assert seen["otel_analytics_worker_errors_total"] > 0
            assert seen["otel_analytics_worker_last_error_timestamp_seconds"] > 1e9
        finally:
            admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
            stop.set()
        running.result(timeout=40)


def served(settings):
    url = f"http://127.0.0.1:{settings.worker_metrics_port}/metrics"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
        families = text_string_to_metric_families(response.read().decode())
        return {each.name: each.value for family in families for each in family.samples if not each.labels}
    return {}


def test_the_ranking_is_among_the_metrics(settings):
    settings = make_settings(
        settings.redis_url,
        settings.postgres_dsn,
        worker_metrics_port=free_port(),
        top_n_routes=2,
        min_requests=1,
    )
    events = [
        make_event(
            NOW - 2 * HOUR, route=route, duration_ms=duration, query_params_normalized=pattern, user_id="ann"
        )
        for route, duration, pattern, times in (
            ("/slow", 900.0, {"q": ["x", "y"], "é\n": "x"}, 3),
            ("/busy", 200.0, {}, 20),
            ("/third", 200.0, {}, 2),
            ("/quick", 5.0, {}, 50),
        )
        for _ in range(times)
    ]
    produce(settings.redis_url, events)
    registry = CollectorRegistry()
    with Worker(settings, clock=lambda: NOW, registry=registry) as worker:
        worker.run_once()
        worker._rank_if_due()
        scores = {key[1:]: value for key, value in figures(registry).items() if "score" in key[0]}
    assert scores == {
        ("GET", "/busy", "-"): pytest.approx(20 * 10 + 2 + 0.1),
        ("GET", "/slow", "q&é?"): pytest.approx(3 * 10 + 9 + 0.1),
    }


def test_patterns_with_the_same_names_are_one_series():
    def scored(pattern, score):
        return Scored(
            PatternFigures("/a", "GET", pattern, *[0] * (len(PatternFigures._fields) - 3)), score, True
        )

    metrics, registry = WorkerMetrics(), CollectorRegistry()
    registry.register(metrics)
    long = "x" * PATTERN_LENGTH
    metrics.rank([scored(f'{{"q": "1", "{long}": ""}}', 9.0), scored(f'{{"q": "2", "{long}": ""}}', 8.0)])
    (key,) = [key for key in figures(registry) if "score" in key[0]]
    assert figures(registry)[key] == 9.0
    assert (len(key[3]), key[3][:3], key[3][-1]) == (PATTERN_LENGTH, "q&x", "…")


def test_what_is_missing_shows(settings, caplog):
    produce(settings.redis_url, [make_event()], [make_event()])
    assert after_a_run(settings)["otel_analytics_ledger_missing",] == 0
    produce(settings.redis_url, [make_event()] * 3, [make_event()])
    with raw_redis(settings.redis_url) as client:
        client.xtrim("route_analytics:stream", maxlen=1, approximate=False)
    assert after_a_run(settings)["otel_analytics_ledger_missing",] == 3
    assert "3 events were accepted and are neither stored nor dead" in caplog.text


def test_a_server_that_may_evict_meanwhile_is_said_once(settings, caplog):
    registry = CollectorRegistry()
    with (
        Worker(settings, clock=lambda: NOW, registry=registry) as worker,
        raw_redis(settings.redis_url) as client,
    ):
        worker.run_once()
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            for _ in range(2):
                worker._due.clear()
                worker._observe()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
        assert figures(registry)["otel_analytics_redis_may_evict",] == 1
    assert caplog.text.count("was switched to maxmemory-policy allkeys-lru") == 1
