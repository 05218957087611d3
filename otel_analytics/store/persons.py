"""What PostgreSQL knows of one person, taken out of it."""

import datetime as dt
from collections.abc import Collection
from typing import Final

from otel_analytics.record import REDACTED
from otel_analytics.store.connection import Connection, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("persons")
_ONE_DAY: Final = dt.timedelta(days=1)


@translated()
def delete_events(connection: Connection, names: Collection[str], day: dt.date) -> int:
    """Delete the raw events of a user on one UTC day and mark their hours; returns how many there were.

    Args:
        connection: Of a role that may delete.
        names: The user id in the forms in which it may be stored.
        day: A day that has a partition.
    """
    return _count(connection, "delete_events", {"names": list(names), **_span(day)})


@translated()
def hide_in_events(connection: Connection, mention: str, day: dt.date) -> int:
    """Hide what raw events of others on one UTC day say of a user, and mark their hours; returns how many.

    Args:
        connection: Of a role that may update.
        mention: A regular expression of PostgreSQL for what is put out of sight, whatever the case.
        day: A day that has a partition.
    """
    return _count(connection, "hide_in_events", {"mention": mention, "instead": REDACTED, **_span(day)})


@translated()
def hide_in_figures(connection: Connection, mention: str) -> int:
    """Take a user out of parameter patterns in hourly figures and kept rankings; returns how many rows.

    The hours that can be recomputed are to be recomputed before.

    Args:
        connection: Of a role that may update and delete.
        mention: As for `hide_in_events`.
    """
    values = {"mention": mention, "instead": REDACTED}
    return sum(
        connection.execute(_QUERIES[name], values).rowcount for name in ("delete_hourly", "hide_in_rankings")
    )


@translated()
def vacuum(connection: Connection) -> None:
    """Free the place of what was deleted."""
    connection.execute(_QUERIES["vacuum"])


def _count(connection: Connection, name: str, values: dict[str, object]) -> int:
    (found,) = connection.execute(_QUERIES[name], values).fetchone() or (0,)
    return int(found)


def _span(day: dt.date) -> dict[str, object]:
    since = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    return {"since": since, "until": since + _ONE_DAY}
