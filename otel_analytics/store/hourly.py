"""Hourly figures, recomputed from the raw rows of an hour."""

import datetime as dt
import json
from typing import Final, NamedTuple

from otel_analytics.record import OVERFLOW_PATTERN
from otel_analytics.store import partitions
from otel_analytics.store.connection import LONG_STATEMENT_SECONDS, Connection, transaction, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("hourly")

MAX_PATTERN_BYTES: Final = 1_000
"""Of a pattern's text. It is part of a key, and a b-tree entry holds at most 2,704 bytes."""


class Recomputed(NamedTuple):
    """What a recompute changed; nothing on a second run over the same raw rows."""

    written: int
    removed: int


@translated()
def touched_hours(connection: Connection) -> list[dt.datetime]:
    """The hours whose raw rows changed since they were last recomputed, oldest first."""
    return [hour for (hour,) in connection.execute(_QUERIES["touched_hours"])]


def recompute(
    connection: Connection, hour: dt.datetime, *, max_patterns: int, wait: bool
) -> Recomputed | None:
    """Make the figures of one hour what its raw rows say, and take away the marks that this has seen.

    Args:
        connection: Where the tables are.
        hour: The beginning of the hour.
        max_patterns: Parameter patterns kept apart per route; those with fewest requests are summed in one
            row for each method, as are patterns longer than `MAX_PATTERN_BYTES`.
        wait: Whether to wait for another worker that is at this hour; else leave the hour to it.

    Returns:
        What changed; None where another worker is at it, or where the raw partition is gone: then the figures
        stay as they are.

    Raises:
        StoreUnavailable: The server does not answer, or does not accept writes.
    """
    parameters = {
        "hour": hour,
        "max_patterns": max_patterns,
        "max_pattern_bytes": MAX_PATTERN_BYTES,
        "overflow": json.dumps(OVERFLOW_PATTERN),
    }
    with transaction(connection, statement_seconds=LONG_STATEMENT_SECONDS):
        (locked,) = connection.execute(
            _QUERIES["lock" if wait else "try_lock"], {"hour": hour}
        ).fetchone() or (False,)
        if not locked:
            return None
        connection.execute(_QUERIES["remove_marks"], {"hour": hour})
        if not partitions.hold(connection, hour.astimezone(dt.UTC).date()):
            return None
        connection.execute(_QUERIES["make_quick"])
        # One statement sees one state of the raw rows. A commit since the marks were removed left a mark of
        # its own, whether this sees its rows or not.
        connection.execute(_QUERIES["compute"], parameters)
        written, removed = connection.execute(_QUERIES["write"], {"hour": hour}).fetchone() or (0, 0)
    return Recomputed(int(written), int(removed))


@translated()
def forget(connection: Connection, before: dt.datetime) -> int:
    """Delete the figures of hours before a time; returns the number of rows."""
    return connection.execute(_QUERIES["forget"], {"before": before}).rowcount
