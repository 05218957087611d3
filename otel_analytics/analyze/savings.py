"""The ranking by savings: what each pattern gives back at the best admissible way to cache it."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from otel_analytics.analyze.replay import Evidence, GroupReplay, History, Outcome
from otel_analytics.request_columns import GroupName

ENOUGH_HITS: Final = 30
"""Hits that must have been compared before they tell anything; of one user on the copy of another, too."""
_ENOUGH_COMPARED: Final = 0.9
_HOUR: Final = 3_600

Obstacle = Literal[
    "unsafe method",
    "few requests",
    "no gain",
    "beyond the history",
    "bodies unknown",
    "differs between users",
    "stale",
    "few hits",
    "users not compared",
]
OBSTACLES: Final[dict[Obstacle, str]] = {
    "unsafe method": "not GET or HEAD",
    "few requests": "below min_evidence_requests",
    "no gain": "without a hit that saves time",
    "beyond the history": "with too short a history",
    "bodies unknown": "with bodies not known well enough",
    "differs between users": "with other bodies for other users",
    "stale": "stale too often",
    "few hits": "with too few hits to judge",
    "users not compared": "with too few hits between users to be shared",
}
"""In words, after the number of patterns."""


class Option(NamedTuple):
    """One way to cache a pattern.

    Attributes:
        per_user: Whether there is a copy for each user.
        outcome: What it would have done.
        personal: Whether the copy would be shared though something says that answers depend on the user.
    """

    per_user: bool
    outcome: Outcome
    personal: bool = False


class Terms(NamedTuple):
    """What makes an option admissible.

    Attributes:
        staleness_limit: Share of the compared hits, from 0 to 1, that may be stale.
        min_evidence_requests: Requests of a pattern that are enough.
        history: What was replayed.
    """

    staleness_limit: float
    min_evidence_requests: int
    history: History

    @property
    def hours(self) -> float:
        """By how many hours savings are divided: at least one, so that less is not made out to be more."""
        return max(1.0, self.history.seconds / _HOUR)


class Pattern(NamedTuple):
    """A route, method and parameter pattern with every way to cache it.

    Attributes:
        name: Route, method and normalised parameters.
        evidence: What was seen of it.
        options: A key that all users share, at each time to live; then a key for each user.
    """

    name: GroupName
    evidence: Evidence
    options: tuple[Option, ...]


class Saving(NamedTuple):
    """A pattern and the best admissible way to cache it.

    Attributes:
        pattern: The pattern.
        option: The way that saves most time.
        admissible: All ways that are admissible, this one included.
    """

    pattern: Pattern
    option: Option
    admissible: tuple[Option, ...]


def pattern(name: GroupName, shared: GroupReplay, per_user: GroupReplay) -> Pattern:
    """Bring the two replays of a group together.

    Args:
        name: Of the group.
        shared: Replayed with a key that all users share.
        per_user: Replayed with a key for each user.
    """
    options = [Option(False, each) for each in shared.outcomes]  # noqa: FBT003 - the first field
    options += [Option(True, each) for each in per_user.outcomes]  # noqa: FBT003
    return Pattern(name, shared.evidence, tuple(options))


def personal(found: Pattern) -> Pattern:
    """The pattern, once it is known that answers depend on the user, be it for few of them only."""
    options = tuple(each._replace(personal=not each.per_user) for each in found.options)
    return found._replace(options=options)


def rank(patterns: Iterable[Pattern], terms: Terms) -> list[Saving]:
    """What saves something in an admissible way; what saves most time first, equals by name."""
    found = [saving for each in patterns if (saving := best(each, terms)) is not None]
    return sorted(found, key=lambda each: (-each.option.outcome.saved_seconds, each.pattern.name))


def best(found: Pattern, terms: Terms) -> Saving | None:
    """The admissible option that saves most time; of equals a shared key, then the shortest time to live."""
    if obstacle_of_all(found, terms) is not None:
        return None
    admissible = tuple(each for each in found.options if obstacle(each, found.evidence, terms) is None)
    if not admissible:
        return None
    # The first of equals, and they stand in that order.
    return Saving(found, most_saving(admissible), admissible)


def obstacle_of_all(found: Pattern, terms: Terms) -> Obstacle | None:
    """Why no way to cache the pattern can be judged; None where it can."""
    if found.evidence.unsafe == found.evidence.requests:
        return "unsafe method"
    return "few requests" if found.evidence.requests < terms.min_evidence_requests else None


def obstacle(option: Option, evidence: Evidence, terms: Terms) -> Obstacle | None:
    """Why an option is not admissible; None where it is.

    What cannot be judged is not: few hits, hits whose bodies are unknown, times to live that were never
    lived through, and a shared key where users are known but hardly ever got the copy of another one. A page
    that is personal for few is stale for few; so that is asked apart from the share of stale hits.

    Args:
        option: Of a pattern.
        evidence: Of the same pattern, replayed with a shared key.
        terms: What is admissible.
    """
    outcome, limit = option.outcome, terms.staleness_limit
    of_users = not option.per_user and evidence.known_users > 0
    differs = of_users and outcome.foreign_stale > limit * outcome.foreign
    held: tuple[tuple[Obstacle, bool], ...] = (
        ("no gain", outcome.saved_seconds <= 0),
        ("beyond the history", outcome.ttl_seconds > terms.history.seconds),
        ("bodies unknown", outcome.compared == 0 or outcome.compared < _ENOUGH_COMPARED * outcome.hits),
        ("differs between users", differs and _is_personal(outcome)),
        ("stale", outcome.stale > limit * outcome.compared),
        ("differs between users", differs or option.personal),
        ("few hits", outcome.compared < ENOUGH_HITS),
        ("users not compared", of_users and outcome.foreign < ENOUGH_HITS),
    )
    return next((name for name, holds in held if holds), None)


def _is_personal(outcome: Outcome) -> bool:
    """Whether bodies differ between users much more than they change anyway."""
    own, own_stale = outcome.compared - outcome.foreign, outcome.stale - outcome.foreign_stale
    return own == 0 or outcome.foreign_stale / outcome.foreign > 2 * own_stale / own


def refusal(found: Pattern, terms: Terms) -> Obstacle:
    """Why a pattern is not ranked: what holds for all of it, else for what would save most."""
    of_all = obstacle_of_all(found, terms)
    return of_all or obstacle(most_saving(found.options), found.evidence, terms) or "no gain"


def most_saving(options: Sequence[Option]) -> Option:
    """The option that saves most time, admissible or not; of equals the first."""
    return max(options, key=lambda each: each.outcome.saved_seconds)


def refusals(patterns: Sequence[Pattern], ranked: Sequence[Saving], terms: Terms) -> dict[Obstacle, int]:
    """How many patterns are not ranked, and why; in the order of `OBSTACLES`."""
    names = {each.pattern.name for each in ranked}
    reasons = [refusal(each, terms) for each in patterns if each.name not in names]
    return {each: reasons.count(each) for each in OBSTACLES if each in reasons}
