"""What an event takes in Redis and PostgreSQL, and what memory each process takes. Part of `make bench`.

Argument: how many events, 200,000 where none is given. `sizing.py` prints more of it.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import redis
from figures import Figure, compared
from ingest import NOW, STREAM, begin_again, deliver, events_of_a_day
from sizing import APPLICATION, NOBODY, most_memory

from otel_analytics.embedded import postgres_server, redis_server
from otel_analytics.record import Event
from otel_analytics.rollup import HOUR, start_of_hour
from otel_analytics.settings import Settings
from otel_analytics.store import hourly, partitions
from otel_analytics.store.connection import Connection, connect
from otel_analytics.store.events import insert_events
from otel_analytics.store.migrations import migrate

EVENTS: Final = 200_000
BATCH: Final = 5_000
PROGRAM: Final = (sys.executable, "-m", "otel_analytics.cli")
# The same columns, and the four b-trees that answer the same questions in the usual way.
PLAIN: Final = (
    "CREATE TABLE plain (LIKE route_analytics INCLUDING DEFAULTS)",
    'ALTER TABLE plain ADD PRIMARY KEY ("timestamp", event_id)',
    'CREATE INDEX ON plain (route, "timestamp")',
    'CREATE INDEX ON plain (user_id, "timestamp")',
    'CREATE INDEX ON plain (duration_ms, "timestamp")',
)
FILL_PLAIN: Final = 'INSERT INTO plain SELECT * FROM route_analytics ORDER BY "timestamp"'
SIZE: Final = (
    "SELECT sum(pg_total_relation_size(relid))::float8 FROM pg_partition_tree('route_analytics') WHERE isleaf"
)
PLAIN_SIZE: Final = "SELECT pg_total_relation_size('plain')::float8"
HOURLY: Final = """
    SELECT pg_total_relation_size('route_analytics_hourly')::float8 / count(*) FROM route_analytics_hourly
"""


def run(count: int = EVENTS) -> Iterator[Figure]:
    """Measure P8."""
    events = events_of_a_day(count)
    bare = [event._replace(trace_id=None, span_id=None) for event in events]
    with tempfile.TemporaryDirectory(prefix="otel-analytics-") as name:
        directory = Path(name)
        with redis_server(directory / "redis") as url, postgres_server(directory / "postgres") as dsn:
            migrate(dsn)
            settings = Settings(
                redis_url=url, postgres_dsn=dsn, worker_metrics_port=0, stream_max_entries=10_000_000
            )
            deliver(settings, events)
            with redis.Redis.from_url(url) as client:
                used = client.memory_usage(STREAM, samples=0) or 0
            yield Figure("P8", "Redis, 500 events a delivery", used / count, "B an event")
            with connect(dsn) as connection:
                yield from in_postgres(connection, bare, "PostgreSQL", aim="<= 300 B")
                yield from in_postgres(connection, events, "PostgreSQL, with trace ids")
                for hours in range(25):
                    hour = start_of_hour(NOW) - hours * HOUR
                    hourly.recompute(connection, hour, max_patterns=200, wait=True)
                connection.execute("VACUUM route_analytics_hourly")
                yield Figure("P8", "PostgreSQL, an hour of a pattern", one(connection, HOURLY), "B a row")
            begin_again(settings)
            yield from memory(settings)


def in_postgres(
    connection: Connection, events: Sequence[Event], what: str, *, aim: str = ""
) -> Iterator[Figure]:
    """The raw table with its indexes, beside a plain one of the same rows."""
    connection.execute("TRUNCATE route_analytics")
    connection.execute("DROP TABLE IF EXISTS plain")
    for statement in PLAIN:
        connection.execute(statement.encode())
    partitions.ensure(connection, partitions.days_from((NOW - 25 * HOUR).date(), NOW.date()))
    for start in range(0, len(events), BATCH):
        insert_events(connection, events[start : start + BATCH])
    connection.execute(FILL_PLAIN.encode())
    connection.execute("VACUUM ANALYZE route_analytics, plain")
    ours, plain = (one(connection, statement) / len(events) for statement in (SIZE, PLAIN_SIZE))
    yield compared(
        "P8", what, [ours], "B an event", against="a table with four b-trees", floor=[plain], aim=aim
    )


def memory(settings: Settings) -> Iterator[Figure]:
    """The most that each process takes: a worker that stores all of it, and an application without Redis."""
    environ = {
        "OTEL_ANALYTICS_REDIS_URL": settings.redis_url,
        "OTEL_ANALYTICS_POSTGRES_DSN": settings.postgres_dsn,
    }
    used = most_memory(*PROGRAM, "worker", "--once", **environ)
    yield Figure("P8", "Memory of a worker", used, "MB")
    with_it, without = (
        most_memory(sys.executable, "-c", APPLICATION, lines, OTEL_ANALYTICS_REDIS_URL=NOBODY)
        for lines in ("from otel_analytics import instrument; instrument(app)", "")
    )
    yield compared(
        "P8", "Memory of an application", [with_it], "MB", against="the same without", floor=[without]
    )


def one(connection: Connection, statement: str) -> float:
    """The number that a statement returns."""
    (found,) = connection.execute(statement.encode()).fetchone() or (0.0,)
    return float(found)


if __name__ == "__main__":
    for figure in run(*map(int, sys.argv[1:])):
        print(figure)
