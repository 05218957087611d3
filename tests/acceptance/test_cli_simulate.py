"""`simulate` as its users run it: the installed command, a terminal or a pipe, a real database."""

import csv
import datetime as dt
import io
import json

import pytest
from backend import make_event
from program import in_terminal, run
from rich.cells import cell_len

from otel_analytics.analyze.replay import LADDER
from otel_analytics.present.simulation import SimulationRow
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions

EVIL = "/evil\x1b[31m\n\u202e{id}"


@pytest.fixture
def dsn(migrated_dsn):
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)
    events = [
        make_event(
            start + dt.timedelta(seconds=second),
            route=route,
            route_full=f"{route}?q=shoes&page={second % 3}",
            duration_ms=500.0,
            query_params={"q": "shoes", "page": str(second % 3)},
            query_params_normalized={"q": "shoes"},
            response_hash=1,
            response_size_bytes=10_000,
            db_query_count=2,
        )
        for route in ("/search", EVIL, "/api/v1/tenants/{tenant_id}/reports/{report_id}/sections/export")
        for second in range(0, 3_600, 10)
    ]
    with connect(migrated_dsn) as connection:
        assert insert_making_partitions(connection, events, first_day=dt.date(2020, 1, 1)).stored == len(
            events
        )
    return migrated_dsn


def test_data_for_programs(dsn):
    out, err = run(dsn, "simulate", "--format", "json")
    rows = json.loads(out)
    assert [list(row) for row in rows] == [list(SimulationRow._fields)] * 3 * len(LADDER)
    assert [row["ttl_seconds"] for row in rows] == [*LADDER] * 3
    best = [row for row in rows if row["ttl_seconds"] == 3_600]
    assert {(row["requests"], row["hits"]) for row in best} == {(360, 357)}
    assert all(row["caveats"] == ["short history", "long ttl"] for row in best)
    assert all(row["saved_seconds"] == pytest.approx(357 * 0.499) for row in best)
    assert err.startswith("Replayed 1,080 requests, ")

    out, _ = run(
        dsn, "simulate", "/search", "--ttl", "1m", "--ttl", "90s", "--memory", "20kB", "--format", "csv"
    )
    header, *cells = csv.reader(io.StringIO(out, newline=""))
    assert tuple(header) == SimulationRow._fields
    found = [dict(zip(header, row, strict=True)) for row in cells]
    assert [row["ttl_seconds"] for row in found] == ["60.0", "90.0"]
    # Memory for one entry of nine, each asked for again after eight others.
    assert [float(row["lru_hit_ratio"]) for row in found] == [0, 0]
    assert [int(row["lru_peak_memory_bytes"]) <= 20_000 for row in found] == [True, True]
    assert float(found[0]["hit_ratio"]) > 0.3


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "arguments", [[], ["/search"], ["--memory", "1MB", "--ttl", "5m"], ["--per-user", "/search"]]
)
def test_tables_fit_the_terminal(dsn, columns, arguments):
    lines = in_terminal(dsn, columns, "simulate", *arguments)
    assert max(cell_len(line) for line in lines) <= columns
    assert all(line.isprintable() for line in lines)
    text = " ".join(lines)
    assert "Replayed" in text
    assert "t the time to live is more than a tenth of the history" in " ".join(text.split()) or "5m" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--ttl", "0"],
        ["--ttl", "-1s"],
        ["--ttl", "1e3"],
        ["--memory", "x"],
        ["--memory", "0MB"],
        ["-n", "0"],
        ["--days", "-1"],
    ],
)
def test_wrong_use_is_one_line(dsn, arguments):
    out, err = run(dsn, "simulate", *arguments, code=2)
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("otel-analytics: ")


def test_nothing_to_replay_is_an_answer(dsn):
    out, err = run(dsn, "simulate", "/nope")
    assert (out, err) == ("", "No raw requests of /nope in the last 7 days.\n")
    assert run(dsn, "simulate", "/nope", "--format", "json")[0] == "[]\n"
    assert "Nothing to save" in run(dsn, "simulate", "--ttl", "1s")[1]
