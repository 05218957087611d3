"""What the rules have to say: the facts gathered from the tables, the findings ready to be shown.

The cost: one stream of the raw requests of the span through two replays, the hourly table once, and for each
route and method at most `SAMPLE` of its latest raw requests, read once for the sample and once for each
question whether its answers depend on the user or on a parameter (0.15 s each). Two million requests of a
hundred routes with two parameters each take a minute and a half, and 190 MB.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from otel_analytics.analyze.candidates import candidates
from otel_analytics.analyze.pages import Page, first_pages
from otel_analytics.analyze.replay import CacheModel, History, Replay
from otel_analytics.analyze.rules import (
    Active,
    ParameterFacts,
    PatternReplay,
    RouteFacts,
    Said,
    Whole,
    chosen,
    configured,
    findings,
    proposed_ttl,
    sharing,
)
from otel_analytics.analyze.savings import Pattern
from otel_analytics.figures import PatternFigures, RequestForm
from otel_analytics.present.advice import AdviceRow, advice_row
from otel_analytics.replaying import Replayed, replay_both_keys
from otel_analytics.request_columns import columns
from otel_analytics.route_figures import HourOfDay, KeyedRequest, Parameter, RouteTotals
from otel_analytics.settings import Settings
from otel_analytics.store import advice as store
from otel_analytics.store import rankings
from otel_analytics.store.connection import Connection

SAMPLE: Final = 20_000
"""The latest raw requests of a route and method that are looked at, among ten times as many of the route."""
FORMS: Final = 5_000
"""The latest raw requests of a route that tell which pages are asked for."""
MOST_PARAMS: Final = 10
"""Parameters of a route that are looked at, those used most."""

Progress = Callable[[str], None]
_Name = tuple[str, str]


@dataclass(frozen=True)
class Advice:
    """Findings, and what they rest on.

    Attributes:
        rows: What matters most first.
        history: What was replayed.
        routes: Routes and methods that were looked at.
        since: The first moment that was asked for.
        until: The last.
    """

    rows: list[AdviceRow]
    history: History
    routes: int
    since: dt.datetime
    until: dt.datetime


def advise(
    connection: Connection,
    settings: Settings,
    *,
    now: dt.datetime,
    route: str | None = None,
    rules: Collection[str] = (),
    replayed: Replayed | None = None,
    progress: Progress = lambda _: None,
) -> Advice:
    """Gather the facts and run the rules.

    Args:
        connection: Where the tables are; not inside a transaction.
        settings: For `days`, the limits of evidence and staleness, and `rules`.
        now: The present.
        route: The one to look at; None for all.
        rules: Those that speak, whether they are on or not; none for all that are on.
        replayed: The replay of these days and of all routes, where it was made already.
        progress: Told what is being done.

    Raises:
        SettingsError: The setting `rules` names what does not exist.
        UsageError: One of the rules named does not exist.
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    active = configured(settings.rules)
    wanted = chosen(active, rules)
    span = store.Span(now - dt.timedelta(days=settings.days), now, SAMPLE)
    with rankings.reading(connection):
        if replayed is None:
            replayed = replay_both_keys(connection, settings, now=now, route=route, progress=progress)
        facts = _Gathering(connection, settings, span, active, progress).facts(route, replayed)
        rows = [_row(connection, span, each) for each in findings(facts, active, wanted)]
    return Advice(rows, replayed.history, len(facts), span.since, span.until)


def _row(connection: Connection, span: store.Span, said: Said) -> AdviceRow:
    proof = said.finding.proof
    statement = store.shown(
        connection, proof.kind, span, said.route, said.method, param=proof.param, per_user=proof.per_user
    )
    return advice_row(said, statement)


class _Gathering:
    """Reads what the rules need to know, route by route."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        span: store.Span,
        active: dict[str, Active],
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._span = span
        self._sharing_limits = active["never-share"].limits
        self._progress = progress

    def facts(self, route: str | None, replayed: Replayed) -> list[RouteFacts]:
        """Of every route and method, or of those of one route."""
        connection, span = self._connection, self._span
        everything = store.totals(connection, span, route=None)
        totals = [each for each in everything if route in (None, each.route)]
        replays: defaultdict[_Name, list[PatternReplay]] = defaultdict(list)
        for found in replayed.patterns:
            replays[found.name.route, found.name.method].append(_pattern_replay(found))
        hours = store.hours_of_day(connection, span, route=route)
        figures: defaultdict[_Name, list[PatternFigures]] = defaultdict(list)
        for pattern in candidates(rankings.patterns(connection, span.since, span.until)).figures:
            figures[pattern.route, pattern.method].append(pattern)
        forms: defaultdict[_Name, list[RequestForm]] = defaultdict(list)
        routes = [each.route for each in totals]
        for form in rankings.request_forms(connection, span.since, span.until, routes, sample=FORMS):
            forms[form.route, form.method].append(form)
        whole = Whole(
            history=replayed.history,
            seconds=sum(each.seconds for each in everything),
            staleness_limit=self._settings.staleness_limit,
            min_evidence_requests=self._settings.min_evidence_requests,
        )
        facts = []
        for number, each in enumerate(totals, start=1):
            self._progress(f"Looking at route {number:,} of {len(totals):,}")
            name = each.route, each.method
            facts.append(
                self._route(
                    whole,
                    each,
                    hours=hours.get(name, []),
                    patterns=replays[name],
                    figures=figures[name],
                    pages=self._pages(forms[name]),
                )
            )
        return facts

    def _pages(self, forms: Sequence[RequestForm]) -> dict[str, list[Page]]:
        by_pattern: defaultdict[str, list[RequestForm]] = defaultdict(list)
        for form in forms:
            by_pattern[form.pattern].append(form)
        most = self._settings.pages_to_cache_per_route
        return {pattern: first_pages(each, most) or [] for pattern, each in by_pattern.items()}

    def _route(
        self,
        whole: Whole,
        totals: RouteTotals,
        *,
        hours: Sequence[HourOfDay],
        patterns: Sequence[PatternReplay],
        figures: Sequence[PatternFigures],
        pages: dict[str, list[Page]],
    ) -> RouteFacts:
        name = totals.route, totals.method
        facts = RouteFacts(
            whole=whole,
            totals=totals,
            sample=store.sample(self._connection, self._span, *name),
            hours=tuple(hours),
            patterns=tuple(patterns),
            figures=tuple(figures),
            pages=pages,
        )
        # What takes its time is done for routes only about which something may be said.
        if not facts.is_safe or not facts.has_enough:
            return facts
        users = store.dependence(self._connection, self._span, *name)
        facts = facts._replace(users=users, sharing=sharing(users, self._sharing_limits))
        params = store.parameters(self._connection, self._span, *name, most=MOST_PARAMS)
        return facts._replace(params=tuple(self._param(facts, param) for param in params))

    def _param(self, facts: RouteFacts, param: Parameter) -> ParameterFacts:
        """Whether answers depend on a parameter, and the hit ratio with it in the key and without it."""
        name = facts.totals.route, facts.totals.method
        per_user = facts.sharing not in ("same", "no users")
        found = store.dependence(self._connection, self._span, *name, param=param.name, per_user=per_user)
        ttl = proposed_ttl(facts)
        ratios = (0.0, 0.0)
        # Where bodies came back, the parameter matters, and what it would bring to drop it is of no account.
        if not found.returns:
            requests = store.keyed_requests(self._connection, self._span, *name, param=param.name)
            ratios = (
                _hit_ratio(requests, ttl, per_user=per_user),
                _hit_ratio(
                    [each._replace(key=each.key_without) for each in requests], ttl, per_user=per_user
                ),
            )
        return ParameterFacts(*param, found, per_user, ttl, *ratios)


def _pattern_replay(found: Pattern) -> PatternReplay:
    shared = tuple(each.outcome for each in found.options if not each.per_user)
    per_user = tuple(each.outcome for each in found.options if each.per_user)
    return PatternReplay(found.name.pattern, found.evidence, shared, per_user)


def _hit_ratio(requests: Sequence[KeyedRequest], ttl: float, *, per_user: bool) -> float:
    """Of requests in the order of time, all of them of one group."""
    replay = Replay(CacheModel(ttls=(ttl,), per_user=per_user))
    replay.feed(
        columns(
            [each.start_us for each in requests],
            [each.duration_us for each in requests],
            [each.key for each in requests],
            [each.user for each in requests],
            [each.body for each in requests],
            [each.size_bytes for each in requests],
            [each.queries for each in requests],
            [0] * len(requests),
            [each.flags for each in requests],
        )
    )
    return sum(each.outcomes[0].hit_ratio for each in replay.result())
