"""The three rankings, kept as they are at a moment."""

import dataclasses
import datetime as dt
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from backend import DAY, HOUR, NOW, make_settings, raw_postgres, scalar
from psycopg.rows import dict_row
from traffic import Traffic

from otel_analytics import ranking, savings
from otel_analytics.keeping import Kept, keep
from otel_analytics.maintenance import maintain
from otel_analytics.rollup import rollup_touched
from otel_analytics.store import kept_rankings
from otel_analytics.store.connection import QueryTimeout, connect, limit_statements
from otel_analytics.store.events import insert_making_partitions

TTL = dt.timedelta(minutes=5)
MILLISECOND = dt.timedelta(milliseconds=1)
MISS = 30 * MILLISECOND
FOLLOWED = NOW - 12 * HOUR
"""When the application began to cache as a ranking had proposed."""
REALISED = """
    SELECT sum(cache_hits) / sum(cache_hits + cache_misses) FROM route_analytics_hourly WHERE route = %s
"""


def own_cache(since):
    """Says of each request from a time on whether a cache has the answer."""
    fresh = {"until": since}

    def fields(ask):
        if ask.moment < since:
            return {"duration_ms": MISS / MILLISECOND}
        if ask.moment < fresh["until"]:
            return {"cache_status": "hit", "duration_ms": 3.0}
        fresh["until"] = ask.moment + MISS + TTL
        return {"cache_status": "miss", "duration_ms": MISS / MILLISECOND}

    return fields


@pytest.fixture
def settings(migrated_dsn):
    """A settings object for a database with traffic of two days."""
    settings = make_settings(dsn=migrated_dsn, days=2, top_n_routes=3, min_requests=1)
    minutes = iter(range(2_000, 0, -1))
    traffic = Traffic()
    for name in ("slow", "slower", "slowest"):
        traffic.route(f"/{name}", fields=lambda ask, name=name: {"duration_ms": 100.0 * len(name)})
    traffic.route(
        "/cached",
        requests=2_000,
        body=lambda ask: ask.version(DAY.total_seconds()),
        moment=lambda _: NOW - next(minutes) * dt.timedelta(minutes=1),
        fields=own_cache(FOLLOWED),
    )
    with connect(migrated_dsn) as connection:
        insert_making_partitions(connection, traffic.events, first_day=(NOW - 3 * DAY).date())
        rollup_touched(connection, settings, now=NOW)
    return settings


def kept(settings):
    with raw_postgres(settings.postgres_dsn) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "SELECT * FROM route_analytics_rankings ORDER BY ranked_at, ranking, rank"
        ).fetchall()


def test_what_is_kept_is_what_the_rankings_say(settings):
    with connect(settings.postgres_dsn) as connection:
        done = keep(connection, settings, clock=lambda: NOW)
        shown = {
            "absolute": ranking.rank_absolute(connection, settings, now=NOW).rows,
            "relative": ranking.rank_relative(connection, settings, now=NOW).rows,
            "savings": savings.rank_savings(connection, settings, now=NOW).rows,
        }
    rows = kept(settings)
    assert done == Kept({"absolute": 3, "relative": 3, "savings": 4})
    assert done.rows == Counter(row["ranking"] for row in rows)
    assert {row["ranked_at"] for row in rows} == {NOW}
    names = ("route", "method", "query_params_normalized")
    for name, expected in shown.items():
        found = [row for row in rows if row["ranking"] == name][:3]
        assert [[row[each] for each in names] for row in found] == [
            [getattr(row, each) for each in names] for row in expected
        ]
        assert [row["rank"] for row in found] == [1, 2, 3]
    first, row = shown["absolute"][0], rows[0]
    for field in ("avg_hourly_requests", "avg_p95_latency_ms", "avg_unique_users", "success_rate"):
        assert row[field] == getattr(first, field)
    assert row["score"] == first.cache_priority_score
    assert rows[3]["score"] == shown["relative"][0].priority_score
    assert row["ttl_seconds"] is row["predicted_hit_ratio"] is row["saved_seconds_per_day"] is None
    first, row = shown["savings"][0], rows[6]
    for field, value in (
        ("predicted_hit_ratio", first.hit_ratio),
        ("predicted_stale_ratio", first.staleness),
        ("cache_key", first.cache_key),
        ("ttl_seconds", first.ttl_seconds),
        ("peak_memory_bytes", first.peak_memory_bytes),
    ):
        assert row[field] == value
    assert (
        row["score"]
        == row["saved_seconds_per_day"]
        == pytest.approx(24 * first.saved_seconds_per_hour, abs=0.02)
    )
    assert row["avg_hourly_requests"] > 0


def test_a_prediction_comes_true_and_stays_in_sight(settings):
    with connect(settings.postgres_dsn) as connection:
        keep(connection, dataclasses.replace(settings, top_n_routes=4), clock=lambda: FOLLOWED)
        keep(connection, dataclasses.replace(settings, top_n_routes=1), clock=lambda: NOW)
    rows = [row for row in kept(settings) if row["ranking"] == "savings"]
    before = [row for row in rows if row["ranked_at"] == FOLLOWED]
    # Cached, it saves little more, and would no longer be among the first.
    after = [(row["rank"], row["route"]) for row in rows if row["ranked_at"] == NOW]
    assert after == [(1, "/slowest"), (4, "/cached")]
    with raw_postgres(settings.postgres_dsn) as connection:
        realised = scalar(connection, REALISED, "/cached")
    assert (before[3]["route"], before[3]["ttl_seconds"]) == ("/cached", TTL.total_seconds())
    assert before[3]["predicted_hit_ratio"] == pytest.approx(float(realised), abs=0.002)
    assert 0.8 < realised < 0.85


def test_of_several_keepers_at_once_one_keeps(settings):
    at_once = threading.Barrier(3)

    def try_it(_):
        with connect(settings.postgres_dsn) as connection:
            at_once.wait()
            return keep(connection, settings, clock=lambda: dt.datetime.now(dt.UTC), if_older_than=3_600)

    settings = dataclasses.replace(settings, days=36_500)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(try_it, range(3)))
    (moment,) = {row["ranked_at"] for row in kept(settings)}
    assert sorted(each.younger == moment for each in done) == [False, True, True]
    assert [bool(each.rows) for each in done].count(True) == 1


def test_an_age_is_asked_for_only_where_it_is_given(settings):
    with connect(settings.postgres_dsn) as connection:
        keep(connection, settings, clock=lambda: NOW)
        later = NOW + dt.timedelta(minutes=10)
        assert keep(connection, settings, clock=lambda: later, if_older_than=601) == Kept(younger=NOW)
        assert keep(connection, settings, clock=lambda: later, if_older_than=600).rows
        assert keep(connection, settings, clock=lambda: later + HOUR).rows
    assert len({row["ranked_at"] for row in kept(settings)}) == 3


def test_nothing_to_rank_keeps_nothing(migrated_dsn):
    settings = make_settings(dsn=migrated_dsn)
    with connect(migrated_dsn) as connection:
        assert keep(connection, settings, clock=lambda: NOW) == Kept()
        assert kept_rankings.latest(connection) is None


def test_a_keeper_waits_no_longer_than_a_statement_may(settings):
    dsn = settings.postgres_dsn
    with connect(dsn) as other, kept_rankings.alone(other), connect(dsn) as connection:
        limit_statements(connection, 0.1)
        with pytest.raises(QueryTimeout):
            keep(connection, settings, clock=lambda: NOW)
    assert kept(settings) == []


def test_kept_rankings_go_when_hourly_figures_do(settings):
    settings = dataclasses.replace(settings, hourly_retention_days=5)
    with connect(settings.postgres_dsn) as connection:
        for moment in (NOW, NOW + HOUR):
            keep(connection, settings, clock=lambda moment=moment: moment)
        maintain(connection, settings, now=NOW + 5 * DAY + HOUR)
    assert {row["ranked_at"] for row in kept(settings)} == {NOW + HOUR}
