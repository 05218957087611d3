"""With thirty days of data, the statements read the one day or hour they are about, and by index."""

import datetime as dt

import pytest
from backend import DAY, HOUR, NOW, eager_to_share, raw_postgres

from otel_analytics.store import partitions
from otel_analytics.store.connection import connect
from otel_analytics.store.ledger import sortable
from otel_analytics.store.queries import load

DAYS = 30
NOON = dt.datetime(2026, 11, 10, 12, tzinfo=dt.UTC)
ONE_DAY = "route_analytics_y2026m11d10"

SEED = """
    INSERT INTO route_analytics (
        "timestamp", event_id, route, route_full, method, status_code, duration_ms, user_id,
        query_params_normalized)
    SELECT
        %(first)s::timestamptz + n * interval '20 seconds', md5(n::text)::uuid, '/route/' || n %% 50, '/',
        'GET', 200, n %% 997, 'user' || n %% 500, jsonb_build_object('q', n %% 7)
    FROM generate_series(0, 30 * 4320 - 1) AS n;
"""
SEED_HOURLY = """
    INSERT INTO route_analytics_hourly (
        "timestamp", route, method, query_params_normalized, total_requests, successful_requests,
        client_errors, server_errors, avg_duration_ms, p50_duration_ms, p95_duration_ms, p99_duration_ms,
        unique_users)
    SELECT
        %(last)s::timestamptz - hour * interval '1 hour', '/route/' || route, 'GET', '{}',
        1, 1, 0, 0, 1, 1, 1, 1, 1
    FROM generate_series(0, 24 * 100) AS hour, generate_series(1, 50) AS route
"""
SEED_ENTRIES = """
    INSERT INTO route_analytics_stream_entries (epoch, entry_id)
    SELECT 'now', lpad(n::text, 20, '0') || '-' || repeat('0', 20) FROM generate_series(1, 50000) AS n
"""


@pytest.fixture
def seeded(migrated_dsn):
    first = (NOW - DAYS * DAY).replace(hour=0, minute=0)
    with connect(migrated_dsn) as connection:
        partitions.ensure(connection, partitions.days_from(first.date(), NOW.date()))
    with raw_postgres(migrated_dsn) as connection:
        connection.execute(SEED, {"first": first})
        connection.execute(SEED_HOURLY, {"last": NOW.replace(minute=0)})
        connection.execute(SEED_ENTRIES)
        connection.execute("ANALYZE")
        yield connection


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def explain(connection, statement, parameters):
    statement = statement if isinstance(statement, bytes) else statement.encode()
    ((found,),) = connection.execute(b"EXPLAIN (FORMAT JSON) " + statement, parameters).fetchall()
    return list(nodes(found[0]["Plan"]))


def scans(plan, table):
    """Relation to kinds of scan, for the reads of a table and its partitions."""
    found: dict[str, set[str]] = {}
    for node in plan:
        relation = node.get("Relation Name", "")
        # The indexes of a bitmap scan name no relation; the heap scan above them does.
        if relation.startswith(table) and "Scan" in node["Node Type"]:
            found.setdefault(relation, set()).add(node["Node Type"])
    return found


INDEXED = {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
RECOMPUTE = {
    "hour": NOON,
    "max_patterns": 200,
    "max_pattern_bytes": 1_000,
    "overflow": '{"otel_analytics.overflow": true}',
}
IDS = [sortable(f"{n}-0") for n in range(40_000, 40_010)]
LOOKUPS = {
    "route and time": "route = '/route/7'",
    "user and time": "user_id = 'user7'",
    "duration and time": "duration_ms > 994",
    "time": "true",
}


def test_the_worker_reads_what_it_is_about_and_by_index(seeded, subtests):
    with subtests.test("a recompute reads one hour of one partition"), seeded.transaction():
        seeded.execute(load("hourly")["make_quick"])
        plan = explain(seeded, load("hourly")["compute"], RECOMPUTE)
        # Each event with each pattern would be a product, and sorted by text takes long. The one loop is over
        # the patterns, for the histogram of each.
        loops = [node for node in plan if node["Node Type"] in {"Nested Loop", "Merge Join"}]
        assert [loop["Plans"][1]["Node Type"] for loop in loops] == ["Aggregate"]
        raw = scans(plan, "route_analytics_y")
        assert raw.keys() == {ONE_DAY}
        assert raw[ONE_DAY] <= INDEXED
        seeded.execute(load("hourly")["compute"], RECOMPUTE)
        plan = explain(seeded, load("hourly")["write"], RECOMPUTE)
        assert scans(plan, "route_analytics_hourly")["route_analytics_hourly"] <= INDEXED

    with subtests.test("several processes share a recompute"), seeded.transaction(force_rollback=True):
        seeded.execute(load("hourly")["make_quick"])
        eager_to_share(seeded)
        plan = explain(seeded, load("hourly")["compute"], RECOMPUTE)
        assert {"Gather", "Gather Merge"} <= {node["Node Type"] for node in plan}

    with subtests.test("storing a batch reads no partition"), seeded.transaction():
        seeded.execute(load("events")["prepare_incoming"])
        plan = explain(seeded, load("events")["store_incoming"], None)
        assert scans(plan, "route_analytics_y") == {}

    for name in ("known_entries", "recorded_dead"):
        with subtests.test("entries are looked up by key", name=name):
            plan = explain(seeded, load("ledger")[name], {"epoch": "now", "ids": IDS})
            assert scans(plan, "route_analytics_stream_entries")["route_analytics_stream_entries"] <= INDEXED

    with subtests.test("hours that are no longer kept are found by time"):
        plan = explain(seeded, load("hourly")["forget"], {"before": NOW - 99 * DAY})
        assert scans(plan, "route_analytics_hourly")["route_analytics_hourly"] <= INDEXED


def test_lookups_of_raw_events_are_backed_by_an_index(seeded, subtests):
    for name, condition in LOOKUPS.items():
        with subtests.test(name):
            statement = (
                "SELECT event_id FROM route_analytics"
                f' WHERE "timestamp" >= %(since)s AND "timestamp" < %(until)s AND {condition}'
            )
            plan = explain(seeded, statement, {"since": NOON, "until": NOON + HOUR})
            raw = scans(plan, "route_analytics_y")
            assert raw.keys() == {ONE_DAY}
            assert raw[ONE_DAY] <= INDEXED


def test_the_latest_requests_of_a_route_are_found_without_reading_them_all(seeded, subtests):
    span = {"since": NOW - 8 * DAY, "until": NOW, "route": "/route/7", "method": "GET", "sample": 10}
    latest = {
        "sample": (load("advice")["sample"], span),
        "request_forms": (load("rankings")["request_forms"], {**span, "routes": ["/route/7"]}),
    }
    for name, (statement, parameters) in latest.items():
        with subtests.test("minute by minute, newest first", name=name):
            plan = explain(seeded, statement, parameters)
            raw = [node for node in plan if node.get("Relation Name", "").startswith("route_analytics_y")]
            assert {node["Node Type"] for node in raw} == {"Index Scan"}
            assert {node["Scan Direction"] for node in raw} == {"Backward"}
            assert "Incremental Sort" in {node["Node Type"] for node in plan}

    with subtests.test("the errors of an hour are looked up in that hour"):
        days = {"since": NOW - 8 * DAY, "until": NOW - DAY}
        asked = {"routes": ["/route/7"], "methods": ["GET"], "hours": 12, "sample": 100, **days}
        plan = explain(seeded, load("questions")["error_types"], asked)
        raw = [node for node in plan if node.get("Relation Name", "").startswith("route_analytics_y")]
        conditions = [node for node in plan if "date_trunc" in node.get("Index Cond", "")]
        assert len(conditions) == len(raw) == 8


def test_a_replay_reads_its_days_in_the_order_of_time(seeded, subtests):
    copy = load("replay")["stream"]
    statement = copy.partition(b"COPY (")[2].removesuffix(b") TO STDOUT (FORMAT binary);")
    span = {"since": NOW - 3 * DAY, "until": NOW, "unmatched": "(unmatched)"}
    limits = {"longest": 2_048, "hidden": "=x", "most_params": 50, "longest_param": 256, "long_param": "x"}
    with subtests.test("all routes: by the key, so that nothing is sorted as a whole"):
        plan = explain(seeded, statement, {**span, **limits, "route": None})
        assert len(scans(plan, "route_analytics_y")) == 4
        assert all(node["Node Type"] != "Sort" or node["Plan Rows"] <= 4_320 for node in plan)

    with subtests.test("one route: by its index"):
        whole_days = {**span, "since": NOW - 4 * DAY, "until": NOW - DAY}
        plan = explain(seeded, statement, {**whole_days, **limits, "route": "/route/7"})
        raw = scans(plan, "route_analytics_y")
        assert len(raw) == 4
        assert all(kinds <= INDEXED for kinds in raw.values())

    with subtests.test("names are looked up by time"):
        moments = [NOON, NOON + HOUR]
        raw = scans(explain(seeded, load("replay")["names"], {"moments": moments}), "route_analytics_y")
        assert raw.keys() == {ONE_DAY}
        assert raw[ONE_DAY] <= INDEXED


def test_a_ranking_reads_its_days_and_by_index(seeded, subtests):
    week = {"since": NOW - 7 * DAY, "until": NOW}
    with subtests.test("the last hour is at the end of an index"):
        plan = explain(seeded, load("rankings")["latest_hour"], None)
        assert scans(plan, "route_analytics_hourly")["route_analytics_hourly"] <= INDEXED

    for name in ("patterns", "hours"):
        with subtests.test("of a hundred days, the ones asked for", name=name):
            plan = explain(seeded, load("rankings")[name], week)
            assert scans(plan, "route_analytics_hourly")["route_analytics_hourly"] <= INDEXED
            assert "timestamp" in " ".join(node.get("Index Cond", "") for node in plan)

    with subtests.test("the patterns shown are looked up within the days"):
        shown = {
            "routes": [f"/route/{n}" for n in range(1, 21)],
            "methods": ["GET"] * 20,
            "patterns": ["{}"] * 20,
            "hours": [NOW.replace(minute=0) - n * HOUR for n in range(7 * 24)],
            **week,
        }
        plan = explain(seeded, load("rankings")["histograms"], shown)
        assert scans(plan, "route_analytics_hourly")["route_analytics_hourly"] <= INDEXED

    with subtests.test("raw requests are sampled from the partitions of the days, by route and time"):
        days = {"since": NOW - 8 * DAY, "until": NOW - DAY}
        sample = {"routes": ["/route/7", "/route/8"], "sample": 1_000, **days}
        raw = scans(explain(seeded, load("rankings")["request_forms"], sample), "route_analytics_y")
        assert len(raw) == 8
        assert all(kinds <= INDEXED for kinds in raw.values())


def test_the_other_questions_read_their_days_and_by_index(seeded, subtests):
    week = {"since": NOW - 7 * DAY, "until": NOW}
    slots = {**week, "slot_seconds": 86_400}
    one = {**slots, "route": "/route/7"}
    hours_of_day = {"routes": ["/route/7"] * 3, "hours_of_day": [9, 10, 11], **week}
    errors = {"routes": ["/route/7"], "methods": ["GET"], "hours": 12, "sample": 100, **week}
    asked = {
        "routes": week,
        "hours_of_day": {**week, "route": None},
        "hour_of_day_histograms": hours_of_day,
        "hour_totals": {**week, "route": None},
        "route_patterns": one,
        "pattern_course": one,
        "route_course": slots,
        "slots": one,
        "slot_histograms": one,
        "routes_with_errors": week,
        "error_types": errors,
        "route_totals": week,
        "route_histograms": week,
    }
    for name, parameters in asked.items():
        with subtests.test("of a hundred days, the ones asked for", name=name):
            plan = explain(seeded, load("questions")[name], parameters)
            assert scans(plan, "route_analytics_hourly")["route_analytics_hourly"] <= INDEXED
            assert "timestamp" in " ".join(node.get("Index Cond", "") for node in plan)

    for name, more in (("user_shares", {"places": [1, 2, 5]}), ("top_users", {"limit": 20})):
        for route in (None, "/route/7"):
            with subtests.test("of thirty partitions, those of the days", name=name, route=route):
                span = {"since": NOON, "until": NOON + 11 * HOUR, "route": route, **more}
                plan = explain(seeded, load("questions")[name], span)
                assert scans(plan, "route_analytics_y").keys() == {ONE_DAY}

    with subtests.test("kinds of errors are looked up by route and time"):
        days = {"since": NOW - 8 * DAY, "until": NOW - DAY}
        plan = explain(seeded, load("questions")["error_types"], {**errors, **days})
        raw = scans(plan, "route_analytics_y")
        assert len(raw) == 8
        assert all(kinds <= INDEXED for kinds in raw.values())


def test_advice_reads_its_days_and_by_index(seeded, subtests):
    week = {"since": NOW - 7 * DAY, "until": NOW, "route": None, "method": None}
    for name in ("totals", "hours_of_day"):
        with subtests.test("of a hundred days, the ones asked for", name=name):
            plan = explain(seeded, load("advice")[name], week)
            assert scans(plan, "route_analytics_hourly")["route_analytics_hourly"] <= INDEXED
            assert "timestamp" in " ".join(node.get("Index Cond", "") for node in plan)

    span = {"since": NOW - 8 * DAY, "until": NOW - DAY, "route": "/route/7", "method": "GET", "sample": 1_000}
    more = {"most": 10, "longest": 2_048, "param": "q", "per_user": True, "by_pattern": False}
    for name in ("sample", "parameters", "dependence", "keyed_requests"):
        with subtests.test("the latest requests of a route are looked up by route and time", name=name):
            raw = scans(explain(seeded, load("advice")[name], {**span, **more}), "route_analytics_y")
            assert len(raw) == 8
            assert all(kinds <= INDEXED for kinds in raw.values()), raw
