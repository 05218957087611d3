"""What must not creep up: round trips of a batch, and bytes of a row. Counted, not timed."""

import datetime as dt
import itertools
import random

import pytest
from backend import NOW, PREFIX, make_settings, produce, random_events, raw_postgres, raw_redis, scalar

from otel_analytics.demo.past import past_events
from otel_analytics.ingest import Ingest
from otel_analytics.store import partitions
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_events
from otel_analytics.stream import Consumer

POSTGRES_ROUND_TRIPS = 11
"""BEGIN and COMMIT, two savepoints, COPY, and four statements for the books and the marks."""
REDIS_COMMANDS = 5
"""XAUTOCLAIM, XREADGROUP and HGETALL to read; XACK; and INFO of the test itself."""
BYTES_OF_A_ROW = 320
SIZE = """
    SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('route_analytics') WHERE isleaf
"""


def commands(client):
    return client.info("stats")["total_commands_processed"]


@pytest.mark.parametrize("events", [100, 2_000])
def test_round_trips_of_a_batch_do_not_depend_on_its_size(redis_url, migrated_dsn, tmp_path, events):
    settings = make_settings(redis_url, migrated_dsn, worker_batch_size=events, export_batch_size=events)
    consumer = Consumer(redis_url, key_prefix=PREFIX, claim_idle_seconds=60)
    ingest = Ingest(consumer, settings, lambda: NOW)
    with connect(migrated_dsn) as connection, raw_redis(redis_url) as client:
        partitions.ensure(connection, [(NOW - dt.timedelta(hours=h)).date() for h in (0, 3)])
        for seed in (1, 2):  # the first batch is the one that opens the books
            produce(redis_url, random_events(events, seed))
            before = commands(client)
            batch = ingest.read()
            with (tmp_path / "trace").open("w+") as trace:
                connection.pgconn.trace(trace.fileno())
                stored = ingest.store(connection, batch)
                connection.pgconn.untrace()
                trace.seek(0)
                answers = [line for line in trace if "\tReadyForQuery\t" in line]
            assert stored.stored == events
        assert 0 < len(answers) <= POSTGRES_ROUND_TRIPS
        assert commands(client) - before <= REDIS_COMMANDS
    ingest.close()
    consumer.close()


def test_a_row_of_the_raw_table_stays_small(migrated_dsn):
    past = past_events(now=NOW, days=1, requests_a_day=300_000, chance=random.Random(1))
    events = list(itertools.islice(past, 20_000))
    with connect(migrated_dsn) as connection:
        partitions.ensure(connection, partitions.days_from((NOW - dt.timedelta(days=1)).date(), NOW.date()))
        for start in range(0, len(events), 5_000):
            insert_events(connection, events[start : start + 5_000])
    with raw_postgres(migrated_dsn) as connection:
        connection.execute("VACUUM route_analytics")
        size = scalar(connection, SIZE)
    assert size / len(events) < BYTES_OF_A_ROW
