"""What a rule is given, and what it gives."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from otel_analytics.analyze.pages import Page
from otel_analytics.analyze.replay import Evidence, History, Outcome
from otel_analytics.analyze.rules.sharing import Sharing
from otel_analytics.figures import PatternFigures
from otel_analytics.record import SAFE_METHODS
from otel_analytics.route_figures import Dependence, HourOfDay, RouteSample, RouteTotals

Severity = Literal["high", "medium", "low", "info"]
"""`high`: much to gain, or somebody may see another's data. `info`: true, and nothing need be done."""
SEVERITIES: Final[tuple[Severity, ...]] = ("high", "medium", "low", "info")

MEDIUM_SHARE: Final = 0.03
"""Of the seconds of all routes: from here on something matters."""

ProofKind = Literal["totals", "hours_of_day", "sample", "dependence"]
"""The statement that shows the figures."""


class Proof(NamedTuple):
    """What shows the figures of a finding.

    Attributes:
        kind: The statement.
        param: The parameter it is about, if any.
        per_user: Whether the user is a part of the key.
    """

    kind: ProofKind
    param: str | None = None
    per_user: bool = False


class PatternReplay(NamedTuple):
    """A parameter pattern of a route and method, replayed.

    Attributes:
        pattern: The normalised parameters as JSON.
        evidence: What was seen of it.
        shared: A cache that all users share, at each time to live, shortest first.
        per_user: A cache with a copy for each user, at the same.
    """

    pattern: str
    evidence: Evidence
    shared: tuple[Outcome, ...]
    per_user: tuple[Outcome, ...]


class ParameterFacts(NamedTuple):
    """A query parameter, and what dropping it from the key would bring.

    Attributes:
        name: As sent.
        requests: Sampled requests that have it.
        values: Different values among them.
        dependence: Whether answers depend on it.
        per_user: Whether the user was a part of the key.
        ttl_seconds: The time to live of the two replays that follow.
        hit_ratio: With the parameter in the key, in the sample.
        hit_ratio_without: Without it.
    """

    name: str
    requests: int
    values: int
    dependence: Dependence
    per_user: bool
    ttl_seconds: float
    hit_ratio: float
    hit_ratio_without: float


class Whole(NamedTuple):
    """What was looked at altogether.

    Attributes:
        history: What the replays rest on.
        seconds: Spent on all requests of all routes.
        staleness_limit: Share of the hits that may be stale.
        min_evidence_requests: Requests that are enough.
    """

    history: History
    seconds: float
    staleness_limit: float
    min_evidence_requests: int


class RouteFacts(NamedTuple):
    """All that is known of a route and method.

    Attributes:
        whole: What it is a part of.
        totals: Of the span.
        sample: Its latest requests.
        hours: Its hours of the day.
        users: Whether its answers depend on the user; None where the method is not safe.
        sharing: What is to be thought of that.
        params: Its parameters.
        patterns: Its patterns, replayed.
        figures: Its patterns, by the hourly table.
        pages: For each pattern (JSON) the requests for its first pages.
    """

    whole: Whole
    totals: RouteTotals
    sample: RouteSample
    hours: tuple[HourOfDay, ...] = ()
    users: Dependence | None = None
    sharing: Sharing = "no bodies"
    params: tuple[ParameterFacts, ...] = ()
    patterns: tuple[PatternReplay, ...] = ()
    figures: tuple[PatternFigures, ...] = ()
    pages: Mapping[str, list[Page]] = {}

    @property
    def is_safe(self) -> bool:
        """Whether the method lets an answer be kept at all."""
        return self.totals.method in SAFE_METHODS

    @property
    def share_of_seconds(self) -> float:
        """Of the time spent on all requests."""
        return self.totals.seconds / self.whole.seconds if self.whole.seconds else 0.0

    @property
    def has_enough(self) -> bool:
        """Whether there are requests enough to say anything."""
        return self.totals.requests >= self.whole.min_evidence_requests


class Finding(NamedTuple):
    """One thing that a rule found about a route and method.

    Attributes:
        severity: How much it matters.
        message: What was found, with its figures; one sentence or two.
        advice: What to do.
        evidence: The figures by name.
        proof: The statement that shows them.
        pattern: The parameter pattern as JSON; None for all of the route.
        weight: Seconds that it is about, to sort by.
    """

    severity: Severity
    message: str
    advice: str
    evidence: Mapping[str, float | int | str | list[str] | None]
    proof: Proof
    pattern: str | None = None
    weight: float = 0.0


class Limit(NamedTuple):
    """A threshold of a rule.

    Attributes:
        default: Where the settings file says nothing.
        meaning: What it is compared with, and its unit.
        largest: What it may be set to.
        smallest: Likewise.
    """

    default: float
    meaning: str
    largest: float = 1e12
    smallest: float = 0


Limits = Mapping[str, float]
Check = Callable[[RouteFacts, Limits], Iterator[Finding]]


class Rule(NamedTuple):
    """A rule.

    Attributes:
        id: Its name in findings and settings.
        check: Finds, or does not. Its docstring is the rule's documentation.
        limits: Its thresholds by name.
        enabled: Whether it is on where the settings file says nothing.
    """

    id: str
    check: Check
    limits: Mapping[str, Limit]
    enabled: bool = True

    @property
    def text(self) -> str:
        """What it finds and why."""
        return inspect.getdoc(self.check) or ""

    @property
    def summary(self) -> str:
        """The first sentence of it."""
        return self.text.partition("\n\n")[0].replace("\n", " ")


def together(outcomes: Sequence[Sequence[Outcome]]) -> tuple[Outcome, ...]:
    """The outcomes of several patterns taken together, at each time to live.

    Memory is that of all patterns at their own peaks, and the busiest hours are each pattern's own.
    """
    taken = []
    for same_ttl in zip(*outcomes, strict=True):
        sums = [sum(values) for values in zip(*(each[1:] for each in same_ttl), strict=True)]
        taken.append(Outcome(same_ttl[0].ttl_seconds, *sums))
    return tuple(taken)
