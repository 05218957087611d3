"""Raw events, written in batches."""

import datetime as dt
from collections.abc import Iterable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Final, NamedTuple

from psycopg import errors

from otel_analytics.errors import RejectedRows
from otel_analytics.record import Event
from otel_analytics.store import partitions
from otel_analytics.store.connection import Connection, MissingPartition, transaction
from otel_analytics.store.queries import load
from otel_analytics.store.rows import binary_rows

_QUERIES: Final = load("events")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_HOUR_US: Final = 3_600_000_000
_key: Final = attrgetter("timestamp_us", "event_id")


class _AlreadyStored(Exception):  # noqa: N818
    """An event of the batch is in the table; what was begun is undone."""


class Rejection(NamedTuple):
    """An event that PostgreSQL refuses: its place in the batch, from 0, and why."""

    place: int
    reason: str


class Prepared(NamedTuple):
    """Events encoded ahead, so that the transaction that stores them waits for nothing but the server.

    Attributes:
        events: As they were given.
        in_key_order: Their places, sorted by key: transactions that overlap then wait for each other and
            never deadlock.
        rows: For COPY, in that order; None where there are none, or a value is none that its column can hold.
        hours: Those that they touch.
    """

    events: Sequence[Event]
    in_key_order: list[int]
    rows: bytes | None
    hours: list[dt.datetime]


class Inserted(NamedTuple):
    """What became of a batch; what is neither stored nor rejected was there already."""

    stored: int
    rejected: list[Rejection]


def insert_events(connection: Connection, events: Sequence[Event]) -> int:
    """Store a batch and mark the hours it touches, in one transaction, or in a savepoint of the current one.

    Events that are there already are left alone.

    Returns:
        How many events were not there before.

    Raises:
        RejectedRows: At least one event can never be stored; none of them is.
        MissingPartition: A day has no partition; see `partitions.ensure`.
        NotMigrated: The tables are missing.
        StoreUnavailable: The server does not answer, or does not accept writes.
    """
    if not events:
        return 0
    return _insert(connection, len(events), binary_rows(sorted(events, key=_key)), _hours(events))


def prepare(events: Sequence[Event]) -> Prepared:
    """Sort and encode a batch for `insert_or_reject`; no connection is needed for that."""
    in_key_order = sorted(range(len(events)), key=[_key(event) for event in events].__getitem__)
    rows = None
    if events:
        with suppress(RejectedRows):  # which of them is found out while the others are stored
            rows = binary_rows([events[place] for place in in_key_order])
    return Prepared(events, in_key_order, rows, _hours(events))


def insert_or_reject(connection: Connection, batch: Prepared) -> Inserted:
    """Like `insert_events`, but find the events that can never be stored and store the others.

    Raises:
        MissingPartition: A day has no partition; nothing is stored.
        NotMigrated: The tables are missing.
        StoreUnavailable: The server does not answer, or does not accept writes.
    """
    if batch.rows is not None:
        with suppress(RejectedRows):  # which of them is found out below
            stored = _insert(connection, len(batch.events), batch.rows, batch.hours)
            return Inserted(stored, [])
    with transaction(connection):
        return _bisect(connection, batch.events, batch.in_key_order)


def insert_making_partitions(
    connection: Connection, events: Sequence[Event], *, first_day: dt.date, last_day: dt.date = dt.date.max
) -> Inserted:
    """Like `insert_or_reject`, but make partitions that are missing; for writers without a worker.

    Args:
        connection: Where the tables are.
        events: The batch.
        first_day: Events of earlier days are rejected; see `partitions.oldest_day`.
        last_day: Events of later days are rejected: a clock that is wrong must not fill the database with
            partitions.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: The server does not answer, or does not accept writes.
    """
    days = [utc_day(event.timestamp_us) for event in events]
    kept = [place for place, day in enumerate(days) if first_day <= day <= last_day]
    batch = prepare([events[place] for place in kept])
    try:
        inserted = insert_or_reject(connection, batch)
    except MissingPartition:
        partitions.ensure(connection, {days[place] for place in kept})
        inserted = insert_or_reject(connection, batch)
    outside = [
        Rejection(place, "older than the days that are kept" if day < first_day else "too far in the future")
        for place, day in enumerate(days)
        if not first_day <= day <= last_day
    ]
    refused = [Rejection(kept[place], reason) for place, reason in inserted.rejected]
    return Inserted(inserted.stored, outside + refused)


def utc_day(timestamp_us: int) -> dt.date:
    """The UTC day of a time in microseconds since 1970."""
    return (_EPOCH + dt.timedelta(microseconds=timestamp_us)).date()


def _bisect(connection: Connection, events: Sequence[Event], places: list[int]) -> Inserted:
    if not places:
        return Inserted(0, [])
    try:
        return Inserted(insert_events(connection, [events[place] for place in places]), [])
    except RejectedRows as error:
        if len(places) == 1:
            return Inserted(0, [Rejection(places[0], str(error))])
    # Lower half first: the order of keys holds over the halves, too.
    middle = len(places) // 2
    lower = _bisect(connection, events, places[:middle])
    upper = _bisect(connection, events, places[middle:])
    return Inserted(lower.stored + upper.stored, lower.rejected + upper.rejected)


def _insert(connection: Connection, count: int, rows: bytes, hours: list[dt.datetime]) -> int:
    """Store so many events, and mark their hours; returns how many were not there before."""
    try:
        with transaction(connection):
            _copy(connection, "copy", rows)
            connection.execute(_QUERIES["mark"], {"hours": hours})
    except _AlreadyStored:
        return _merge(connection, rows)
    return count


def _copy(connection: Connection, statement: str, rows: bytes) -> None:
    try:
        with connection.cursor() as cursor, cursor.copy(_QUERIES[statement]) as copy:
            copy.write(rows)
    except errors.UniqueViolation as error:
        raise _AlreadyStored from error


def _merge(connection: Connection, rows: bytes) -> int:
    """Store what is not there yet: by a table of its own, since COPY knows no exceptions."""
    with transaction(connection):
        connection.execute(_QUERIES["prepare_incoming"])
        _copy(connection, "copy_incoming", rows)
        (stored,) = connection.execute(_QUERIES["store_incoming"]).fetchone() or (0,)
    return int(stored)


def _hours(events: Iterable[Event]) -> list[dt.datetime]:
    hours = {event.timestamp_us // _HOUR_US for event in events}
    return [_EPOCH + dt.timedelta(hours=hour) for hour in sorted(hours)]
