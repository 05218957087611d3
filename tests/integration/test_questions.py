"""The questions beside the rankings, against SQL over raw rows written apart from them."""

import datetime as dt
import json
import random
from itertools import pairwise

import pytest
from backend import DAY, HOUR, NOW, make_event, make_settings, raw_postgres, store_connection

from otel_analytics import questions
from otel_analytics.rollup import rollup_touched, start_of_hour
from otel_analytics.store import partitions
from otel_analytics.store.events import insert_events

CURRENT = start_of_hour(NOW)
ALL = {"limit": 1_000}
# Hours are cut off texts, percentiles taken of the raw rows.
PEAKS = """
    SELECT route, hour, count(*), sum(requests)::int, max(requests), avg(requests)::float8
    FROM (
        SELECT route, substr("timestamp"::text, 1, 10) AS day, substr("timestamp"::text, 12, 2)::int AS hour,
            count(*) AS requests
        FROM route_analytics WHERE "timestamp" >= %(since)s AND "timestamp" < %(until)s
        GROUP BY route, day, hour
    ) AS hourly GROUP BY route, hour
"""
FIGURES = """
    count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms), sum(duration_ms) / 1000,
    sum((status_code >= 500)::int)::int, sum((status_code BETWEEN 400 AND 499)::int)::int
"""
SPAN = """ FROM route_analytics WHERE "timestamp" >= %(since)s AND "timestamp" < %(until)s """


@pytest.fixture
def connection(migrated_dsn):
    days = partitions.days_from((NOW - 20 * DAY).date(), NOW.date())
    with store_connection(migrated_dsn, *days) as connection:
        yield connection


def store(connection, events):
    insert_events(connection, events)
    rollup_touched(connection, make_settings(), now=NOW)


def traffic(seed, count=4_000):
    """Some hours of two weeks: routes of different size, some that fail; few users ask for most."""
    chance = random.Random(seed)
    hours = [int(336 * chance.random() ** 2) for _ in range(70)]
    for _ in range(count):
        route = chance.choice(["/busy", "/busy", "/busy", "/search", "/rare/{id}", "(unmatched)"])
        status = chance.choice([200, 200, 200, 404, 499, 500, 503]) if route != "/busy" else 200
        yield make_event(
            NOW - (chance.choice(hours) + chance.random()) * HOUR,
            route=route,
            method=chance.choice(["GET", "GET", "POST"]),
            status_code=status,
            error_type={500: "app.Broken", 503: "503"}.get(status),
            duration_ms=chance.lognormvariate(4, 1.2),
            user_id=f"u{int(40 * chance.random() ** 3)}" if chance.random() < 0.8 else None,
            query_params_normalized=chance.choice([{}, {"q": "a"}, {"q": ["a", "b"]}]),
        )


def by_hand(dsn, query, **parameters):
    with raw_postgres(dsn) as connection:
        return connection.execute(query, parameters).fetchall()


@pytest.fixture(params=range(2))
def filled(request, connection):
    store(connection, list(traffic(request.param)))
    return connection


def close(milliseconds):
    return pytest.approx(milliseconds, rel=0.021, abs=0.01)


def test_every_question_agrees_with_independent_sql(filled, migrated_dsn, subtests):  # noqa: PLR0915
    span = {"since": CURRENT + HOUR - 7 * DAY, "until": CURRENT + HOUR}

    with subtests.test("peaks"):
        over = {"since": CURRENT - 14 * DAY, "until": CURRENT}
        answer = questions.peaks(filled, now=NOW, days=14, min_requests=2.5, **ALL)
        rows = by_hand(migrated_dsn, PEAKS, **over)
        expected = sorted((-row[5], row[0], row[1], *row[2:5]) for row in rows if row[5] > 2.5)
        assert answer.total == len(answer.rows) == len(expected) > 20
        for row, (average, route, hour, days, requests, most) in zip(answer.rows, expected, strict=True):
            assert (row.route, row.hour_of_day) == (route, hour)
            assert (row.active_days, row.total_requests, row.max_hourly_requests) == (days, requests, most)
            assert row.avg_hourly_requests == pytest.approx(-average, abs=1e-3)
            own = [each for each in rows if each[0] == route]
            usual = sum(each[3] for each in own) / sum(each[2] for each in own)
            assert row.times_route_average == pytest.approx(-average / usual, abs=1e-3)
        first = answer.rows[0]
        ((p95,),) = by_hand(
            migrated_dsn,
            "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms)"
            + SPAN
            + """AND route = %(route)s AND substr("timestamp"::text, 12, 2)::int = %(hour)s""",
            route=first.route,
            hour=first.hour_of_day,
            **over,
        )
        assert first.p95_latency_ms == close(p95)

    with subtests.test("hours of the week"):
        for route in (None, "/search"):
            answer = questions.week(filled, now=NOW, days=14, route=route)
            hours = by_hand(
                migrated_dsn,
                """SELECT to_char("timestamp", 'ID')::int, to_char("timestamp", 'HH24')::int, count(*)"""
                + SPAN
                + "AND (%(route)s::text IS NULL OR route = %(route)s) GROUP BY 1, 2",
                route=route,
                since=CURRENT - 14 * DAY,
                until=CURRENT,
            )
            found = {(row.weekday, row.hour_of_day): row.total_requests for row in answer.rows}
            assert {key: requests for key, requests in found.items() if requests} == {
                (day, hour): requests for day, hour, requests in hours
            }
            assert {row.hours for row in answer.rows} <= {1, 2}

    with subtests.test("patterns"):
        answer = questions.patterns(filled, "/search", now=NOW, days=7, with_courses=True, **ALL)
        rows = by_hand(
            migrated_dsn,
            f"SELECT method, query_params_normalized, {FIGURES} {SPAN} AND route = '/search' GROUP BY 1, 2",
            **span,
        )
        expected = {(method, json.dumps(pattern)): figures for method, pattern, *figures in rows}
        total = sum(figures[0] for figures in expected.values())
        assert [row.total_requests for row in answer.rows] == sorted(
            (figures[0] for figures in expected.values()), reverse=True
        )
        for row, course in zip(answer.rows, answer.courses, strict=True):
            requests, p50, p95, seconds, errors, _ = expected[
                row.method, json.dumps(row.query_params_normalized)
            ]
            assert row.total_requests == sum(course) == requests
            assert row.share_of_requests == pytest.approx(requests / total, abs=1e-4)
            assert (row.p50_latency_ms, row.p95_latency_ms) == (close(p50), close(p95))
            assert row.total_seconds == pytest.approx(seconds, abs=1e-3)
            assert row.server_error_rate == pytest.approx(errors / requests, abs=1e-4)

    with subtests.test("slow"):
        rows = by_hand(migrated_dsn, f"SELECT route, method, {FIGURES} {SPAN} GROUP BY 1, 2", **span)
        expected = {(route, method): figures for route, method, *figures in rows}
        for order, place in (("p95", 2), ("seconds", 3)):
            answer = questions.slow(filled, now=NOW, days=7, order=order, with_courses=True, **ALL)
            assert {(row.route, row.method) for row in answer.rows} == expected.keys()
            shown = [expected[row.route, row.method][place] for row in answer.rows]
            # Percentiles from a histogram may swap neighbours that are closer than its error.
            assert all(after <= before * 1.042 for before, after in pairwise(shown))
        for row in answer.rows:
            requests, p50, p95, seconds, *_ = expected[row.route, row.method]
            assert row.total_requests == requests
            assert (row.p50_latency_ms, row.p95_latency_ms) == (close(p50), close(p95))
            assert row.total_seconds == pytest.approx(seconds, abs=1e-3)
        assert sum(row.share_of_seconds for row in answer.rows) == pytest.approx(1, abs=1e-3)

    with subtests.test("errors"):
        expected = {key: figures for key, figures in expected.items() if figures[4] + figures[5]}
        for order in ("count", "share"):
            answer = questions.errors(filled, now=NOW, days=7, order=order, **ALL)
            assert {(row.route, row.method) for row in answer.rows} == expected.keys()
            shown = [row.server_errors if order == "count" else row.server_error_rate for row in answer.rows]
            assert shown == sorted(shown, reverse=True)
        for row in answer.rows:
            requests, _, _, _, server, client = expected[row.route, row.method]
            assert (row.total_requests, row.server_errors, row.client_errors) == (requests, server, client)
            kinds = {each["error_type"]: each["requests"] for each in row.error_types}
            assert kinds.keys() <= {"app.Broken", "503"}
            last = by_hand(
                migrated_dsn,
                """SELECT substr("timestamp"::text, 1, 13), error_type, count(*)"""
                + SPAN
                + "AND route = %(route)s AND method = %(method)s AND error_type IS NOT NULL GROUP BY 1, 2",
                route=row.route,
                method=row.method,
                **span,
            )
            hours = sorted({hour for hour, *_ in last})[-questions.ERROR_HOURS :]
            assert row.last_failing_hour == f"{hours[-1].replace(' ', 'T')}:00:00Z"
            assert sum(kinds.values()) == sum(count for hour, _, count in last if hour in hours)

    with subtests.test("users"):
        parameters = {"since": NOW - 7 * DAY, "until": NOW + dt.timedelta(microseconds=1)}
        counts = by_hand(migrated_dsn, "SELECT user_id, count(*)" + SPAN + "GROUP BY 1", **parameters)
        known = sorted(
            ((count, user) for user, count in counts if user), key=lambda pair: (-pair[0], pair[1])
        )
        requests = sum(count for count, _ in known)
        answer = questions.user_shares(filled, now=NOW, days=7)
        assert [row.top_users for row in answer.rows] == [1, 2, 5, 10, 20, len(known)]
        for row in answer.rows:
            own = sum(count for count, _ in known[: row.top_users])
            assert row.requests == own
            assert row.share_of_requests == pytest.approx(own / requests, abs=1e-4)
        assert f"{len(known)} users; {dict(counts)[None]} requests without one" in answer.remark
        named = questions.top_users(filled, now=NOW, days=7, limit=5)
        assert [(row.requests, row.user_id) for row in named.rows] == known[:5]
        assert named.remark == answer.remark


def test_trends_compare_the_hours_that_are_over_with_the_span_before(filled, migrated_dsn):
    day, hour = NOW.replace(hour=0, minute=0), CURRENT
    for days, length, first in ((4, DAY, day - 3 * DAY), (1, HOUR, hour - DAY)):
        answer = questions.trend(filled, "/busy", now=NOW, days=days)
        slots = 4 if length == DAY else 24
        assert slots / 2 < len(answer.rows) <= slots
        for slot, row in enumerate(answer.rows, start=slots - len(answer.rows)):
            start = first + slot * length
            end = min(start + length, hour)
            mine, before = (
                by_hand(
                    migrated_dsn,
                    f"SELECT {FIGURES} {SPAN} AND route = '/busy'",
                    since=start - shift,
                    until=end - shift,
                )[0]
                for shift in (dt.timedelta(0), days * DAY)
            )
            assert row.start == f"{start:%Y-%m-%dT%H:%M:%SZ}"
            assert row.hours == (end - start) / HOUR
            assert row.total_requests == mine[0]
            if before[0]:
                assert row.requests_change == pytest.approx(mine[0] / before[0] - 1, abs=1e-4)
            else:
                assert row.requests_change is None
            if mine[0]:
                assert (row.p50_latency_ms, row.p95_latency_ms) == (close(mine[1]), close(mine[2]))
            else:
                assert (row.p50_latency_ms, row.p95_latency_ms, row.p95_change) == (None, None, None)
        assert answer.rows[-1].hours == (12 if length == DAY else 1)
    assert "against the day before" in answer.remark


def test_a_trend_begins_where_there_are_figures(connection):
    store(connection, [make_event(NOW - 2 * DAY), make_event(NOW - DAY), make_event(NOW - 5 * DAY)])
    answer = questions.trend(connection, "/items/{id}", now=NOW, days=4)
    # Three days ago there was nothing, but a span before that there was.
    assert [(row.start[:10], row.total_requests, row.requests_change) for row in answer.rows] == [
        ("2026-11-22", 1, None), ("2026-11-23", 1, 0.0), ("2026-11-24", 0, None),
    ]  # fmt: skip
    short = questions.trend(connection, "/items/{id}", now=NOW, days=3)
    assert [row.requests_change for row in short.rows] == [0.0, None, None]
    assert [row.start[:10] for row in short.rows] == ["2026-11-22", "2026-11-23", "2026-11-24"]


def test_the_hour_that_is_not_over_is_no_quiet_one(connection):
    store(connection, [make_event(NOW, route="/now") for _ in range(60)])
    assert questions.peaks(connection, now=NOW, **ALL).rows == []
    assert questions.week(connection, now=NOW).rows == []
    assert questions.trend(connection, "/now", now=NOW, days=1).rows == []
    assert questions.patterns(connection, "/now", now=NOW, days=1, **ALL).total == 1
    assert len(questions.peaks(connection, now=NOW + HOUR, **ALL).rows) == 1


def test_the_percentile_of_a_span_is_not_the_average_of_its_hours(connection):
    quiet = [make_event(CURRENT - 2 * HOUR, duration_ms=10.0) for _ in range(90)]
    slow = [make_event(CURRENT - HOUR, duration_ms=1_000.0) for _ in range(10)]
    store(connection, quiet + slow)
    (row,) = questions.patterns(connection, "/items/{id}", now=NOW, days=1, **ALL).rows
    assert row.avg_p95_latency_ms == 505.0
    assert (row.p50_latency_ms, row.p95_latency_ms) == (close(10), close(1_000))


def test_rows_are_shown_a_part_at_a_time(connection):
    store(connection, [make_event(route=f"/r{n}", status_code=500, duration_ms=n + 1) for n in range(5)])
    for question in (questions.errors, questions.slow):
        whole = question(connection, now=NOW, days=1, limit=10)
        parts = [question(connection, now=NOW, days=1, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
        assert [row for part in parts for row in part.rows] == whole.rows
        assert {part.total for part in parts} == {whole.total} == {5}


def test_no_rows_come_with_a_reason(connection):
    asked = {"now": NOW, "days": 7}
    everything = [
        lambda: questions.peaks(connection, **asked, **ALL),
        lambda: questions.week(connection, **asked),
        lambda: questions.patterns(connection, "/a", **asked, **ALL),
        lambda: questions.trend(connection, "/a", **asked),
        lambda: questions.errors(connection, **asked, **ALL),
        lambda: questions.slow(connection, **asked, **ALL),
        lambda: questions.user_shares(connection, **asked),
        lambda: questions.top_users(connection, **asked, **ALL),
    ]
    for ask in everything:
        answer = ask()
        assert (answer.rows, answer.total) == ([], 0)
        assert "nothing was stored" in answer.remark
    store(connection, [make_event(NOW - 2 * HOUR, route="/search/{id}") for _ in range(3)])
    patterns = questions.patterns(connection, "/serch/{id}", **asked, **ALL)
    assert patterns.remark == "No requests of /serch/{id} in the last 7 days; did you mean /search/{id}?"
    assert questions.trend(connection, "\x1b[2J", **asked).remark == (
        "No requests of \\x1b[2J in the last 7 days"
    )
    assert "/search/{id} at 10:00 UTC, has 3.0" in questions.peaks(connection, **asked, **ALL).remark
    assert questions.errors(connection, **asked, **ALL).remark.startswith(
        "No 4xx and no 5xx in the last 7 days: Based on 3 requests"
    )
    assert "None of 3 requests in the last 7 days names a user" in (
        questions.user_shares(connection, **asked).remark
    )


def test_kinds_of_errors_are_looked_for_in_a_bounded_number_of_requests(connection, monkeypatch):
    monkeypatch.setattr(questions, "ERROR_SAMPLE", 2)
    monkeypatch.setattr(questions, "ERROR_HOURS", 2)
    store(
        connection,
        [
            make_event(
                NOW - hours * HOUR + n * dt.timedelta(seconds=1), status_code=500, error_type=str(hours)
            )
            for hours in (1, 2, 3)
            for n in range(5)
        ],
    )
    (row,) = questions.errors(connection, now=NOW, days=1, **ALL).rows
    assert row.server_errors == 15
    assert row.error_types == [{"error_type": "1", "requests": 2}, {"error_type": "2", "requests": 2}]
