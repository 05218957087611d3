"""The figures of an hour, against the aggregate alone. Part of `make bench`.

Argument: events in the hour, a million where none is given.
"""

import datetime as dt
import sys
import time
from collections.abc import Iterator
from typing import Final

from figures import Figure, compared
from seeding import PATTERNS, fill_raw, migrated

from otel_analytics.store import hourly
from otel_analytics.store.connection import connect

ROWS: Final = 1_000_000
ROUNDS: Final = 5
HOUR: Final = dt.timedelta(hours=1)
FIRST: Final = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0) - 2 * HOUR
# What one would write by hand for the same figures: no histogram, no limit of patterns, nothing stored.
BARE: Final = """
    SELECT
        route, method, query_params_normalized, count(*),
        count(*) FILTER (WHERE status_code BETWEEN 200 AND 299),
        count(*) FILTER (WHERE status_code BETWEEN 400 AND 499),
        count(*) FILTER (WHERE status_code BETWEEN 500 AND 599), avg(duration_ms),
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms), count(DISTINCT user_id),
        avg(request_size_bytes), avg(response_size_bytes), avg(db_query_count),
        count(*) FILTER (WHERE cache_status = 'hit'), count(*) FILTER (WHERE cache_status = 'miss'),
        sum(duration_ms), count(DISTINCT response_hash)
    FROM route_analytics
    WHERE "timestamp" >= %s AND "timestamp" < %s
    GROUP BY route, method, query_params_normalized
"""


def run(rows: int = ROWS) -> Iterator[Figure]:
    """Measure P6."""
    ours, again, bare = [], [], []
    with migrated() as dsn:
        fill_raw(dsn, FIRST, HOUR, rows)
        with connect(dsn) as connection:
            for _ in range(ROUNDS):
                connection.execute("TRUNCATE route_analytics_hourly")
                began = time.perf_counter()
                done = hourly.recompute(connection, FIRST, max_patterns=200, wait=True)
                ours.append(time.perf_counter() - began)
                assert done is not None
                assert done.written == min(rows, PATTERNS)
                began = time.perf_counter()
                hourly.recompute(connection, FIRST, max_patterns=200, wait=True)
                again.append(time.perf_counter() - began)
                began = time.perf_counter()
                connection.execute(BARE, (FIRST, FIRST + HOUR)).fetchall()
                bare.append(time.perf_counter() - began)
    what, floor = f"Rollup of {rows:,} events", "the aggregate alone"
    yield compared("P6", what, ours, "s", against=floor, floor=bare, aim="<= 1.1 x")
    yield compared("P6", f"{what}, nothing new", again, "s", against=floor, floor=bare)


if __name__ == "__main__":
    for figure in run(*map(int, sys.argv[1:])):
        print(figure)
