"""The rows of the questions as others read them: names, order and precision of the fields are a promise.

Figures are rounded to three decimals, shares of 1 to four. A time is ISO 8601 in UTC. What is not explained
in a row is as in `AbsoluteRow`.
"""

import datetime as dt
from typing import Any, NamedTuple

from otel_analytics.analyze.histogram import percentile_ms
from otel_analytics.analyze.peaks import Peak, WeekHour
from otel_analytics.analyze.recent import RecentFigures
from otel_analytics.analyze.routes import Durations
from otel_analytics.analyze.trends import Slots, Trend
from otel_analytics.analyze.users import TopShare
from otel_analytics.figures import Histogram, PatternUse, RouteErrors
from otel_analytics.present.rows import params_of


class PeakRow(NamedTuple):
    """A route at an hour of the day.

    Attributes:
        route: The template.
        hour_of_day: From 0 to 23, UTC.
        avg_hourly_requests: Requests in the hour, averaged over the days on which it had traffic.
        max_hourly_requests: On the busiest of these days.
        times_route_average: The average, divided by that of all hours in which the route has traffic.
        p95_latency_ms: The p95 of all requests of the route at this hour of the day, within 2 %.
        active_days: Days on which the hour had traffic.
        total_requests: On all of them.
    """

    route: str
    hour_of_day: int
    avg_hourly_requests: float
    max_hourly_requests: int
    times_route_average: float
    p95_latency_ms: float | None
    active_days: int
    total_requests: int


class WeekRow(NamedTuple):
    """One of the 168 hours of a week.

    Attributes:
        weekday: From 1, Monday, to 7, Sunday.
        hour_of_day: From 0 to 23, UTC.
        avg_hourly_requests: Requests in the hour, averaged over the times it came by.
        total_requests: In all of them.
        hours: How often it came by since figures are kept.
    """

    weekday: int
    hour_of_day: int
    avg_hourly_requests: float
    total_requests: int
    hours: int


class PatternRow(NamedTuple):
    """A parameter pattern of a route.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        query_params_normalized: The parameter pattern, keys sorted; `{"otel_analytics.overflow": true}` for
            those that were too many in an hour to be kept apart.
        total_requests: In the whole span.
        share_of_requests: Of the route's requests, from 0 to 1.
        avg_hourly_requests: Requests in an hour, averaged over the hours with traffic.
        avg_unique_users: Different users in an hour, averaged over the hours with traffic.
        p50_latency_ms: The median of all requests in the span, within 2 %.
        p95_latency_ms: The p95 of all requests in the span, within 2 %.
        avg_p95_latency_ms: The p95 of an hour, averaged over the hours with traffic.
        total_seconds: Spent on all requests.
        server_error_rate: Requests answered 5xx of all requests, from 0 to 1.
        active_hours: Hours with traffic.
    """

    route: str
    method: str
    query_params_normalized: dict[str, Any]
    total_requests: int
    share_of_requests: float
    avg_hourly_requests: float
    avg_unique_users: float
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    avg_p95_latency_ms: float
    total_seconds: float
    server_error_rate: float
    active_hours: int


class TrendRow(NamedTuple):
    """A route, all methods and patterns together, on one day or in one hour.

    Attributes:
        route: The template.
        start: Beginning of the day or hour.
        hours: Hours of it that are over; fewer than 24 for the day of today.
        total_requests: In these hours.
        requests_change: Against the same hours of the span before, as a share: 0.1 is a tenth more. Null
            where there were no requests then.
        p50_latency_ms: The median of all requests in these hours, within 2 %; null where there are none.
        p95_latency_ms: The p95 of all requests in these hours, within 2 %; null where there are none.
        p95_change: Like `requests_change`.
        server_error_rate: Requests answered 5xx of all requests, from 0 to 1; null where there are none.
        total_seconds: Spent on all requests.
    """

    route: str
    start: str
    hours: int
    total_requests: int
    requests_change: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p95_change: float | None
    server_error_rate: float | None
    total_seconds: float


class ErrorRow(NamedTuple):
    """A route that answered with errors.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        total_requests: Errors and others.
        server_errors: Answered 5xx.
        server_error_rate: Of all requests, from 0 to 1.
        client_errors: Answered 4xx, those that the client left (499) included.
        client_error_rate: Of all requests, from 0 to 1.
        last_failing_hour: Beginning of the last hour with a 5xx; null where there was none.
        error_types: What the 5xx were, most frequent first: `error_type`, the exception's name or the status,
            and `requests`. Seen in the last 12 hours with a 5xx, among the last 5,000 raw requests of each;
            empty where these are no longer kept.
    """

    route: str
    method: str
    total_requests: int
    server_errors: int
    server_error_rate: float
    client_errors: int
    client_error_rate: float
    last_failing_hour: str | None
    error_types: list[dict[str, Any]]


class SlowRow(NamedTuple):
    """How long a route takes.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        total_requests: In the whole span.
        p50_latency_ms: The median of all requests in the span, within 2 %.
        p95_latency_ms: The p95 of all requests in the span, within 2 %.
        p99_latency_ms: The p99 of all requests in the span, within 2 %.
        total_seconds: Spent on all requests.
        share_of_seconds: Of the seconds spent on all routes, from 0 to 1.
    """

    route: str
    method: str
    total_requests: int
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    total_seconds: float
    share_of_seconds: float


class UserShareRow(NamedTuple):
    """What the users with most requests sent together.

    Attributes:
        top_users: How many users.
        share_of_users: Of all users, from 0 to 1.
        requests: That they sent.
        share_of_requests: Of all requests with a user, from 0 to 1.
    """

    top_users: int
    share_of_users: float
    requests: int
    share_of_requests: float


class TopUserRow(NamedTuple):
    """A user with many requests.

    Attributes:
        user_id: As it is stored.
        requests: That the user sent.
        share_of_requests: Of all requests with a user, from 0 to 1.
    """

    user_id: str
    requests: int
    share_of_requests: float


class LiveRow(NamedTuple):
    """A route in the last minutes.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        requests: In the window.
        requests_per_second: The same by the length of the window.
        server_error_rate: Requests answered 5xx of all requests, from 0 to 1.
        p50_latency_ms: The median of the window, within 2 %.
        p95_latency_ms: The p95 of the window, within 2 %.
        total_seconds: Spent on all requests.
    """

    route: str
    method: str
    requests: int
    requests_per_second: float
    server_error_rate: float
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    total_seconds: float


def peak_row(peak: Peak, histogram: Histogram) -> PeakRow:
    """A peak as it is shown; `histogram` holds its durations over the whole span."""
    figures = peak.figures
    return PeakRow(
        route=figures.route,
        hour_of_day=figures.hour_of_day,
        avg_hourly_requests=round(figures.avg_hourly_requests, 3),
        max_hourly_requests=figures.max_hourly_requests,
        times_route_average=round(peak.times_average, 3),
        p95_latency_ms=_rounded(percentile_ms(histogram, 0.95)),
        active_days=figures.active_days,
        total_requests=figures.total_requests,
    )


def week_row(hour: WeekHour) -> WeekRow:
    """An hour of the week as it is shown."""
    return WeekRow(
        hour.weekday, hour.hour_of_day, round(hour.avg_requests, 3), hour.total_requests, hour.hours
    )


def pattern_row(use: PatternUse, histogram: Histogram, route_requests: int) -> PatternRow:
    """A pattern as it is shown; `histogram` holds its durations over the whole span."""
    figures = use.figures
    return PatternRow(
        route=figures.route,
        method=figures.method,
        query_params_normalized=params_of(figures.pattern),
        total_requests=figures.total_requests,
        share_of_requests=round(figures.total_requests / route_requests, 4),
        avg_hourly_requests=round(figures.avg_hourly_requests, 3),
        avg_unique_users=round(figures.avg_unique_users, 3),
        p50_latency_ms=_rounded(percentile_ms(histogram, 0.5)),
        p95_latency_ms=_rounded(percentile_ms(histogram, 0.95)),
        avg_p95_latency_ms=round(figures.avg_p95_ms, 3),
        total_seconds=round(use.total_seconds, 3),
        server_error_rate=round(use.server_errors / figures.total_requests, 4),
        active_hours=figures.active_hours,
    )


def trend_row(route: str, trend: Trend, slots: Slots) -> TrendRow:
    """A slot of time as it is shown."""
    figures = trend.figures
    return TrendRow(
        route=route,
        start=_moment(slots.start(trend.slot)),
        hours=slots.hours(trend.slot),
        total_requests=figures.total_requests,
        requests_change=_rounded(trend.requests_change, 4),
        p50_latency_ms=_rounded(percentile_ms(figures.histogram, 0.5)),
        p95_latency_ms=_rounded(trend.p95_ms),
        p95_change=_rounded(trend.p95_change, 4),
        server_error_rate=round(figures.server_errors / figures.total_requests, 4)
        if figures.total_requests
        else None,
        total_seconds=round(figures.total_seconds, 3),
    )


def error_row(figures: RouteErrors, types: dict[str, int]) -> ErrorRow:
    """A failing route as it is shown, with the kinds of its errors."""
    return ErrorRow(
        route=figures.route,
        method=figures.method,
        total_requests=figures.total_requests,
        server_errors=figures.server_errors,
        server_error_rate=round(figures.server_errors / figures.total_requests, 4),
        client_errors=figures.client_errors,
        client_error_rate=round(figures.client_errors / figures.total_requests, 4),
        last_failing_hour=None if figures.last_failing_hour is None else _moment(figures.last_failing_hour),
        error_types=[
            {"error_type": name, "requests": requests}
            for name, requests in sorted(types.items(), key=lambda item: (-item[1], item[0]))
        ],
    )


def slow_row(durations: Durations, all_seconds: float) -> SlowRow:
    """A route's durations as they are shown, beside the seconds spent on all routes."""
    figures = durations.figures
    return SlowRow(
        route=figures.route,
        method=figures.method,
        total_requests=figures.total_requests,
        p50_latency_ms=_rounded(durations.p50_ms),
        p95_latency_ms=_rounded(durations.p95_ms),
        p99_latency_ms=_rounded(durations.p99_ms),
        total_seconds=round(figures.total_seconds, 3),
        share_of_seconds=round(figures.total_seconds / all_seconds, 4) if all_seconds else 0.0,
    )


def user_share_row(share: TopShare) -> UserShareRow:
    """The share of some users as it is shown."""
    return UserShareRow(
        share.users, round(share.share_of_users, 4), share.requests, round(share.share_of_requests, 4)
    )


def live_row(route: str, method: str, figures: RecentFigures, seconds: float) -> LiveRow:
    """A route in a window of so many seconds as it is shown."""
    return LiveRow(
        route=route,
        method=method,
        requests=figures.requests,
        requests_per_second=round(figures.requests / seconds, 3),
        server_error_rate=round(figures.server_errors / figures.requests, 4),
        p50_latency_ms=_rounded(figures.p50_ms),
        p95_latency_ms=_rounded(figures.p95_ms),
        total_seconds=round(figures.total_seconds, 3),
    )


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _moment(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
