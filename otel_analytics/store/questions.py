"""What the questions beside the rankings read, mostly of the hourly table.

A span holds the hours that begin in it, both ends included.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from otel_analytics.figures import (
    Histogram,
    HourOfDayFigures,
    PatternFigures,
    PatternUse,
    RouteDurations,
    RouteErrors,
    SlotFigures,
    UserShares,
)
from otel_analytics.store.connection import Connection, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("questions")

Course = dict[int, float]
"""Figures by slot of time, the first slot 0; slots without are left out."""


@translated()
def routes(connection: Connection, since: dt.datetime, until: dt.datetime) -> list[str]:
    """The routes with figures in the span, by name."""
    return [route for (route,) in connection.execute(_QUERIES["routes"], {"since": since, "until": until})]


@translated()
def hours_of_day(
    connection: Connection, since: dt.datetime, until: dt.datetime, *, route: str | None
) -> list[HourOfDayFigures]:
    """Every route at every hour of the day that has figures in the span, or one route; in no order."""
    parameters = {"since": since, "until": until, "route": route}
    return [HourOfDayFigures(*row) for row in connection.execute(_QUERIES["hours_of_day"], parameters)]


@translated()
def hour_of_day_histograms(
    connection: Connection, since: dt.datetime, until: dt.datetime, wanted: Sequence[tuple[str, int]]
) -> list[Histogram]:
    """The durations of routes at hours of the day over the span, in the order in which they are given."""
    parameters = {
        "since": since,
        "until": until,
        "routes": [route for route, _ in wanted],
        "hours_of_day": [hour for _, hour in wanted],
    }
    merged: list[dict[int, int]] = [{} for _ in wanted]
    for place, bucket, requests in connection.execute(_QUERIES["hour_of_day_histograms"], parameters):
        merged[place - 1][bucket] = requests
    return list(merged)


@translated()
def hour_totals(
    connection: Connection, since: dt.datetime, until: dt.datetime, *, route: str | None
) -> dict[dt.datetime, int]:
    """The requests of each hour that has any figures: of all routes, or of one, 0 where it had none."""
    parameters = {"since": since, "until": until, "route": route}
    return dict(connection.execute(_QUERIES["hour_totals"], parameters).fetchall())


@translated()
def route_patterns(
    connection: Connection, since: dt.datetime, until: dt.datetime, route: str
) -> list[PatternUse]:
    """Every method and pattern of a route with requests in the span, in no order."""
    parameters = {"since": since, "until": until, "route": route}
    return [
        PatternUse(PatternFigures(route, *figures), server_errors, total_seconds)
        for *figures, server_errors, total_seconds in connection.execute(
            _QUERIES["route_patterns"], parameters
        )
    ]


@translated()
def pattern_courses(
    connection: Connection, since: dt.datetime, until: dt.datetime, route: str, *, slot_seconds: float
) -> dict[tuple[str, str], Course]:
    """The requests of a route by slot of time, for each method and pattern."""
    parameters = {"since": since, "until": until, "route": route, "slot_seconds": slot_seconds}
    return _courses(connection.execute(_QUERIES["pattern_course"], parameters).fetchall())


@translated()
def route_courses(
    connection: Connection, since: dt.datetime, until: dt.datetime, *, slot_seconds: float
) -> dict[tuple[str, str], Course]:
    """The mean duration in milliseconds by slot of time, for each route and method."""
    parameters = {"since": since, "until": until, "slot_seconds": slot_seconds}
    return _courses(connection.execute(_QUERIES["route_course"], parameters).fetchall())


@translated()
def slots(
    connection: Connection, since: dt.datetime, until: dt.datetime, route: str, *, slot_seconds: float
) -> dict[int, SlotFigures]:
    """A route by slot of time, the first slot 0; slots without requests are left out."""
    parameters = {"since": since, "until": until, "route": route, "slot_seconds": slot_seconds}
    histograms: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for slot, bucket, requests in connection.execute(_QUERIES["slot_histograms"], parameters):
        histograms[slot][bucket] = requests
    found = connection.execute(_QUERIES["slots"], parameters)
    return {
        slot: SlotFigures(requests, server_errors, seconds, histograms[slot])
        for slot, requests, server_errors, seconds in found
    }


@translated()
def routes_with_errors(connection: Connection, since: dt.datetime, until: dt.datetime) -> list[RouteErrors]:
    """Every route and method that answered 4xx or 5xx in the span, in no order."""
    found = connection.execute(_QUERIES["routes_with_errors"], {"since": since, "until": until})
    return [RouteErrors(*row) for row in found]


@translated()
def error_types(
    connection: Connection,
    since: dt.datetime,
    until: dt.datetime,
    wanted: Sequence[RouteErrors],
    *,
    hours: int,
    sample: int,
) -> list[dict[str, int]]:
    """The kinds of errors to how often they were seen in raw requests, in the order of the routes given.

    Args:
        connection: Where the tables are.
        since: The first hour that counts.
        until: The last.
        wanted: Routes and methods.
        hours: So many of the last hours with a 5xx are looked at, for each route and method.
        sample: And in each hour so many of the route's requests, the latest ones.
    """
    parameters = {
        "since": since,
        "until": until,
        "routes": [each.route for each in wanted],
        "methods": [each.method for each in wanted],
        "hours": hours,
        "sample": sample,
    }
    found: list[dict[str, int]] = [{} for _ in wanted]
    for place, error_type, requests in connection.execute(_QUERIES["error_types"], parameters):
        found[place - 1][error_type] = requests
    return found


@translated()
def route_durations(connection: Connection, since: dt.datetime, until: dt.datetime) -> list[RouteDurations]:
    """How long every route and method took in the span, in no order."""
    parameters = {"since": since, "until": until}
    histograms: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for route, method, bucket, requests in connection.execute(_QUERIES["route_histograms"], parameters):
        histograms[route, method][bucket] = requests
    return [
        RouteDurations(route, method, requests, seconds, histograms[route, method])
        for route, method, requests, seconds in connection.execute(_QUERIES["route_totals"], parameters)
    ]


@translated()
def user_shares(
    connection: Connection,
    since: dt.datetime,
    until: dt.datetime,
    *,
    route: str | None,
    places: Sequence[int],
) -> UserShares:
    """How the raw requests of a span are spread over users, who stay unnamed.

    Args:
        connection: Where the tables are.
        since: The first moment that counts.
        until: The last.
        route: The one route that counts; None for all.
        places: For so many of the users with most requests it is said what they sent together.
    """
    parameters = {"since": since, "until": until, "route": route, "places": list(places)}
    up_to: dict[int, int] = {}
    anonymous = users = requests = 0
    for place, requests_up_to, counted in connection.execute(_QUERIES["user_shares"], parameters):
        if place:
            up_to[place] = requests = requests_up_to
            users = counted
        else:
            anonymous = requests_up_to
    return UserShares(users, requests, anonymous, up_to)


@translated()
def top_users(
    connection: Connection, since: dt.datetime, until: dt.datetime, *, route: str | None, limit: int
) -> dict[str, int]:
    """User id to raw requests, most first; arguments as those of `user_shares`."""
    parameters = {"since": since, "until": until, "route": route, "limit": limit}
    return dict(connection.execute(_QUERIES["top_users"], parameters).fetchall())


def _courses(found: Sequence[tuple[Any, ...]]) -> dict[tuple[str, str], Course]:
    courses: defaultdict[tuple[str, str], Course] = defaultdict(dict)
    for first, second, slot, figure in found:
        courses[first, second][slot] = figure
    return courses
