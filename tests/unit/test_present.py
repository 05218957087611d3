import csv
import datetime as dt
import io
import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from otel_analytics.analyze.basis import Basis
from otel_analytics.present.documents import csv_text, json_text
from otel_analytics.present.remarks import basis_line, nothing_found
from otel_analytics.present.rows import AbsoluteRow, PlanRow, RelativeRow
from otel_analytics.present.tables import print_plan, print_ranking
from otel_analytics.present.text import compact, harmless, params_text, shorten_end, shorten_middle

ABSOLUTE = AbsoluteRow("/a", "GET", {}, 20.0, 200.0, 5.0, 202.5, 0.9871, 80, 300.0, 201.5, 4, True, True)
RELATIVE = RelativeRow(
    "/a", "GET", {}, 20.0, 200.0, 90.0, 99.9, 50.0, 100.0, 1.0, 80, 5.0, 300.0, None, 4, True
)
PLAN = PlanRow("/a", "GET", {}, 202.5, 20.0, 200.0, [{"params": {"page": "1"}, "share": 0.5}], 10, "shared")
HOUR = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
BASIS = Basis(
    days=7,
    hours=2,
    first=HOUR,
    last=HOUR + dt.timedelta(hours=1),
    requests=1_234,
    unmatched_requests=0,
    overflow_requests=0,
    accepted=2_000_000,
    dropped=0,
    latest_hour=HOUR,
    waiting_hours=0,
)
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def printed(print_rows, rows, file, monkeypatch, columns=80):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    print_rows(rows, file)
    return file.getvalue()


def without_style(text):
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def test_json_fields_and_their_order():
    (found,) = json.loads(json_text([ABSOLUTE]))
    assert list(found) == [
        "route", "method", "query_params_normalized", "avg_hourly_requests", "avg_p95_latency_ms",
        "avg_unique_users", "cache_priority_score", "success_rate", "total_requests",
        "avg_p99_latency_ms", "p95_latency_ms", "active_hours", "cacheable", "should_cache",
    ]  # fmt: skip
    (found,) = json.loads(json_text([RELATIVE]))
    assert list(found) == [
        "route", "method", "query_params_normalized", "avg_hourly_requests", "avg_p95_latency_ms",
        "priority_score", "popularity_percentile", "latency_percentile", "user_percentile", "success_rate",
        "total_requests",
        "avg_unique_users", "avg_p99_latency_ms", "p95_latency_ms", "active_hours", "cacheable",
    ]  # fmt: skip
    assert found["p95_latency_ms"] is None


def test_json_holds_what_was_there_and_steers_no_terminal():
    row = ABSOLUTE._replace(route="/\x1b[2J\x9b/é\n", query_params_normalized={"\u202e": "\x07"})
    text = json_text([row])
    assert text.isascii()
    assert not STEERING.search(text.replace("\n", ""))
    assert json.loads(text)[0]["route"] == row.route


def read_back(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_csv():
    row = ABSOLUTE._replace(route='/a,"b"\r\nc', query_params_normalized={"q": "é"})
    text = csv_text([row], AbsoluteRow._fields)
    assert text.splitlines()[0] == ",".join(AbsoluteRow._fields)
    assert text.count("\r\n") == 3
    header, cells = read_back(text)
    assert cells[:3] == ['/a,"b"\r\nc', "GET", '{"q": "\\u00e9"}']
    assert cells[-2:] == ["true", "true"]
    assert dict(zip(header, cells, strict=True))["success_rate"] == "0.9871"
    assert (
        read_back(csv_text([RELATIVE], RelativeRow._fields))[1][RelativeRow._fields.index("p95_latency_ms")]
        == ""
    )
    assert read_back(csv_text([], AbsoluteRow._fields)) == [list(AbsoluteRow._fields)]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_csv_is_a_formula(start):
    row = ABSOLUTE._replace(route=f"{start}cmd|'/c calc'!A1", method=f"{start}1")
    _, cells = read_back(csv_text([row], AbsoluteRow._fields))
    assert cells[:2] == [f"'{row.route}", f"'{row.method}"]


@given(st.text())
def test_shown_text_steers_no_terminal(text):
    assert not STEERING.search(harmless(text))
    assert harmless(text).isprintable()


@given(st.text(alphabet=st.characters(categories=["L", "N", "P"])), st.integers(2, 40))
def test_shortened_text_fits(text, cells):
    assert cell_len(shorten_middle(text, cells)) <= cells
    assert cell_len(shorten_end(text, cells)) <= cells


def test_a_route_is_shortened_in_its_middle():
    assert shorten_middle("/api/v1/reports/{id}/export", 15) == "/api/v1…/export"
    assert shorten_middle("/api", 4) == "/api"
    assert shorten_end("sort=price", 6) == "sort=…"


def test_params_read_like_a_query():
    assert params_text({}) == "-"
    assert params_text({"a": "1", "b": ["x", "y"]}) == "a=1&b=x&b=y"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0.0"),
        (999.94, "999.9"),
        (999.96, "1,000"),
        (9_999.4, "9,999"),
        (9_999.6, "10.0k"),
        (99_940, "99.9k"),
        (99_960, "100k"),
        (999_940, "1000k"),
        (1_234_567, "1.2M"),
        (123_456_789, "123M"),
        (604_800_000, "605M"),
        (5e15, "5e+15"),
    ],
)
def test_a_figure_takes_five_characters(number, text):
    assert compact(number) == text
    assert len(text) <= 5


def rows_of_all_sizes(row, seed):
    chance = random.Random(seed)
    routes = ["/", "/a" * 400, "/\x1b[31m\n" * 20, "/日本語" * 60, "/[red]x[/red]"]
    figure = lambda: chance.choice([0.0, 9.99, 1_234.5, 123_456.7, 604_800_000.0])  # noqa: E731
    for _ in range(30):
        params = {chance.choice("äbc"): chance.choice(["", "x" * 200, ["1", "\x07"]]) for _ in range(3)}
        changed = {
            "route": chance.choice(routes),
            "method": chance.choice(["GET", "OPTIONS"]),
            "query_params_normalized": params,
            "avg_hourly_requests": figure(),
            "avg_p95_latency_ms": figure(),
            "avg_unique_users": figure(),
            "cache_priority_score": chance.choice([0.0, 12_345.6]),
            "success_rate": chance.choice([0.0, 0.98765, 1.0]),
        }
        yield row._replace(**{name: value for name, value in changed.items() if name in row._fields})


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    ("print_rows", "row"), [(print_ranking, ABSOLUTE), (print_ranking, RELATIVE), (print_plan, PLAN)]
)
def test_a_table_fits_the_terminal(print_rows, row, columns, monkeypatch):
    rows = list(rows_of_all_sizes(row, seed=columns))
    text = without_style(printed(print_rows, rows, Terminal(), monkeypatch, columns))
    lines = text.splitlines()
    # A row is a line: nothing wraps, and nothing of a route gets out of its cell.
    assert len(lines) == 30 + (2 if row is RELATIVE else 1)
    assert {cell_len(line) <= columns for line in lines} == {True}
    assert not STEERING.search("".join(lines))
    assert "…" in text


def test_a_table_in_a_pipe_is_plain_and_in_full(monkeypatch):
    route, params = "/a" * 90, {"q": "x" * 100}
    row = ABSOLUTE._replace(route=route, query_params_normalized=params)
    text = printed(print_ranking, [row], io.StringIO(), monkeypatch)
    assert "\x1b" not in text
    assert text.splitlines()[1].split() == [
        "1", "GET", route, f"q={'x' * 100}", "20.0", "200.0", "5.0", "202.5", "98.7",
    ]  # fmt: skip
    endless = ABSOLUTE._replace(query_params_normalized={"q": "x" * 16_000})
    assert max(map(len, printed(print_ranking, [endless], io.StringIO(), monkeypatch).splitlines())) < 400


def test_a_plan_says_what_is_not_known(monkeypatch):
    rows = [
        PLAN,
        PLAN._replace(pages_to_cache=[{"params": {}, "share": 1.0}]),
        PLAN._replace(pages_to_cache=[{"params": {}, "share": 0.75}]),
        PLAN._replace(pages_to_cache=None),
        PLAN._replace(cache_key="per user"),
        PLAN._replace(cache_key=None),
    ]
    text = printed(print_plan, rows, io.StringIO(), monkeypatch)
    assert [line.split("202.5")[1].strip().split(maxsplit=1) for line in text.splitlines()[1:]] == [
        ["all", "page=1 (50%)"],
        ["all", "all"],
        ["all", "first (75%)"],
        ["all", "?"],
        ["user", "page=1 (50%)"],
        ["?", "page=1 (50%)"],
    ]


def test_what_a_ranking_rests_on():
    assert basis_line(BASIS) == (
        "Based on 1,234 requests in 2 hours, 2026-11-24 12:00 to 2026-11-24 14:00 UTC;"
        " coverage 100 % (0 of 2,000,000 events dropped)."
    )
    # One event dropped is not 100 %.
    assert "coverage 99.99 % (1 of 2,000,001 " in basis_line(BASIS._replace(dropped=1))
    assert "coverage unknown" in basis_line(BASIS._replace(accepted=0))
    left_out = basis_line(BASIS._replace(unmatched_requests=5, overflow_requests=7))
    assert "left out: 5 that no route matched and 7 of patterns too many to keep apart" in left_out


def test_why_there_is_nothing():
    empty = BASIS._replace(hours=0, first=None, last=None, requests=0)
    assert "in the last 7 days; left out: 3 that no route" in nothing_found(
        empty._replace(unmatched_requests=3)
    )
    assert "the latest are of 2026-11-24 12:00 UTC" in nothing_found(empty)
    assert "1 hour of requests wait" in nothing_found(empty._replace(waiting_hours=1))
    assert "nothing was stored" in nothing_found(empty._replace(latest_hour=None))
