"""What an event takes in Redis and PostgreSQL, and how many a worker stores. Run it with `make bench-sizing`.

Argument: how many events, 200,000 where none is given. They are those of the demo's shop, over one day.
"""

import datetime as dt
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import islice
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

import redis

from otel_analytics.demo.past import past_events
from otel_analytics.embedded import postgres_server, redis_server
from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.store.connection import Connection, connect
from otel_analytics.store.migrations import migrate
from otel_analytics.stream import GROUP, Keys
from otel_analytics.worker import Worker
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

DEFAULT_EVENTS: Final = 200_000
BATCHES: Final = (1, 10, 50, 500)
"""Events in one delivery: an application sends what came in half a second."""
SAMPLE: Final = 20_000
WORKERS: Final = (1, 2, 4)
NOBODY: Final = "redis://127.0.0.1:1/0"
APPLICATION: Final = """
import asyncio, sys
from fastapi import FastAPI

app = FastAPI()
app.add_api_route("/items/{number}", lambda number: {"number": number})
exec(sys.argv[1])

async def receive():
    return {"type": "http.request"}

async def send(message):
    pass

async def ask():
    for number in range(20_000):
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": f"/items/{number}"}
        await app(scope | {"query_string": b"sort=asc", "headers": []}, receive, send)

asyncio.run(ask())
"""
"""Twice as many requests as its buffer holds, while Redis is away."""
STREAM: Final = Keys.of("route_analytics").stream
TABLES: Final = (
    "route_analytics",
    "route_analytics_ledger",
    "route_analytics_stream_entries",
    "route_analytics_touched_hours",
)
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
            for workers in WORKERS:
                store(settings, len(events), workers)
            roll_up(settings)
            with connect(dsn) as connection:
                in_postgres(connection, len(events))
            memory(settings)


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
        stream = client.memory_usage(STREAM, samples=0)
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


def store(settings: Settings, count: int, workers: int) -> None:
    """Print how long so many workers take for all that is on the stream."""
    begin_again(settings)
    spawn = get_context("spawn")
    together = spawn.Barrier(workers + 1)
    drained = spawn.SimpleQueue()
    processes = [spawn.Process(target=drain, args=(settings, together, drained)) for _ in range(workers)]
    for each in processes:
        each.start()
    together.wait()
    began = time.perf_counter()
    results = [drained.get() for _ in processes]
    seconds = time.perf_counter() - began
    for each in processes:
        each.join()
    assert sum(stored for stored, _ in results) == count
    processor = sum(spent for _, spent in results) / count * 1e6
    print(
        f"{workers} worker{'s' if workers > 1 else ''}: {count / seconds:,.0f} events/s,"
        f" {processor:.1f} us of their processor time an event"
    )


def begin_again(settings: Settings) -> None:
    """Empty the tables, and let workers find all that is on the stream."""
    with connect(settings.postgres_dsn) as connection, redis.Redis.from_url(settings.redis_url) as client:
        connection.execute(f"TRUNCATE {', '.join(TABLES)}")
        client.execute_command("XGROUP", "DESTROY", STREAM, GROUP)
        client.execute_command("XGROUP", "CREATE", STREAM, GROUP, "0")


def drain(settings: Settings, together: Barrier, drained: "SimpleQueue[tuple[int, float]]") -> None:
    """Be a worker until nothing is left; tell how many events it stored, and its processor time."""
    with Worker(settings) as worker:
        worker.start()
        together.wait()
        before = time.process_time()
        stored = worker.drain(threading.Event()).stored
        drained.put((stored, time.process_time() - before))


def roll_up(settings: Settings) -> None:
    """Print how long the hourly figures take."""
    with Worker(settings) as worker:
        began = time.perf_counter()
        hours = worker.rollup(threading.Event())
    print(f"Rollup of {hours} hours: {time.perf_counter() - began:.1f} s")


def memory(settings: Settings) -> None:
    """Print the most memory that each process takes."""
    environ = {
        "OTEL_ANALYTICS_REDIS_URL": settings.redis_url,
        "OTEL_ANALYTICS_POSTGRES_DSN": settings.postgres_dsn,
    }
    program = (sys.executable, "-m", "otel_analytics.cli")
    print(f"Memory of what keeps the rankings: {most_memory(*program, 'keep', **environ)} MB")
    begin_again(settings)
    print(f"Memory of a worker: {most_memory(*program, 'worker', '--once', **environ)} MB")
    for lines in ("", "from otel_analytics import instrument; instrument(app)"):
        used = most_memory(sys.executable, "-c", APPLICATION, lines, OTEL_ANALYTICS_REDIS_URL=NOBODY)
        print(f"Memory of an application, {'with' if lines else 'without'} otel-analytics: {used} MB")


def most_memory(*command: str, **environ: str) -> int:
    """Run a program to its end; the most memory it ever had, in MB."""
    used = 0
    with subprocess.Popen(command, env=os.environ | environ, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            used = max(used, int(found[1]) // 1_000 if found else 0)
            time.sleep(0.01)
    return used


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
