"""The questions beside the rankings, from the tables to rows that can be shown.

Every request counts, also those that no route matched and those of patterns too many to keep apart. Hours and
days are UTC.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from otel_analytics import evidence
from otel_analytics.analyze import peaks as peaks_of
from otel_analytics.analyze import routes, trends, users
from otel_analytics.analyze.basis import Basis
from otel_analytics.figures import Histogram
from otel_analytics.present import question_remarks as remarks
from otel_analytics.present.question_rows import (
    ErrorRow,
    PatternRow,
    PeakRow,
    SlowRow,
    TopUserRow,
    TrendRow,
    UserShareRow,
    WeekRow,
    error_row,
    pattern_row,
    peak_row,
    slow_row,
    trend_row,
    user_share_row,
    week_row,
)
from otel_analytics.present.remarks import basis_line, nothing_found
from otel_analytics.rollup import HOUR, start_of_hour
from otel_analytics.store import partitions, rankings
from otel_analytics.store import questions as store
from otel_analytics.store.connection import Connection

PEAK_DAYS: Final = 30
"""Peaks show over a longer span than the setting `days`."""
PEAK_REQUESTS: Final = 50.0
"""An hour of the day with no more requests on average is no peak."""
COURSE_SLOTS: Final = 12
"""Into which a span is cut for the small pictures in a table: whole hours each, whatever the days."""
ERROR_HOURS: Final = 12
"""The last hours with a 5xx whose raw requests are looked at."""
ERROR_SAMPLE: Final = 5_000
"""The latest raw requests of a route in such an hour that are looked at."""

Row = TypeVar("Row")
Course = list[float | None]
"""Figures over time, oldest first; None where there are none."""


@dataclass(frozen=True)
class Answer(Generic[Row]):
    """The rows of an answer, and what it rests on.

    Attributes:
        rows: The part of them that was asked for.
        total: All there are.
        remark: What the rows rest on, or why there are none; one line.
        basis: What was looked at.
        courses: For each row its figures over time; empty where not asked for.
    """

    rows: list[Row]
    total: int
    remark: str
    basis: Basis
    courses: Sequence[Course] = ()


class _Span(NamedTuple):
    """Hours that begin in it count, both ends included."""

    since: dt.datetime
    until: dt.datetime
    days: int

    @property
    def slot_seconds(self) -> float:
        """Of a small picture."""
        return self.days * 86_400 / COURSE_SLOTS


def peaks(
    connection: Connection,
    *,
    now: dt.datetime,
    days: int = PEAK_DAYS,
    min_requests: float = PEAK_REQUESTS,
    route: str | None = None,
    limit: int,
    offset: int = 0,
) -> Answer[PeakRow]:
    """The busiest hours of the day, route by route. Only hours that are over count.

    Args:
        connection: Where the tables are; not inside a transaction.
        now: The present.
        days: How far back.
        min_requests: An hour of the day must have more requests than this on average.
        route: The one to look at; None for all.
        limit: Rows at most.
        offset: Rows to leave out first.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    span = _complete(now, days)
    with rankings.reading(connection):
        found = peaks_of.peaks(store.hours_of_day(connection, span.since, span.until, route=route))
        high = [peak for peak in found if peak.figures.avg_hourly_requests > min_requests]
        shown = high[offset : offset + limit]
        wanted = [(peak.figures.route, peak.figures.hour_of_day) for peak in shown]
        histograms = (
            store.hour_of_day_histograms(connection, span.since, span.until, wanted) if wanted else []
        )
        requests = sum(peak.figures.total_requests for peak in found)
        basis, remark = _rest(connection, span, requests, route)
    if found and not high:
        remark = remarks.no_peak(peak_row(found[0], {}), min_requests=min_requests)
    rows = [peak_row(*pair) for pair in zip(shown, histograms, strict=True)]
    return Answer(rows, len(high), remark, basis)


def week(
    connection: Connection, *, now: dt.datetime, days: int = PEAK_DAYS, route: str | None = None
) -> Answer[WeekRow]:
    """The hours of the week, of all requests or of one route; arguments and errors are those of `peaks`."""
    span = _complete(now, days)
    with rankings.reading(connection):
        totals = store.hour_totals(connection, span.since, span.until, route=route)
        basis, remark = _rest(connection, span, sum(totals.values()), route)
    rows = [week_row(hour) for hour in peaks_of.week(totals)] if basis.requests else []
    return Answer(rows, len(rows), remark, basis)


def patterns(
    connection: Connection,
    route: str,
    *,
    now: dt.datetime,
    days: int,
    limit: int,
    offset: int = 0,
    with_courses: bool = False,
) -> Answer[PatternRow]:
    """The methods and parameter patterns of a route, by traffic.

    Args:
        connection: Where the tables are; not inside a transaction.
        route: The template.
        now: The present.
        days: How far back.
        limit: Rows at most.
        offset: Rows to leave out first.
        with_courses: Whether to find out the requests of each row over time.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    span = _until_now(now, days)
    with rankings.reading(connection):
        found = routes.by_traffic(store.route_patterns(connection, span.since, span.until, route))
        shown = found[offset : offset + limit]
        requests = sum(each.figures.total_requests for each in found)
        hours = rankings.hours(connection, span.since, span.until)
        figures = [each.figures for each in shown]
        histograms: list[Histogram] = rankings.histograms(connection, hours, figures) if shown else []
        courses: Mapping[tuple[str, str], store.Course] = {}
        if with_courses:
            courses = store.pattern_courses(
                connection, span.since, span.until, route, slot_seconds=span.slot_seconds
            )
        basis, remark = _rest(connection, span, requests, route)
    return Answer(
        rows=[pattern_row(*pair, requests) for pair in zip(shown, histograms, strict=True)],
        total=len(found),
        remark=remark,
        basis=basis,
        courses=[_course(courses.get((each.method, each.pattern), {}), 0.0) for each in figures]
        if with_courses
        else (),
    )


def trend(connection: Connection, route: str, *, now: dt.datetime, days: int) -> Answer[TrendRow]:
    """A route by day, or by hour over few days, against the span before. Only hours that are over count.

    Arguments and errors are those of `patterns`. No rows where the route has no requests in the span.
    """
    slots = trends.slots(start_of_hour(now), days)
    seconds = slots.length.total_seconds()
    span = _Span(slots.since, slots.until, days)
    with rankings.reading(connection):
        mine = store.slots(connection, slots.since, slots.until, route, slot_seconds=seconds)
        before = store.slots(
            connection, slots.since - slots.before, slots.until - slots.before, route, slot_seconds=seconds
        )
        whole = trends.compared(0, trends.together(mine.values()), trends.together(before.values()))
        basis, remark = _rest(connection, span, whole.figures.total_requests, route)
    if not mine:
        return Answer([], 0, remark, basis)
    rows = [trend_row(route, each, slots) for each in trends.trends(slots, mine, before)]
    return Answer(rows, len(rows), remarks.whole_span(basis, whole), basis)


def errors(
    connection: Connection,
    *,
    now: dt.datetime,
    days: int,
    order: routes.ErrorOrder = "count",
    limit: int,
    offset: int = 0,
) -> Answer[ErrorRow]:
    """The routes that answered 4xx or 5xx, and what the 5xx were.

    Args:
        connection: Where the tables are; not inside a transaction.
        now: The present.
        days: How far back.
        order: By the number of server errors, or their share of requests.
        limit: Rows at most.
        offset: Rows to leave out first.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    span = _until_now(now, days)
    with rankings.reading(connection):
        totals = store.hour_totals(connection, span.since, span.until, route=None)
        found = routes.by_errors(store.routes_with_errors(connection, span.since, span.until), order)
        shown = found[offset : offset + limit]
        types = store.error_types(
            connection, span.since, span.until, shown, hours=ERROR_HOURS, sample=ERROR_SAMPLE
        )
        basis, remark = _rest(connection, span, sum(totals.values()), None)
    if not found and basis.requests:
        remark = remarks.no_errors(basis)
    return Answer([error_row(*pair) for pair in zip(shown, types, strict=True)], len(found), remark, basis)


def slow(
    connection: Connection,
    *,
    now: dt.datetime,
    days: int,
    order: routes.SlowOrder = "p95",
    limit: int,
    offset: int = 0,
    with_courses: bool = False,
) -> Answer[SlowRow]:
    """The slowest routes; arguments and errors are those of `errors`.

    Args:
        connection: Where the tables are; not inside a transaction.
        now: The present.
        days: How far back.
        order: By the p95 of all requests in the span, or the seconds spent on them.
        limit: Rows at most.
        offset: Rows to leave out first.
        with_courses: Whether to find out the mean duration of each row over time.
    """
    span = _until_now(now, days)
    with rankings.reading(connection):
        found = routes.by_duration(store.route_durations(connection, span.since, span.until), order)
        shown = found[offset : offset + limit]
        courses: Mapping[tuple[str, str], store.Course] = {}
        if with_courses:
            courses = store.route_courses(connection, span.since, span.until, slot_seconds=span.slot_seconds)
        requests = sum(each.figures.total_requests for each in found)
        basis, remark = _rest(connection, span, requests, None)
    seconds = sum(each.figures.total_seconds for each in found)
    names = [(each.figures.route, each.figures.method) for each in shown]
    return Answer(
        rows=[slow_row(each, seconds) for each in shown],
        total=len(found),
        remark=remark,
        basis=basis,
        courses=[_course(courses.get(name, {}), None) for name in names] if with_courses else (),
    )


def user_shares(
    connection: Connection, *, now: dt.datetime, days: int, route: str | None = None
) -> Answer[UserShareRow]:
    """How much of the traffic comes from how few users, by the raw requests that are still kept.

    Args:
        connection: Where the tables are; not inside a transaction.
        now: The present.
        days: How far back.
        route: The one to look at; None for all.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    with rankings.reading(connection):
        span = _raw(connection, now, days)
        shares = store.user_shares(connection, span.since, span.until, route=route, places=users.PLACES)
        basis, remark = _rest(connection, span, shares.user_requests + shares.anonymous_requests, route)
    if basis.requests:
        remark = remarks.users_line(basis, shares)
    rows = [user_share_row(share) for share in users.concentration(shares)]
    return Answer(rows, len(rows), remark, basis)


def top_users(
    connection: Connection, *, now: dt.datetime, days: int, route: str | None = None, limit: int
) -> Answer[TopUserRow]:
    """The users with most requests, by id; arguments and errors are those of `user_shares`."""
    with rankings.reading(connection):
        span = _raw(connection, now, days)
        top = store.top_users(connection, span.since, span.until, route=route, limit=limit)
        shares = store.user_shares(connection, span.since, span.until, route=route, places=[])
        basis, remark = _rest(connection, span, shares.user_requests + shares.anonymous_requests, route)
    if basis.requests:
        remark = remarks.users_line(basis, shares)
    rows = [
        TopUserRow(user, requests, round(requests / shares.user_requests, 4))
        for user, requests in top.items()
    ]
    return Answer(rows, shares.users, remark, basis)


def _until_now(now: dt.datetime, days: int) -> _Span:
    return _Span(now - dt.timedelta(days=days), now, days)


def _complete(now: dt.datetime, days: int) -> _Span:
    """Whole days up to the last hour that is over: one that is not would look quiet."""
    end = start_of_hour(now)
    return _Span(end - dt.timedelta(days=days), end - HOUR, days)


def _raw(connection: Connection, now: dt.datetime, days: int) -> _Span:
    """As far back as raw requests are kept."""
    span = _until_now(now, days)
    kept = min(partitions.existing_days(connection), default=now.date())
    return span._replace(since=max(span.since, dt.datetime.combine(kept, dt.time(), tzinfo=dt.UTC)))


def _rest(connection: Connection, span: _Span, requests: int, route: str | None) -> tuple[Basis, str]:
    """The basis of an answer about so many requests of a route, or of all, and what to say about it."""
    hours = rankings.hours(connection, span.since, span.until)
    basis = evidence.basis(connection, hours, days=span.days, requests=requests)
    if requests:
        return basis, basis_line(basis)
    if route is None or not basis.hours:
        return basis, nothing_found(basis)
    similar = routes.similar(route, store.routes(connection, span.since, span.until))
    return basis, remarks.no_requests(route, basis, similar)


def _course(slots: Mapping[int, float], missing: float | None) -> Course:
    return [slots.get(slot, missing) for slot in range(COURSE_SLOTS)]
