"""`rank --by savings`, `--budget` and `--explain` as their users run them, on a real database."""

import csv
import datetime as dt
import io
import json
import re

import pytest
from backend import HOUR, make_event, raw_postgres
from program import in_terminal, run
from rich.cells import cell_len

from otel_analytics.rollup import rollup_touched
from otel_analytics.settings import Settings
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions

FIELDS = (
    "route,method,query_params_normalized,saved_seconds_per_hour,ttl_seconds,cache_key,hit_ratio,"
    "saved_queries_per_hour,peak_memory_bytes,staleness,total_requests,hits,saved_seconds,saved_share_of_seconds,"
    "compared_hits,stale_hits,other_user_hits,other_user_stale_hits,peak_relief,caveats"
)
BASIS = re.compile(
    r"Based on 1,540 requests in 1 hour, [-\d: ]+ to [-\d: ]+ UTC; coverage unknown, the ledger is empty\."
    r" Not ranked: 3 patterns \(1 not GET or HEAD, 1 below min_evidence_requests, 1 stale too often\)\."
)


def asked(times, route, *, ms, body, **fields):
    """One request a second, from the beginning of an hour on."""
    begin = (dt.datetime.now(dt.UTC) - 20 * HOUR).replace(minute=0, second=0, microsecond=0)
    return [
        make_event(
            begin + dt.timedelta(seconds=n),
            route=route,
            route_full=f"{route}?lang=en",
            query_params={"lang": "en"},
            query_params_normalized={"lang": "en"},
            duration_ms=ms,
            user_id=f"u{n % 5}",
            response_hash=body(n),
            response_size_bytes=800,
            db_query_count=2,
            **fields,
        )
        for n in range(times)
    ]


@pytest.fixture
def saving_dsn(migrated_dsn):
    events = [
        *asked(300, "/slow", ms=500.0, body=lambda n: 1),
        *asked(600, "/hot", ms=11.0, body=lambda n: 1),
        *asked(200, "/me", ms=301.0, body=lambda n: 1 + n % 5),
        *asked(200, "/stock", ms=300.0, body=lambda n: 1 + n),
        *asked(200, "/orders", ms=300.0, body=lambda n: 1, method="POST"),
        *asked(40, "/rare", ms=300.0, body=lambda n: 1),
    ]
    now = dt.datetime.now(dt.UTC)
    with connect(migrated_dsn) as connection:
        insert_making_partitions(connection, events, first_day=(now - dt.timedelta(days=2)).date())
        rollup_touched(connection, Settings(), now=now)
    return migrated_dsn


def test_json_has_what_is_saved_and_how(saving_dsn):
    output, errors = run(saving_dsn, "rank", "--by", "savings", "--days", "1", "--format", "json")
    rows = json.loads(output)
    assert {",".join(row) for row in rows} == {FIELDS}
    assert [(row["route"], row["cache_key"]) for row in rows] == [
        ("/slow", "shared"),
        ("/me", "per user"),
        ("/hot", "shared"),
    ]
    hours = rows[0]["saved_seconds"] / rows[0]["saved_seconds_per_hour"]
    assert 20 <= hours <= 21.01
    assert rows[0] == {
        "route": "/slow",
        "method": "GET",
        "query_params_normalized": {"lang": "en"},
        "saved_seconds_per_hour": round(299 * 0.499 / hours, 3),
        "ttl_seconds": 300.0,  # every request after the first; what lives longer saves no more
        "cache_key": "shared",
        "hit_ratio": round(299 / 300, 4),
        "saved_queries_per_hour": pytest.approx(598 / hours, rel=1e-4),
        "peak_memory_bytes": 1_000,
        "staleness": 0.0,
        "total_requests": 300,
        "hits": 299,
        "saved_seconds": round(299 * 0.499, 3),
        "saved_share_of_seconds": pytest.approx(299 * 0.499 / 150, abs=1e-4),
        "compared_hits": 299,
        "stale_hits": 0,
        "other_user_hits": 240,
        "other_user_stale_hits": 0,
        "peak_relief": round(299 / 300, 4),
        "caveats": ["short history"],
    }
    assert BASIS.fullmatch(errors.removesuffix("\n"))


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_fits_the_terminal(saving_dsn, columns):
    seen = in_terminal(saving_dsn, columns, "rank", "--by", "savings", "--days", "1")
    assert max(map(cell_len, seen)) <= columns
    text = "\n".join(seen)
    assert [line.split()[2] for line in seen if re.match(r"\d ", line)] == ["/slow", "/me", "/hot"]
    legend = "h raw events reach back less than the days asked for"
    assert legend in text
    remark = " ".join(text.partition(legend)[2].split())
    assert BASIS.fullmatch(remark)


def test_a_budget_holds_the_best_set_and_not_the_best_single(saving_dsn):
    asking = ("rank", "--by", "savings", "--days", "1", "--budget")
    output, _ = run(saving_dsn, *asking, "1MB", "--format", "json")
    assert len(json.loads(output)) == 3
    output, errors = run(saving_dsn, *asking, "2.5KB", "--format", "json")
    assert [row["route"] for row in json.loads(output)] == ["/slow", "/hot"]
    assert "The set has 2 of 3 patterns: it takes 2.0kB of 2.5kB, saves" in errors
    assert "and no other set saves more" in errors
    output, errors = run(saving_dsn, *asking, "0.5KB", "--format", "csv")
    assert list(csv.reader(io.StringIO(output, newline=""))) == [FIELDS.split(",")]
    assert errors.startswith("Nothing fits 500B (--budget) and saves time")


def test_an_explanation_tells_of_all_three_rankings(saving_dsn):
    output, errors = run(saving_dsn, "rank", "--explain", "/slow")
    heading, absolute, relative, saved, blank, basis = output.splitlines()
    assert heading == "GET /slow with lang=en"
    assert absolute == (
        "Absolute: place 1 of 5, score 3,005.5 = 300.0 requests an hour x 10 + 500.0 ms of p95 / 100"
        " + 5.0 users an hour / 10. That is above 50 (setting cache_score_threshold). Nothing stands before"
        " it."
    )
    assert relative.startswith("Relative: place 1 of 6, priority ")
    assert saved.startswith("Savings: place 1 of 3, ")
    assert "With a time to live of 5m and a key that all users share, 299 of 300 requests" in saved
    assert "It can be shared: of 240 hits on the copy of another user 0 differed." in saved
    assert (blank, errors) == ("", "")
    assert basis.startswith("Absolute and relative: Based on 1,540 requests in 1 hour, ")

    personal = run(saving_dsn, "rank", "--explain", "/me")[0]
    assert "a key for each user" in personal
    assert re.search(r"It is not shared: of (\d+) hits on the copy of another user \1 differed\.", personal)
    assert "hot" in run(saving_dsn, "rank", "--explain", "/hot")[0]
    assert "setting min_latency" in run(saving_dsn, "rank", "--explain", "/hot")[0]
    assert "Only answers to GET and HEAD are cached." in run(saving_dsn, "rank", "--explain", "/orders")[0]
    assert "40 requests are fewer than 100" in run(saving_dsn, "rank", "--explain", "/rare")[0]
    assert "100.0 % of its hits would have been stale" in run(saving_dsn, "rank", "--explain", "/stock")[0]


def test_an_explanation_of_what_is_not_rolled_up_yet(saving_dsn):
    with raw_postgres(saving_dsn) as connection:
        connection.execute("DELETE FROM route_analytics_hourly WHERE route = '/slow'")
    output, _ = run(saving_dsn, "rank", "--explain", "/slow")
    assert "Absolute and relative: not ranked yet, as its requests are not rolled up." in output
    assert "Savings: place 1 of 3" in output


def test_no_data_is_an_answer(migrated_dsn):
    for arguments in (["--by", "savings"], ["--explain", "/evil\x1b[31m"]):
        output, errors = run(migrated_dsn, "rank", *arguments)
        assert output == ""
        assert errors.count("\n") == 1
        assert "\x1b" not in errors
    assert errors.startswith("No candidate for a cache is called /evil\\x1b[31m in the last 7 days")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "1MB"], "--budget needs --by savings"),
        (["--by", "savings", "--budget", "much"], "256MB"),
        (["--by", "savings", "--relative"], "leave it out for --by savings"),
        (["--by", "savings", "--min-requests", "1"], "--by savings has no thresholds"),
        (["--by", "luck"], "'--by'"),
        (["--explain", "/a", "--relative"], "--explain tells of all rankings"),
        (["--explain", "/a", "-n", "3"], "--explain tells of all rankings"),
    ],
)
def test_wrong_use_is_one_line(arguments, words):
    output, errors = run("postgresql://127.0.0.1:1/nowhere", "rank", *arguments, code=2)
    assert output == ""
    assert errors.startswith("otel-analytics: ")
    assert words in errors
    assert errors.count("\n") == 1
