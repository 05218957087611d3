"""The daily partitions of the raw table. Days are UTC.

They are made and dropped by functions of the database, because only the owner of the table may do that, and
the role of the worker need not be the owner.
"""

import datetime as dt
import re
from collections.abc import Iterable
from typing import Final

from otel_analytics.errors import StoreUnavailable
from otel_analytics.store.connection import Connection, transaction, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("partitions")
_NAME: Final = re.compile(r"route_analytics_y(\d{4})m(\d{2})d(\d{2})")


def oldest_day(now: dt.datetime, retention_days: int) -> dt.date:
    """The oldest day whose raw events are kept; the day that ends `retention_days` ago goes at midnight."""
    return now.astimezone(dt.UTC).date() - dt.timedelta(days=retention_days)


def days_from(first: dt.date, last: dt.date) -> list[dt.date]:
    """Every day from the first to the last, both included."""
    return [first + dt.timedelta(days=offset) for offset in range((last - first).days + 1)]


@translated()
def existing_days(connection: Connection) -> set[dt.date]:
    """The days that have a partition."""
    names = (name for (name,) in connection.execute(_QUERIES["names"]))
    matches = (_NAME.fullmatch(name) for name in names)
    return {dt.date(*map(int, match.groups())) for match in matches if match}


def ensure(connection: Connection, days: Iterable[dt.date]) -> list[dt.date]:
    """Make the partitions that are missing; safe from several places at once.

    Returns:
        The days whose partition this call made.

    Raises:
        NotMigrated: The raw table is missing.
        StoreUnavailable: The server does not answer, or does not allow it.
    """
    wanted = set(days)
    if wanted <= existing_days(connection):
        return []
    with transaction(connection):
        connection.execute(_QUERIES["lock"])
        missing = sorted(wanted - existing_days(connection))
        for day in missing:
            connection.execute(_QUERIES["make"], {"day": day})
    return missing


def drop_before(connection: Connection, oldest: dt.date) -> list[dt.date]:
    """Drop the partitions of days before `oldest`.

    A partition that a long query holds is left for the next time, so that nothing queues up behind the drop.

    Returns:
        The days whose partition is gone.
    """
    dropped = []
    for day in sorted(day for day in existing_days(connection) if day < oldest):
        try:
            with transaction(connection):
                connection.execute(_QUERIES["drop"], {"day": day})
        except StoreUnavailable:
            if connection.closed:
                raise
            continue
        dropped.append(day)
    return dropped


def hold(connection: Connection, day: dt.date) -> bool:
    """Whether the day has a partition; if so, it stays until the end of the transaction."""
    with translated():
        connection.execute(_QUERIES["hold"])
    return day in existing_days(connection)
