"""The rows of the rankings as others read them: names, order and precision of the fields are a promise.

Figures are rounded to three decimals, shares of 1 to four.
"""

import json
from typing import Any, Literal, NamedTuple

from otel_analytics.analyze.absolute import Scored
from otel_analytics.analyze.candidates import is_cacheable
from otel_analytics.analyze.histogram import percentile_ms
from otel_analytics.analyze.pages import Page
from otel_analytics.analyze.relative import Placed
from otel_analytics.figures import Histogram, PatternFigures

CacheKey = Literal["shared", "per user"]


class AbsoluteRow(NamedTuple):
    """A row of the absolute ranking.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        query_params_normalized: The parameter pattern, keys sorted.
        avg_hourly_requests: Requests in an hour, averaged over the hours with traffic.
        avg_p95_latency_ms: The p95 of an hour, averaged likewise. Score and threshold use it.
        avg_unique_users: Different users in an hour, averaged over the hours with traffic.
        cache_priority_score: What the ranking is sorted by.
        success_rate: Requests answered 2xx of all requests, from 0 to 1.
        total_requests: In the whole span.
        avg_p99_latency_ms: The p99 of an hour, averaged over the hours with traffic.
        p95_latency_ms: The p95 of all requests in the span, within 2 %; null where only averages are there.
        active_hours: Hours with traffic.
        cacheable: Whether the method is safe: GET or HEAD.
        should_cache: Whether the score is above `cache_score_threshold`.
    """

    route: str
    method: str
    query_params_normalized: dict[str, Any]
    avg_hourly_requests: float
    avg_p95_latency_ms: float
    avg_unique_users: float
    cache_priority_score: float
    success_rate: float
    total_requests: int
    avg_p99_latency_ms: float
    p95_latency_ms: float | None
    active_hours: int
    cacheable: bool
    should_cache: bool


class RelativeRow(NamedTuple):
    """A row of the relative ranking; what is not explained here is as in `AbsoluteRow`.

    Attributes:
        route: See `AbsoluteRow`.
        method: See `AbsoluteRow`.
        query_params_normalized: See `AbsoluteRow`.
        avg_hourly_requests: See `AbsoluteRow`.
        avg_p95_latency_ms: See `AbsoluteRow`.
        priority_score: What the ranking is sorted by: 40 % latency, 40 % popularity, 20 % users.
        popularity_percentile: Share of all patterns with no more requests an hour, above 0 to 100.
        latency_percentile: The same of `avg_p95_latency_ms`.
        user_percentile: The same of `avg_unique_users`.
        success_rate: See `AbsoluteRow`.
        total_requests: See `AbsoluteRow`.
        avg_unique_users: See `AbsoluteRow`.
        avg_p99_latency_ms: See `AbsoluteRow`.
        p95_latency_ms: See `AbsoluteRow`.
        active_hours: See `AbsoluteRow`.
        cacheable: See `AbsoluteRow`.
    """

    route: str
    method: str
    query_params_normalized: dict[str, Any]
    avg_hourly_requests: float
    avg_p95_latency_ms: float
    priority_score: float
    popularity_percentile: float
    latency_percentile: float
    user_percentile: float
    success_rate: float
    total_requests: int
    avg_unique_users: float
    avg_p99_latency_ms: float
    p95_latency_ms: float | None
    active_hours: int
    cacheable: bool


class SavingsRow(NamedTuple):
    """A row of the ranking by savings; what is not explained here is as in `AbsoluteRow`.

    The figures are those of a replay of the raw requests (docs/replay.md). An hour is one of the history
    replayed, with traffic or without; a history shorter than an hour counts as one.

    Attributes:
        route: See `AbsoluteRow`.
        method: GET or HEAD.
        query_params_normalized: See `AbsoluteRow`.
        saved_seconds_per_hour: Time of the application's that hits save in an hour. What the ranking is
            sorted by.
        ttl_seconds: The time to live proposed: of the admissible ones that which saves most; with a budget
            the one in the best set.
        cache_key: `shared`: method, path and all parameters, the same copy for everybody. `per user`: with
            the user, a copy for each.
        hit_ratio: Hits of all requests of the pattern, from 0 to 1.
        saved_queries_per_hour: Database queries that the hits do not run, as far as they were counted.
        peak_memory_bytes: Most memory that live entries took together.
        staleness: Share of the compared hits whose real body differed from the copy.
        total_requests: Of the pattern, replayed.
        hits: Answered by the cache.
        saved_seconds: In the whole history.
        saved_share_of_seconds: Of the time that all requests of the pattern took.
        compared_hits: Hits whose body and that of the copy are both known.
        stale_hits: Of these, those that differ.
        other_user_hits: Compared hits of a known user who got the copy of another known user.
        other_user_stale_hits: Of these, those that differ.
        peak_relief: Share of the requests of the pattern's busiest hour that the cache takes off.
        caveats: What to bear in mind, from: `short history`, `long ttl`, `coverage`.
    """

    route: str
    method: str
    query_params_normalized: dict[str, Any]
    saved_seconds_per_hour: float
    ttl_seconds: float
    cache_key: CacheKey
    hit_ratio: float
    saved_queries_per_hour: float
    peak_memory_bytes: int
    staleness: float
    total_requests: int
    hits: int
    saved_seconds: float
    saved_share_of_seconds: float
    compared_hits: int
    stale_hits: int
    other_user_hits: int
    other_user_stale_hits: int
    peak_relief: float
    caveats: list[str]


class PlanRow(NamedTuple):
    """A route to cache, as a caching layer reads it; what is not explained here is as in `AbsoluteRow`.

    Attributes:
        route: See `AbsoluteRow`.
        method: GET or HEAD.
        query_params_normalized: The parameters that every request to cache has.
        cache_priority_score: Highest first.
        avg_hourly_requests: See `AbsoluteRow`.
        avg_p95_latency_ms: See `AbsoluteRow`.
        pages_to_cache: The requests that ask for the first `pages_to_cache_per_route` pages: for each the
            parameters to add to the pattern (`params`, none for `{}`) and its share of the pattern's requests
            (`share`, from 0 to 1). Null where no raw request of the pattern was sampled, so nothing is known.
        sampled_requests: Raw requests of the pattern that `pages_to_cache` rests on.
        cache_key: `shared`: enough users got the same bodies, so one copy may be for everybody. `per user`:
            some got others, so a copy may be for one user only. Null where that is not known.
    """

    route: str
    method: str
    query_params_normalized: dict[str, Any]
    cache_priority_score: float
    avg_hourly_requests: float
    avg_p95_latency_ms: float
    pages_to_cache: list[dict[str, Any]] | None
    sampled_requests: int
    cache_key: CacheKey | None


def absolute_row(scored: Scored, histogram: Histogram) -> AbsoluteRow:
    """A scored pattern as it is shown; `histogram` holds its durations over the whole span."""
    figures = scored.figures
    return AbsoluteRow(
        route=figures.route,
        method=figures.method,
        query_params_normalized=params_of(figures.pattern),
        avg_hourly_requests=round(figures.avg_hourly_requests, 3),
        avg_p95_latency_ms=round(figures.avg_p95_ms, 3),
        avg_unique_users=round(figures.avg_unique_users, 3),
        cache_priority_score=round(scored.score, 3),
        success_rate=_success_rate(figures),
        total_requests=figures.total_requests,
        avg_p99_latency_ms=round(figures.avg_p99_ms, 3),
        p95_latency_ms=_p95(histogram),
        active_hours=figures.active_hours,
        cacheable=is_cacheable(figures),
        should_cache=scored.should_cache,
    )


def relative_row(placed: Placed, histogram: Histogram) -> RelativeRow:
    """A placed pattern as it is shown; `histogram` holds its durations over the whole span."""
    figures = placed.figures
    return RelativeRow(
        route=figures.route,
        method=figures.method,
        query_params_normalized=params_of(figures.pattern),
        avg_hourly_requests=round(figures.avg_hourly_requests, 3),
        avg_p95_latency_ms=round(figures.avg_p95_ms, 3),
        priority_score=round(placed.priority, 3),
        popularity_percentile=round(placed.popularity, 3),
        latency_percentile=round(placed.latency, 3),
        user_percentile=round(placed.users, 3),
        success_rate=_success_rate(figures),
        total_requests=figures.total_requests,
        avg_unique_users=round(figures.avg_unique_users, 3),
        avg_p99_latency_ms=round(figures.avg_p99_ms, 3),
        p95_latency_ms=_p95(histogram),
        active_hours=figures.active_hours,
        cacheable=is_cacheable(figures),
    )


def plan_row(
    scored: Scored, pages: list[Page] | None, sampled_requests: int, cache_key: CacheKey | None
) -> PlanRow:
    """A recommended pattern as it is shown, with the pages to cache and for whom a copy may be."""
    figures = scored.figures
    return PlanRow(
        route=figures.route,
        method=figures.method,
        query_params_normalized=params_of(figures.pattern),
        cache_priority_score=round(scored.score, 3),
        avg_hourly_requests=round(figures.avg_hourly_requests, 3),
        avg_p95_latency_ms=round(figures.avg_p95_ms, 3),
        pages_to_cache=None
        if pages is None
        else [{"params": dict(page.varying), "share": round(page.share, 4)} for page in pages],
        sampled_requests=sampled_requests,
        cache_key=cache_key,
    )


def params_of(pattern: str) -> dict[str, Any]:
    """The parameters of a pattern, by name."""
    return dict(sorted(json.loads(pattern).items()))


def _success_rate(figures: PatternFigures) -> float:
    return round(figures.successful_requests / figures.total_requests, 4)


def _p95(histogram: Histogram) -> float | None:
    value = percentile_ms(histogram, 0.95)
    return None if value is None else round(value, 3)
