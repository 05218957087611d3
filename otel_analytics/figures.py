"""What the store hands to the analysis: figures and counts, without a driver in sight."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

Histogram = Mapping[int, int]
"""Requests in each logarithmic bucket of durations; see `analyze.histogram`."""


class PatternFigures(NamedTuple):
    """The hourly figures of one route, method and parameter pattern, taken together over a span.

    The averages give every hour with traffic the same weight.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        pattern: The normalised parameters, as the JSON text that PostgreSQL makes of them.
        active_hours: Hours with traffic; 1 or more.
        total_requests: In all those hours.
        successful_requests: Answered 2xx.
        failed_requests: Answered 4xx or 5xx.
        avg_hourly_requests: Requests in an hour.
        avg_unique_users: Different users in an hour.
        avg_p95_ms: The 95th percentile of an hour.
        avg_p99_ms: The 99th percentile of an hour.
    """

    route: str
    method: str
    pattern: str
    active_hours: int
    total_requests: int
    successful_requests: int
    failed_requests: int
    avg_hourly_requests: float
    avg_unique_users: float
    avg_p95_ms: float
    avg_p99_ms: float


class RequestForm(NamedTuple):
    """One way in which a pattern was requested, counted in a sample of raw requests.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        pattern: The normalised parameters, as the JSON text that PostgreSQL makes of them.
        varying: The parameters that are no part of the pattern, such as `page`, to what was sent.
        requests: In the sample.
    """

    route: str
    method: str
    pattern: str
    varying: Mapping[str, Any]
    requests: int


class HourOfDayFigures(NamedTuple):
    """One route at one hour of the day (UTC), over all days of a span.

    Attributes:
        route: The template.
        hour_of_day: From 0 to 23.
        active_days: Days on which the hour had traffic; 1 or more.
        total_requests: On all those days.
        max_hourly_requests: On the busiest of them.
        avg_hourly_requests: On the average of them.
    """

    route: str
    hour_of_day: int
    active_days: int
    total_requests: int
    max_hourly_requests: int
    avg_hourly_requests: float


class PatternUse(NamedTuple):
    """What is known of a pattern beyond what a ranking needs.

    Attributes:
        figures: Of the pattern.
        server_errors: Answered 5xx.
        total_seconds: Spent on all its requests.
    """

    figures: PatternFigures
    server_errors: int
    total_seconds: float


class SlotFigures(NamedTuple):
    """A route in one slot of time, such as a day.

    Attributes:
        total_requests: All of them.
        server_errors: Answered 5xx.
        total_seconds: Spent on all of them.
        histogram: Their durations.
    """

    total_requests: int
    server_errors: int
    total_seconds: float
    histogram: Histogram


class RouteErrors(NamedTuple):
    """A route and method that answered with errors.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        total_requests: Errors and others.
        client_errors: Answered 4xx.
        server_errors: Answered 5xx.
        last_failing_hour: The last hour with a 5xx; None where there was none.
    """

    route: str
    method: str
    total_requests: int
    client_errors: int
    server_errors: int
    last_failing_hour: dt.datetime | None


class RouteDurations(NamedTuple):
    """How long a route and method took.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        total_requests: In the span.
        total_seconds: Spent on all of them.
        histogram: Their durations.
    """

    route: str
    method: str
    total_requests: int
    total_seconds: float
    histogram: Histogram


class UserShares(NamedTuple):
    """How requests are spread over users.

    Attributes:
        users: Different users.
        user_requests: Requests with a user.
        anonymous_requests: Requests without.
        up_to: So many of the users with most requests to the requests that they sent together, fewest first.
    """

    users: int
    user_requests: int
    anonymous_requests: int
    up_to: Mapping[int, int]
