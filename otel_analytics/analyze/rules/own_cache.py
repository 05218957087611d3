"""Rules about a cache that the application has already."""

from collections.abc import Iterator
from typing import Final

from otel_analytics.analyze.rules.caching import has_own_cache, predicted
from otel_analytics.analyze.rules.model import Finding, Limits, Proof, RouteFacts
from otel_analytics.analyze.rules.words import ms_text, number_text, percent_text, time_text

_MILLI: Final = 1_000


def already_cached(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """A cache of the application's own answers here, and this is what comes of it.

    By the cache status that capture saw (`set_cache_status`, `Cache-Status`, `X-Cache`, ...) in the latest
    requests. It works where enough requests are hits, and a hit is quick against a miss; then the finding
    is for information. Silent where cache-regression speaks.
    """
    sample = facts.sample
    seen = sample.cache_hits + sample.cache_misses
    if seen < facts.whole.min_evidence_requests or not facts.is_safe:
        return
    ratio = sample.cache_hits / seen
    quick = (
        sample.hit_ms is None
        or sample.miss_ms is None
        or sample.hit_ms <= limits["max_hit_time"] * sample.miss_ms
    )
    works = ratio >= limits["min_hit_ratio"] and quick
    times = (
        f" A hit takes {ms_text(sample.hit_ms)}, a miss {ms_text(sample.miss_ms)} on average."
        if sample.hit_ms is not None and sample.miss_ms is not None
        else ""
    )
    if works:
        advice = "It works; nothing to do."
    elif not quick:
        advice = "A hit saves little time: look at what is done before the cache is asked."
    else:
        advice = "Few requests find their copy: look at its key and its time to live, or do without it."
    yield Finding(
        severity="info" if works else "low",
        message=f"Cached already: {percent_text(ratio)} of {seen:,} requests were hits.{times}",
        advice=advice,
        evidence={
            "hits": sample.cache_hits,
            "misses": sample.cache_misses,
            "hit_ratio": round(ratio, 4),
            "avg_hit_ms": None if sample.hit_ms is None else round(sample.hit_ms, 3),
            "avg_miss_ms": None if sample.miss_ms is None else round(sample.miss_ms, 3),
        },
        proof=Proof("sample"),
        weight=facts.totals.seconds,
    )


def cache_regression(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """The application's cache saves less than the replay says one could, with hardly a stale answer.

    The predicted hit ratio is that of a cache for all of the route, at the best time to live that
    cache-candidate would accept. Too short a time to live, a key that is too wide, too little memory or a
    cache in each process are the usual reasons. Silent where the time lost is a small share of all.
    """
    sample = facts.sample
    if not has_own_cache(facts) or not facts.has_enough or sample.hit_ms is None or sample.miss_ms is None:
        return
    could = predicted(facts)
    if could is None:
        return
    ratio = sample.cache_hits / (sample.cache_hits + sample.cache_misses)
    gap = could.hit_ratio - ratio
    lost = gap * facts.totals.requests * max(0.0, sample.miss_ms - sample.hit_ms) / _MILLI
    share = lost / facts.whole.seconds if facts.whole.seconds else 0.0
    if gap < limits["min_gap"] or share < limits["min_lost_share"]:
        return
    ttl = time_text(could.ttl_seconds)
    yield Finding(
        severity="medium",
        message=(
            f"The cache answers {percent_text(ratio)} of the requests; one that keeps answers for {ttl}"
            f" would have answered {percent_text(could.hit_ratio)}, which is {number_text(lost)} s more"
            " saved."
        ),
        advice=(
            f"Look at its time to live ({ttl} would do), its key, its memory, and whether each process has"
            " its own."
        ),
        evidence={
            "hit_ratio": round(ratio, 4),
            "predicted_hit_ratio": round(could.hit_ratio, 4),
            "predicted_ttl_seconds": could.ttl_seconds,
            "lost_seconds": round(lost, 3),
            "lost_share_of_all_seconds": round(share, 4),
        },
        proof=Proof("sample"),
        weight=lost,
    )
