"""Partitions made ahead, and what is older than its retention taken away."""

import datetime as dt
from dataclasses import dataclass

from otel_analytics.settings import Settings
from otel_analytics.store import hourly, kept_rankings, ledger, partitions
from otel_analytics.store.connection import Connection


@dataclass(frozen=True)
class Maintained:
    """What a maintenance run changed.

    Attributes:
        partitions_made: Days that got a partition.
        partitions_dropped: Days whose raw events are gone.
        hourly_rows_deleted: Rows of hours that are no longer kept.
    """

    partitions_made: list[dt.date]
    partitions_dropped: list[dt.date]
    hourly_rows_deleted: int


def maintain(connection: Connection, settings: Settings, *, now: dt.datetime) -> Maintained:
    """Make the partitions of today and the days ahead, and drop what is older than its retention.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer, or does not accept writes.
    """
    today = now.astimezone(dt.UTC).date()
    ahead = partitions.days_from(today, today + dt.timedelta(days=settings.partitions_ahead_days))
    forgotten = now - dt.timedelta(days=settings.hourly_retention_days)
    made = partitions.ensure(connection, ahead)
    dropped = partitions.drop_before(connection, partitions.oldest_day(now, settings.raw_retention_days))
    ledger.forget_drops(connection, forgotten)
    kept_rankings.forget(connection, forgotten)
    return Maintained(made, dropped, hourly.forget(connection, forgotten))


def partitions_ahead(connection: Connection, *, now: dt.datetime) -> int:
    """How many days after today have a partition without a gap; -1 where today has none.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    existing, day = partitions.existing_days(connection), now.astimezone(dt.UTC).date()
    ahead = -1
    while day in existing:
        ahead, day = ahead + 1, day + dt.timedelta(days=1)
    return ahead
