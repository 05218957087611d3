import datetime as dt
import threading

import psycopg
import pytest
from backend import DAY, HOUR, NOW, make_event, random_events, raw_postgres, scalar, store_connection

from otel_analytics.errors import RejectedRows, StoreUnavailable
from otel_analytics.record import Event
from otel_analytics.store import partitions
from otel_analytics.store.connection import MissingPartition, connect, snapshot, transaction
from otel_analytics.store.events import insert_events, insert_making_partitions, insert_or_reject, prepare
from otel_analytics.store.hourly import touched_hours

FULL = make_event(
    dt.datetime(2026, 11, 24, 11, 59, 59, 999_999, tzinfo=dt.UTC),
    route_full="/ä?a=\\N&b=\t",
    ttfb_ms=1.25,
    user_id="émile\n'\"\\",
    error_type="builtins.ValueError",
    query_params={"a": "\\N", "b": ["\t", ""], "c": "\u2028"},
    query_params_normalized={"a": "\\N"},
    request_size_bytes=2**40,
    response_size_bytes=0,
    db_query_count=0,
    cache_status="hit",
    response_hash=-(2**63),
    trace_id="a" * 32,
    span_id="b" * 16,
    client_address="::1",
    user_agent="x",
    referrer="y",
    session_id="z",
)


def test_every_field_comes_back_as_it_went_in(migrated_dsn):
    with store_connection(migrated_dsn) as connection:
        assert insert_events(connection, [FULL]) == 1
    columns = ", ".join('"timestamp"' if name == "timestamp_us" else name for name in Event._fields)
    with raw_postgres(migrated_dsn) as connection:
        row = list(connection.execute(f"SELECT {columns} FROM route_analytics").fetchone())
    row[0] = row[0].hex
    assert row[1] == dt.datetime(2026, 11, 24, 11, 59, 59, 999_999, tzinfo=dt.UTC)
    row[1] = FULL.timestamp_us
    assert Event(*row) == FULL


def test_what_is_there_already_is_left_alone(migrated_dsn):
    events = random_events(50, seed=1)
    with store_connection(migrated_dsn) as connection:
        assert insert_events(connection, events[:30]) == 30
        assert insert_events(connection, [*events, *events]) == 20
        assert insert_events(connection, events) == 0
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == 50


def test_only_hours_that_changed_are_marked(migrated_dsn):
    events = [make_event(NOW - 2 * HOUR), make_event(NOW - HOUR), make_event(NOW - HOUR)]
    with store_connection(migrated_dsn) as connection:
        insert_events(connection, events)
        expected = [dt.datetime(2026, 11, 24, hour, tzinfo=dt.UTC) for hour in (10, 11)]
        assert touched_hours(connection) == expected
        connection.execute("DELETE FROM route_analytics_touched_hours")
        insert_events(connection, events)
        assert touched_hours(connection) == []


def test_a_missing_partition_is_told_from_a_failed_check(migrated_dsn):
    with connect(migrated_dsn) as connection:
        with pytest.raises(MissingPartition):
            insert_events(connection, [make_event()])
        partitions.ensure(connection, [NOW.date()])
        with pytest.raises(RejectedRows, match="method"):
            insert_events(connection, [make_event(method="M" * 33)])
        assert insert_events(connection, []) == 0


def test_the_refused_are_found_and_the_others_stored(migrated_dsn):
    events = random_events(40, seed=2, since=NOW - HOUR, spread=HOUR)
    for place in (0, 17, 18, 39):
        events[place] = events[place]._replace(method="M" * 33)
    with store_connection(migrated_dsn) as connection:
        inserted = insert_or_reject(connection, prepare(events))
        assert inserted.stored == 36
        assert sorted(each.place for each in inserted.rejected) == [0, 17, 18, 39]
        assert "MMM" not in inserted.rejected[0].reason
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == 36


@pytest.mark.parametrize(
    "wrong", [{"status_code": 40_000}, {"event_id": "12"}, {"duration_ms": "slow"}, {"db_query_count": 2**31}]
)
def test_what_no_column_can_hold_is_found_and_the_others_stored(migrated_dsn, wrong):
    events = random_events(9, seed=2, since=NOW - HOUR, spread=HOUR)
    events[4] = events[4]._replace(**wrong)
    with store_connection(migrated_dsn) as connection:
        inserted = insert_or_reject(connection, prepare(events))
        assert (inserted.stored, [each.place for each in inserted.rejected]) == (8, [4])
        stored = connection.execute("SELECT replace(event_id::text, '-', '') FROM route_analytics")
        assert {row[0] for row in stored} == {event.event_id for event in events[:4] + events[5:]}


def test_a_writer_without_a_worker_gets_its_partitions(migrated_dsn):
    today, first_day = NOW.date(), (NOW - DAY).date()
    events = [
        make_event(),
        make_event(NOW - 2 * DAY),
        make_event(NOW - DAY),
        make_event(method="M" * 33),
        make_event(NOW + DAY),
    ]
    with connect(migrated_dsn) as connection:
        inserted = insert_making_partitions(connection, events, first_day=first_day, last_day=today)
        assert inserted.stored == 2
        assert sorted(each.place for each in inserted.rejected) == [1, 3, 4]
        assert partitions.existing_days(connection) == {first_day, today}


def test_a_transaction_that_fails_leaves_nothing(migrated_dsn):
    with store_connection(migrated_dsn) as connection:
        with pytest.raises(ZeroDivisionError), transaction(connection):
            assert 1 / (insert_events(connection, [make_event()]) - 1)
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == 0
        assert touched_hours(connection) == []


def test_overlapping_batches_from_many_threads_never_deadlock(migrated_dsn):
    events = random_events(400, seed=3)
    failures = []

    def write(seed: int) -> None:
        try:
            with connect(migrated_dsn) as connection:
                for start in range(0, 400, 100):
                    shifted = (start + 100 * seed) % 400
                    insert_events(connection, list(reversed(events[shifted : shifted + 200])))
        except Exception as error:
            failures.append(error)

    with store_connection(migrated_dsn) as connection:
        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == 400


def test_partitions_are_made_once_by_many(migrated_dsn):
    days = partitions.days_from(NOW.date(), (NOW + 5 * DAY).date())
    made = []

    def make() -> None:
        with connect(migrated_dsn) as connection:
            made.extend(partitions.ensure(connection, days))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == days
    with connect(migrated_dsn) as connection:
        assert partitions.existing_days(connection) == set(days)


def test_a_partition_is_made_while_a_long_query_runs(migrated_dsn):
    with store_connection(migrated_dsn) as connection, psycopg.connect(migrated_dsn) as reader:
        reader.execute("SELECT count(*) FROM route_analytics")
        connection.execute("SET statement_timeout = '2s'")
        assert partitions.ensure(connection, [(NOW + DAY).date()]) == [(NOW + DAY).date()]


def test_a_partition_takes_its_whole_utc_day_and_has_every_index(migrated_dsn):
    midnight = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
    with connect(migrated_dsn) as connection:
        connection.execute("SET TIME ZONE 'Asia/Kathmandu'")
        partitions.ensure(connection, [midnight.date()])
        last = midnight + DAY - dt.timedelta(microseconds=1)
        assert insert_events(connection, [make_event(midnight), make_event(last)]) == 2
        with pytest.raises(MissingPartition):
            insert_events(connection, [make_event(midnight + DAY)])
        indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = %s"
        parents = scalar(connection, indexes, "route_analytics")
        assert scalar(connection, indexes, "route_analytics_y2026m11d24") == parents > 3


def test_old_partitions_are_dropped_unless_somebody_reads_them(migrated_dsn):
    days = [NOW.date() - n * DAY for n in range(4)]
    with store_connection(migrated_dsn, *days) as connection:
        with psycopg.connect(migrated_dsn) as reader:
            reader.execute("SELECT count(*) FROM route_analytics_y2026m11d22")
            assert partitions.drop_before(connection, days[1]) == [days[3]]
        assert partitions.drop_before(connection, days[1]) == [days[2]]
        assert partitions.existing_days(connection) == {days[0], days[1]}


def test_oldest_day_counts_utc_days():
    evening_in_new_york = dt.datetime(2026, 11, 23, 20, tzinfo=dt.timezone(-5 * HOUR))
    assert partitions.oldest_day(evening_in_new_york, 30) == dt.date(2026, 10, 25)


def test_a_read_only_server_may_be_better_later(migrated_dsn):
    with store_connection(migrated_dsn) as connection:
        connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(StoreUnavailable, match="read-only"):
            insert_events(connection, [make_event()])


def test_a_killed_connection_may_be_better_later(migrated_dsn):
    with store_connection(migrated_dsn) as connection, raw_postgres(migrated_dsn) as other:
        pid = scalar(connection, "SELECT pg_backend_pid()")
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(StoreUnavailable):
            insert_events(connection, [make_event()])
        assert connection.closed


def test_a_statement_timeout_may_be_better_later(migrated_dsn):
    with store_connection(migrated_dsn) as connection, psycopg.connect(migrated_dsn) as other:
        other.execute("LOCK TABLE route_analytics")
        connection.execute("SET statement_timeout = '200ms'")
        with pytest.raises(StoreUnavailable, match="timeout"):
            insert_events(connection, [make_event()])


LIMITS = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout")


def limits(connection):
    return [scalar(connection, "SELECT current_setting(%s)", name) for name in LIMITS]


def test_transactions_of_an_unattended_connection_have_limits(migrated_dsn):
    with connect(migrated_dsn, unattended=True) as connection:
        with transaction(connection), transaction(connection):
            assert limits(connection) == ["10s", "10s", "1min"]
        with transaction(connection, statement_seconds=300):
            assert limits(connection) == ["10s", "10s", "5min"]
        with snapshot(connection):
            assert limits(connection) == ["10s", "10s", "15min"]
        # The session may belong to somebody else next, behind a pooler.
        assert limits(connection) == ["0", "0", "0"]
    with connect(migrated_dsn) as connection, transaction(connection):
        assert limits(connection) == ["0", "0", "0"]


def test_limits_in_the_dsn_win(migrated_dsn):
    options = "-c%20statement_timeout%3D90s%20-c%20lock_timeout%3D1s"
    with connect(f"{migrated_dsn}?options={options}", unattended=True) as connection:
        assert connection.given_limit == 90
        with transaction(connection):
            assert limits(connection) == ["1s", "10s", "90s"]


def test_a_silent_server_is_given_up(migrated_dsn):
    with connect(migrated_dsn, unattended=True) as connection:
        connection.patience = 0.3
        with pytest.raises(psycopg.OperationalError, match="no answer"):
            connection.execute("SELECT pg_sleep(20)")
        assert connection.closed
