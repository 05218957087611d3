"""All that a report shows, gathered from the tables."""

import datetime as dt
import json
from collections.abc import Callable, Sequence
from typing import Final

from otel_analytics import advice, questions, ranking
from otel_analytics._version import __version__
from otel_analytics.analyze.replay import Outcome, caveats
from otel_analytics.analyze.savings import Pattern, Saving, Terms
from otel_analytics.present import advice as advice_words
from otel_analytics.present.explanations import savings_sentence
from otel_analytics.present.remarks import basis_line
from otel_analytics.present.report import CURVES, Contents, Part
from otel_analytics.present.report.contents import Advised, Rules, Unpromising
from otel_analytics.present.rows import AbsoluteRow, params_of
from otel_analytics.present.simulation import SimulationRow, simulation_row
from otel_analytics.replaying import replay_both_keys
from otel_analytics.savings import SavingsRanking, rank_savings
from otel_analytics.settings import Settings
from otel_analytics.store.connection import Connection, snapshot

LITTLE: Final = 0.05
"""A cache that saves less of a pattern's time does little for it."""


def gather(
    connection: Connection,
    settings: Settings,
    *,
    now: dt.datetime,
    progress: Callable[[str], None] = lambda _: None,
) -> Contents:
    """Ask everything that the page answers.

    Args:
        connection: Where the tables are; not inside a transaction.
        settings: For `days`, `top_n_routes` and what the rankings and the replay look at.
        now: The present.
        progress: Told what comes next.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    days, top = settings.days, settings.top_n_routes
    with snapshot(connection):
        replayed = replay_both_keys(connection, settings, now=now, progress=progress)
    savings_ranking = rank_savings(connection, settings, now=now, replayed=replayed)
    advised = advice.advise(connection, settings, now=now, replayed=replayed, progress=progress)
    progress("Looking at what is asked for, what is slow and what fails")
    absolute = ranking.rank_absolute(connection, settings, now=now, true_p95=False)
    relative = ranking.rank_relative(connection, settings, now=now, true_p95=False)
    week = questions.week(connection, now=now)
    slow = questions.slow(connection, now=now, days=days, limit=top, with_courses=True)
    errors = questions.errors(connection, now=now, days=days, limit=top)
    return Contents(
        made_at=now,
        version=__version__,
        days=days,
        rules=Rules(*(getattr(settings, name) for name in Rules._fields)),
        requests=slow.basis.requests,
        coverage=slow.basis.coverage,
        absolute=Part(absolute.rows, ranking.remark(absolute, settings)),
        relative=Part(relative.rows, ranking.remark(relative, settings)),
        savings=Part(savings_ranking.rows, savings_ranking.remark),
        advised=[_advised(each, savings_ranking.terms) for each in savings_ranking.savings[:CURVES]],
        unpromising=_unpromising(savings_ranking, absolute.rows),
        replay_basis=basis_line(savings_ranking.basis),
        findings=Part(advised.rows, _findings_remark(advised, days)),
        replayed_seconds=sum(each.evidence.seconds for each in savings_ranking.patterns),
        saved_seconds=sum(each.option.outcome.saved_seconds for each in savings_ranking.savings),
        week=Part(week.rows, week.remark),
        slow=Part(slow.rows, slow.remark),
        courses=slow.courses,
        errors=Part(errors.rows, errors.remark),
    )


def _advised(saving: Saving, terms: Terms) -> Advised:
    per_user = saving.option.per_user
    return Advised(
        per_user,
        _row(saving.pattern, saving.option.outcome, terms),
        _ladder(saving.pattern, terms, per_user=per_user),
    )


def _findings_remark(advised: advice.Advice, days: int) -> str:
    if not advised.history.requests:
        return advice_words.nothing_found(advised.history, days, None)
    based = advice_words.basis_line(advised.history, advised.routes, {})
    return based if advised.rows else f"{advice_words.nothing_found(advised.history, days, None)} {based}"


def _unpromising(savings_ranking: SavingsRanking, ranked: Sequence[AbsoluteRow]) -> list[Unpromising]:
    """What is recommended for its traffic and latency, but what a cache would do little or nothing for."""
    saved = {each.pattern.name: each.option.outcome.saved_seconds for each in savings_ranking.savings}
    patterns = {_key(each): each for each in savings_ranking.patterns}
    found = []
    for row in ranked:
        pattern = patterns.get((row.route, row.method, json.dumps(row.query_params_normalized)))
        if pattern is None or not row.should_cache:
            continue
        if saved.get(pattern.name, 0.0) < LITTLE * pattern.evidence.seconds:
            why = savings_sentence(pattern, savings_ranking.savings, savings_ranking.terms)
            why = why.removeprefix("Savings: ")
            found.append(Unpromising(row, f"{why[0].upper()}{why[1:]}"))
    return found


def _key(pattern: Pattern) -> tuple[str, str, str]:
    return pattern.name.route, pattern.name.method, json.dumps(params_of(pattern.name.pattern))


def _ladder(pattern: Pattern, terms: Terms, *, per_user: bool) -> list[SimulationRow]:
    return [_row(pattern, each.outcome, terms) for each in pattern.options if each.per_user == per_user]


def _row(pattern: Pattern, outcome: Outcome, terms: Terms) -> SimulationRow:
    noted = caveats(
        outcome, pattern.evidence, terms.history, min_evidence_requests=terms.min_evidence_requests
    )
    return simulation_row(pattern.name, pattern.evidence, outcome, (), noted)
