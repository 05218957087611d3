"""The absolute ranking: what is slow, busy and wanted by many, measured against fixed thresholds."""

from collections.abc import Iterable
from typing import NamedTuple

from otel_analytics.analyze.candidates import name_order
from otel_analytics.figures import PatternFigures


class Scored(NamedTuple):
    """A pattern, its score, and whether that is above the setting `cache_score_threshold`."""

    figures: PatternFigures
    score: float
    should_cache: bool


def score(figures: PatternFigures) -> float:
    """How much a cache would do for the pattern. Users add 10 at most, from 100 users an hour on."""
    return (
        figures.avg_hourly_requests * 10 + figures.avg_p95_ms / 100 + min(figures.avg_unique_users / 10, 10.0)
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
