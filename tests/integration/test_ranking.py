"""From raw rows written by hand to a ranking, against SQL and arithmetic written apart from it."""

import datetime as dt
import itertools
import json
import math
import random

import pytest
from backend import DAY, HOUR, NOW, make_event, make_settings, raw_postgres, store_connection

from otel_analytics import ranking
from otel_analytics.rollup import rollup_range, start_of_hour
from otel_analytics.store import ledger, partitions, rankings
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_events
from otel_analytics.store.ledger import LedgerRow

CURRENT = start_of_hour(NOW)
INSERT = """
    INSERT INTO route_analytics (
        "timestamp", event_id, route, route_full, method, status_code, duration_ms, user_id, query_params,
        query_params_normalized)
    VALUES (%s, gen_random_uuid(), %s, '/', %s, %s, %s, %s, %s, %s)
"""
# Straight from the raw rows. The hour is cut off a text, percentiles are interpolated by hand.
INDEPENDENT = """
    WITH numbered AS (
        SELECT route, method, query_params_normalized AS pattern, left("timestamp"::text, 13) AS hour,
            status_code, user_id, duration_ms AS ms,
            row_number() OVER hourly - 1 AS place, count(*) OVER (PARTITION BY route, method,
                query_params_normalized, left("timestamp"::text, 13)) - 1 AS last
        FROM route_analytics
        WHERE "timestamp" >= %(since)s AND "timestamp" < %(until)s AND route <> '(unmatched)'
        WINDOW hourly AS (PARTITION BY route, method, query_params_normalized, left("timestamp"::text, 13)
                          ORDER BY duration_ms)
    ), hourly AS (
        SELECT route, method, pattern, hour, count(*) AS requests, count(DISTINCT user_id) AS users,
            sum((status_code BETWEEN 200 AND 299)::int) AS successful,
            max(ms) FILTER (WHERE place = floor(0.95 * last)) AS low95,
            max(ms) FILTER (WHERE place = ceil(0.95 * last)) AS high95,
            max(0.95 * last - floor(0.95 * last)) AS part95
        FROM numbered GROUP BY route, method, pattern, hour
    )
    SELECT route, method, pattern, count(*), sum(requests)::float8,
        sum(successful)::float8 / sum(requests)::float8, sum(requests)::float8 / count(*),
        sum(low95 + part95 * (high95 - low95)) / count(*),
        sum(users)::float8 / count(*)
    FROM hourly GROUP BY route, method, pattern
"""


@pytest.fixture
def connection(migrated_dsn):
    with store_connection(
        migrated_dsn, *partitions.days_from((NOW - 9 * DAY).date(), NOW.date())
    ) as connection:
        yield connection


def write_by_hand(dsn, seed, count=6_000):
    chance = random.Random(seed)
    shapes = [
        ("/search", [{"q": "a"}, {"q": "b", "sort": "x"}, {"q": ["a", "b"]}, {}]),
        ("/items/{id}", [{}]),
        ("/report", [{"year": "2026"}, {}]),
        ("(unmatched)", [{}]),
    ]
    with raw_postgres(dsn) as connection, connection.cursor() as cursor:
        rows = []
        for _ in range(count):
            route, patterns = chance.choice(shapes)
            pattern = chance.choice(patterns)
            moment = NOW - chance.choice([HOUR, 5 * HOUR, 2 * DAY, 6 * DAY]) * chance.random() - HOUR
            status = chance.choice([200, 200, 201, 304, 404, 500])
            milliseconds = chance.choice([chance.lognormvariate(4, 1.5), float(chance.randrange(300))])
            user = chance.choice([None, *(f"u{n}" for n in range(300))])
            rows.append((
                moment, route, chance.choice(["GET", "GET", "POST"]), status, milliseconds, user,
                json.dumps(pattern), json.dumps(pattern),
            ))  # fmt: skip
        cursor.executemany(INSERT, rows)


def by_hand(dsn, since, until):
    with raw_postgres(dsn) as connection:
        return connection.execute(INDEPENDENT, {"since": since, "until": until}).fetchall()


def key(row):
    return row.route, row.method, json.dumps(row.query_params_normalized, sort_keys=True)


@pytest.mark.parametrize("seed", range(3))
def test_both_rankings_agree_with_independent_arithmetic(connection, migrated_dsn, seed):
    write_by_hand(migrated_dsn, seed)
    groups = by_hand(migrated_dsn, CURRENT + HOUR - 3 * DAY, CURRENT + HOUR)
    assert len(groups) == 14
    # Each keeps ten of them.
    min_requests = round(sorted(row[6] for row in groups)[4], 3) - 0.001
    min_latency = round(sorted(row[7] for row in groups)[4], 3) - 0.001
    settings = make_settings(days=3, min_requests=min_requests, min_latency=min_latency, top_n_routes=1_000)
    rollup_range(connection, settings, since=NOW - 8 * DAY, until=NOW)
    expected = {}
    for route, method, pattern, hours, total, success, requests, p95, users in groups:
        share = lambda column, own: sum(row[column] <= own + 1e-9 for row in groups) / len(groups) * 100  # noqa: E731
        expected[route, method, json.dumps(pattern, sort_keys=True)] = {
            "score": requests * 10 + p95 / 100 + (users / 10 if users < 100 else 10),
            "kept": requests >= min_requests and p95 >= min_latency,
            "common": (requests, p95, success, total, users, hours),
            "percentiles": (share(6, requests), share(7, p95), share(8, users)),
        }

    absolute = ranking.rank_absolute(connection, settings, now=NOW).rows
    wanted = sorted((-group["score"], name) for name, group in expected.items() if group["kept"])
    assert 5 < len(wanted) < 14
    assert [key(row) for row in absolute] == [name for _, name in wanted]
    for row in absolute:
        group = expected[key(row)]
        assert row.cache_priority_score == pytest.approx(group["score"], abs=1e-3)
        assert row.should_cache == (group["score"] > 50)

    relative = ranking.rank_relative(connection, settings, now=NOW).rows
    assert len(relative) == 14
    priorities = []
    for row in relative:
        popularity, latency, users = expected[key(row)]["percentiles"]
        found = row.popularity_percentile, row.latency_percentile, row.user_percentile
        assert found == pytest.approx((popularity, latency, users), abs=1e-3)
        priorities.append((-round(0.4 * latency + 0.4 * popularity + 0.2 * users, 6), key(row)))
        assert row.priority_score == pytest.approx(-priorities[-1][0], abs=1e-3)
    assert priorities == sorted(priorities)

    for row in (*absolute, *relative):
        common = (
            row.avg_hourly_requests, row.avg_p95_latency_ms, row.success_rate, row.total_requests,
            row.avg_unique_users, row.active_hours,
        )  # fmt: skip
        assert common == pytest.approx(expected[key(row)]["common"], abs=1e-3)
        assert row.cacheable == (row.method == "GET")
        exact = exact_p95(connection, row)
        assert row.p95_latency_ms == pytest.approx(exact, rel=0.021)


def exact_p95(connection, row):
    """Of all raw requests in the span, not hour by hour."""
    (p95,) = connection.execute(
        "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) FROM route_analytics"
        " WHERE route = %s AND method = %s AND query_params_normalized = %s::jsonb"
        ' AND "timestamp" >= %s AND "timestamp" < %s',
        (
            row.route, row.method, json.dumps(row.query_params_normalized),
            CURRENT + HOUR - 3 * DAY, CURRENT + HOUR,
        ),
    ).fetchone()  # fmt: skip
    return p95


def test_the_top_is_taken_of_all_and_ties_go_by_name(connection):
    # The same durations in another order have another sum: 0.6 or 0.6000000000000001.
    orders = zip("fbdace", itertools.permutations((0.1, 0.2, 0.3)), strict=True)
    events = [
        make_event(CURRENT - hours * HOUR, route=route, duration_ms=ms, query_params_normalized={})
        for route, durations in orders
        for hours, ms in enumerate(durations)
    ]
    insert_events(connection, events)
    settings = make_settings(min_requests=0, min_latency=0, top_n_routes=2)
    rollup_range(connection, settings, since=NOW - DAY, until=NOW)
    for rank in (ranking.rank_absolute, ranking.rank_relative):
        assert [row.route for row in rank(connection, settings, now=NOW).rows] == ["a", "b"]
    everything = make_settings(min_requests=0, min_latency=0.2)
    absolute = ranking.rank_absolute(connection, everything, now=NOW).rows
    relative = ranking.rank_relative(connection, everything, now=NOW).rows
    assert "".join(row.route for row in absolute) == "abcdef"
    assert [(row.route, row.latency_percentile) for row in relative] == [(route, 100) for route in "abcdef"]


def test_averages_are_over_hours_with_traffic_and_thresholds_inclusive(connection):
    # Ten requests in one hour and thirty in another of a whole week: twenty an hour.
    events = [make_event(NOW - 100 * HOUR, duration_ms=90.1, user_id=f"u{n}") for n in range(10)]
    events += [make_event(NOW - 10 * HOUR, duration_ms=109.9, user_id="u") for n in range(30)]
    insert_events(connection, events)
    settings = make_settings(min_requests=20.0, min_latency=100.0)
    rollup_range(connection, settings, since=NOW - 7 * DAY, until=NOW)
    (row,) = ranking.rank_absolute(connection, settings, now=NOW).rows
    assert (row.avg_hourly_requests, row.avg_p95_latency_ms, row.avg_unique_users) == (20.0, 100.0, 5.5)
    assert (row.cache_priority_score, row.active_hours, row.total_requests) == (201.55, 2, 40)
    # The average of the hours is not the p95 of the week.
    assert row.p95_latency_ms == pytest.approx(109.9, rel=0.02)
    for above in ({"min_requests": math.nextafter(20, 21)}, {"min_latency": 100.001}):
        assert ranking.rank_absolute(connection, make_settings(**above), now=NOW).rows == []


def test_what_is_no_candidate_is_left_out_and_said(connection):
    settings = make_settings(min_requests=0, min_latency=0, max_patterns_per_route=2, days=1)
    flood = [make_event(route="/flood", query_params_normalized={"q": str(n)}) for n in range(5)]
    lost = [make_event(route="(unmatched)") for _ in range(7)]
    outside = [make_event(NOW - 2 * DAY, route="/old"), make_event(NOW + 2 * HOUR, route="/future")]
    insert_events(connection, flood + lost + outside)
    rollup_range(connection, settings, since=NOW - 3 * DAY, until=NOW + 3 * HOUR)
    for rank in (ranking.rank_absolute, ranking.rank_relative):
        ranked = rank(connection, settings, now=NOW)
        assert [row.query_params_normalized for row in ranked.rows] == [{"q": "0"}, {"q": "1"}]
        basis = ranked.basis
        assert (basis.requests, basis.unmatched_requests, basis.overflow_requests) == (2, 7, 3)
        assert (basis.hours, basis.first, basis.last) == (1, CURRENT, CURRENT)


def test_the_coverage_comes_from_the_ledger(connection):
    ledger.open_epoch(connection, "first")
    ledger.open_epoch(connection, "second")
    ledger.add(connection, LedgerRow("first", 90, 0, 0, 90, 0, 0))
    ledger.add(connection, LedgerRow("second", 909, 5, 0, 900, 0, 0))
    ledger.add_drops(connection, CURRENT, {"buffer full": 1})
    basis = ranking.rank_relative(connection, make_settings(), now=NOW).basis
    assert (basis.accepted, basis.dropped, basis.coverage) == (999, 1, 0.999)


def test_an_empty_table_is_an_answer_that_knows_why(connection):
    for rank in (ranking.rank_absolute, ranking.rank_relative, ranking.plan):
        ranked = rank(connection, make_settings(), now=NOW)
        assert (ranked.rows, ranked.candidates, ranked.basis.latest_hour) == ([], [], None)
    insert_events(connection, [make_event(NOW - 8 * DAY)])
    assert ranking.rank_relative(connection, make_settings(), now=NOW).basis.waiting_hours == 1
    rollup_range(connection, make_settings(), since=NOW - 9 * DAY, until=NOW)
    basis = ranking.rank_relative(connection, make_settings(), now=NOW).basis
    assert (basis.hours, basis.latest_hour) == (0, start_of_hour(NOW - 8 * DAY))


def asked(times, route, method="GET", **varying):
    return [
        make_event(
            NOW - dt.timedelta(minutes=30),
            route=route,
            method=method,
            duration_ms=500.0,
            query_params={"q": "x", **varying},
            query_params_normalized={"q": "x"},
        )
        for _ in range(times)
    ]


def test_the_plan_names_the_first_pages_of_what_is_worth_it(connection, monkeypatch):
    events = asked(30, "/list") + asked(20, "/list", page="1") + asked(50, "/list", page="2")
    events += asked(50, "/list", method="POST", page="1")
    events += asked(11, "/whole")
    events += asked(3, "/rare") + asked(12, "/quiet")
    insert_events(connection, events)
    settings = make_settings(cache_score_threshold=100.0)
    rollup_range(connection, settings, since=NOW - DAY, until=NOW)
    # The raw requests of /quiet are gone; its figures stay.
    connection.execute("DELETE FROM route_analytics WHERE route = '/quiet'")
    rows = ranking.plan(connection, settings, now=NOW).rows
    assert [(row.route, row.method, row.pages_to_cache, row.sampled_requests) for row in rows] == [
        ("/list", "GET", [{"params": {}, "share": 0.3}, {"params": {"page": "1"}, "share": 0.2}], 100),
        ("/quiet", "GET", None, 0),
        ("/whole", "GET", [{"params": {}, "share": 1.0}], 11),
    ]
    two_pages = ranking.plan(connection, make_settings(pages_to_cache_per_route=2), now=NOW).rows
    assert two_pages[0].pages_to_cache[-1] == {"params": {"page": "2"}, "share": 0.5}
    # A bounded number of raw requests is looked at, the latest ones.
    monkeypatch.setattr(ranking, "SAMPLE", 4)
    insert_events(
        connection, [event._replace(timestamp_us=event.timestamp_us + 1) for event in asked(4, "/list")]
    )
    assert ranking.plan(connection, settings, now=NOW).rows[0].sampled_requests == 4


def test_reading_changes_nothing_of_the_session(connection):
    settings = "SELECT current_setting('work_mem'), current_setting('jit')"
    before = connection.execute(settings).fetchone()
    with rankings.reading(connection):
        assert connection.execute(settings).fetchone() == ("64MB", "off")
    assert connection.execute(settings).fetchone() == before
    with connect(connection.info.dsn) as fresh:
        assert fresh.execute(settings).fetchone() == before
