"""What `rank --explain` prints."""

import datetime as dt
import sys
from typing import TYPE_CHECKING, Final

import typer

from otel_analytics.cli.context import connected
from otel_analytics.cli.output import print_remark

if TYPE_CHECKING:
    from otel_analytics.ranking import Standings
    from otel_analytics.savings import SavingsRanking
    from otel_analytics.settings import Settings

_MOST: Final = 3
"""Patterns that are explained; a route may have hundreds."""


def print_explanations(settings: "Settings", route: str) -> None:
    """Say why the patterns of a route stand where they do in all three rankings."""
    from otel_analytics import ranking, savings
    from otel_analytics.present import remarks
    from otel_analytics.present.text import harmless

    now = dt.datetime.now(dt.UTC)
    with connected(settings) as connection:
        standings = ranking.standings(connection, settings, now=now)
        saved = savings.rank_savings(connection, settings, now=now)
    names = _names(route, standings, saved)
    if not names:
        known = (
            f"No candidate for a cache is called {harmless(route)} in {remarks.last_days(standings.basis)}"
        )
        print_remark(
            f"{known}; to see which there are, run: otel-analytics rank --relative", with_table=False
        )
        return
    for place, (method, pattern) in enumerate(names[:_MOST]):
        if place:
            typer.echo()
        _print(settings, (route, method, pattern), standings, saved)
    if len(names) > _MOST:
        most = f"Shown are the {_MOST} of the route's {len(names):,} patterns that have most requests."
        print_remark(f"{most} {_basis(standings, saved)}", with_table=True)
    else:
        print_remark(_basis(standings, saved), with_table=True)


def _names(route: str, standings: "Standings", saved: "SavingsRanking") -> list[tuple[str, str]]:
    """Method and pattern of each pattern of the route, those with most requests first."""
    requests = {
        (each.name.method, each.name.pattern): each.evidence.requests
        for each in saved.patterns
        if each.name.route == route
    }
    for placed in standings.relative:
        if placed.figures.route == route:
            requests[placed.figures.method, placed.figures.pattern] = placed.figures.total_requests
    return sorted(requests, key=lambda name: (-requests[name], name))


def _print(
    settings: "Settings", name: tuple[str, str, str], standings: "Standings", saved: "SavingsRanking"
) -> None:
    from otel_analytics.analyze.candidates import name_order
    from otel_analytics.present import explanations as words

    route, method, pattern = name
    sentences = []
    figures = next((each.figures for each in standings.relative if name_order(each.figures) == name), None)
    if figures is None:
        sentences.append("Absolute and relative: not ranked yet, as its requests are not rolled up.")
    else:
        sentences.append(
            words.absolute_sentence(
                figures,
                standings.absolute,
                min_requests=settings.min_requests,
                min_latency=settings.min_latency,
                threshold=settings.cache_score_threshold,
            )
        )
        sentences.append(words.relative_sentence(figures, standings.relative))
    found = next((each for each in saved.patterns if tuple(each.name) == name), None)
    if found is None:
        sentences.append("Savings: not ranked, as no raw request of it is left in the span.")
    else:
        sentences.append(words.savings_sentence(found, saved.savings, saved.terms))
    words.print_explanation(words.title(method, route, pattern), sentences, sys.stdout)


def _basis(standings: "Standings", saved: "SavingsRanking") -> str:
    from otel_analytics.present import remarks

    hourly = remarks.basis_line(standings.basis)
    raw = remarks.basis_line(saved.basis) if saved.basis.requests else "No raw requests."
    return f"Absolute and relative: {hourly} Savings: {raw}"
