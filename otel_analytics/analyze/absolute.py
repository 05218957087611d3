"""The absolute ranking: what is slow, busy and wanted by many, measured against fixed thresholds."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from otel_analytics.analyze.candidates import name_order
from otel_analytics.figures import PatternFigures

REQUEST_POINTS: Final = 10
"""What a request an hour adds to the score."""
MS_PER_POINT: Final = 100
"""Milliseconds of p95 that add 1."""
USERS_PER_POINT: Final = 10
"""Users an hour that add 1."""
MOST_USER_POINTS: Final = 10
"""What users add at most."""


class Scored(NamedTuple):
    """A pattern, its score, and whether that is above the setting `cache_score_threshold`."""

    figures: PatternFigures
    score: float
    should_cache: bool


def score(figures: PatternFigures) -> float:
    """How much a cache would do for the pattern."""
    return (
        figures.avg_hourly_requests * REQUEST_POINTS
        + figures.avg_p95_ms / MS_PER_POINT
        + min(figures.avg_unique_users / USERS_PER_POINT, MOST_USER_POINTS)
    )


def rank(
    figures: Iterable[PatternFigures],
    *,
    min_requests: float,
    min_latency: float,
    cache_score_threshold: float,
) -> list[Scored]:
    """Score what reaches both thresholds; highest first, equals by name.

    Args:
        figures: The candidates.
        min_requests: Average requests an hour that are enough.
        min_latency: Average p95 in milliseconds that is enough.
        cache_score_threshold: Score above which a caching layer should cache.
    """
    kept = [
        (score(each), each)
        for each in figures
        if each.avg_hourly_requests >= min_requests and each.avg_p95_ms >= min_latency
    ]
    ordered = sorted(kept, key=lambda pair: (-pair[0], name_order(pair[1])))
    return [Scored(each, points, points > cache_score_threshold) for points, each in ordered]
