"""The relative ranking: every pattern against all others, without thresholds."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from otel_analytics.analyze.candidates import name_order
from otel_analytics.figures import PatternFigures

LATENCY_WEIGHT: Final = 0.4
POPULARITY_WEIGHT: Final = 0.4
USERS_WEIGHT: Final = 0.2


class Placed(NamedTuple):
    """A pattern, its priority and the percentiles that make it up, each from above 0 to 100."""

    figures: PatternFigures
    priority: float
    popularity: float
    latency: float
    users: float


def percentiles(values: Sequence[float]) -> list[float]:
    """For each value, the share of all values that are not greater, in percent.

    Equal values share the highest rank; one value alone has 100.
    """
    # It takes a tenth of a second to import, and nothing else needs it.
    import numpy as np  # noqa: PLC0415

    all_values = np.asarray(values, dtype=np.float64)
    not_greater = np.searchsorted(np.sort(all_values), all_values, side="right")
    shares: list[float] = (not_greater * 100.0 / max(len(values), 1)).tolist()
    return shares


def rank(figures: Sequence[PatternFigures]) -> list[Placed]:
    """Compare all candidates with each other; highest priority first, equals by name."""
    popularity = percentiles([each.avg_hourly_requests for each in figures])
    latency = percentiles([each.avg_p95_ms for each in figures])
    users = percentiles([each.avg_unique_users for each in figures])
    # Without the rounding, equal priorities made of different percentiles would not come out equal.
    placed = [
        Placed(
            each,
            round(LATENCY_WEIGHT * slow + POPULARITY_WEIGHT * popular + USERS_WEIGHT * wanted, 9),
            popular,
            slow,
            wanted,
        )
        for each, popular, slow, wanted in zip(figures, popularity, latency, users, strict=True)
    ]
    return sorted(placed, key=lambda each: (-each.priority, name_order(each.figures)))
