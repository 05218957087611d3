"""The ranking by savings, from the raw table to rows that can be shown."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_analytics import evidence
from otel_analytics.analyze import budget, savings
from otel_analytics.analyze.basis import Basis
from otel_analytics.analyze.rules import is_doubtful
from otel_analytics.analyze.savings import Obstacle, Pattern, Saving, Terms
from otel_analytics.present import savings as words
from otel_analytics.present.rows import SavingsRow
from otel_analytics.present.savings import SetFigures, savings_row
from otel_analytics.replaying import Replayed, replay_both_keys
from otel_analytics.settings import Settings
from otel_analytics.store.connection import Connection, snapshot

_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True)
class SavingsRanking:
    """A ranking by savings and what it rests on.

    Attributes:
        savings: All that can be ranked, or with a budget what is in the set; best first.
        patterns: All that were seen, in no order; those with few requests may have no options.
        basis: What was replayed.
        terms: What is admissible.
        refused: How many patterns are not ranked, and why.
        chosen: With a budget, the set; None without.
        top: Rows to be shown.
    """

    savings: list[Saving]
    patterns: list[Pattern]
    basis: Basis
    terms: Terms
    refused: Mapping[Obstacle, int]
    chosen: SetFigures | None
    top: int

    @property
    def rows(self) -> list[SavingsRow]:
        """The first of them as they are shown."""
        return [savings_row(each, self.terms) for each in self.savings[: self.top]]

    @property
    def remark(self) -> str:
        """What the ranking rests on, or why it is empty; one line."""
        shown = min(self.top, len(self.savings))
        return words.remark(self.basis, self.refused, self.terms, self.chosen, shown=shown)


def rank_savings(
    connection: Connection,
    settings: Settings,
    *,
    now: dt.datetime,
    budget_bytes: int | None = None,
    replayed: Replayed | None = None,
) -> SavingsRanking:
    """What saves most time at its best admissible time to live, by a replay of the raw requests.

    Args:
        connection: Where the tables are; not inside a transaction.
        settings: For `days`, `top_n_routes`, `staleness_limit`, `min_evidence_requests`, `cache_latency_ms`.
        now: The present.
        budget_bytes: Memory that all of them together may take; then the best set in place of the best
            singles.
        replayed: The replay of these days, where it was made already.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    if replayed is None:
        with snapshot(connection):
            # Of patterns with fewer requests, nothing but their number is told.
            replayed = replay_both_keys(
                connection, settings, now=now, min_requests=settings.min_evidence_requests
            )
    patterns = replayed.patterns
    terms = Terms(settings.staleness_limit, settings.min_evidence_requests, replayed.history)
    since = now - dt.timedelta(days=settings.days)
    patterns = _without_doubt(connection, patterns, savings.rank(patterns, terms), since, now)
    ranked = savings.rank(patterns, terms)
    refused = savings.refusals(patterns, ranked, terms)
    chosen = None
    if budget_bytes is not None:
        ranked, chosen = _best_set(ranked, budget_bytes)
    return SavingsRanking(ranked, patterns, replayed.basis, terms, refused, chosen, settings.top_n_routes)


def _without_doubt(
    connection: Connection,
    patterns: list[Pattern],
    ranked: list[Saving],
    since: dt.datetime,
    until: dt.datetime,
) -> list[Pattern]:
    """The patterns; where one would be shared and is personal for some users, that stands against it."""
    shared = {
        each.pattern.name
        for each in ranked
        if each.pattern.evidence.known_users and any(not way.per_user for way in each.admissible)
    }
    with snapshot(connection):
        found = evidence.dependence_on_users(
            connection, ((name.route, name.method) for name in shared), since, until
        )
    doubtful = {name for name in shared if name in found and is_doubtful(found[name])}
    return [savings.personal(each) if each.name in doubtful else each for each in patterns]


def _best_set(ranked: list[Saving], budget_bytes: int) -> tuple[list[Saving], SetFigures]:
    """Of each pattern one admissible way or none, so that they save most together; best first."""
    ways = [
        [
            budget.Way(each.outcome.peak_bytes, round(each.outcome.saved_seconds * _MICROSECONDS))
            for each in saving.admissible
        ]
        for saving in ranked
    ]
    found = budget.choose(ways, budget_bytes)
    taken = [
        (ways[place][way], saving._replace(option=saving.admissible[way]))
        for place, (saving, way) in enumerate(zip(ranked, found.ways, strict=True))
        if way is not None
    ]
    taken.sort(key=lambda pair: (-pair[0].saved_us, pair[1].pattern.name))
    figures = SetFigures(
        budget_bytes=budget_bytes,
        patterns=len(taken),
        without_budget=len(ranked),
        memory_bytes=sum(way.memory_bytes for way, _ in taken),
        saved_us=sum(way.saved_us for way, _ in taken),
        missed_us=found.missed_us,
    )
    return [saving for _, saving in taken], figures
