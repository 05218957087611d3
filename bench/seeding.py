"""Tables filled by SQL, for what is measured on more rows than one wants to send."""

import datetime as dt
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_analytics.embedded import postgres_server
from otel_analytics.store import partitions
from otel_analytics.store.connection import Connection, connect
from otel_analytics.store.migrations import migrate

PATTERNS: Final = 5_000
"""Of a hundred for each route."""
# A pattern, a user and a duration that look random, and are the same each time. The first pattern gets 6 % of
# all requests, an eighth of the patterns half. What a path answers changes every fifty thousand requests.
RAW: Final = """
    INSERT INTO route_analytics (
        "timestamp", event_id, route, route_full, method, status_code, duration_ms, ttfb_ms, user_id,
        query_params, query_params_normalized, request_size_bytes, response_size_bytes, db_query_count,
        cache_status, response_hash)
    SELECT
        %(first)s::timestamptz + (n - %(number)s) * (%(span)s::interval / %(rows)s), md5(n::text)::uuid,
        '/api/v1/things' || pattern / 100 || '/{id}',
        '/api/v1/things' || pattern / 100 || '/' || n %% 50, 'GET',
        CASE WHEN n %% 50 = 0 THEN 500 ELSE 200 END, round(exp(3 + 2 * chance)::numeric, 3), 1,
        'user' || n * 31 %% 2000, jsonb_build_object('sort', pattern %% 100),
        jsonb_build_object('sort', pattern %% 100), 0, 1000 + n %% 5000, n %% 9,
        CASE WHEN n %% 3 = 0 THEN 'miss' END, hashint8extended(pattern * 50 + n %% 50, n / 50000)
    FROM (
        SELECT
            n,
            floor(%(patterns)s * ((hashint8extended(n, 1) & 1048575) / 1048576::float8) ^ 3)::int AS pattern,
            (hashint8extended(n, 2) & 1048575) / 1048576.0 AS chance
        FROM generate_series(%(number)s::bigint, %(number)s::bigint + %(rows)s - 1) AS n
    ) AS numbered
"""
# A week of one pattern after the other; twenty buckets a row, as an hour of a few hundred requests has.
HOURLY: Final = """
    INSERT INTO route_analytics_hourly (
        "timestamp", route, method, query_params_normalized, total_requests, successful_requests,
        client_errors, server_errors, avg_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms,
        unique_users, duration_buckets, duration_bucket_counts, total_duration_seconds)
    SELECT
        hour, '/api/v1/things' || pattern / 100 || '/{id}', 'GET', jsonb_build_object('sort', pattern %% 100),
        pattern %% 400 + 1, pattern %% 400, 1, 0, 50, 40, pattern %% 977, 2 * (pattern %% 977), pattern %% 60,
        ARRAY(SELECT generate_series(80, 99)), array_fill(1 + pattern %% 20, ARRAY[20]), pattern %% 400 * 0.05
    FROM generate_series(%(first)s::timestamptz, %(last)s::timestamptz, '1 hour') AS hour
    CROSS JOIN generate_series(0, %(patterns)s::bigint - 1) AS pattern
"""


@contextmanager
def migrated() -> Iterator[str]:
    """The DSN of a server of its own, on disk, that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="otel-analytics-") as name, postgres_server(Path(name)) as dsn:
        migrate(dsn)
        yield dsn


def fill_raw(dsn: str, first: dt.datetime, span: dt.timedelta, rows: int, *, number: int = 0) -> None:
    """Put so many events, evenly, into a span of time; the number of the first gives them their ids."""
    parameters = {"first": first, "span": span, "rows": rows, "number": number, "patterns": PATTERNS}
    with connect(dsn) as connection:
        last = first + span - dt.timedelta(microseconds=1)
        partitions.ensure(connection, partitions.days_from(first.date(), last.date()))
        connection.execute(RAW, parameters)
        settle(connection, "route_analytics")


def fill_hourly(dsn: str, first: dt.datetime, last: dt.datetime) -> None:
    """Give every pattern figures in every hour of a span, both ends included."""
    with connect(dsn) as connection:
        connection.execute(HOURLY, {"first": first, "last": last, "patterns": PATTERNS})
        settle(connection, "route_analytics_hourly")


def settle(connection: Connection, table: str) -> None:
    """Do now what the server would do in the background later."""
    connection.execute(f"VACUUM ANALYZE {table}".encode())
    connection.execute("CHECKPOINT")
