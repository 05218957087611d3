"""Rules about what makes a route slow or heavy, whatever a cache would do."""

from collections.abc import Iterator
from typing import Final

from otel_analytics.analyze.rules.model import Finding, Limits, Proof, RouteFacts
from otel_analytics.analyze.rules.words import ms_text, number_text, size_text

_LEAST_OF_AVERAGE: Final = 0.5


def n_plus_one(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """A request runs a query for each thing that it lists.

    Seen where the queries of a request grow with the size of its response; or where they are many, and much
    the same each time. By the latest requests that were answered 2xx, without those a cache of the
    application's own answered.
    """
    sample = facts.sample
    average, deviation, most = sample.avg_queries, sample.deviation_queries, sample.p95_queries
    if (
        sample.counted_queries < facts.whole.min_evidence_requests
        or average is None
        or deviation is None
        or most is None
        or most < limits["min_queries"]
    ):
        return
    grows = sample.queries_by_size is not None and sample.queries_by_size >= limits["min_correlation"]
    regular = average >= limits["min_queries"] and deviation <= limits["max_deviation"] * average
    if not grows and not regular:
        return
    how = (
        f"growing with the response (correlation {sample.queries_by_size:.2f})"
        if grows
        else "much the same each time"
    )
    yield Finding(
        severity="medium",
        message=(
            f"A request runs {number_text(average)} queries on average and {number_text(most)} at the 95th"
            f" percentile, {how}."
        ),
        advice="Fetch what belongs to the list in one query: a JOIN, IN (...), SQLAlchemy's selectinload.",
        evidence={
            "sampled_requests": sample.counted_queries,
            "avg_queries": round(average, 3),
            "deviation_of_queries": round(deviation, 3),
            "p95_queries": most,
            "correlation_with_size": None
            if sample.queries_by_size is None
            else round(sample.queries_by_size, 4),
        },
        proof=Proof("sample"),
        weight=facts.totals.seconds,
    )


def slow_tail(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """One request of a hundred takes many times what half of them take.

    A lock, a cold cache, a plan that changes, one customer with much data. By the latest requests that were
    answered 2xx, without those a cache of the application's own answered, as those would make the others look
    slow.
    """
    sample = facts.sample
    if sample.plain < limits["min_requests"] or sample.p50_ms is None or sample.p99_ms is None:
        return
    if sample.p99_ms >= limits["min_p99_ms"] and sample.p99_ms >= limits["min_ratio"] * sample.p50_ms:
        ratio = sample.p99_ms / max(sample.p50_ms, 0.001)
        yield Finding(
            severity="medium",
            message=(
                f"One request of a hundred takes {ms_text(sample.p99_ms)} or more, {number_text(ratio)}"
                f" times the median of {ms_text(sample.p50_ms)}."
            ),
            advice="Look at the traces of the slowest: what do they have in common?",
            evidence={
                "sampled_requests": sample.plain,
                "p50_ms": round(sample.p50_ms, 3),
                "p99_ms": round(sample.p99_ms, 3),
                "ratio": round(ratio, 3),
            },
            proof=Proof("sample"),
            weight=facts.totals.seconds,
        )


def oversized_response(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """Responses are so large that sending them is the cost.

    Sizes are those sent, after compression, of the latest requests that were answered 2xx.
    """
    sample = facts.sample
    if sample.plain < facts.whole.min_evidence_requests or sample.avg_size is None or sample.p95_size is None:
        return
    if sample.p95_size >= limits["min_bytes"]:
        sent = sample.avg_size * facts.totals.requests
        yield Finding(
            severity="low",
            message=(
                f"Responses have {size_text(sample.avg_size)} on average, {size_text(sample.p95_size)} at"
                f" the 95th percentile: about {size_text(sent)} in all."
            ),
            advice="Send less: pages, fewer fields, compression; or let the client keep it (ETag).",
            evidence={
                "sampled_requests": sample.plain,
                "avg_bytes": round(sample.avg_size),
                "p95_bytes": round(sample.p95_size),
            },
            proof=Proof("sample"),
            weight=facts.totals.seconds,
        )


def traffic_spike(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """Certain hours of the day, again and again, bring many times the usual traffic: warm a cache before.

    Hours that are over, of safe methods; an hour of the day counts with all the days on which the route had
    requests at that hour, and needs enough of them. One busy day alone is not a habit: without its busiest
    day, the hour must still be well above the average.
    """
    if not facts.is_safe or not facts.has_enough:
        return
    # A route that is asked for in one hour of the day only has no other hour to compare with, but idle ones.
    days = max((each.days for each in facts.hours), default=0)
    if days < limits["min_days"]:
        return
    usual = sum(each.requests for each in facts.hours) / (24 * days)
    high = []
    for each in facts.hours:
        without_busiest = (each.requests - each.most_requests) / max(1, each.days - 1)
        if (
            each.days >= limits["min_days"]
            and each.requests / each.days >= limits["min_requests"]
            and each.requests / each.days >= limits["min_times"] * usual
            and without_busiest >= _LEAST_OF_AVERAGE * limits["min_times"] * usual
        ):
            high.append(each)
    if not high:
        return
    peak = max(high, key=lambda each: each.requests / each.days)
    times = peak.requests / peak.days / usual
    hours = ", ".join(f"{each.hour:02}:00" for each in high)
    yield Finding(
        severity="low",
        message=(
            f"At {hours} UTC it is asked for up to {number_text(times)} times as often as on average:"
            f" {number_text(peak.requests / peak.days)} requests at {peak.hour:02}:00, on {peak.days} days."
        ),
        advice=f"If it is cached, warm it before {high[0].hour:02}:00 UTC.",
        evidence={
            "hours_utc": [f"{each.hour:02}:00" for each in high],
            "requests_at_the_peak": round(peak.requests / peak.days, 3),
            "requests_on_average": round(usual, 3),
            "days": peak.days,
            "share_of_requests": round(sum(each.requests for each in high) / facts.totals.requests, 4),
        },
        proof=Proof("hours_of_day"),
        weight=facts.totals.seconds,
    )
