import io
import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from otel_analytics.analyze.recent import Window
from otel_analytics.present import question_tables as tables
from otel_analytics.present.documents import csv_text, json_text
from otel_analytics.present.live_view import Pipeline, Screen, screen
from otel_analytics.present.pictures import condensed, sparkline
from otel_analytics.present.question_rows import (
    ErrorRow,
    LiveRow,
    PatternRow,
    PeakRow,
    SlowRow,
    TopUserRow,
    TrendRow,
    UserShareRow,
    WeekRow,
    live_row,
)
from otel_analytics.present.tables import console_for

PEAK = PeakRow("/a", 23, 776.7, 921, 1.8, 11.2, 30, 23_000)
PATTERN = PatternRow("/a", "GET", {}, 6_405, 0.2347, 38.1, 22.1, 323.9, 590.3, 554.7, 2_249.6, 0.0, 168)
TREND = TrendRow("/a", "2026-11-24T00:00:00Z", 24, 4_422, 0.123, 323.9, 590.3, -0.05, 0.01, 1_543.4)
ERROR = ErrorRow("/a", "GET", 3_883, 226, 0.058, 0, 0.0, "2026-11-24T20:00:00Z", [])
SLOW = SlowRow("/a", "GET", 1_314, 1_809.5, 2_492.0, 2_809.8, 2_435.7, 0.118)
USERS = UserShareRow(100, 0.25, 80_874, 0.606)
USER = TopUserRow("u1", 7_782, 0.058)
LIVE = LiveRow("/a", "GET", 3_000, 10.0, 0.01, 12.0, 450.0, 300.0)
COURSE = [0.0, None, 5.0, 10.0] * 3
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
BLOCKS = set("▁▂▃▄▅▆▇█░▒▓")

PRINTED = [
    (PEAK, tables.print_peaks),
    (PATTERN, lambda rows, file: tables.print_patterns(rows, [COURSE] * len(rows), file)),
    (TREND, tables.print_trends),
    (TREND._replace(hours=1), tables.print_trends),
    (ERROR, tables.print_errors),
    (SLOW, lambda rows, file: tables.print_slow(rows, [COURSE] * len(rows), file)),
    (USERS, tables.print_user_shares),
    (USER, tables.print_top_users),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


class AsciiTerminal(Terminal):
    encoding = "ascii"


def printed(print_rows, rows, file, monkeypatch, columns=80):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")
    print_rows(rows, file)
    return file.getvalue()


def without_style(text):
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def rows_of_all_sizes(row, seed):
    chance = random.Random(seed)
    kinds = [{"error_type": "app.errors.\x1b[31mOutOfStock" * 9, "requests": 10**9}] * 3
    for _ in range(20):
        count = chance.choice([0, 7, 999, 12_345, 10**11])
        changed = {
            "route": chance.choice(["/", "/a" * 400, "/\x1b[31m\n" * 20, "/日本語" * 60, "/[red]x[/red]"]),
            "method": chance.choice(["GET", "OPTIONS", "\u202e"]),
            "query_params_normalized": {"q": chance.choice(["", "x" * 300, ["1", "\x07"]])},
            "user_id": chance.choice(["", "\x1b]0;t\x07", "é" * 512]),
            "error_types": kinds,
            "p95_latency_ms": chance.choice([None, 0.0, 5e8]),
            "requests_change": chance.choice([None, -1.0, 9.99, 1e6]),
            **dict.fromkeys(
                ("total_requests", "server_errors", "max_hourly_requests", "avg_hourly_requests"), count
            ),
            "share_of_requests": chance.choice([0.0, 1.0]),
            "total_seconds": float(count),
        }
        yield row._replace(**{name: value for name, value in changed.items() if name in row._fields})


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(("row", "print_rows"), PRINTED)
def test_a_table_fits_the_terminal(row, print_rows, columns, monkeypatch):
    rows = list(rows_of_all_sizes(row, seed=columns))
    lines = without_style(printed(print_rows, rows, Terminal(), monkeypatch, columns)).splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert len(lines) == 1 + 20 + (3 if isinstance(row, TrendRow) else 0)
    assert not STEERING.search("\n".join(lines))


@pytest.mark.parametrize(("row", "print_rows"), PRINTED)
def test_pictures_stay_away_from_programs_and_from_terminals_that_cannot_show_them(
    row, print_rows, monkeypatch
):
    pictured = isinstance(row, (PatternRow, TrendRow, SlowRow))
    assert bool(BLOCKS & set(printed(print_rows, [row], Terminal(), monkeypatch))) == pictured
    plain = without_style(printed(print_rows, [row], AsciiTerminal(), monkeypatch))
    assert plain.isascii()
    for text in (json_text([row]), csv_text([row], row._fields)):
        assert not BLOCKS & set(text)
    assert list(json.loads(json_text([row]))[0]) == list(row._fields)


def test_figures_of_a_row_stand_where_they_belong(monkeypatch):
    def cells(print_rows, *rows):
        return printed(print_rows, rows, io.StringIO(), monkeypatch).splitlines()[1].split()

    assert cells(tables.print_peaks, PEAK) == ["1", "/a", "23-24", "776.7", "921", "1.8", "11.2", "30"]
    failing = ERROR._replace(error_types=[{"error_type": "503", "requests": 31}])
    assert cells(tables.print_errors, failing) == [
        "GET", "/a", "3,883", "226", "5.8", "0.0", "11-24", "20:00", "503", "(31)",
    ]  # fmt: skip
    assert cells(tables.print_trends, TREND) == [
        "2026-11-24", "4,422", "+12.3%", "323.9", "590.3", "-5.0%", "1.0", "1,543",
    ]  # fmt: skip
    assert cells(tables.print_trends, TREND._replace(hours=7))[:3] == ["2026-11-24", "(7", "h)"]
    overflow = PATTERN._replace(query_params_normalized={"otel_analytics.overflow": True})
    text = printed(
        lambda rows, file: tables.print_patterns(rows, [COURSE], file), [overflow], io.StringIO(), monkeypatch
    )
    assert "(patterns not kept apart)" in text


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e12)), max_size=200), st.integers(1, 80))
def test_a_sparkline_has_a_character_a_figure(values, cells):
    line = sparkline(values)
    assert len(line) == len(values)
    assert {index for index, value in enumerate(values) if value is None} == {
        index for index, character in enumerate(line) if character == " "
    }
    few = condensed(values, cells)
    assert len(few) == min(len(values), cells)
    known = [value for value in values if value is not None]
    assert all(value is None or min(known) * 0.999 <= value <= max(known) * 1.001 for value in few)


def test_a_sparkline_rises_with_its_figures():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇██"
    assert sparkline([0, 4, 8], ascii_only=True) == ".=#"
    assert sparkline([0, 0]) == "▁▁"
    assert condensed([1, 3, 5, None], 2) == [2, 5]


WEEK = [
    WeekRow(day, hour, float(day * hour), 10, 1)
    for day in range(1, 8)
    for hour in range(24)
    if (day, hour) != (7, 23)
]


@pytest.mark.parametrize("colour", [True, False])
def test_a_heat_map_is_read_with_and_without_colour(colour, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "" if colour else "1")
    text = printed(tables.print_week, WEEK, Terminal(), monkeypatch)
    assert ("\x1b[31m" in text) == colour
    lines = without_style(text).splitlines()
    assert max(map(cell_len, lines)) <= 80
    header, monday, *_, sunday = lines[:8]
    assert header.split() == ["0", "3", "6", "9", "12", "15", "18", "21"]
    # The figure over each column stands above it.
    assert [monday[5 + 3 * hour] for hour in (0, 1, 23)] == ["·", "░", "░"]
    assert sunday.startswith("Sun")
    assert [sunday[5 + 3 * hour] for hour in (0, 1, 6, 12, 22)] == ["·", "░", "▒", "▓", "█"]
    assert len(sunday) == 5 + 3 * 23  # nothing is known of the last hour
    assert "░ to 38" in lines[-1]
    assert "█ to 154" in lines[-1]


def a_screen(rows, **changes):
    window = Window(300.0)
    values = {
        "frame": window.frame(1_000.0),
        "rows": rows,
        "seconds": 300.0,
        "moment": "12:00:00",
        "pipeline": Pipeline(0, 0.0, 0, has_worker=True),
        "behind_seconds": 0.0,
        "unreadable": 0,
        "problem": "",
        "hint": "q leaves",
    }
    return Screen(**{**values, **changes})


def shown(monkeypatch, rows, *, columns=80, lines=24, **changes):
    # Before the console is made: what it finds then, it keeps.
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    console = console_for(Terminal())
    console.print(screen(a_screen(rows, **changes), console, height=lines))
    return without_style(console.file.getvalue()).splitlines()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 20)])
def test_the_live_view_fits_the_screen(size, monkeypatch):
    columns, height = size
    rows = [LIVE._replace(route=f"/route/{n}/{'x' * 90}", p95_latency_ms=float(n)) for n in range(100)]
    lines = shown(monkeypatch, rows, columns=columns, lines=height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= columns
    assert "of 100 routes)" in "\n".join(lines)
    slowest = lines[lines.index("Slowest by p95") + 2 :][:5]
    assert [line.split()[5] for line in slowest] == ["99.0", "98.0", "97.0", "96.0", "95.0"]


def test_the_live_view_says_what_is_wrong(monkeypatch):
    lines = "\n".join(shown(monkeypatch, []))
    assert "No requests in this time." in lines
    assert "Worker: nothing waits; 0 dead letters" in lines
    waiting = Pipeline(1_200, 75.2, 3, has_worker=False)
    lines = " ".join(shown(monkeypatch, [], columns=200, pipeline=waiting, behind_seconds=3.0, unreadable=2))
    assert "No worker has run yet: 1,200 entries wait, the oldest for 76 s; 3 dead letters" in lines
    assert "this view catches up, 3 s to go" in lines
    assert "2 events unreadable" in lines
    assert "Redis is gone" in " ".join(shown(monkeypatch, [], pipeline=None, problem="Redis is gone"))


def test_a_live_row_is_a_rate_over_the_window():
    window = Window(60.0)
    frame = window.frame(0.0)
    row = live_row("/a", "GET", frame.total._replace(requests=90, server_errors=9, p95_ms=1.5), 60.0)
    assert (row.requests_per_second, row.server_error_rate, row.p95_latency_ms) == (1.5, 0.1, 1.5)
