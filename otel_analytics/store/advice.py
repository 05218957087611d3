"""What the rules read: hourly totals, and the latest raw requests of a route, of which there is a limit."""

import datetime as dt
from collections import defaultdict
from typing import Final, Literal, NamedTuple

import psycopg

from otel_analytics.record import MAX_ROUTE_FULL_LENGTH
from otel_analytics.route_figures import (
    Dependence,
    HourOfDay,
    KeyedRequest,
    Parameter,
    RouteSample,
    RouteTotals,
)
from otel_analytics.store.connection import Connection, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("advice")

Statement = Literal["totals", "hours_of_day", "sample", "dependence"]
"""The statements that can be shown."""


class Span(NamedTuple):
    """What is looked at.

    Attributes:
        since: The first moment.
        until: The last.
        sample: Raw requests of a route and method that are looked at, the latest ones. It bounds the cost.
    """

    since: dt.datetime
    until: dt.datetime
    sample: int


@translated()
def totals(connection: Connection, span: Span, *, route: str | None) -> list[RouteTotals]:
    """Every route and method with requests, or those of one route; those that took most time first."""
    parameters = {**span._asdict(), "route": route, "method": None}
    return [RouteTotals(*row) for row in connection.execute(_QUERIES["totals"], parameters)]


@translated()
def hours_of_day(
    connection: Connection, span: Span, *, route: str | None
) -> dict[tuple[str, str], list[HourOfDay]]:
    """The hours of the day of each route and method, or of those of one route."""
    parameters = {**span._asdict(), "route": route, "method": None}
    found: defaultdict[tuple[str, str], list[HourOfDay]] = defaultdict(list)
    for name, method, *figures in connection.execute(_QUERIES["hours_of_day"], parameters):
        found[name, method].append(HourOfDay(*figures))
    return found


@translated()
def sample(connection: Connection, span: Span, route: str, method: str) -> RouteSample:
    """The latest requests of a route and method."""
    found = connection.execute(_QUERIES["sample"], _parameters(span, route, method)).fetchone()
    assert found is not None
    return RouteSample(*found)


@translated()
def parameters(connection: Connection, span: Span, route: str, method: str, *, most: int) -> list[Parameter]:
    """The query parameters of a route and method, so many of those used most."""
    wanted = {**_parameters(span, route, method), "most": most}
    return [Parameter(*row) for row in connection.execute(_QUERIES["parameters"], wanted)]


@translated()
def dependence(
    connection: Connection,
    span: Span,
    route: str,
    method: str,
    *,
    param: str | None = None,
    per_user: bool = False,
) -> Dependence:
    """Whether the answers of a route and method depend on the user, or on a parameter.

    Args:
        connection: Where the tables are.
        span: What to look at.
        route: The template.
        method: Of HTTP.
        param: The parameter; None for the user.
        per_user: Whether the user is a part of the key.
    """
    wanted = _dependence_parameters(span, route, method, param=param, per_user=per_user)
    found = connection.execute(_QUERIES["dependence"], wanted).fetchone()
    return Dependence(*found[1:]) if found else Dependence(*[0] * len(Dependence._fields))


@translated()
def dependence_by_pattern(
    connection: Connection, span: Span, route: str, method: str
) -> dict[str, Dependence]:
    """Whether the answers of a route and method depend on the user; of each pattern that has known bodies."""
    wanted = _dependence_parameters(span, route, method, by_pattern=True)
    return {pattern: Dependence(*row) for pattern, *row in connection.execute(_QUERIES["dependence"], wanted)}


@translated()
def keyed_requests(
    connection: Connection, span: Span, route: str, method: str, *, param: str
) -> list[KeyedRequest]:
    """The latest requests of a route and method, oldest first, with both keys."""
    wanted = {**_parameters(span, route, method), "param": param}
    return [KeyedRequest(*row) for row in connection.execute(_QUERIES["keyed_requests"], wanted)]


def shown(
    connection: Connection,
    statement: Statement,
    span: Span,
    route: str,
    method: str,
    *,
    param: str | None = None,
    per_user: bool = False,
) -> str:
    """A statement as it can be run by hand: its parameters quoted and filled in by the driver."""
    wanted = _dependence_parameters(span, route, method, param=param, per_user=per_user)
    with translated():
        return psycopg.ClientCursor(connection).mogrify(_QUERIES[statement], wanted)


def _dependence_parameters(
    span: Span,
    route: str,
    method: str,
    *,
    param: str | None = None,
    per_user: bool = False,
    by_pattern: bool = False,
) -> dict[str, object]:
    own = {"param": param, "per_user": per_user, "by_pattern": by_pattern}
    return {**_parameters(span, route, method), **own}


def _parameters(span: Span, route: str, method: str) -> dict[str, object]:
    return {**span._asdict(), "route": route, "method": method, "longest": MAX_ROUTE_FULL_LENGTH}
