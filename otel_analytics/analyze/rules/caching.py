"""Rules about what to cache and how, and what never to share."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from otel_analytics.analyze.absolute import score
from otel_analytics.analyze.candidates import is_cacheable
from otel_analytics.analyze.replay import Outcome, best
from otel_analytics.analyze.rules.model import (
    Finding,
    Limits,
    ParameterFacts,
    PatternReplay,
    Proof,
    RouteFacts,
    Severity,
    Whole,
    together,
)
from otel_analytics.analyze.rules.words import ms_text, number_text, percent_text, size_text, time_text
from otel_analytics.params import IGNORED_IN_PATTERN
from otel_analytics.route_figures import Dependence

DEFAULT_TTL: Final = 60.0
"""Where the replay has no time to live to propose."""
_NEARLY_ALL: Final = 0.95
"""Of the best saving: the shortest time to live that keeps so much is proposed, as it is the least stale."""
_ONE_FOR_ALL: Final = 0.8
"""Of what the patterns would save each at its own time to live; one for all must save so much."""
_MOST_OF_HISTORY: Final = 0.1
_COMPARED: Final = 0.9
_HIGH_SHARE: Final = 0.1
_MEDIUM_SHARE: Final = 0.03
_MEDIUM_GAIN: Final = 0.1
_MOSTLY: Final = 0.5
_FULL: Final = 1.0


class _Choice(NamedTuple):
    """What to cache: some patterns, at one time to live."""

    patterns: tuple[PatternReplay, ...]
    outcome: Outcome


def cache_candidate(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """A cache would have saved much, with hardly a stale answer.

    By the replay of the recorded requests, for safe methods only. The time to live is the shortest that keeps
    95 % of the best saving, among those whose staleness is within the setting `staleness_limit` and known for
    nine hits of ten, and which are no more than a tenth of the history. One is proposed for the whole route
    where that keeps 80 % of what its patterns would save each at its own; else each pattern is a finding.

    The key holds the user, unless never-share has found that the answers are the same for all users. Where no
    user was ever named, the key is shared, and the finding says that nothing proves it right. The memory is
    that of all patterns at their peaks. Silent where a cache of the application's own is seen (see
    already-cached), and where streaming or error-prone speaks.
    """
    if not facts.is_safe or facts.users is None or has_own_cache(facts):
        return
    for choice in _choices(facts):
        outcome = choice.outcome
        share = outcome.saved_seconds / facts.whole.seconds if facts.whole.seconds else 0.0
        if (
            share >= limits["min_saved_share"]
            and outcome.hit_ratio >= limits["min_hit_ratio"]
            and outcome.requests >= facts.whole.min_evidence_requests
        ):
            yield _candidate(facts, choice, facts.users, share)


def _candidate(facts: RouteFacts, choice: _Choice, users: Dependence, share: float) -> Finding:
    outcome = choice.outcome
    ttl = time_text(outcome.ttl_seconds)
    whole_route = len(choice.patterns) == len(facts.patterns)
    key = {"same": "shared", "no users": "shared, unproven"}.get(facts.sharing, "per user")
    whose = {
        "shared": f"one copy for all users: {users.equal_senders:,} of them got the same answers",
        "shared, unproven": "one copy for all, if the answer is the same for everybody: no user was named, so"
        " nothing proves it",
        "per user": "a copy for each user",
    }[key]
    pages = _pages(facts) if whole_route else []
    staleness = outcome.staleness or 0.0
    stale = "none of the hits" if not outcome.stale else f"{percent_text(staleness)} of the hits"
    return Finding(
        severity=_severity(share),
        message=(
            f"Kept for {ttl}, it would have answered {percent_text(outcome.hit_ratio)} of"
            f" {outcome.requests:,} requests and saved {number_text(outcome.saved_seconds)} s,"
            f" {percent_text(share)} of the time of all routes; {stale} would have been stale."
        ),
        advice=(
            f"Cache it for {ttl} by path and parameters, {whose}. It takes {size_text(outcome.peak_bytes)}"
            " at most." + (f" Most ask for {pages[0]}: begin with that." if pages else "")
        ),
        evidence={
            "ttl_seconds": outcome.ttl_seconds,
            "key": key,
            "requests": outcome.requests,
            "hits": outcome.hits,
            "hit_ratio": round(outcome.hit_ratio, 4),
            "saved_seconds": round(outcome.saved_seconds, 3),
            "saved_share_of_all_seconds": round(share, 4),
            "saved_queries": outcome.saved_queries,
            "staleness": round(staleness, 4),
            "compared_hits": outcome.compared,
            "memory_bytes": outcome.peak_bytes,
            "peak_relief": round(outcome.peak_relief, 4),
            "users_with_the_same_answer": users.equal_senders,
            "first_pages": pages,
        },
        proof=Proof("dependence"),
        pattern=None if whole_route else choice.patterns[0].pattern,
        weight=outcome.saved_seconds,
    )


def _severity(share: float) -> Severity:
    if share >= _HIGH_SHARE:
        return "high"
    return "medium" if share >= _MEDIUM_SHARE else "low"


def _pages(facts: RouteFacts) -> list[str]:
    """The page that most ask for, by the pattern with most requests; none where that has one page only."""
    largest = max(facts.patterns, key=lambda each: each.evidence.requests)
    pages = facts.pages.get(largest.pattern, [])
    return [
        _pairs(page.varying) if page.varying else "the first page"
        for page in pages
        if _MOSTLY <= page.share < _FULL
    ]


def _pairs(varying: Mapping[str, object]) -> str:
    return "&".join(f"{name}={value}" for name, value in varying.items())


def _choices(facts: RouteFacts) -> list[_Choice]:
    """What to cache of a route: all of it at one time to live, or its patterns each at its own."""
    if not facts.patterns:
        return []
    shared = facts.sharing in ("same", "no users")
    found = [(each, each.shared if shared else each.per_user) for each in facts.patterns]
    own = [_Choice((each,), chosen) for each, outcomes in found if (chosen := _chosen(outcomes, facts.whole))]
    whole = _chosen(together([outcomes for _, outcomes in found]), facts.whole)
    if whole is not None and whole.saved_seconds >= _ONE_FOR_ALL * sum(
        each.outcome.saved_seconds for each in own
    ):
        at_that = [_at(outcomes, whole.ttl_seconds) for _, outcomes in found]
        if not any(_is_too_stale(each, facts.whole) for each in at_that):
            return [_Choice(facts.patterns, whole)]
    return own


def proposed_ttl(facts: RouteFacts) -> float:
    """The time to live at which to look at a route as a whole."""
    choices = _choices(facts)
    if not choices:
        return DEFAULT_TTL
    return max(choices, key=lambda each: each.outcome.saved_seconds).outcome.ttl_seconds


def predicted(facts: RouteFacts) -> Outcome | None:
    """What a cache for the whole route would have done at the best time to live, if one is admissible."""
    shared = facts.sharing in ("same", "no users")
    return _chosen(
        together([each.shared if shared else each.per_user for each in facts.patterns]), facts.whole
    )


def _chosen(outcomes: Sequence[Outcome], whole: Whole) -> Outcome | None:
    admissible = tuple(
        each
        for each in outcomes
        if each.ttl_seconds <= _MOST_OF_HISTORY * whole.history.seconds
        and each.hits
        and each.compared >= _COMPARED * each.hits
    )
    most = best(admissible, staleness_limit=whole.staleness_limit)
    if most is None:
        return None
    enough = (each for each in admissible if each.saved_seconds >= _NEARLY_ALL * most.saved_seconds)
    # A longer one may be less stale by chance, never a shorter one more than it may.
    return next(
        each for each in enough if each.staleness is not None and each.staleness <= whole.staleness_limit
    )


def _is_too_stale(outcome: Outcome, whole: Whole) -> bool:
    """Whether there are more stale hits than chance explains at the staleness that is allowed."""
    expected = whole.staleness_limit * outcome.compared
    return outcome.stale > expected + 3 * math.sqrt(expected) + 1


def _at(outcomes: Sequence[Outcome], ttl_seconds: float) -> Outcome:
    return next(each for each in outcomes if each.ttl_seconds == ttl_seconds)


def has_own_cache(facts: RouteFacts) -> bool:
    """Whether most requests went past a cache of the application's own that works."""
    sample = facts.sample
    seen = sample.cache_hits + sample.cache_misses
    return sample.cache_hits > 0 and seen >= _MOSTLY * sample.requests


def never_share(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """Users get different answers to the same request: a shared copy would show one user's to another.

    Found where a user was given the same body before and after somebody else was given another one, for the
    same path and parameters. Content that merely changes with time does not look like that, and neither do
    answers that come and go for each single user. Where the answers are the same for enough users, and no
    body was ever given back after another one, a copy is safe to share; that is a finding of severity info,
    with the number of users it rests on. One user alone proves nothing, and then there is no finding.
    """
    users = facts.users
    if users is None or not facts.has_enough:
        return
    evidence = {
        "sampled_requests": users.requests,
        "users": users.senders,
        "compared_with_another_user": users.compared,
        "same_answer": users.equal,
        "users_with_the_same_answer": users.equal_senders,
        "kept_their_answer": users.kept,
        "while_another_got_a_different_one": users.contradicted,
    }
    if facts.sharing == "private":
        yield Finding(
            severity="high" if facts.share_of_seconds >= _MEDIUM_SHARE else "medium",
            message=(
                f"The answer is the user's own: {users.contradicted:,} of {users.kept:,} times that a user"
                " got the same body again, somebody else had got a different one to the same request in"
                " between."
            ),
            advice=(
                "Never share a copy: Cache-Control: private, or in the key what it depends on: the user, or"
                " perhaps a header such as Accept-Language."
            ),
            evidence=evidence,
            proof=Proof("dependence"),
            weight=facts.totals.seconds,
        )
    elif facts.sharing == "same" and users.equal_senders >= limits["min_users"]:
        yield Finding(
            severity="info",
            message=(
                f"{users.equal_senders:,} users got the same answers as others before them, in"
                f" {users.equal:,} comparisons; no answer depended on the user among {users.requests:,}"
                " requests."
            ),
            advice="A copy is safe to share, as far as these users show.",
            evidence=evidence,
            proof=Proof("dependence"),
            weight=facts.totals.seconds,
        )


def irrelevant_parameter(facts: RouteFacts, limits: Limits) -> Iterator[Finding]:
    """A query parameter never changed the body, such as one for tracking or to get past a cache.

    Requests that differ in this parameter only are compared one after the other. It is irrelevant where no
    body was ever given back after another one (content may change with time, but does not change back with
    the parameter), every value seen more than once was found to make no difference, and so were half of the
    comparisons and more. The gain is the hit ratio of the same requests, replayed with the parameter in the
    key and without it. The user stays in the key unless never-share has found that answers are the same for
    all.
    """
    if not facts.is_safe or not facts.has_enough:
        return
    for param in facts.params:
        gain = param.hit_ratio_without - param.hit_ratio
        if _never_matters(param.dependence, limits) and gain >= limits["min_gain"]:
            yield _irrelevant(facts, param, gain)


def _never_matters(found: Dependence, limits: Limits) -> bool:
    return (
        found.compared >= limits["min_comparisons"]
        and not found.returns
        and not found.contradicted
        and not found.unproven
        and found.equal >= limits["min_equal_share"] * found.compared
    )


def _irrelevant(facts: RouteFacts, param: ParameterFacts, gain: float) -> Finding:
    found = param.dependence
    ratios = f"{percent_text(param.hit_ratio)} to {percent_text(param.hit_ratio_without)}"
    in_pattern = param.name not in IGNORED_IN_PATTERN
    return Finding(
        severity="medium" if gain >= _MEDIUM_GAIN else "low",
        message=(
            f"The parameter {param.name} ({param.values:,} value{'' if param.values == 1 else 's'}) never"
            f" changed the body: {found.equal:,} of {found.compared:,} requests got the same as the one"
            " before, which had another value or none; the others got what was new by then."
        ),
        advice=(
            f"Leave {param.name} out of the cache key: the hit ratio goes from {ratios}"
            f" at {time_text(param.ttl_seconds)}."
            + (
                " And name it in the setting pattern_ignored_params, so that it makes no patterns."
                if in_pattern
                else ""
            )
        ),
        evidence={
            "parameter": param.name,
            "sampled_requests_with_it": param.requests,
            "values": param.values,
            "compared": found.compared,
            "equal": found.equal,
            "ttl_seconds": param.ttl_seconds,
            "hit_ratio": round(param.hit_ratio, 4),
            "hit_ratio_without_it": round(param.hit_ratio_without, 4),
        },
        proof=Proof("dependence", param.name, param.per_user),
        weight=gain * facts.totals.seconds,
    )


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
