"""What the tests of the stream, the store and the worker share."""

import datetime as dt
import itertools
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import redis

from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.store import partitions
from otel_analytics.store.connection import Connection, connect
from otel_analytics.stream import Consumer, Producer
from otel_analytics.worker import Worker

NOW = dt.datetime(2026, 11, 24, 12, 30, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
PREFIX = "route_analytics"

_ids = itertools.count(1)


def at(moment: dt.datetime) -> int:
    """Microseconds since 1970."""
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def make_event(when: dt.datetime = NOW - dt.timedelta(minutes=5), **fields: Any) -> Event:
    """A plain event with an id of its own."""
    defaults: dict[str, Any] = {
        "event_id": f"{os.getpid():08x}{next(_ids):024x}",
        "timestamp_us": at(when),
        "route": "/items/{id}",
        "route_full": "/items/7?sort=asc",
        "method": "GET",
        "status_code": 200,
        "duration_ms": 12.5,
        "query_params": {"sort": "asc"},
        "query_params_normalized": {"sort": "asc"},
    }
    return Event(**{**defaults, **fields})


def random_events(
    count: int, seed: int, *, since: dt.datetime = NOW - 3 * HOUR, spread: dt.timedelta = 3 * HOUR
) -> list[Event]:
    """Events of every kind, the same ones for the same seed but for their ids."""
    chance = random.Random(seed)
    maybe = lambda value: value if chance.random() < 0.7 else None  # noqa: E731
    return [
        make_event(
            since + chance.random() * spread,
            route=chance.choice(["/a", "/b/{id}", "(unmatched)"]),
            method=chance.choice(["GET", "POST", "_OTHER"]),
            status_code=chance.choice([200, 201, 304, 404, 422, 499, 500, 503]),
            duration_ms=chance.choice([0.0, 0.0004, chance.lognormvariate(3, 2), chance.random() * 1e6]),
            user_id=maybe(f"u{chance.randrange(20)}"),
            query_params_normalized=chance.choice([{}, {"q": "x"}, {"q": ["x", "y"]}, {"é": '"\\\n\t'}]),
            request_size_bytes=maybe(chance.randrange(10_000)),
            response_size_bytes=maybe(chance.randrange(2**40)),
            db_query_count=maybe(chance.randrange(50)),
            cache_status=maybe(chance.choice(["hit", "miss", "bypass"])),
            response_hash=maybe(chance.randrange(-(2**63), 2**63)),
        )
        for _ in range(count)
    ]


def make_settings(redis_url: str = "redis://127.0.0.1:1/0", dsn: str = "", **overrides: Any) -> Settings:
    """Settings that serve no metrics and wait for nothing."""
    values: dict[str, Any] = {
        "redis_url": redis_url,
        "postgres_dsn": dsn,
        "worker_metrics_port": 0,
        "partitions_ahead_days": 1,
        **overrides,
    }
    return Settings(**values)


def make_worker(settings: Settings, now: dt.datetime = NOW) -> Worker:
    return Worker(settings, clock=lambda: now)


def make_consumer(redis_url: str, *, claim_idle_seconds: float = 60.0) -> Consumer:
    return Consumer(redis_url, key_prefix=PREFIX, claim_idle_seconds=claim_idle_seconds)


def produce(redis_url: str, *batches: list[Event], dropped: dict[str, int] | None = None) -> None:
    """One entry a batch."""
    producer = Producer(redis_url, key_prefix=PREFIX, max_entries=1_000_000)
    for batch in batches:
        producer.add(batch, dropped or {})
    producer.close()


@contextmanager
def raw_redis(redis_url: str) -> Iterator[Any]:
    client = redis.Redis.from_url(redis_url)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def raw_postgres(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the test's own, past the code under test."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        yield connection


@contextmanager
def store_connection(dsn: str, *days: dt.date) -> Iterator[Connection]:
    """A connection to the store with partitions for today, or for the days given."""
    with connect(dsn) as connection:
        partitions.ensure(connection, days or [NOW.date(), (NOW - DAY).date()])
        yield connection


def eager_to_share(connection: psycopg.Connection[Any]) -> None:
    """Have the planner spread over several processes what it can, however few rows there are."""
    connection.execute(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;"
        " SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0"
    )


def scalar(connection: psycopg.Connection[Any], query: str, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]
