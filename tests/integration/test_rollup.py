import datetime as dt
import json
import random
import statistics
import threading

import psycopg
import pytest
from backend import (
    DAY,
    HOUR,
    NOW,
    eager_to_share,
    make_event,
    make_settings,
    random_events,
    scalar,
    store_connection,
)

from otel_analytics.errors import UsageError
from otel_analytics.rollup import Schedule, rollup_range, rollup_touched, start_of_hour
from otel_analytics.store import hourly, partitions
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_events
from otel_analytics.store.hourly import touched_hours

SETTINGS = make_settings()
CURRENT = start_of_hour(NOW)
FIGURES = (
    '"timestamp", route, method, query_params_normalized, total_requests, successful_requests, client_errors,'
    " server_errors, avg_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms, unique_users,"
    " avg_request_size_bytes, avg_response_size_bytes, avg_db_query_count, cache_hits, cache_misses,"
    " total_duration_seconds, distinct_response_hashes"
)
# Written apart from the query under test, and plainer: everything in one GROUP BY.
INDEPENDENT = """
    SELECT
        to_timestamp(floor(extract(epoch FROM "timestamp") / 3600) * 3600), route, method,
        query_params_normalized,
        count(*), sum((status_code / 100 = 2)::int), sum((status_code / 100 = 4)::int),
        sum((status_code / 100 = 5)::int),
        sum(duration_ms) / count(*),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms),
        percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms),
        percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms),
        (SELECT count(*) FROM (SELECT DISTINCT unnest(array_agg(user_id)) AS u) AS users WHERE u IS NOT NULL),
        sum(request_size_bytes)::float8 / nullif(count(request_size_bytes), 0),
        sum(response_size_bytes)::float8 / nullif(count(response_size_bytes), 0),
        sum(db_query_count)::float8 / nullif(count(db_query_count), 0),
        sum((coalesce(cache_status, '') = 'hit')::int), sum((coalesce(cache_status, '') = 'miss')::int),
        sum(duration_ms) / 1000,
        (SELECT count(*) FROM (SELECT DISTINCT unnest(array_agg(response_hash)) AS h) AS all_of_them
         WHERE h IS NOT NULL)
    FROM route_analytics GROUP BY 1, 2, 3, 4
"""


@pytest.fixture
def connection(migrated_dsn):
    with store_connection(migrated_dsn) as connection:
        yield connection


def rolled(connection):
    return connection.execute(f"SELECT {FIGURES} FROM route_analytics_hourly").fetchall()


def keyed(rows):
    return {(row[0], row[1], row[2], json.dumps(row[3], sort_keys=True)): row[4:] for row in rows}


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, figures in ours.items():
        assert [each is None for each in figures] == [each is None for each in theirs[key]], key
        assert known(figures) == pytest.approx(known(theirs[key]), rel=1e-9), key


def known(figures):
    return [each for each in figures if each is not None]


@pytest.mark.parametrize("seed", range(3))
def test_the_rollup_agrees_with_independent_sql(connection, seed):
    insert_events(connection, random_events(3_000, seed, since=NOW - 20 * HOUR, spread=20 * HOUR))
    hours = rollup_touched(connection, SETTINGS, now=NOW)
    assert hours == 21
    ours, theirs = keyed(rolled(connection)), keyed(connection.execute(INDEPENDENT).fetchall())
    assert len(ours) > 300
    same(ours, theirs)
    assert touched_hours(connection) == []


def test_percentiles_by_hand(connection):
    insert_events(connection, [make_event(CURRENT, duration_ms=ms) for ms in (10, 20, 30, 40)])
    rollup_touched(connection, SETTINGS, now=NOW)
    row = connection.execute(
        "SELECT p50_duration_ms, p95_duration_ms, p99_duration_ms, avg_duration_ms, total_duration_seconds,"
        " unique_users, avg_db_query_count FROM route_analytics_hourly"
    ).fetchone()
    assert row == pytest.approx((25, 38.5, 39.7, 25, 0.1, 0, None))


def test_the_histogram_is_within_two_percent(connection):
    chance = random.Random(5)
    durations = [chance.lognormvariate(4, 2) for _ in range(2_000)] + [0.0, 0.001, 1.0, 604_800_000.0]
    insert_events(connection, [make_event(CURRENT, duration_ms=ms) for ms in durations])
    rollup_touched(connection, SETTINGS, now=NOW)
    buckets, counts = connection.execute(
        "SELECT duration_buckets, duration_bucket_counts FROM route_analytics_hourly"
    ).fetchone()
    assert sum(counts) == len(durations)
    assert buckets == sorted(set(buckets))
    growth = 51 / 49
    middles = [
        2 * growth**bucket / (growth + 1)
        for bucket, count in zip(buckets, counts, strict=True)
        for _ in range(count)
    ]
    for middle, duration in zip(middles, sorted(durations), strict=True):
        assert middle == pytest.approx(max(duration, 0.001), rel=0.02 + 1e-9)
    weighed = statistics.quantiles(middles, n=100)[94]
    assert weighed == pytest.approx(statistics.quantiles(durations, n=100)[94], rel=0.05)


def test_a_rerun_writes_nothing(connection):
    insert_events(connection, random_events(500, seed=1))
    rollup_touched(connection, SETTINGS, now=NOW)
    before = connection.execute("SELECT ctid, * FROM route_analytics_hourly").fetchall()
    assert rollup_touched(connection, SETTINGS, now=NOW) == 0
    assert rollup_range(connection, SETTINGS, since=NOW - DAY, until=NOW) == 25
    assert connection.execute("SELECT ctid, * FROM route_analytics_hourly").fetchall() == before


def test_a_rerun_by_several_processes_writes_nothing(connection):
    eager_to_share(connection)
    # Few patterns, so that each process has some events of all of them.
    durations = random_events(10_000, seed=2)
    insert_events(connection, [make_event(CURRENT, duration_ms=each.duration_ms) for each in durations])
    connection.execute("ANALYZE route_analytics")
    assert rollup_touched(connection, SETTINGS, now=NOW) == 1
    same(keyed(rolled(connection)), keyed(connection.execute(INDEPENDENT).fetchall()))
    before = connection.execute("SELECT ctid, * FROM route_analytics_hourly").fetchall()
    for _ in range(5):
        rollup_range(connection, SETTINGS, since=CURRENT, until=NOW)
    assert connection.execute("SELECT ctid, * FROM route_analytics_hourly").fetchall() == before


def test_a_late_event_changes_its_hour_and_no_other(connection):
    insert_events(connection, [make_event(NOW - 5 * HOUR), make_event(NOW - 4 * HOUR)])
    rollup_touched(connection, SETTINGS, now=NOW)
    insert_events(connection, [make_event(NOW - 5 * HOUR)])
    assert rollup_touched(connection, SETTINGS, now=NOW) == 1
    assert [row[4] for row in sorted(rolled(connection))] == [2, 1]


def test_a_pattern_that_is_gone_from_the_raw_rows_is_gone_from_the_hour(connection):
    insert_events(connection, [make_event(CURRENT), make_event(CURRENT, route="/mistake")])
    rollup_touched(connection, SETTINGS, now=NOW)
    connection.execute("DELETE FROM route_analytics WHERE route = '/mistake'")
    rollup_range(connection, SETTINGS, since=CURRENT, until=NOW)
    assert [row[1] for row in rolled(connection)] == ["/items/{id}"]


def test_hours_are_utc_whatever_the_session_says(connection):
    connection.execute("SET TIME ZONE 'Asia/Kathmandu'")  # a quarter of an hour off
    insert_events(
        connection, [make_event(CURRENT - HOUR), make_event(CURRENT - dt.timedelta(microseconds=1))]
    )
    assert rollup_touched(connection, SETTINGS, now=NOW) == 1
    assert [(row[0].astimezone(dt.UTC), row[4]) for row in rolled(connection)] == [(CURRENT - HOUR, 2)]


def test_the_current_hour_can_wait(connection):
    insert_events(connection, [make_event(NOW - HOUR), make_event(NOW), make_event(NOW + HOUR)])
    assert rollup_touched(connection, SETTINGS, now=NOW, include_current=False) == 1
    assert touched_hours(connection) == [CURRENT, CURRENT + HOUR]
    assert rollup_touched(connection, SETTINGS, now=NOW) == 2


def test_a_commit_during_a_recompute_leaves_the_hour_marked(connection, migrated_dsn):
    insert_events(connection, [make_event(CURRENT)])
    with psycopg.connect(migrated_dsn) as blocker:
        # The recompute has its snapshot and waits for the row that it wants to write.
        rollup_touched(connection, SETTINGS, now=NOW)
        insert_events(connection, [make_event(CURRENT)])
        blocker.execute("SELECT FROM route_analytics_hourly FOR UPDATE")
        done = []

        def recompute():
            with connect(migrated_dsn) as mine:
                done.append(rollup_touched(mine, SETTINGS, now=NOW))

        thread = threading.Thread(target=recompute)
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while not scalar(connection, waiting):
            pass
        insert_events(connection, [make_event(CURRENT)])
        blocker.rollback()
        thread.join()
    assert done == [1]
    assert [row[4] for row in rolled(connection)] == [2]
    assert touched_hours(connection) == [CURRENT]
    rollup_touched(connection, SETTINGS, now=NOW)
    assert [row[4] for row in rolled(connection)] == [3]


def test_an_uncommitted_batch_is_not_lost(connection, migrated_dsn):
    with psycopg.connect(migrated_dsn) as writer:
        writer.execute("SELECT")  # begins a transaction
        insert_events(writer, [make_event(CURRENT)])
        insert_events(connection, [make_event(CURRENT)])
        assert rollup_touched(connection, SETTINGS, now=NOW) == 1
        writer.commit()
    assert touched_hours(connection) == [CURRENT]
    rollup_touched(connection, SETTINGS, now=NOW)
    assert [row[4] for row in rolled(connection)] == [2]


def test_workers_at_the_same_hours_agree_and_never_deadlock(connection, migrated_dsn):
    failures = []

    def work(seed):
        try:
            with connect(migrated_dsn) as mine:
                for step in range(5):
                    insert_events(mine, random_events(100, seed * 10 + step))
                    rollup_touched(mine, SETTINGS, now=NOW)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    rollup_touched(connection, SETTINGS, now=NOW)
    same(keyed(rolled(connection)), keyed(connection.execute(INDEPENDENT).fetchall()))
    assert touched_hours(connection) == []


def test_an_hour_another_worker_is_at_is_left_to_it(connection, migrated_dsn):
    insert_events(connection, [make_event(CURRENT)])
    with psycopg.connect(migrated_dsn) as other:
        (held,) = other.execute(hourly._QUERIES["try_lock"], {"hour": CURRENT}).fetchone()
        assert held
        assert rollup_touched(connection, SETTINGS, now=NOW) == 0
        assert touched_hours(connection) == [CURRENT]
    assert rollup_touched(connection, SETTINGS, now=NOW) == 1


def flood(route, method, patterns, **fields):
    return [
        make_event(
            CURRENT,
            route=route,
            method=method,
            query_params_normalized={"q": f"{n:04}"},
            duration_ms=float(n),
            **fields,
        )
        for n in patterns
    ]


def test_patterns_beyond_the_limit_are_summed_in_one_row(connection):
    settings = make_settings(max_patterns_per_route=3)
    events = flood("/flood", "GET", range(100)) + flood("/flood", "POST", [5, 5, 98, 98, 98])
    insert_events(connection, [*events, *flood("/calm", "GET", range(3))])
    rollup_touched(connection, settings, now=NOW)
    rows = {key[1:]: figures for key, figures in keyed(rolled(connection)).items()}
    overflow = json.dumps({"otel_analytics.overflow": True})
    pattern = lambda n: json.dumps({"q": f"{n:04}"})  # noqa: E731
    # 98 has four requests over both methods, 5 has three, and 0 is the first of the ties.
    assert {key: figures[0] for key, figures in rows.items()} == {
        ("/flood", "GET", pattern(98)): 1,
        ("/flood", "GET", pattern(5)): 1,
        ("/flood", "GET", pattern(0)): 1,
        ("/flood", "GET", overflow): 97,
        ("/flood", "POST", pattern(98)): 3,
        ("/flood", "POST", pattern(5)): 2,
        **{("/calm", "GET", pattern(n)): 1 for n in range(3)},
    }
    folded = [float(n) for n in range(100) if n not in (0, 5, 98)]
    assert rows["/flood", "GET", overflow][4] == pytest.approx(statistics.mean(folded))
    assert rows["/flood", "GET", overflow][5] == pytest.approx(statistics.median(folded))
    before = rolled(connection)
    rollup_range(connection, settings, since=CURRENT, until=NOW)
    assert rolled(connection) == before


def test_patterns_too_long_for_a_key_are_summed_as_well(connection):
    chance = random.Random(1)
    long = {"q": "".join(chance.choice("äöü€") for _ in range(250)), "r": "x" * 256, "s": "y" * 256}
    widest = {f"{n:03}": "" for n in range(90)}
    assert 900 < len(json.dumps(widest)) <= 1_000
    route = "".join(chance.choice("0123456789abcdef") for _ in range(1_000))
    patterns = [{}, long, {**long, "t": "z"}, widest]
    insert_events(
        connection,
        [
            make_event(CURRENT, route=route, method="M" * 32, query_params_normalized=pattern)
            for pattern in patterns
        ],
    )
    rollup_touched(connection, SETTINGS, now=NOW)
    assert sorted((len(row[3]), row[4]) for row in rolled(connection)) == [(0, 1), (1, 2), (90, 1)]


def test_an_hour_without_its_raw_partition_stays_as_it_is(connection):
    yesterday = NOW - DAY
    insert_events(connection, [make_event(yesterday)])
    rollup_touched(connection, SETTINGS, now=NOW)
    before = rolled(connection)
    insert_events(connection, [make_event(yesterday)])
    partitions.drop_before(connection, NOW.date())
    assert touched_hours(connection)
    assert rollup_touched(connection, SETTINGS, now=NOW) == 0
    assert touched_hours(connection) == []
    assert rollup_range(connection, SETTINGS, since=yesterday - DAY, until=yesterday + HOUR) == 0
    assert rolled(connection) == before


def test_a_range_takes_whole_hours_and_is_not_empty(connection):
    insert_events(connection, [make_event(CURRENT - HOUR), make_event(CURRENT), make_event(CURRENT + HOUR)])
    minute = dt.timedelta(minutes=1)
    assert rollup_range(connection, SETTINGS, since=CURRENT + 59 * minute, until=CURRENT + HOUR) == 1
    assert [row[0] for row in rolled(connection)] == [CURRENT]
    with pytest.raises(UsageError, match="empty"):
        rollup_range(connection, SETTINGS, since=NOW, until=NOW)


def test_raw_rows_written_by_hand_are_rolled_up_by_range(connection):
    connection.execute(
        'INSERT INTO route_analytics ("timestamp", event_id, route, route_full, method, status_code,'
        " duration_ms)"
        " SELECT %s, md5(n::text)::uuid, '/hand', '/hand', 'GET', 200, n FROM generate_series(1, 100) AS n",
        [CURRENT],
    )
    assert rollup_range(connection, SETTINGS, since=CURRENT, until=NOW) == 1
    ((_, route, *_, total, _, _, _, average, median, p95, p99),) = [row[:12] for row in rolled(connection)]
    assert (route, total) == ("/hand", 100)
    assert (average, median, p95, p99) == pytest.approx((50.5, 50.5, 95.05, 99.01))


def test_the_current_hour_takes_a_bounded_share_of_time():
    schedule = Schedule(interval_seconds=60)
    assert schedule.is_due(0)
    assert schedule.is_current_due(0)
    schedule.done(0)
    schedule.current_done(10, took_seconds=10)
    assert not schedule.is_due(59.9)
    assert schedule.is_due(60)
    assert not schedule.is_current_due(209.9)
    assert schedule.is_current_due(210)
    schedule.current_done(210, took_seconds=0.1)
    assert not schedule.is_current_due(269)
    assert schedule.is_current_due(270)
