"""The rankings, from the hourly table to rows that can be shown."""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from otel_analytics import evidence
from otel_analytics.analyze import absolute, relative
from otel_analytics.analyze.basis import Basis
from otel_analytics.analyze.candidates import Candidates, candidates, is_cacheable, mostly_fails
from otel_analytics.analyze.pages import first_pages
from otel_analytics.figures import Histogram, PatternFigures, RequestForm
from otel_analytics.present import remarks
from otel_analytics.present.rows import (
    AbsoluteRow,
    CacheKey,
    PlanRow,
    RelativeRow,
    absolute_row,
    plan_row,
    relative_row,
)
from otel_analytics.settings import Settings
from otel_analytics.store import rankings
from otel_analytics.store.connection import Connection

if TYPE_CHECKING:
    from otel_analytics.analyze.rules import Sharing

SAMPLE: Final = 5_000
"""The latest raw requests of a route that tell which pages are asked for."""

_KEYS: Final[dict["Sharing", CacheKey]] = {"same": "shared", "private": "per user", "unclear": "per user"}
"""What may be done where the answers are so; nothing is known where they are otherwise."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Ranking(Generic[Row]):
    """A ranking and what it rests on.

    Attributes:
        rows: Best first.
        basis: What was looked at.
        candidates: All that could have been ranked, in no order.
    """

    rows: list[Row]
    basis: Basis
    candidates: list[PatternFigures]


@dataclass(frozen=True)
class Standings:
    """Every candidate in both rankings.

    Attributes:
        absolute: What reaches the thresholds, best first.
        relative: Every candidate, best first.
        basis: What was looked at.
    """

    absolute: list[absolute.Scored]
    relative: list[relative.Placed]
    basis: Basis


@dataclass(frozen=True)
class _Read:
    since: dt.datetime
    until: dt.datetime
    hours: list[dt.datetime]
    candidates: Candidates
    basis: Basis


def rank_absolute(
    connection: Connection, settings: Settings, *, now: dt.datetime, true_p95: bool = True
) -> Ranking[AbsoluteRow]:
    """What reaches the thresholds, by score.

    Args:
        connection: Where the tables are; not inside a transaction.
        settings: For `days`, `top_n_routes`, the thresholds and `cache_score_threshold`.
        now: The present.
        true_p95: Whether to merge the histograms of the rows for `p95_latency_ms`, which else is None.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    with rankings.reading(connection):
        read = _read(connection, settings, now)
        best = _scored(read, settings)[: settings.top_n_routes]
        histograms = _histograms(connection, read, [each.figures for each in best], wanted=true_p95)
    rows = [absolute_row(*pair) for pair in zip(best, histograms, strict=True)]
    return Ranking(rows, read.basis, read.candidates.figures)


def rank_relative(
    connection: Connection, settings: Settings, *, now: dt.datetime, true_p95: bool = True
) -> Ranking[RelativeRow]:
    """Every candidate against the others, by priority; arguments and errors are those of `rank_absolute`."""
    with rankings.reading(connection):
        read = _read(connection, settings, now)
        best = relative.rank(read.candidates.figures)[: settings.top_n_routes]
        histograms = _histograms(connection, read, [each.figures for each in best], wanted=true_p95)
    rows = [relative_row(*pair) for pair in zip(best, histograms, strict=True)]
    return Ranking(rows, read.basis, read.candidates.figures)


def standings(connection: Connection, settings: Settings, *, now: dt.datetime) -> Standings:
    """Both rankings in full; arguments and errors are those of `rank_absolute`."""
    with rankings.reading(connection):
        read = _read(connection, settings, now)
    return Standings(_scored(read, settings), relative.rank(read.candidates.figures), read.basis)


def plan(connection: Connection, settings: Settings, *, now: dt.datetime) -> Ranking[PlanRow]:
    """What a caching layer is told to cache: everything above `cache_score_threshold` whose method is safe.

    What mostly fails is left out.

    Args:
        connection: Where the tables are; not inside a transaction.
        settings: For `days`, the thresholds, `cache_score_threshold`, `pages_to_cache_per_route` and `rules`.
        now: The present.

    Raises:
        SettingsError: The setting `rules` names what does not exist.
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    # Brings numpy along, which takes as long as a tenth of a ranking that needs none.
    from otel_analytics.analyze.rules import configured, sharing  # noqa: PLC0415

    limits = configured(settings.rules)["never-share"].limits
    with rankings.reading(connection):
        read = _read(connection, settings, now)
        chosen = [
            each
            for each in _scored(read, settings)
            if each.should_cache and is_cacheable(each.figures) and not mostly_fails(each.figures)
        ]
        routes = [each.figures.route for each in chosen]
        forms = rankings.request_forms(connection, read.since, read.until, routes, sample=SAMPLE)
        methods = [(each.figures.route, each.figures.method) for each in chosen]
        users = evidence.dependence_on_users(connection, methods, read.since, read.until)
    by_pattern: defaultdict[tuple[str, str, str], list[RequestForm]] = defaultdict(list)
    for form in forms:
        by_pattern[form.route, form.method, form.pattern].append(form)
    rows = []
    for each in chosen:
        seen = by_pattern[each.figures.route, each.figures.method, each.figures.pattern]
        pages = first_pages(seen, settings.pages_to_cache_per_route)
        answers = users.get((each.figures.route, each.figures.method, each.figures.pattern))
        key = None if answers is None else _KEYS.get(sharing(answers, limits))
        rows.append(plan_row(each, pages, sum(form.requests for form in seen), key))
    return Ranking(rows, read.basis, read.candidates.figures)


def remark(ranked: Ranking[AbsoluteRow] | Ranking[RelativeRow], settings: Settings) -> str:
    """What a ranking rests on, or why it is empty; one line."""
    if ranked.rows:
        return remarks.basis_line(ranked.basis)
    if ranked.candidates:
        return remarks.none_above(
            ranked.candidates, min_requests=settings.min_requests, min_latency=settings.min_latency
        )
    return remarks.nothing_found(ranked.basis)


def _read(connection: Connection, settings: Settings, now: dt.datetime) -> _Read:
    since = now - dt.timedelta(days=settings.days)
    hours = rankings.hours(connection, since, now)
    found = candidates(rankings.patterns(connection, since, now))
    basis = evidence.basis(
        connection,
        hours,
        days=settings.days,
        requests=found.requests,
        unmatched_requests=found.unmatched_requests,
        overflow_requests=found.overflow_requests,
    )
    return _Read(since, now, hours, found, basis)


def _scored(read: _Read, settings: Settings) -> list[absolute.Scored]:
    return absolute.rank(
        read.candidates.figures,
        min_requests=settings.min_requests,
        min_latency=settings.min_latency,
        cache_score_threshold=settings.cache_score_threshold,
    )


def _histograms(
    connection: Connection, read: _Read, shown: Sequence[PatternFigures], *, wanted: bool
) -> list[Histogram]:
    return rankings.histograms(connection, read.hours, shown) if wanted and shown else [{} for _ in shown]
