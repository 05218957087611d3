"""The rule about what to cache and how, and what it knows for others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from otel_analytics.analyze.replay import Outcome, best
from otel_analytics.analyze.rules.model import (
    MEDIUM_SHARE,
    Finding,
    Limits,
    PatternReplay,
    Proof,
    RouteFacts,
    Severity,
    Whole,
    together,
)
from otel_analytics.analyze.rules.words import number_text, percent_text, size_text, time_text
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
    return "medium" if share >= MEDIUM_SHARE else "low"


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
