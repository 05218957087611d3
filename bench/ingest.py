"""From Redis into PostgreSQL: workers, the least that can be done, and a plain consumer.

Part of `make bench`. Argument: how many events, 120,000 where none is given. They are those of the demo's
shop, with the trace ids that real ones have. Each subject is a process of its own and takes what is on the
stream from its beginning; rounds are interleaved.
"""

import datetime as dt
import gc
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

import psycopg
import redis
from figures import Figure, compared
from psycopg.types.json import Jsonb

from otel_analytics.cli.__main__ import OBJECTS_BEFORE_COLLECTING
from otel_analytics.demo.past import past_events
from otel_analytics.embedded import postgres_server, redis_server
from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.store import partitions
from otel_analytics.store.connection import connect
from otel_analytics.store.migrations import migrate
from otel_analytics.stream import GROUP, Keys
from otel_analytics.worker import Worker
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

EVENTS: Final = 120_000
ROUNDS: Final = 5
BATCH: Final = 5_000
"""Of the worker, and of the floor."""
PLAIN_BATCH: Final = 1_000
STREAM: Final = Keys.of("route_analytics").stream
TABLES: Final = (
    "route_analytics",
    "route_analytics_ledger",
    "route_analytics_stream_entries",
    "route_analytics_touched_hours",
)
NOW: Final = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=2)
COLUMNS: Final = ", ".join('"timestamp"' if name == "timestamp_us" else name for name in Event._fields)
STORED: Final = b"SELECT count(*) FROM route_analytics WHERE trace_id IS NOT NULL"
"""Without those that `seeding` made."""
Subject = Callable[[Settings, Sequence[Event], Barrier], None]


def events_of_a_day(count: int) -> list[Event]:
    """So many events, the same each time but for their ids."""
    chance = random.Random(1)  # noqa: S311
    past = past_events(now=NOW, days=1, requests_a_day=int(count * 1.6), chance=chance)
    ids = ((f"{chance.getrandbits(128):032x}", f"{chance.getrandbits(64):016x}") for _ in range(count))
    return [
        event._replace(trace_id=trace, span_id=span) for event, (trace, span) in zip(past, ids, strict=False)
    ]


def deliver(settings: Settings, events: Sequence[Event], *, batch: int = 500) -> None:
    """Put the events on the stream, as applications do."""
    exporter = RedisStreamSpanExporter(settings)
    for start in range(0, len(events), batch):
        exporter.send(events[start : start + batch], {})
    exporter.disconnect()


def begin_again(settings: Settings, *, keep: bool = False) -> None:
    """Empty the tables, or keep what is not of the stream, and let whoever comes find all that is on it."""
    with connect(settings.postgres_dsn) as connection, redis.Redis.from_url(settings.redis_url) as client:
        connection.execute(f"TRUNCATE {', '.join(TABLES[1:] if keep else TABLES)}")
        if keep:
            connection.execute("DELETE FROM route_analytics WHERE trace_id IS NOT NULL")
            connection.execute("VACUUM route_analytics")
        connection.execute("CHECKPOINT")
        client.execute_command("XGROUP", "DESTROY", STREAM, GROUP)
        client.execute_command("XGROUP", "CREATE", STREAM, GROUP, "0")


def worker(settings: Settings, _: Sequence[Event], together: Barrier) -> None:
    """Ours, in a process like that of `otel-analytics worker`."""
    gc.set_threshold(OBJECTS_BEFORE_COLLECTING)
    with Worker(settings) as ours:
        ours.start()
        together.wait()
        ours.drain(threading.Event())
        together.wait()


def copy_loop(settings: Settings, events: Sequence[Event], together: Barrier) -> None:
    """The floor: COPY of rows that lie ready, with the driver's own means, and nothing else."""
    rows = [values(event) for event in events]
    statement = f"COPY route_analytics ({COLUMNS}) FROM STDIN".encode()
    with psycopg.connect(settings.postgres_dsn) as connection:
        together.wait()
        for start in range(0, len(rows), BATCH):
            with connection.cursor().copy(statement) as copy:
                for row in rows[start : start + BATCH]:
                    copy.write_row(row)
            connection.commit()
        together.wait()


def plain_consumer(settings: Settings, _: Sequence[Event], together: Barrier) -> None:
    """What one writes first: read, json.loads, executemany of 1,000 rows, commit, acknowledge."""
    places = ", ".join(["%s"] * len(Event._fields))
    statement = f"INSERT INTO route_analytics ({COLUMNS}) VALUES ({places}) ON CONFLICT DO NOTHING".encode()  # noqa: S608
    with (
        psycopg.connect(settings.postgres_dsn) as connection,
        redis.Redis.from_url(settings.redis_url) as client,
    ):
        together.wait()
        while found := client.xreadgroup(GROUP, "plain", {STREAM: ">"}, count=2):
            entries: list[Any] = found[0][1]
            rows = [values(Event(*item)) for _, fields in entries for item in json.loads(fields[b"events"])]
            assert len(rows) <= PLAIN_BATCH
            connection.cursor().executemany(statement, rows)
            connection.commit()
            client.xack(STREAM, GROUP, *[entry_id for entry_id, _ in entries])
        together.wait()


def values(event: Event) -> list[object]:
    """The fields as the driver takes them."""
    row: list[object] = list(event)
    row[1] = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=event.timestamp_us)
    row[10:12] = Jsonb(event.query_params), Jsonb(event.query_params_normalized)
    return row


def rate(
    subject: Subject,
    settings: Settings,
    events: Sequence[Event],
    *,
    processes: int = 1,
    keep: bool = False,
) -> float:
    """Events a second, from when all of the processes are ready to when the last one is done.

    Args:
        subject: What each process does.
        settings: Where the servers are.
        events: What is on the stream.
        processes: How many.
        keep: Whether the raw table keeps what did not come by the stream.
    """
    begin_again(settings, keep=keep)
    spawn = get_context("spawn")
    together = spawn.Barrier(processes + 1)
    handed = [] if subject is worker else events
    running = [spawn.Process(target=subject, args=(settings, handed, together)) for _ in range(processes)]
    for each in running:
        each.start()
    together.wait(120)
    began = time.perf_counter()
    together.wait(120)
    seconds = time.perf_counter() - began
    for each in running:
        each.join()
    with connect(settings.postgres_dsn) as connection:
        (stored,) = connection.execute(STORED).fetchone() or (0,)
    assert stored == len(events)
    return len(events) / seconds


def run(count: int = EVENTS) -> Iterator[Figure]:
    """Measure P5."""
    events = events_of_a_day(count)
    with tempfile.TemporaryDirectory(prefix="otel-analytics-") as name:
        directory = Path(name)
        with redis_server(directory / "redis") as url, postgres_server(directory / "postgres") as dsn:
            migrate(dsn)
            with connect(dsn) as connection:
                partitions.ensure(
                    connection, partitions.days_from((NOW - dt.timedelta(days=2)).date(), NOW.date())
                )
            settings = Settings(
                redis_url=url, postgres_dsn=dsn, worker_metrics_port=0, stream_max_entries=10_000_000
            )
            deliver(settings, events)
            one, two, floor, plain = [], [], [], []
            for _ in range(ROUNDS):
                one.append(rate(worker, settings, events))
                floor.append(rate(copy_loop, settings, events))
                two.append(rate(worker, settings, events, processes=2))
                plain.append(rate(plain_consumer, settings, events))
    copied, inserted = "COPY of ready rows", "executemany of 1,000 rows"
    yield compared("P5", "One worker", one, "events/s", against=copied, floor=floor, aim=">= 0.8 x")
    yield compared("P5", "One worker", one, "events/s", against=inserted, floor=plain, aim=">= 5 x")
    yield compared("P5", "Two workers", two, "events/s", against=copied, floor=floor)
    yield compared("P5", "Two workers", two, "events/s", against="one worker", floor=one)


if __name__ == "__main__":
    for figure in run(*map(int, sys.argv[1:])):
        print(figure)
