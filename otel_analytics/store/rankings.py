"""What a ranking reads: hourly figures taken together, and a sample of raw requests."""

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from otel_analytics.figures import Histogram, PatternFigures, RequestForm
from otel_analytics.store.connection import Connection, snapshot, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("rankings")


@contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """Every statement inside sees one state of the database, and has the memory that large groups need."""
    with snapshot(connection):
        connection.execute(_QUERIES["make_quick"])
        yield


@translated()
def hours(connection: Connection, since: dt.datetime, until: dt.datetime) -> list[dt.datetime]:
    """The hours that have figures and begin in the span, both ends included; oldest first."""
    return [hour for (hour,) in connection.execute(_QUERIES["hours"], {"since": since, "until": until})]


@translated()
def latest_hour(connection: Connection) -> dt.datetime | None:
    """The last hour that has figures, of all times."""
    hour: dt.datetime | None
    (hour,) = connection.execute(_QUERIES["latest_hour"]).fetchone() or (None,)
    return hour


@translated()
def patterns(connection: Connection, since: dt.datetime, until: dt.datetime) -> list[PatternFigures]:
    """Every route, method and pattern with figures in the span, in no order.

    Those that are no candidates for a cache are among them; see `analyze.candidates`.
    """
    found = connection.execute(_QUERIES["patterns"], {"since": since, "until": until})
    return [PatternFigures(*row) for row in found]


@translated()
def histograms(
    connection: Connection, hours: Sequence[dt.datetime], wanted: Sequence[PatternFigures]
) -> list[Histogram]:
    """The durations of patterns over all of the hours, in the order in which the patterns are given.

    Args:
        connection: Where the tables are.
        hours: One or more, oldest first; see `hours`.
        wanted: The patterns.
    """
    parameters = {
        "routes": [each.route for each in wanted],
        "methods": [each.method for each in wanted],
        "patterns": [each.pattern for each in wanted],
        "hours": list(hours),
        "since": hours[0],
        "until": hours[-1],
    }
    merged: list[dict[int, int]] = [{} for _ in wanted]
    for place, bucket, requests in connection.execute(_QUERIES["histograms"], parameters):
        merged[place - 1][bucket] = requests
    return list(merged)


@translated()
def request_forms(
    connection: Connection, since: dt.datetime, until: dt.datetime, routes: Sequence[str], *, sample: int
) -> list[RequestForm]:
    """In which forms the patterns of some routes were requested.

    Args:
        connection: Where the tables are.
        since: The first moment that counts.
        until: The last.
        routes: The templates.
        sample: Raw requests of a route that are looked at, the latest ones. It bounds the cost.
    """
    parameters = {"routes": sorted(set(routes)), "since": since, "until": until, "sample": sample}
    return [
        RequestForm(route, method, pattern, json.loads(varying), requests)
        for route, method, pattern, varying, requests in connection.execute(
            _QUERIES["request_forms"], parameters
        )
    ]
