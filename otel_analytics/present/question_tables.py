"""The answers to questions as tables for people, with a small picture where that says more."""

from collections.abc import Sequence
from typing import Any, Final, TextIO

from rich.text import Text

from otel_analytics.present.pictures import condensed, print_heat_map, sparkline
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
)
from otel_analytics.present.tables import KINDS, Column, console_for, percent, print_columns
from otel_analytics.present.text import compact, harmless, params_text, shorten_end
from otel_analytics.record import OVERFLOW_PATTERN

_NONE: Final = "-"
_OVERFLOW: Final = "(patterns not kept apart)"
_MOST_ID: Final = 40
_MOST_COURSE: Final = 60
"""Columns of a terminal for a course that stands on a line of its own."""
_DAY_HOURS: Final = 24

Course = Sequence[float | None]


def print_peaks(rows: Sequence[PeakRow], file: TextIO) -> None:
    """The busiest hours of the day."""
    columns = [
        _numbers(rows),
        Column("route", [harmless(row.route) for row in rows], justify="left"),
        Column("hour UTC", [f"{row.hour_of_day:02}-{row.hour_of_day + 1:02}" for row in rows]),
        Column("req/h", [compact(row.avg_hourly_requests) for row in rows]),
        Column("most", [_count(row.max_hourly_requests) for row in rows]),
        Column("x usual", [f"{row.times_route_average:.1f}" for row in rows]),
        Column("p95 ms", [_figure(row.p95_latency_ms) for row in rows]),
        Column("days", [str(row.active_days) for row in rows]),
    ]
    print_columns(columns, file)


def print_week(rows: Sequence[WeekRow], file: TextIO) -> None:
    """The hours of the week as a heat map."""
    week = {(row.weekday, row.hour_of_day): row.avg_hourly_requests for row in rows}
    print_heat_map(week, console_for(file))


def print_patterns(rows: Sequence[PatternRow], courses: Sequence[Course], file: TextIO) -> None:
    """The parameter patterns of a route, with their requests over time."""
    columns = [
        _numbers(rows),
        Column("method", [harmless(row.method) for row in rows], justify="left"),
        Column("params", [_params(row.query_params_normalized) for row in rows], justify="left"),
        Column("requests", [_count(row.total_requests) for row in rows]),
        Column("%", [percent(row.share_of_requests) for row in rows]),
        Column("p50 ms", [_figure(row.p50_latency_ms) for row in rows]),
        Column("p95 ms", [_figure(row.p95_latency_ms) for row in rows]),
        Column("5xx %", [percent(row.server_error_rate) for row in rows]),
        _courses("over time", courses, file),
    ]
    print_columns(columns, file)


def print_trends(rows: Sequence[TrendRow], file: TextIO) -> None:
    """A route by day or hour, and its course at a glance."""
    daily = max(row.hours for row in rows) > 1
    columns = [
        Column("day" if daily else "hour UTC", [_start(row, daily=daily) for row in rows], justify="left"),
        Column("requests", [f"{row.total_requests:,}" for row in rows]),
        Column("change", [change_text(row.requests_change) for row in rows]),
        Column("p50 ms", [_figure(row.p50_latency_ms) for row in rows]),
        Column("p95 ms", [_figure(row.p95_latency_ms) for row in rows]),
        Column("change", [change_text(row.p95_change) for row in rows]),
        Column("5xx %", [_rate(row.server_error_rate) for row in rows]),
        Column("seconds", [compact(row.total_seconds) for row in rows]),
    ]
    print_columns(columns, file)
    console = console_for(file)
    console.print()
    # A day that is not over would look like a fall.
    for name, course in (
        ("requests/h", [row.total_requests / row.hours for row in rows]),
        ("p95", [row.p95_latency_ms for row in rows]),
    ):
        line = sparkline(condensed(course, _MOST_COURSE), ascii_only=console.options.ascii_only)
        console.print(Text(f"{name:<12}{line}".rstrip()), soft_wrap=True)


def print_errors(rows: Sequence[ErrorRow], file: TextIO) -> None:
    """The routes that fail, and with what."""
    columns = [
        Column("method", [harmless(row.method) for row in rows], justify="left"),
        Column("route", [harmless(row.route) for row in rows], justify="left"),
        Column("req", [_count(row.total_requests) for row in rows]),
        Column("5xx", [_count(row.server_errors) for row in rows]),
        Column("5xx %", [percent(row.server_error_rate) for row in rows]),
        Column("4xx %", [percent(row.client_error_rate) for row in rows]),
        Column("last 5xx", [_last(row.last_failing_hour) for row in rows], justify="left"),
        Column(KINDS, [_kinds(row) for row in rows], justify="left"),
    ]
    print_columns(columns, file)


def print_slow(rows: Sequence[SlowRow], courses: Sequence[Course], file: TextIO) -> None:
    """The slowest routes, with their mean duration over time."""
    columns = [
        _numbers(rows),
        Column("method", [harmless(row.method) for row in rows], justify="left"),
        Column("route", [harmless(row.route) for row in rows], justify="left"),
        Column("req", [_count(row.total_requests) for row in rows]),
        Column("p50 ms", [_figure(row.p50_latency_ms) for row in rows]),
        Column("p95 ms", [_figure(row.p95_latency_ms) for row in rows]),
        Column("seconds", [compact(row.total_seconds) for row in rows]),
        Column("%", [percent(row.share_of_seconds) for row in rows]),
        _courses("mean ms", courses, file),
    ]
    print_columns(columns, file)


def print_user_shares(rows: Sequence[UserShareRow], file: TextIO) -> None:
    """How much comes from how few."""
    columns = [
        Column("top users", [f"{row.top_users:,}" for row in rows]),
        Column("% of users", [percent(row.share_of_users) for row in rows]),
        Column("requests", [f"{row.requests:,}" for row in rows]),
        Column("% of requests", [percent(row.share_of_requests) for row in rows]),
    ]
    print_columns(columns, file)


def print_top_users(rows: Sequence[TopUserRow], file: TextIO) -> None:
    """The users with most requests, by id."""
    columns = [
        _numbers(rows),
        Column("user", [shorten_end(harmless(row.user_id), _MOST_ID) for row in rows], justify="left"),
        Column("requests", [f"{row.requests:,}" for row in rows]),
        Column("% of requests", [percent(row.share_of_requests) for row in rows]),
    ]
    print_columns(columns, file)


def live_columns(rows: Sequence[LiveRow]) -> list[Column]:
    """The columns for routes in the last minutes."""
    return [
        Column("method", [harmless(row.method) for row in rows], justify="left"),
        Column("route", [harmless(row.route) for row in rows], justify="left"),
        Column("req/s", [_rate_a_second(row.requests_per_second) for row in rows]),
        Column("5xx %", [percent(row.server_error_rate) for row in rows]),
        Column("p50 ms", [_figure(row.p50_latency_ms) for row in rows]),
        Column("p95 ms", [_figure(row.p95_latency_ms) for row in rows]),
        Column("seconds", [compact(row.total_seconds) for row in rows]),
    ]


def change_text(change: float | None) -> str:
    """A change in percent, with its sign."""
    if change is None:
        return _NONE
    if change >= 10:  # noqa: PLR2004 - percent of more than four characters say less than a factor
        return f"x{compact(change + 1)}"
    return f"{change * 100:+.1f}%"


def _numbers(rows: Sequence[Any]) -> Column:
    return Column("#", [str(place) for place, _ in enumerate(rows, start=1)])


def _courses(header: str, courses: Sequence[Course], file: TextIO) -> Column:
    ascii_only = console_for(file).options.ascii_only
    return Column(header, [sparkline(course, ascii_only=ascii_only) for course in courses], justify="left")


def _params(params: dict[str, Any]) -> str:
    return _OVERFLOW if params == OVERFLOW_PATTERN else params_text(params)


def _count(number: int) -> str:
    return str(number) if number < 1_000 else compact(number)  # noqa: PLR2004 - below, compact shows a fraction


def _figure(value: float | None) -> str:
    return _NONE if value is None else compact(value)


def _rate(share: float | None) -> str:
    return _NONE if share is None else percent(share)


def _rate_a_second(rate: float) -> str:
    return f"{rate:.2f}" if rate < 10 else compact(rate)  # noqa: PLR2004 - a route asked for now and then is not 0


def _start(row: TrendRow, *, daily: bool) -> str:
    day, time = row.start[:10], row.start[11:16]
    if not daily:
        return f"{day} {time}"
    return day if row.hours == _DAY_HOURS else f"{day} ({row.hours} h)"


def _last(hour: str | None) -> str:
    return _NONE if hour is None else f"{hour[5:10]} {hour[11:16]}"


def _kinds(row: ErrorRow) -> str:
    kinds = (f"{harmless(each['error_type'])} ({each['requests']:,})" for each in row.error_types)
    return ", ".join(kinds) or _NONE
