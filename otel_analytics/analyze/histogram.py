"""Percentiles of a histogram that was merged over hours."""

from bisect import bisect_right
from itertools import accumulate
from typing import Final

from otel_analytics.figures import Histogram

GROWTH: Final = 51 / 49
"""Bucket i holds the durations in (GROWTH^(i-1), GROWTH^i] ms; the schema says the same."""


def percentile_ms(histogram: Histogram, share: float) -> float | None:
    """What PostgreSQL's `percentile_cont` would say of the durations, within 2 %; 0 counts as 1 us.

    Args:
        histogram: Requests by bucket.
        share: From 0 to 1.

    Returns:
        Milliseconds; None where the histogram is empty.
    """
    buckets = sorted(histogram)
    up_to = list(accumulate(histogram[bucket] for bucket in buckets))
    if not up_to or not up_to[-1]:
        return None
    place = share * (up_to[-1] - 1)
    below = int(place)
    lower = _middle_ms(buckets[bisect_right(up_to, below)])
    upper = _middle_ms(buckets[bisect_right(up_to, min(below + 1, up_to[-1] - 1))])
    return lower + (place - below) * (upper - lower)


def _middle_ms(bucket: int) -> float:
    """The value that is within 2 % of every duration in the bucket."""
    return 2 * GROWTH**bucket / (GROWTH + 1)
