"""What an answer rests on, asked of the tables."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Final

from otel_analytics.analyze.basis import Basis
from otel_analytics.route_figures import Dependence
from otel_analytics.store import advice, hourly, ledger, rankings
from otel_analytics.store.connection import Connection

SAMPLE: Final = 20_000
"""The latest raw requests of a route and method that tell whether its answers depend on the user."""


def basis(
    connection: Connection,
    hours: Sequence[dt.datetime],
    *,
    days: int,
    requests: int,
    unmatched_requests: int = 0,
    overflow_requests: int = 0,
) -> Basis:
    """Gather it.

    Args:
        connection: Where the tables are.
        hours: Those that have figures in the span, oldest first; see `rankings.hours`.
        days: How far back was looked.
        requests: That the answer is about.
        unmatched_requests: Left out of it.
        overflow_requests: Left out of it.
    """
    accepted, dropped = _offered(connection)
    return Basis(
        days=days,
        hours=len(hours),
        first=hours[0] if hours else None,
        last=hours[-1] if hours else None,
        requests=requests,
        unmatched_requests=unmatched_requests,
        overflow_requests=overflow_requests,
        accepted=accepted,
        dropped=dropped,
        latest_hour=hours[-1] if hours else rankings.latest_hour(connection),
        waiting_hours=len(hourly.touched_hours(connection)),
    )


def coverage(connection: Connection) -> float | None:
    """Share of the events that were accepted, from 0 to 1; None where the ledger knows of none."""
    accepted, dropped = _offered(connection)
    return accepted / (accepted + dropped) if accepted + dropped else None


def dependence_on_users(
    connection: Connection, routes: Iterable[tuple[str, str]], since: dt.datetime, until: dt.datetime
) -> dict[tuple[str, str, str], Dependence]:
    """Whether answers depend on the user, by route, method and pattern; without what has no known bodies.

    Args:
        connection: Where the tables are.
        routes: Route and method; 0.15 s each.
        since: The first moment to look at.
        until: The last.
    """
    span = advice.Span(since, until, SAMPLE)
    return {
        (route, method, pattern): found
        for route, method in sorted(set(routes))
        for pattern, found in advice.dependence_by_pattern(connection, span, route, method).items()
    }


def _offered(connection: Connection) -> tuple[int, int]:
    """Events that the stream ever accepted, and those that applications had to give up."""
    return sum(row.accepted for row in ledger.rows(connection)), sum(ledger.drops(connection).values())
