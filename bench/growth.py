"""The same worker, rollup and ranking with more and more events in the raw table. Part of `make bench`.

The worker adds the newest events, as it usually does, and then such as come late, from all over the day.

Arguments: numbers of raw events, 100,000 300,000 1,000,000 where none are given. The full ladder, 1,000,000
10,000,000 30,000,000, takes ten minutes and 24 GB of disk, which are given back.
"""

import datetime as dt
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import redis
from figures import Figure
from ingest import deliver, events_of_a_day, rate, worker
from rank import PROGRAM, RANKINGS, took
from seeding import fill_hourly, fill_raw

from otel_analytics.embedded import postgres_server, redis_server
from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.store import hourly
from otel_analytics.store.connection import connect
from otel_analytics.store.migrations import migrate

LADDER: Final = (100_000, 300_000, 1_000_000)
EVENTS: Final = 50_000
"""That a worker adds."""
MINUTES: Final = 5
"""In which they came to be, where they are the newest."""
MINUTES_OF_A_DAY: Final = 1_440
ROUNDS: Final = 3
BYTES: Final = 800
"""Of disk for an event, with the log of PostgreSQL and what the benchmark itself needs."""
HOUR: Final = dt.timedelta(hours=1)
DAY: Final = 24 * HOUR
NOW: Final = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)


def run(*ladder: int) -> Iterator[Figure]:
    """Measure P10."""
    sizes = ladder or LADDER
    with tempfile.TemporaryDirectory(prefix="otel-analytics-") as name:
        directory = Path(name)
        if shutil.disk_usage(directory).free < max(sizes) * BYTES:
            sys.exit(f"{max(sizes):,} events need {max(sizes) * BYTES / 1e9:.0f} GB of disk in {directory}")
        with redis_server(directory / "redis") as url, postgres_server(directory / "postgres") as dsn:
            migrate(dsn)
            settings = Settings(
                redis_url=url, postgres_dsn=dsn, worker_metrics_port=0, stream_max_entries=10_000_000
            )
            fill_hourly(dsn, NOW - DAY, NOW)
            first: list[float] = []
            filled = 0
            for size in sizes:
                # Into the days to which the worker adds, too.
                fill_raw(dsn, NOW - DAY, DAY, size - filled, number=filled)
                filled = size
                found = measured(settings, size)
                first = first or found
                for (what, unit, aim), value, smallest in zip(FIGURES, found, first, strict=True):
                    ratio = value / smallest
                    against = f"with {sizes[0]:,}"
                    yield Figure("P10", f"{what}, {size:,} events", value, unit, against, ratio, aim=aim)


FIGURES: Final = (
    ("One worker", "events/s", "flat"),
    ("One worker, late events", "events/s", ""),
    ("Rollup of an hour", "s a million", "flat"),
    ("rank", "s", "flat"),
)


def newest(events: Sequence[Event]) -> list[Event]:
    """The same events, of the minutes after all that is in the table."""
    begin_us = round(NOW.timestamp() * 1e6)
    first_us = min(event.timestamp_us for event in events)
    return [
        event._replace(timestamp_us=begin_us + (event.timestamp_us - first_us) // MINUTES_OF_A_DAY * MINUTES)
        for event in events
    ]


def measured(settings: Settings, size: int) -> list[float]:
    """One value for each of the figures."""
    dsn = settings.postgres_dsn
    command = (*PROGRAM, *RANKINGS["rank"], "--format", "json")
    in_an_hour = size / 24 / 1e6

    def rollup() -> float:
        began = time.perf_counter()
        with connect(dsn) as connection:
            hourly.recompute(connection, NOW - 12 * HOUR, max_patterns=200, wait=True)
        return (time.perf_counter() - began) / in_an_hour

    def add(events: Sequence[Event]) -> float:
        with redis.Redis.from_url(settings.redis_url) as client:
            client.flushall()
        deliver(settings, events)
        return rate(worker, settings, events, keep=True)

    late = events_of_a_day(EVENTS)
    tasks: tuple[Callable[[], float], ...] = (
        lambda: add(newest(late)),
        lambda: add(late),
        rollup,
        lambda: took(command, dsn),
    )
    return [statistics.median(task() for _ in range(ROUNDS)) for task in tasks]


if __name__ == "__main__":
    for figure in run(*map(int, sys.argv[1:])):
        print(figure)
