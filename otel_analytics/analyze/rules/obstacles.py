"""Rules about what stands in the way of a cache, and the classic thresholds."""

from collections.abc import Iterator

from otel_analytics.analyze.absolute import score
from otel_analytics.analyze.candidates import is_cacheable
from otel_analytics.analyze.rules.model import Finding, Limits, Proof, RouteFacts
from otel_analytics.analyze.rules.words import ms_text, number_text, percent_text


def unsafe_method(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """Much time goes into a method whose answers no cache may keep.

    Only GET and HEAD are safe. A ranking by traffic and latency lists the others, too; this says why nothing
    comes of it.
    """
    if not facts.is_safe and facts.share_of_seconds >= limits["min_share_of_seconds"]:
        method = facts.totals.method
        yield Finding(
            severity="info",
            message=(
                f"{percent_text(facts.share_of_seconds)} of the time of all routes go into {method}, which"
                " is not safe: a cache must not answer it."
            ),
            advice="Make it quicker, or do the work later. If it only reads, offer it as GET.",
            evidence={
                "requests": facts.totals.requests,
                "seconds": round(facts.totals.seconds, 3),
                "share_of_all_seconds": round(facts.share_of_seconds, 4),
            },
            proof=Proof("totals"),
            weight=facts.totals.seconds,
        )


def streaming(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """The response begins long before it ends: a stream, whose length says nothing about its speed.

    Server-sent events, long polls and downloads in pieces. Their duration leads the rankings by latency, and
    a cache has no use for them.
    """
    sample = facts.sample
    if not facts.has_enough or sample.p50_ms is None or sample.ttfb_p50_ms is None:
        return
    if (
        sample.p50_ms >= limits["min_duration_ms"]
        and sample.ttfb_p50_ms <= limits["max_first_byte_share"] * sample.p50_ms
    ):
        yield Finding(
            severity="info",
            message=(
                f"It streams: the first byte comes after {ms_text(sample.ttfb_p50_ms)}, the last one after"
                f" {ms_text(sample.p50_ms)} (medians)."
            ),
            advice="Do not cache it, and judge its speed by the first byte.",
            evidence={
                "sampled_requests": sample.plain,
                "p50_ttfb_ms": round(sample.ttfb_p50_ms, 3),
                "p50_ms": round(sample.p50_ms, 3),
            },
            proof=Proof("sample"),
            weight=facts.totals.seconds,
        )


def error_prone(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """Too many answers are errors for a cache to be the first thing to think of.

    Errors are not kept, so each is computed again; and a cached copy hides that a route fails. Server errors
    are worse than 4xx, which may be right answers.
    """
    totals = facts.totals
    if not facts.has_enough:
        return
    server, client = totals.server_errors / totals.requests, totals.client_errors / totals.requests
    if server < limits["max_server_error_share"] and client < limits["max_client_error_share"]:
        return
    failing = server >= limits["max_server_error_share"]
    kinds = [
        f"{percent_text(share)} with {kind}" for share, kind in ((server, "5xx"), (client, "4xx")) if share
    ]
    yield Finding(
        severity="medium" if failing else "low",
        message=f"Of {totals.requests:,} requests it answered {' and '.join(kinds)}.",
        advice=(
            "Mend it before you cache it; see: otel-analytics errors."
            if failing
            else "See who asks for what is not there or not theirs. A cache keeps no errors."
        ),
        evidence={
            "requests": totals.requests,
            "client_errors": totals.client_errors,
            "server_errors": totals.server_errors,
        },
        proof=Proof("totals"),
        weight=totals.seconds,
    )


def cold_data(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """A route takes a notable share of the time, but too few requests were seen to advise on it.

    Fewer than the setting `min_evidence_requests`. The other rules are silent about it.
    """
    if not facts.has_enough and facts.share_of_seconds >= limits["min_share_of_seconds"]:
        yield Finding(
            severity="info",
            message=(
                f"{facts.totals.requests:,} requests are too few to advise on, though they took"
                f" {percent_text(facts.share_of_seconds)} of the time of all routes."
            ),
            advice="Look further back with --days, or wait.",
            evidence={
                "requests": facts.totals.requests,
                "seconds": round(facts.totals.seconds, 3),
                "share_of_all_seconds": round(facts.share_of_seconds, 4),
            },
            proof=Proof("totals"),
            weight=facts.totals.seconds,
        )


def classic_score(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """The classic score of a pattern is above its threshold: busy, slow, wanted by many.

    The formula and the thresholds of `otel-analytics rank`. It knows nothing of staleness, users or hit
    ratios, so it is off unless it is asked for.
    """
    for each in facts.figures:
        points = score(each)
        if (
            is_cacheable(each)
            and each.avg_hourly_requests >= limits["min_requests"]
            and each.avg_p95_ms >= limits["min_latency_ms"]
            and points > limits["min_score"]
        ):
            yield Finding(
                severity="info",
                message=(
                    f"Score {number_text(points)}: {number_text(each.avg_hourly_requests)} requests an hour"
                    f" at a p95 of {ms_text(each.avg_p95_ms)}, {number_text(each.avg_unique_users)} users an"
                    " hour."
                ),
                advice="Look at what the replay says before you cache it: otel-analytics simulate.",
                evidence={
                    "score": round(points, 3),
                    "avg_hourly_requests": round(each.avg_hourly_requests, 3),
                    "avg_p95_latency_ms": round(each.avg_p95_ms, 3),
                    "avg_unique_users": round(each.avg_unique_users, 3),
                },
                proof=Proof("totals"),
                pattern=each.pattern,
                weight=points,
            )
