"""The replay of the raw table: named patterns, and what a cache would have done for them."""

import datetime as dt
from dataclasses import dataclass
from typing import NamedTuple

from otel_analytics import evidence
from otel_analytics.analyze.replay import (
    POLICIES,
    BoundedOutcome,
    BoundedReplay,
    CacheModel,
    Evidence,
    History,
    Outcome,
    Replay,
    best,
    caveats,
)
from otel_analytics.present.simulation import SimulationRow, simulation_row
from otel_analytics.request_columns import GroupName
from otel_analytics.settings import Settings
from otel_analytics.store.connection import Connection, snapshot
from otel_analytics.store.replay import RequestStream


class PatternReplay(NamedTuple):
    """A route, method and parameter pattern, and what a cache would have done for it.

    Attributes:
        name: Route, method and normalised parameters.
        evidence: What was seen of it.
        outcomes: An unlimited cache at each time to live, shortest first.
        bounded: The shared cache of limited memory, for each time to live and policy; empty where no limit
            was given.
    """

    name: GroupName
    evidence: Evidence
    outcomes: tuple[Outcome, ...]
    bounded: tuple[BoundedOutcome, ...]


@dataclass(frozen=True)
class Simulation:
    """What a replay found, and what it rests on.

    Attributes:
        patterns: In no order.
        history: How much was replayed.
        since: The first moment that was asked for.
        until: The last.
        folded_requests: Requests of patterns that were too many to be kept apart; replayed, not shown.
    """

    patterns: list[PatternReplay]
    history: History
    since: dt.datetime
    until: dt.datetime
    folded_requests: int


def simulate(
    connection: Connection,
    settings: Settings,
    model: CacheModel,
    *,
    now: dt.datetime,
    route: str | None = None,
    memory_bytes: int | None = None,
) -> Simulation:
    """Replay the raw requests of the last days.

    Args:
        connection: Where the tables are; not inside a transaction.
        settings: For `days`.
        model: The cache.
        now: The present.
        route: Only this one; None for all.
        memory_bytes: Also replay a cache of so much memory that all routes share, at each time to live with
            each policy. That goes request by request, one to two seconds a million each time.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    since = now - dt.timedelta(days=settings.days)
    replay = Replay(model)
    bounded = [
        BoundedReplay(model, ttl=ttl, memory_bytes=memory_bytes, policy=policy)
        for ttl in model.ttls
        for policy in POLICIES
        if memory_bytes is not None
    ]
    with snapshot(connection):
        # A shared cache is filled by all routes, whichever is asked about.
        stream = RequestStream(connection, since, now, route=None if bounded else route)
        for chunk in stream.chunks():
            replay.feed(chunk)
            for each in bounded:
                each.feed(chunk)
        names = stream.names()
        coverage = evidence.coverage(connection)
    found = replay.result()
    return Simulation(
        patterns=[
            PatternReplay(
                names[each.group],
                each.evidence,
                each.outcomes,
                tuple(cache.of(each.group) for cache in bounded),
            )
            for each in found
            if each.group < len(names) and route in (None, names[each.group].route)
        ],
        history=History.of(
            since,
            now,
            first_us=min((each.evidence.span_us[0] for each in found), default=None),
            requests=sum(each.evidence.requests for each in found),
            coverage=coverage,
        ),
        since=since,
        until=now,
        folded_requests=sum(each.evidence.requests for each in found if each.group >= len(names)),
    )


def best_rows(found: Simulation, settings: Settings) -> list[SimulationRow]:
    """The patterns that save something, those that save most time first.

    Each at its best time to live, as `analyze.replay.best` has it; where only one was replayed, at that.

    Args:
        found: By `simulate`.
        settings: For `staleness_limit` and `min_evidence_requests`.
    """
    return [_row(found, each, outcome, settings) for each, outcome in _worthwhile(found, settings)]


def best_ladders(found: Simulation, settings: Settings) -> list[list[SimulationRow]]:
    """The same patterns in the same order, each at every time to live; arguments as of `best_rows`."""
    return [_ladder(found, each, settings) for each, _ in _worthwhile(found, settings)]


def ladders(found: Simulation, settings: Settings) -> list[list[SimulationRow]]:
    """Each pattern at every time to live, those with most requests first; arguments as of `best_rows`."""
    patterns = sorted(found.patterns, key=lambda each: (-each.evidence.requests, each.name))
    return [_ladder(found, each, settings) for each in patterns]


def _worthwhile(found: Simulation, settings: Settings) -> list[tuple[PatternReplay, Outcome]]:
    chosen = [
        (each, outcome)
        for each in found.patterns
        if (outcome := _best(each, settings)) is not None and outcome.hits
    ]
    return sorted(chosen, key=lambda pair: (-pair[1].saved_seconds, pair[0].name))


def _ladder(found: Simulation, pattern: PatternReplay, settings: Settings) -> list[SimulationRow]:
    return [_row(found, pattern, outcome, settings) for outcome in pattern.outcomes]


def _best(pattern: PatternReplay, settings: Settings) -> Outcome | None:
    if len(pattern.outcomes) == 1:
        return pattern.outcomes[0]
    return best(pattern.outcomes, staleness_limit=settings.staleness_limit)


def _row(found: Simulation, pattern: PatternReplay, outcome: Outcome, settings: Settings) -> SimulationRow:
    noted = caveats(
        outcome,
        pattern.evidence,
        found.history,
        min_evidence_requests=settings.min_evidence_requests,
    )
    return simulation_row(pattern.name, pattern.evidence, outcome, pattern.bounded, noted)
