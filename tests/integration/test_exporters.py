"""The exporters with real servers, under our own delivery and under the SDK's span processors."""

import datetime as dt
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from backend import (
    PREFIX,
    make_event,
    make_settings,
    make_worker,
    random_events,
    raw_postgres,
    raw_redis,
    scalar,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from otel_analytics.embedded import postgres_server, process, redis_server
from otel_analytics.errors import SettingsError
from otel_analytics.record import parse_event
from otel_analytics.rollup import rollup_touched
from otel_analytics.store import ledger
from otel_analytics.store.connection import connect
from otel_analytics.store.migrations import migrate
from otel_analytics_exporters.delivery import Delivery
from otel_analytics_exporters.postgres import PostgresSpanExporter
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

STREAM = f"{PREFIX}:stream"
LOGGER = "otel_analytics_exporters"


def lately():
    """Some time in the last minutes, as exporters live in the present."""
    return dt.datetime.now(dt.UTC) - dt.timedelta(minutes=3)


def fresh(count, **fields):
    return [make_event(lately(), **fields) for _ in range(count)]


def deliver_to(exporter, **options):
    sizes = {"buffer_size": 10_000, "batch_size": 50, "interval_seconds": 0.01, **options}
    return Delivery(exporter, **sizes)


def on_the_stream(client):
    return [parse_event(item) for _, entry in client.xrange(STREAM) for item in json.loads(entry[b"events"])]


def reported(client):
    total = Counter()
    for _, entry in client.xrange(STREAM):
        total.update(json.loads(entry.get(b"dropped", b"{}")))
    return total


def slowest_offer(delivery, events):
    """Offer the events; the longest that one took, in seconds of this thread's own work and waiting."""
    slowest = 0.0
    for event in events:
        began = time.monotonic()
        delivery.offer(event)
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def same_port(monkeypatch):
    """Servers started under this come back on the port they had."""
    port = process.free_port()
    for module in ("redis", "postgres"):
        monkeypatch.setattr(f"otel_analytics.embedded.{module}.free_port", lambda: port)


# Redis


def test_events_reach_the_stream_as_they_are_and_drops_are_reported(redis_url):
    given = random_events(300, seed=1)
    delivery = deliver_to(RedisStreamSpanExporter(make_settings(redis_url)), buffer_size=250, batch_size=100)
    with raw_redis(redis_url) as client:
        with stopped(client.info()["process_id"]):
            assert [delivery.offer(event) for event in given] == [True] * 250 + [False] * 50
        assert delivery.close(10)
        assert on_the_stream(client) == given[:250]
        assert reported(client) == {"buffer_full": 50}


def test_a_full_stream_holds_events_back_and_loses_none(redis_url, caplog):
    caplog.set_level(logging.INFO, LOGGER)
    settings = make_settings(redis_url, stream_max_entries=2)
    delivery = deliver_to(RedisStreamSpanExporter(settings), batch_size=1)
    given = fresh(5)
    for event in given:
        delivery.offer(event)
    assert not delivery.flush(0.3)
    seen = []
    with raw_redis(redis_url) as client:
        assert on_the_stream(client) == given[:2]
        while len(seen) < 5:
            assert client.xlen(STREAM) <= 2
            new = on_the_stream(client)
            seen += new
            # As many entries as were read, as each holds one event.
            for entry_id, _ in client.xrange(STREAM, count=len(new)) if new else ():
                client.xdel(STREAM, entry_id)
            time.sleep(0.02)
    assert seen == given
    assert delivery.close(5)
    assert caplog.records[0].getMessage().startswith(f"otel-analytics: the stream {STREAM} holds 2 entries")
    assert len(caplog.records) == 2


def test_the_buffer_outlives_a_redis_that_was_killed(tmp_path, same_port, caplog):
    caplog.set_level(logging.INFO, LOGGER)
    given = fresh(300)
    with redis_server(tmp_path) as url, raw_redis(url) as client:
        delivery = deliver_to(RedisStreamSpanExporter(make_settings(url)))
        delivery.offer(make_event())
        assert delivery.flush(5)
        os.kill(client.info()["process_id"], signal.SIGKILL)
        assert slowest_offer(delivery, given) < 0.2
        assert not delivery.flush(0.3)
    with redis_server(tmp_path) as url, raw_redis(url) as client:
        assert delivery.flush(10)
        assert on_the_stream(client) == given
    assert delivery.close(5)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_redis_that_hangs_gets_events_twice_and_they_are_stored_once(redis_url, migrated_dsn):
    settings = make_settings(f"{redis_url}?socket_timeout=0.2", migrated_dsn)
    delivery = deliver_to(RedisStreamSpanExporter(settings))
    given = fresh(200)
    with raw_redis(redis_url) as client:
        delivery.offer(given[0])
        assert delivery.flush(5)
        with stopped(client.info()["process_id"]):
            assert slowest_offer(delivery, given[1:]) < 0.2
            time.sleep(1.2)
        assert delivery.close(10)
        ids = Counter(event.event_id for event in on_the_stream(client))
    assert ids.keys() == {event.event_id for event in given}
    twice = ids.total() - len(ids)
    assert twice  # or this has tested nothing
    with make_worker(make_settings(redis_url, migrated_dsn), dt.datetime.now(dt.UTC)) as worker:
        stored = worker.run_once().events
    assert (stored.stored, stored.duplicates) == (200, twice)


# PostgreSQL


def test_events_are_stored_with_their_partitions_marks_and_drops(migrated_dsn):
    exporter = PostgresSpanExporter(make_settings(dsn=migrated_dsn))
    days = [dt.timedelta(), dt.timedelta(days=3)]
    good = [make_event(lately() - days[index % 2], duration_ms=float(index)) for index in range(100)]
    bad = [
        make_event(lately(), user_id="nul\x00"),
        make_event(lately(), user_id="\ud800"),
        make_event(lately(), status_code=99_999),
        make_event(lately() - dt.timedelta(days=365)),
    ]
    batch = [*good[:70], *bad, *good[70:]]
    assert exporter.send(batch, {"buffer_full": 3, "rejected": 1}) == {"rejected": 4}
    assert exporter.send(good[:10], {}) == {}  # as after an answer that got lost
    assert exporter.send([], {"buffer_full": 2}) == {}
    exporter.disconnect()
    with connect(migrated_dsn) as connection:
        rows = connection.execute("SELECT duration_ms FROM route_analytics ORDER BY 1").fetchall()
        assert [duration for (duration,) in rows] == [float(index) for index in range(100)]
        assert ledger.drops(connection) == {"buffer_full": 5, "rejected": 1}
        rollup_touched(connection, make_settings(dsn=migrated_dsn), now=dt.datetime.now(dt.UTC))
        assert scalar(connection, "SELECT sum(total_requests) FROM route_analytics_hourly") == 100


def test_rejected_events_are_counted_and_reported(migrated_dsn):
    delivery = deliver_to(PostgresSpanExporter(make_settings(dsn=migrated_dsn)))
    for event in (*fresh(3), *fresh(2, status_code=99_999)):
        delivery.offer(event)
    assert delivery.close(10)
    with connect(migrated_dsn) as connection:
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == 3
        assert ledger.drops(connection) == {"rejected": 2}


def test_the_buffer_outlives_a_postgresql_that_crashed(tmp_path, same_port, caplog):
    caplog.set_level(logging.INFO, LOGGER)
    given = fresh(300)
    with postgres_server(tmp_path) as dsn:
        migrate(dsn)
        delivery = deliver_to(PostgresSpanExporter(make_settings(dsn=dsn)))
        for event in given[:100]:
            delivery.offer(event)
        assert delivery.flush(10)
        postmaster = int((tmp_path / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)  # ends at once, with a recovery to follow
        assert slowest_offer(delivery, given[100:]) < 0.2
        assert not delivery.flush(0.3)
    with postgres_server(tmp_path) as dsn:
        assert delivery.close(10)
        with raw_postgres(dsn) as connection:
            ids = connection.execute("SELECT event_id FROM route_analytics").fetchall()
    assert sorted(each.hex for (each,) in ids) == sorted(event.event_id for event in given)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_database_that_is_not_migrated_is_said_once_and_waited_for(postgres_dsn, caplog):
    caplog.set_level(logging.INFO, LOGGER)
    delivery = deliver_to(PostgresSpanExporter(make_settings(dsn=postgres_dsn)))
    delivery.offer(make_event(lately()))
    assert not delivery.flush(0.5)
    migrate(postgres_dsn)
    assert delivery.close(10)
    with raw_postgres(postgres_dsn) as connection:
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == 1
    warning, info = (record.getMessage() for record in caplog.records)
    assert warning == (
        "otel-analytics: the database lacks the tables of this version; run: otel-analytics migrate;"
        " 1 events wait and are tried again"
    )
    assert info == "otel-analytics: events are being delivered again"


def test_addresses_that_cannot_be_used_are_found_when_the_exporter_is_made():
    with pytest.raises(SettingsError, match="redis_url"):
        RedisStreamSpanExporter(make_settings("http://somewhere"))
    with pytest.raises(SettingsError, match="postgres_dsn"):
        PostgresSpanExporter(make_settings(dsn="nothing of the kind"))


# Both, as ordinary span exporters

OLD_NAMES = {
    "http.method": "POST",
    "http.route": "/items/{id}",
    "http.target": "/items/7?page=2&sort=asc",
    "http.status_code": 201,
    "enduser.id": "ada",
}
NEW_NAMES = {
    "http.request.method": "POST",
    "http.route": "/items/{id}",
    "url.path": "/items/7",
    "url.query": "page=2&sort=asc",
    "http.response.status_code": 201,
    "user.id": "ada",
}


def serve(provider):
    """Spans as a server's instrumentation makes them, and others around them."""
    tracer = provider.get_tracer("by hand")
    for attributes in (OLD_NAMES, NEW_NAMES):
        with tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes=attributes):
            with tracer.start_as_current_span("query", kind=SpanKind.CLIENT):
                pass
            with tracer.start_as_current_span("out", kind=SpanKind.CLIENT, attributes=NEW_NAMES):
                pass
    with tracer.start_as_current_span("rpc", kind=SpanKind.SERVER, attributes={"rpc.method": "Get"}):
        pass


@pytest.fixture(params=[SimpleSpanProcessor, BatchSpanProcessor])
def provider_with(request):
    """Makes a provider that feeds an exporter."""
    made = []

    def make(exporter):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(request.param(exporter))
        made.append(provider)
        return provider

    yield make
    for provider in made:
        provider.shutdown()


def test_under_the_sdk_spans_become_events_on_the_stream(redis_url, provider_with):
    provider = provider_with(RedisStreamSpanExporter(make_settings(redis_url)))
    serve(provider)
    provider.force_flush()
    with raw_redis(redis_url) as client:
        old, new = on_the_stream(client)
    for event in (old, new):
        assert (event.method, event.route, event.status_code) == ("POST", "/items/{id}", 201)
        assert (event.route_full, event.user_id) == ("/items/7?page=2&sort=asc", "ada")
        assert event.query_params_normalized == {"sort": "asc"}
    assert old.event_id != new.event_id


def test_under_the_sdk_spans_become_rows(migrated_dsn, provider_with):
    provider = provider_with(PostgresSpanExporter(make_settings(dsn=migrated_dsn)))
    serve(provider)
    provider.force_flush()
    with raw_postgres(migrated_dsn) as connection:
        rows = connection.execute("SELECT method, route, user_id FROM route_analytics").fetchall()
    assert rows == [("POST", "/items/{id}", "ada")] * 2


def test_under_the_sdk_what_failed_is_counted_and_reported_later(tmp_path, same_port, caplog):
    with redis_server(tmp_path) as url:
        settings = make_settings(url)
    exporter = RedisStreamSpanExporter(settings)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    serve(provider)
    serve(provider)
    assert [record.getMessage()[:42] for record in caplog.records] == [
        "otel-analytics: events of spans were lost:"
    ]
    with redis_server(tmp_path) as url, raw_redis(url) as client:
        assert reported(client) == {}
        serve(provider)
        assert len(on_the_stream(client)) == 2
        assert reported(client) == {"export_failed": 4}
    serve(provider)
    with redis_server(tmp_path) as url, raw_redis(url) as client:
        provider.shutdown()
        assert on_the_stream(client) == []
        assert reported(client) == {"export_failed": 2}


CONFIGURED = """
import os, sys
from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.trace import SpanKind

_OTelSDKConfigurator().configure()
tracer = trace.get_tracer("by hand")

def serve(path):
    attributes = {"http.request.method": "GET", "http.route": path, "url.path": path}
    with tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes=attributes):
        pass

serve("/parent")
trace.get_tracer_provider().force_flush()
child = os.fork()
serve("/child" if child == 0 else "/parent")
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_the_sdk_finds_the_exporters_by_name_and_they_outlive_a_fork(name, redis_url, migrated_dsn):
    run(
        CONFIGURED,
        OTEL_TRACES_EXPORTER=f"otel_analytics_{name}",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_ANALYTICS_REDIS_URL=redis_url,
        OTEL_ANALYTICS_POSTGRES_DSN=migrated_dsn,
    )
    with raw_redis(redis_url) as client, raw_postgres(migrated_dsn) as connection:
        routes = [event.route for event in on_the_stream(client)]
        routes += [route for (route,) in connection.execute("SELECT route FROM route_analytics")]
    assert sorted(routes) == ["/child", "/parent", "/parent"]


TOGETHER = """
import asyncio
import httpx
from fastapi import FastAPI
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from otel_analytics import instrument

_OTelSDKConfigurator().configure()
app = FastAPI()
instrument(app)

@app.get("/items/{number}")
async def item(number: int):
    return number

async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        for number in range(20):
            assert (await client.get(f"/items/{number}")).json() == number
        await client.get("/health?deep=yes")
        await client.get("/metrics")

asyncio.run(main())
"""


def test_with_instrument_in_the_same_process_no_request_is_there_twice(redis_url):
    """Nobody runs the lifespan here, so the last events go out when the interpreter ends."""
    run(
        TOGETHER,
        OTEL_TRACES_EXPORTER="otel_analytics_redis",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_ANALYTICS_REDIS_URL=redis_url,
        OTEL_ANALYTICS_EXPORT_INTERVAL_SECONDS="30",
        OTEL_ANALYTICS_EXCLUDED_PATHS="/health",
    )
    with raw_redis(redis_url) as client:
        events = on_the_stream(client)
    assert sorted(event.route_full for event in events) == sorted(f"/items/{number}" for number in range(20))
    assert all(event.response_hash is not None for event in events)  # those that instrument() observed


def run(program, **environ):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_connection_is_shared_with_a_forked_child(migrated_dsn, redis_url):
    for exporter in (
        PostgresSpanExporter(make_settings(dsn=migrated_dsn)),
        RedisStreamSpanExporter(make_settings(redis_url)),
    ):
        exporter.send(fresh(1), {})
        with exporter._lock:  # as it may be when another thread exports
            child = os.fork()
            if child == 0:
                done = threading.Thread(target=exporter.export, args=([],), daemon=True)
                done.start()
                done.join(5)
                free = not done.is_alive()
                exporter.send(fresh(1), {})
                os._exit(0 if free else 1)
        assert os.waitpid(child, 0)[1] == 0
        exporter.send(fresh(1), {})
        exporter.disconnect()
    with raw_postgres(migrated_dsn) as connection, raw_redis(redis_url) as client:
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == 3
        assert client.xlen(STREAM) == 3
