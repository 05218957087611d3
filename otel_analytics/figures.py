"""What the store hands to the analysis: figures and counts, without a driver in sight."""

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
