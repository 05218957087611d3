"""The three rankings, made and kept as they are at a moment, for dashboards and for later comparison."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_analytics import ranking, savings
from otel_analytics.figures import PatternFigures
from otel_analytics.request_columns import GroupName
from otel_analytics.settings import Settings
from otel_analytics.store import kept_rankings
from otel_analytics.store.connection import Connection
from otel_analytics.store.kept_rankings import KeptRow, RankingName

MOST_ROWS: Final = 100
"""Of a ranking at a time, whatever `top_n_routes` says; so a keeping takes 80 kB at most."""
_HOURS_A_DAY: Final = 24


@dataclass(frozen=True)
class Kept:
    """What one keeping did.

    Attributes:
        rows: How many rows it stored of each ranking; none where there was nothing to rank.
        younger: When the rankings were made that are not old enough to be followed by others; None where
            there are none or it did not matter.
    """

    rows: Mapping[RankingName, int] = field(default_factory=dict)
    younger: dt.datetime | None = None


def keep(
    connection: Connection,
    settings: Settings,
    *,
    clock: Callable[[], dt.datetime],
    if_older_than: float | None = None,
) -> Kept:
    """Make the rankings and keep the best of each, under one time; one caller after the other.

    Kept are `top_n_routes` rows of each. Of the ranking by savings also those further down whose requests a
    cache of the application answers already: it has made them cheap, so they fall, and they are the ones
    whose prediction can be compared with what came.

    Args:
        connection: Where the tables are; not inside a transaction.
        settings: As for `ranking.standings` and `savings.rank_savings`.
        clock: The present.
        if_older_than: Do nothing where the last ones kept are younger, in seconds.

    Raises:
        NotMigrated: The tables are missing.
        QueryTimeout: A statement took longer than it may.
        StoreUnavailable: PostgreSQL does not answer, or does not accept writes.
    """
    with kept_rankings.alone(connection):
        now = clock()
        if if_older_than is not None and (younger := _younger(connection, now, if_older_than)) is not None:
            return Kept(younger=younger)
        rows = list(_rows(connection, settings, now))
        kept_rankings.add(connection, now, rows)
    return Kept(Counter(row.ranking for row in rows))


def _younger(connection: Connection, now: dt.datetime, seconds: float) -> dt.datetime | None:
    latest = kept_rankings.latest(connection)
    return latest if latest is not None and latest > now - dt.timedelta(seconds=seconds) else None


def _rows(connection: Connection, settings: Settings, now: dt.datetime) -> Iterator[KeptRow]:
    both = ranking.standings(connection, settings, now=now)
    replayed = savings.rank_savings(connection, settings, now=now)
    most = min(settings.top_n_routes, MOST_ROWS)
    for place, scored in enumerate(both.absolute[:most], 1):
        yield _row("absolute", place, _name(scored.figures), scored.score, scored.figures)
    for place, placed in enumerate(both.relative[:most], 1):
        yield _row("relative", place, _name(placed.figures), placed.priority, placed.figures)
    figures = {_name(each.figures): each.figures for each in both.relative}
    places = list(enumerate(replayed.savings, 1))
    cached = [(place, each) for place, each in places[most:] if each.pattern.evidence.from_cache]
    for place, saving in places[:most] + cached[:MOST_ROWS]:
        name, outcome = saving.pattern.name, saving.option.outcome
        saved = outcome.saved_seconds / replayed.terms.hours * _HOURS_A_DAY
        yield _row("savings", place, name, saved, figures.get(name))._replace(
            cache_key="per user" if saving.option.per_user else "shared",
            ttl_seconds=outcome.ttl_seconds,
            predicted_hit_ratio=round(outcome.hit_ratio, 4),
            predicted_stale_ratio=round(outcome.stale / outcome.compared, 4),
            saved_seconds_per_day=round(saved, 3),
            peak_memory_bytes=outcome.peak_bytes,
        )


def _name(figures: PatternFigures) -> GroupName:
    return GroupName(figures.route, figures.method, figures.pattern)


def _row(
    ranked_by: RankingName, place: int, name: GroupName, score: float, figures: PatternFigures | None
) -> KeptRow:
    row = KeptRow(ranked_by, place, *name, round(score, 3))
    if figures is None:
        return row
    return row._replace(
        avg_hourly_requests=round(figures.avg_hourly_requests, 3),
        avg_p95_latency_ms=round(figures.avg_p95_ms, 3),
        avg_unique_users=round(figures.avg_unique_users, 3),
        success_rate=round(figures.successful_requests / figures.total_requests, 4),
    )
