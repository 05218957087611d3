"""The orders in which routes are shown: by errors and by duration; equals by name."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from otel_analytics.analyze.histogram import percentile_ms
from otel_analytics.figures import PatternUse, RouteDurations, RouteErrors

ErrorOrder = Literal["count", "share"]
SlowOrder = Literal["p95", "seconds"]


class Durations(NamedTuple):
    """A route and method with the percentiles of its durations in the span, in milliseconds."""

    figures: RouteDurations
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


def by_errors(figures: Iterable[RouteErrors], order: ErrorOrder) -> list[RouteErrors]:
    """Most server errors first, by their number or their share of requests; then client errors likewise."""

    def key(each: RouteErrors) -> tuple[float, float, str, str]:
        of = each.total_requests if order == "share" else 1
        return -each.server_errors / of, -each.client_errors / of, each.route, each.method

    return sorted(figures, key=key)


def by_duration(figures: Iterable[RouteDurations], order: SlowOrder) -> list[Durations]:
    """Slowest first, by the p95 of all requests in the span or by the seconds spent on them."""
    found = [
        Durations(each, *(percentile_ms(each.histogram, share) for share in (0.5, 0.95, 0.99)))
        for each in figures
    ]

    def key(each: Durations) -> tuple[float, str, str]:
        # A route without a histogram cannot be said to be slow.
        figure = each.figures.total_seconds if order == "seconds" else (each.p95_ms or 0.0)
        return -figure, each.figures.route, each.figures.method

    return sorted(found, key=key)


def by_traffic(patterns: Iterable[PatternUse]) -> list[PatternUse]:
    """Most requests first."""
    return sorted(
        patterns, key=lambda each: (-each.figures.total_requests, each.figures.method, each.figures.pattern)
    )


def similar(route: str, routes: Sequence[str]) -> str | None:
    """The route that was probably meant."""
    close = difflib.get_close_matches(route, routes, n=1)
    return close[0] if close else None
