"""Rules about what an answer depends on, and so about the key of a cache."""

from collections.abc import Iterator
from typing import Final

from otel_analytics.analyze.rules.model import (
    MEDIUM_SHARE,
    Finding,
    Limits,
    ParameterFacts,
    Proof,
    RouteFacts,
)
from otel_analytics.analyze.rules.words import percent_text, time_text
from otel_analytics.params import IGNORED_IN_PATTERN
from otel_analytics.route_figures import Dependence

_MEDIUM_GAIN: Final = 0.1


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
            severity="high" if facts.share_of_seconds >= MEDIUM_SHARE else "medium",
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
