"""`rank` and `plan` as their users run them: the installed command, a terminal or a pipe, a real database."""

import csv
import datetime as dt
import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from backend import HOUR, make_event, raw_postgres
from program import in_terminal, run
from rich.cells import cell_len

from otel_analytics.rollup import rollup_touched
from otel_analytics.settings import Settings
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions

BASIS = re.compile(
    r"Based on [\d,]+ requests in \d+ hours?, [-\d: ]+ to [-\d: ]+ UTC.*;"
    r" coverage unknown, the ledger is empty\."
)
EVIL = "/evil\x1b[31m\n\u202e{id}"
LONG = "/api/v1/tenants/{tenant_id}/reports/{report_id}/sections/{section_id}/export"
ABSOLUTE = (
    "route,method,query_params_normalized,avg_hourly_requests,avg_p95_latency_ms,avg_unique_users,"
    "cache_priority_score,success_rate,total_requests,avg_p99_latency_ms,p95_latency_ms,active_hours,cacheable,"
    "should_cache"
)
RELATIVE = (
    "route,method,query_params_normalized,avg_hourly_requests,avg_p95_latency_ms,priority_score,"
    "popularity_percentile,latency_percentile,user_percentile,success_rate,total_requests,avg_unique_users,"
    "avg_p99_latency_ms,p95_latency_ms,active_hours,cacheable"
)


def requests(times, route, *, ms=500.0, params=None, **fields):
    now = dt.datetime.now(dt.UTC)
    return [
        make_event(
            now - hours * HOUR,
            route=route,
            duration_ms=ms,
            query_params=params or {},
            query_params_normalized={name: value for name, value in (params or {}).items() if name != "page"},
            user_id=f"u{n}",
            **fields,
        )
        for hours in (1, 2)
        for n in range(times)
    ]


@pytest.fixture
def ranked_dsn(migrated_dsn):
    events = [
        *requests(60, "/search", params={"q": "shoes", "sort": "price"}),
        *requests(40, "/search", params={"q": "shoes", "sort": "price", "page": "1"}),
        *requests(50, LONG, ms=2_000.0, params={"format": "csv", "timezone": "Europe/Berlin", "zip": "true"}),
        *requests(30, EVIL, params={"\x1b]0;t\x07": "=1+1"}),
        *requests(20, "=cmd", status_code=404),
        *requests(15, "/orders", method="POST"),
        *requests(200, "/hot", ms=5.0),
        *requests(9, "(unmatched)"),
    ]
    now = dt.datetime.now(dt.UTC)
    with connect(migrated_dsn) as connection:
        insert_making_partitions(connection, events, first_day=(now - dt.timedelta(days=2)).date())
        rollup_touched(connection, Settings(), now=now)
    return migrated_dsn


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    ("arguments", "lines"), [(["rank"], 1 + 5), (["rank", "--relative"], 2 + 6), (["plan"], 1 + 3)]
)
def test_a_table_fits_the_terminal(ranked_dsn, columns, arguments, lines):
    seen = in_terminal(ranked_dsn, columns, *arguments)
    assert max(map(cell_len, seen)) <= columns
    assert not [character for line in seen for character in line if not character.isprintable()]
    table, remark = seen[:lines], seen[lines:]
    assert table[lines - 1].split()[0] == str(lines - (2 if "--relative" in arguments else 1))
    assert [line for line in table if "/search" in line]
    assert [line for line in table if "…" in line and line.split()[2].endswith("export")]
    assert remark[0] == ""
    assert BASIS.fullmatch(" ".join(remark[1:]))


def test_a_table_in_a_pipe_is_in_full_and_plain(ranked_dsn):
    output, errors = run(ranked_dsn, "rank", "-n", "2")
    header, first, second, blank, basis = output.splitlines()
    assert header.split() == [
        "#",
        "method",
        "route",
        "params",
        "req/h",
        "p95",
        "ms",
        "users",
        "score",
        "ok",
        "%",
    ]
    assert first.split() == [
        "1",
        "GET",
        "/search",
        "q=shoes&sort=price",
        "100.0",
        "500.0",
        "60.0",
        "1,011.0",
        "100",
    ]
    assert second.split()[2:4] == [LONG, "format=csv&timezone=Europe/Berlin&zip=true"]
    assert (blank, errors) == ("", "")
    assert BASIS.fullmatch(basis)
    assert "left out: 18 that no route matched" in basis


def test_json_is_all_there_is_on_standard_output(ranked_dsn):
    output, errors = run(ranked_dsn, "rank", "--format", "json")
    rows = json.loads(output)
    assert {",".join(row) for row in rows} == {ABSOLUTE}
    assert [row["route"] for row in rows] == ["/search", LONG, EVIL, "=cmd", "/orders"]
    assert rows[0] == {
        "route": "/search",
        "method": "GET",
        "query_params_normalized": {"q": "shoes", "sort": "price"},
        "avg_hourly_requests": 100.0,
        "avg_p95_latency_ms": 500.0,
        "avg_unique_users": 60.0,
        "cache_priority_score": 1_011.0,
        "success_rate": 1.0,
        "total_requests": 200,
        "avg_p99_latency_ms": 500.0,
        "p95_latency_ms": pytest.approx(500, rel=0.02),
        "active_hours": 2,
        "cacheable": True,
        "should_cache": True,
    }
    assert [(row["success_rate"], row["cacheable"]) for row in rows[3:]] == [(0.0, True), (1.0, False)]
    assert BASIS.fullmatch(errors.removesuffix("\n"))

    output, errors = run(ranked_dsn, "rank", "--relative", "--format", "json", "-n", "3")
    rows = json.loads(output)
    assert {",".join(row) for row in rows} == {RELATIVE}
    # Of six: all three at the fifth place; 1st, 4th and 4th; last of all in latency alone.
    assert [(row["route"], row["priority_score"]) for row in rows] == [
        ("/search", pytest.approx(500 / 6, abs=1e-3)),
        (LONG, pytest.approx(40 + 0.6 * 400 / 6, abs=1e-3)),
        ("/hot", pytest.approx(60 + 0.4 * 100 / 6, abs=1e-3)),
    ]
    assert BASIS.fullmatch(errors.removesuffix("\n"))


def test_csv_is_safe_to_open_in_a_spreadsheet(ranked_dsn):
    output, errors = run(ranked_dsn, "rank", "--format", "csv")
    header, *rows = csv.reader(io.StringIO(output, newline=""))
    assert ",".join(header) == ABSOLUTE
    assert output.startswith(f"{ABSOLUTE}\r\n")
    assert [row[0] for row in rows] == ["/search", LONG, "/evil\\x1b[31m\n\\u202e{id}", "'=cmd", "/orders"]
    assert json.loads(rows[2][2]) == {"\x1b]0;t\x07": "=1+1"}
    assert BASIS.fullmatch(errors.removesuffix("\n"))
    assert run(ranked_dsn, "rank", "--relative", "--format", "csv", "-n", "1")[0].startswith(
        f"{RELATIVE}\r\n"
    )


def test_a_plan_is_what_a_caching_layer_reads(ranked_dsn):
    output, _ = run(ranked_dsn, "plan", "--min-requests", "60", "--format", "json")
    assert json.loads(output) == [
        {
            "route": "/search",
            "method": "GET",
            "query_params_normalized": {"q": "shoes", "sort": "price"},
            "cache_priority_score": 1_011.0,
            "avg_hourly_requests": 100.0,
            "avg_p95_latency_ms": 500.0,
            "pages_to_cache": [{"params": {}, "share": 0.6}, {"params": {"page": "1"}, "share": 0.4}],
            "sampled_requests": 200,
            "cache_key": None,
        }
    ]


def test_the_defaults_are_settings(ranked_dsn):
    given = {"OTEL_ANALYTICS_TOP_N_ROUTES": "1", "OTEL_ANALYTICS_MIN_LATENCY": "1500"}
    (row,) = json.loads(run(ranked_dsn, "rank", "--format", "json", **given)[0])
    assert row["route"] == LONG
    rows = json.loads(
        run(ranked_dsn, "rank", "-n", "9", "--min-latency", "0", "--format", "json", **given)[0]
    )
    assert rows[0]["route"] == "/hot"
    # Settings are no contradiction to --relative; arguments are.
    assert len(json.loads(run(ranked_dsn, "rank", "--relative", "--format", "json", **given)[0])) == 1


def test_make_passes_its_arguments_on(ranked_dsn):
    make = [shutil.which("make"), "--silent", "--old-file=.venv/.ready", f"BIN={Path(sys.executable).parent}"]
    analysis = ("cache-analysis", "n=1", "days=1", "format=json", "min_requests=10", "min_latency=1500")
    (row,) = json.loads(run(ranked_dsn, *analysis, program=make)[0])
    assert row["route"] == LONG
    assert len(run(ranked_dsn, "cache-analysis", program=make)[0].splitlines()) == 1 + 5 + 2
    relative, _ = run(ranked_dsn, "cache-analysis-relative", "n=2", "format=csv", program=make)
    assert len(list(csv.reader(io.StringIO(relative, newline="")))) == 3


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["rank"], ""),
        (["rank", "--format", "json"], "[]\n"),
        (["rank", "--format", "csv"], f"{ABSOLUTE}\r\n"),
        (["rank", "--relative", "--format", "csv"], f"{RELATIVE}\r\n"),
        (["plan"], ""),
        (["plan", "--format", "json"], "[]\n"),
    ],
)
def test_no_data_is_an_answer(migrated_dsn, arguments, printed):
    output, errors = run(migrated_dsn, *arguments)
    assert output == printed
    assert "nothing was stored" in errors
    assert errors.count("\n") == 1


def test_nothing_above_the_thresholds_says_which_and_how_far(ranked_dsn):
    output, errors = run(ranked_dsn, "rank", "--min-requests", "150", "--min-latency", "20")
    assert output == ""
    assert errors == (
        "Nothing reaches both 150 requests an hour (--min-requests) and 20 ms of p95 (--min-latency);"
        " the busiest, GET /hot, has 200.0 an hour and 5.0 ms;"
        f" the slowest, GET {LONG}, has 50.0 an hour and 2,000.0 ms\n"
    )
    output, errors = run(ranked_dsn, "plan", "--min-requests", "150", "--format", "json")
    assert output == "[]\n"
    assert errors.startswith("Nothing to cache: none of 6 patterns")


@pytest.mark.parametrize("command", ["rank", "plan"])
@pytest.mark.parametrize(
    "arguments",
    [["--days", "0"], ["--days", "-1"], ["--days", "x"], ["--format", "xml"], ["--min-requests", "-1"],
     ["--min-latency", "nan"], ["more"]],
)  # fmt: skip
def test_wrong_use_is_one_line(command, arguments):
    refused(command, *arguments, words=f"see: otel-analytics {command} --help")


@pytest.mark.parametrize("n", ["0", "-1", "x", ""])
def test_a_number_of_rows_must_be_one(n):
    refused("rank", "-n", n, words="'-n'")


@pytest.mark.parametrize("threshold", ["--min-requests", "--min-latency"])
def test_the_relative_ranking_refuses_thresholds(threshold):
    refused("rank", "--relative", threshold, "0", words="--relative has no thresholds")


def refused(*arguments, words):
    output, errors = run("postgresql://127.0.0.1:1/nowhere", *arguments, code=2)
    assert output == ""
    assert errors.startswith("otel-analytics: ")
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("command", ["rank", "plan"])
def test_a_database_that_cannot_answer_is_one_line(command, postgres_dsn, migrated_dsn):
    with raw_postgres(migrated_dsn) as connection:
        connection.execute("INSERT INTO route_analytics_migrations (name) VALUES ('9999_future')")
    for dsn, words in (
        ("postgresql://127.0.0.1:1/nowhere", "Connection refused"),
        (postgres_dsn, "run: otel-analytics migrate"),
        (migrated_dsn, "upgrade otel-analytics"),
    ):
        output, errors = run(dsn, command, code=1)
        assert output == ""
        assert words in errors
        assert errors.count("\n") == 1


def test_a_plan_leaves_out_what_mostly_fails(ranked_dsn):
    table, _ = run(ranked_dsn, "rank")
    planned, _ = run(ranked_dsn, "plan")
    assert "=cmd" in table
    assert "=cmd" not in planned
