"""What an event takes in Redis and PostgreSQL, and how many a worker stores. Run it with `make bench-sizing`.

Argument: how many events, 200,000 where none is given. They are those of the demo's shop, over one day.
"""

import datetime as dt
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import redis

from otel_analytics.demo.past import past_events
from otel_analytics.embedded import postgres_server, redis_server
from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.store.connection import Connection, connect
from otel_analytics.store.migrations import migrate
from otel_analytics.stream.keys import Keys
from otel_analytics.worker import Worker
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

DEFAULT_EVENTS: Final = 200_000
BATCHES: Final = (1, 10, 50, 500)
"""Events in one delivery: an application sends what came in half a second."""
SAMPLE: Final = 20_000
NOW: Final = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=2)
SIZES: Final = """
    SELECT
        sum(pg_relation_size(relid, 'main'))::float8,
        sum(pg_indexes_size(relid))::float8,
        sum(pg_total_relation_size(relid))::float8
    FROM pg_partition_tree('{table}') WHERE isleaf
"""
HOURLY: Final = """
    SELECT count(*), pg_total_relation_size('route_analytics_hourly')::float8 FROM route_analytics_hourly
"""
INDEXES: Final = """
    SELECT regexp_replace(i.indexrelname, '^route_analytics_y\\d+m\\d+d\\d+_', ''),
        sum(pg_relation_size(i.indexrelid))::float8
    FROM pg_stat_user_indexes AS i WHERE i.relname ~ '^route_analytics_y\\d' GROUP BY 1 ORDER BY 2 DESC
"""


def main() -> None:
    """Print all of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_EVENTS
    chance = random.Random(1)  # noqa: S311 - the same events each time
    events = list(past_events(now=NOW, days=1, requests_a_day=int(count * 1.6), chance=chance))[:count]
    print(f"{len(events):,} events of the demo's shop")
    with tempfile.TemporaryDirectory(prefix="otel-analytics-") as name:
        directory = Path(name)
        with (
            redis_server(directory / "redis", append_only=True) as url,
            postgres_server(directory / "postgres") as dsn,
        ):
            migrate(dsn)
            for batch in BATCHES:
                in_redis(url, directory / "redis", events[:SAMPLE], batch)
            send(url, events, batch=500)
            settings = Settings(redis_url=url, postgres_dsn=dsn, worker_metrics_port=0)
            store(settings, len(events))
            with connect(dsn) as connection:
                in_postgres(connection, len(events))


def send(url: str, events: Sequence[Event], *, batch: int) -> None:
    """Deliver the events in batches."""
    exporter = RedisStreamSpanExporter(Settings(redis_url=url, stream_max_entries=10_000_000))
    rest = iter(events)
    while part := list(islice(rest, batch)):
        exporter.send(part, {})
    exporter.disconnect()


def in_redis(url: str, directory: Path, events: Sequence[Event], batch: int) -> None:
    """Print what an event takes on the stream and in the append-only file, and leave the stream empty."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        before = client.info("memory")["used_memory"], on_disk(directory)
        send(url, events, batch=batch)
        time.sleep(1.5)  # until the file is written
        stream = client.memory_usage(Keys.of("route_analytics").stream, samples=0)
        after = client.info("memory")["used_memory"], on_disk(directory)
        client.flushall()
    memory, disk = ((new - old) / len(events) for old, new in zip(before, after, strict=True))
    print(
        f"Redis, {batch:>3} events a delivery: {stream / len(events):6.0f} B an event by MEMORY USAGE,"
        f" {memory:6.0f} B of used_memory, {disk:6.0f} B in the append-only file"
    )


def on_disk(directory: Path) -> int:
    """Bytes of the append-only files."""
    return sum(path.stat().st_size for path in directory.rglob("*aof*") if path.is_file())


def store(settings: Settings, events: int) -> None:
    """Print how long the worker takes for everything on the stream."""
    with Worker(settings) as worker:
        worker.start()
        used = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        stop = threading.Event()
        stored = worker.drain(stop)
        seconds = time.perf_counter() - began
        spent = resource.getrusage(resource.RUSAGE_SELF)
        assert stored.stored == events
        processor = spent.ru_utime + spent.ru_stime - used.ru_utime - used.ru_stime
        print(
            f"One worker: {events / seconds:,.0f} events/s, {processor / events * 1e6:.1f} us of processor"
            f" time an event, {spent.ru_maxrss // 1024} MB at most in this process"
        )
        began = time.perf_counter()
        hours = worker.rollup(stop)
        print(f"Rollup of {hours} hours: {time.perf_counter() - began:.1f} s")


def in_postgres(connection: Connection, events: int) -> None:
    """Print what a row takes."""
    connection.execute("VACUUM ANALYZE")
    table, indexes, total = connection.execute(SIZES.format(table="route_analytics")).fetchone() or ()
    print(
        f"PostgreSQL, raw: {total / events:.0f} B an event; the rows {table / events:.0f},"
        f" indexes {indexes / events:.0f}"
    )
    for name, size in connection.execute(INDEXES):
        print(f"    {name:<40} {size / events:6.1f} B")
    rows, size = connection.execute(HOURLY).fetchone() or (1, 0)
    print(f"PostgreSQL, hourly: {size / rows:.0f} B a row, {rows:,} rows")


if __name__ == "__main__":
    main()
