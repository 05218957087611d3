import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from backend import (
    DAY,
    HOUR,
    NOW,
    PREFIX,
    make_event,
    make_settings,
    make_worker,
    produce,
    random_events,
    raw_postgres,
    raw_redis,
    scalar,
)
from prometheus_client import CollectorRegistry, generate_latest
from waiting import until

from otel_analytics.errors import (
    NotMigrated,
    PoisonedStream,
    SettingsError,
    StoreUnavailable,
    StreamUnavailable,
    UnsafeStream,
)
from otel_analytics.ingest import Stored
from otel_analytics.ledger import audit
from otel_analytics.store import partitions
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions
from otel_analytics.stream import Inspector
from otel_analytics.worker import Run, Worker, utc_now

STREAM = f"{PREFIX}:stream"
KILL_WORKERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'otel-analytics' AND datname = current_database()
"""


@pytest.fixture
def settings(redis_url, migrated_dsn):
    return make_settings(redis_url, migrated_dsn)


def books(settings):
    inspector = Inspector(settings.redis_url, key_prefix=PREFIX)
    with connect(settings.postgres_dsn) as connection:
        report = audit(inspector, connection)
    inspector.close()
    return report


def count(settings, table="route_analytics"):
    with raw_postgres(settings.postgres_dsn) as connection:
        return scalar(connection, f"SELECT count(*) FROM {table}")


@contextlib.contextmanager
def running(worker):
    """The worker in a thread; yields its event to stop and raises what it raised."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool, worker:
        future = pool.submit(worker.run, stop)
        try:
            yield stop
        finally:
            stop.set()
        future.result(timeout=20)


def test_one_run_does_all_there_is_to_do(settings):
    events = random_events(300, seed=1)
    produce(settings.redis_url, events[:100], events[100:])
    with make_worker(settings) as worker:
        assert worker.run_once() == Run(Stored(entries=2, stored=300), hours=4)
        assert worker.run_once() == Run(Stored(), hours=0)
    assert count(settings) == 300
    with raw_postgres(settings.postgres_dsn) as connection:
        assert scalar(connection, "SELECT sum(total_requests) FROM route_analytics_hourly") == 300
        days = scalar(
            connection, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'route_analytics'::regclass"
        )
    assert days == 2  # today and one ahead, as these settings say
    assert books(settings).balanced
    with raw_redis(settings.redis_url) as client:
        assert client.xinfo_consumers(STREAM, "otel-analytics") == []


def test_one_run_ends_though_events_keep_coming(settings):
    stop = threading.Event()

    def keep_producing():
        while not stop.is_set():
            produce(settings.redis_url, [make_event()])

    with ThreadPoolExecutor(1) as pool, make_worker(settings) as worker:
        future = pool.submit(keep_producing)
        try:
            until(lambda: count_entries(settings) > 20)
            run = worker.run_once()
        finally:
            stop.set()
        future.result()
    assert run.events.stored >= 20


def count_entries(settings):
    with raw_redis(settings.redis_url) as client:
        return client.xlen(STREAM)


def test_a_running_worker_stores_as_events_come_and_leaves_on_request(settings):
    settings = dataclasses.replace(settings, rollup_interval_seconds=0.1)
    with running(make_worker(settings)):
        for _ in range(3):
            before = count(settings)
            produce(settings.redis_url, [make_event()])
            until(lambda before=before: count(settings) == before + 1, seconds=3)
        until(lambda: count(settings, "route_analytics_hourly"))
    assert books(settings).balanced


def test_a_worker_that_stops_leaves_nothing_it_has_read(settings):
    settings = dataclasses.replace(settings, worker_batch_size=100, export_batch_size=100)
    produce(settings.redis_url, *[random_events(100, seed) for seed in range(5)])
    stop = threading.Event()
    with make_worker(settings) as worker:
        worker.start()
        stored = worker.drain(stop, progress=lambda _: stop.set())
    # The one in hand, and the one that was read meanwhile.
    assert stored.stored == 200
    with raw_redis(settings.redis_url) as client:
        assert client.xpending(f"{PREFIX}:stream", "otel-analytics")["pending"] == 0


def test_a_worker_with_an_interval_waits_between_runs(settings):
    settings = make_settings(settings.redis_url, settings.postgres_dsn, worker_interval_seconds=3_600)
    produce(settings.redis_url, *([make_event()] for _ in range(3)))
    with running(make_worker(settings)):
        until(lambda: count(settings) == 3)
        time.sleep(0.3)
        produce(settings.redis_url, [make_event()])
        time.sleep(0.5)
        assert count(settings) == 3


def test_two_workers_share_the_stream(settings):
    events = random_events(1_000, seed=2)
    with running(make_worker(settings)), running(make_worker(settings)):
        produce(settings.redis_url, *(events[start : start + 10] for start in range(0, 1_000, 10)))
        until(lambda: count(settings) == 1_000)
    assert books(settings).balanced


def test_a_worker_waits_for_the_database(settings, caplog):
    with caplog.at_level(logging.INFO), running(make_worker(settings)):
        produce(settings.redis_url, [make_event()])
        until(lambda: count(settings) == 1)
        with raw_postgres(settings.postgres_dsn) as connection:
            connection.execute(KILL_WORKERS)
            produce(settings.redis_url, [make_event()])
            until(lambda: count(settings) == 2)
    assert "trying again" in caplog.text
    assert books(settings).balanced


def test_a_worker_waits_while_the_database_is_read_only(settings, caplog):
    caplog.set_level(logging.DEBUG, "otel_analytics.worker")
    with raw_postgres(settings.postgres_dsn) as connection, running(make_worker(settings)):
        produce(settings.redis_url, [make_event()])
        until(lambda: count(settings) == 1)
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        connection.execute(KILL_WORKERS)
        produce(settings.redis_url, [make_event()])
        until(lambda: "read-only transaction; trying again" in caplog.text)
        assert books(settings).pending == 1
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        until(lambda: count(settings) == 2)
    report = books(settings)
    assert (report.dead, report.balanced) == (0, True)


def test_a_worker_goes_on_when_redis_comes_back_empty(settings, caplog):
    with caplog.at_level(logging.WARNING), running(make_worker(settings)):
        produce(settings.redis_url, [make_event()])
        until(lambda: count(settings) == 1)
        with raw_redis(settings.redis_url) as client:
            client.flushall()
        produce(settings.redis_url, [make_event()])
        until(lambda: count(settings) == 2)
    assert "began anew" in caplog.text
    assert books(settings).balanced


def test_nothing_but_poison_ends_the_run(settings):
    settings = make_settings(settings.redis_url, settings.postgres_dsn, poison_limit=2)
    with raw_redis(settings.redis_url) as client:
        client.xadd(STREAM, {"v": "9"})
        client.xadd(STREAM, {"v": "9"})
    with pytest.raises(PoisonedStream), make_worker(settings) as worker:
        worker.run(threading.Event())


def test_a_start_refuses_what_waiting_cannot_mend(settings, postgres_dsn):
    dead_redis = make_settings("redis://127.0.0.1:1/0", settings.postgres_dsn)
    dead_postgres = make_settings(settings.redis_url, "host=127.0.0.1 port=1")
    empty = make_settings(settings.redis_url, postgres_dsn)
    for broken, error in (
        (dead_redis, StreamUnavailable),
        (dead_postgres, StoreUnavailable),
        (empty, NotMigrated),
    ):
        with make_worker(broken) as worker, pytest.raises(error):
            worker.run(threading.Event())
    with raw_redis(settings.redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lfu")
        try:
            with make_worker(settings) as worker, pytest.raises(UnsafeStream):
                worker.run_once()
        finally:
            client.config_set("maxmemory-policy", "noeviction")


def test_old_data_goes_and_days_ahead_are_there(settings):
    settings = make_settings(
        settings.redis_url, settings.postgres_dsn, raw_retention_days=2, hourly_retention_days=5
    )
    produce(settings.redis_url, [make_event(NOW - 2 * DAY), make_event(NOW)], dropped={"full": 1})
    with make_worker(settings) as worker:
        worker.run_once()
    with make_worker(settings, NOW + DAY) as worker:
        maintained = worker.maintain()
        assert maintained.partitions_dropped == [(NOW - 2 * DAY).date()]
        assert maintained.partitions_made == [(NOW + 2 * DAY).date()]
        assert worker.rollup(threading.Event()) == 0
    assert count(settings, "route_analytics_hourly") == 2
    with make_worker(settings, NOW + 5 * DAY - HOUR) as worker:
        assert worker.maintain().hourly_rows_deleted == 1
    with make_worker(settings, NOW + 6 * DAY) as worker:
        assert worker.maintain().hourly_rows_deleted == 1
    assert books(settings).drops == {}


def test_old_dead_letters_go_and_are_counted(settings, caplog):
    def dead():
        with raw_redis(settings.redis_url) as client:
            return client.xlen(f"{PREFIX}:dead")

    produce(settings.redis_url, [make_event(status_code=999)], [make_event(status_code=999)])
    with make_worker(settings) as worker:
        worker.run_once()
    with raw_redis(settings.redis_url) as client:
        (_, content), _ = client.xrange(f"{PREFIX}:dead")
        client.delete(f"{PREFIX}:dead")
        seconds = client.time()[0]
        for age in (31, 29):  # days
            client.xadd(f"{PREFIX}:dead", content, f"{(seconds - age * 86_400) * 1_000}-0")
    with make_worker(settings) as worker:
        worker.maintain()
        assert dead() == 1
        worker.maintain()
    assert dead() == 1
    assert caplog.text.count("discarded 1 dead letters older than raw_retention_days") == 1
    report = books(settings)
    assert report.balanced
    assert (report.dead, report.purged) == (2, 1)


def test_metrics_tell_what_was_done_and_what_waits(settings):
    registry = CollectorRegistry()
    produce(settings.redis_url, [make_event(NOW - 3 * HOUR), make_event(status_code=999)], [make_event()])
    with Worker(settings, clock=lambda: NOW, registry=registry) as worker:
        worker.start()
        worker.drain(threading.Event())
        worker._observe()
        text = generate_latest(registry).decode()
        produce(settings.redis_url, [make_event()])
        worker._observe()
        later = generate_latest(registry).decode()
    for line in (
        "otel_analytics_worker_stored_total 2.0",
        "otel_analytics_worker_dead_total 1.0",
        "otel_analytics_worker_duplicates_total 0.0",
        "otel_analytics_worker_lag_entries 0.0",
        "otel_analytics_worker_pending_entries 0.0",
        "otel_analytics_worker_lag_seconds 0.0",
        "otel_analytics_worker_batch_seconds_count 1.0",
        'otel_analytics_worker_batch_seconds_bucket{le="+Inf"} 1.0',
        "otel_analytics_worker_rollup_age_seconds 9000.0",  # 09:00 to 10:00 waits since 10:00
        "otel_analytics_worker_last_error_timestamp_seconds 0.0",
    ):
        assert line in text.splitlines(), line
    assert "otel_analytics_worker_lag_entries 1.0" in later
    assert generate_latest(registry) == b""


def test_metrics_are_served_while_the_worker_runs(settings, free_port):
    settings = make_settings(settings.redis_url, settings.postgres_dsn, worker_metrics_port=free_port)
    url = f"http://127.0.0.1:{free_port}/metrics"

    def served():
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
            return b"otel_analytics_worker_lag_entries" in response.read()
        return False

    with running(make_worker(settings)):
        until(served)
        with (
            make_worker(settings) as second,
            pytest.raises(SettingsError, match=f"worker_metrics_port.*{free_port}"),
        ):
            second.run(threading.Event())
    assert not served()


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


RUN = """
import signal, sys, threading
from otel_analytics.settings import Settings
from otel_analytics.worker import Worker
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
url, dsn = sys.argv[1:]
settings = Settings(redis_url=url, postgres_dsn=dsn, worker_metrics_port=0, worker_batch_size=200)
with Worker(settings) as worker:
    worker.run(stop)
"""


def start_process(settings):
    command = [sys.executable, "-c", RUN, settings.redis_url, settings.postgres_dsn]
    return subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"})


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_stopped_in_mid_drain_loses_and_doubles_nothing(settings, sent):
    events = random_events(20_000, seed=6, since=utc_now() - 3 * HOUR)
    produce(settings.redis_url, *(events[start : start + 50] for start in range(0, 20_000, 50)))
    process = start_process(settings)
    try:
        until(lambda: count(settings) > 0)
    finally:
        process.send_signal(sent)
        process.wait(timeout=20)
    assert process.returncode == (-9 if sent == signal.SIGKILL else 0)
    stored = count(settings)
    assert 0 < stored < 20_000, "stopped too late to tell"
    report = books(settings)
    assert report.balanced
    assert report.stored == stored
    if sent == signal.SIGTERM:
        with raw_redis(settings.redis_url) as client:
            assert client.xpending(STREAM, "otel-analytics")["pending"] == 0
    with Worker(settings) as worker:
        worker.run_once()
    assert count(settings) == 20_000
    report = books(settings)
    assert (report.stored, report.duplicates, report.pending, report.balanced) == (20_000, 0, 0, True)


def test_without_a_stream_a_worker_rolls_up_and_keeps_partitions(migrated_dsn):
    settings = make_settings("redis://127.0.0.1:1/0", migrated_dsn, exporter="postgres")
    with connect(migrated_dsn) as connection:
        insert_making_partitions(connection, [make_event()], first_day=NOW.date())
    with make_worker(settings) as worker:
        assert worker.run_once() == Run(Stored(), hours=1)
    with connect(migrated_dsn) as connection:
        insert_making_partitions(connection, [make_event()], first_day=NOW.date())
        assert partitions.existing_days(connection) == {NOW.date(), (NOW + DAY).date()}
    with running(make_worker(settings)), raw_postgres(migrated_dsn) as connection:
        until(lambda: scalar(connection, "SELECT sum(total_requests) FROM route_analytics_hourly") == 2)
