"""Which hours to recompute, and when; how is `store.hourly`."""

import datetime as dt
from collections.abc import Callable
from typing import Final

from otel_analytics.errors import UsageError
from otel_analytics.settings import Settings
from otel_analytics.store import hourly, partitions
from otel_analytics.store.connection import Connection

HOUR: Final = dt.timedelta(hours=1)
CURRENT_HOUR_SHARE: Final = 20
"""The current hour rests this many times as long as its last recompute took, so it costs 5 % of the time at
most."""


def start_of_hour(moment: dt.datetime) -> dt.datetime:
    """The beginning of the UTC hour of a moment."""
    return moment.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def rollup_touched(
    connection: Connection,
    settings: Settings,
    *,
    now: dt.datetime,
    include_current: bool = True,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Recompute the hours whose raw rows changed; returns how many hours that were.

    Args:
        connection: Where the tables are.
        settings: For `max_patterns_per_route`.
        now: The present.
        include_current: Whether hours that are not over yet are recomputed, too.
        stop: Asked before each hour; the hours that are left keep their marks.

    Raises:
        StoreUnavailable: PostgreSQL does not answer, or does not accept writes. What is done is done.
    """
    current = start_of_hour(now)
    done = 0
    for hour in hourly.touched_hours(connection):
        if stop() or (hour >= current and not include_current):
            break
        changed = hourly.recompute(connection, hour, max_patterns=settings.max_patterns_per_route, wait=False)
        done += changed is not None
    return done


def rollup_range(
    connection: Connection,
    settings: Settings,
    *,
    since: dt.datetime,
    until: dt.datetime,
    progress: Callable[[dt.datetime], None] | None = None,
) -> int:
    """Recompute every hour of a range, whether marked or not; returns how many hours that were.

    Hours without a raw partition are left as they are.

    Args:
        connection: Where the tables are.
        settings: For `max_patterns_per_route`.
        since: The first moment of the range; its hour is recomputed as a whole.
        until: The range ends before this moment.
        progress: Told each hour before it is recomputed.

    Raises:
        UsageError: The range is empty.
        StoreUnavailable: PostgreSQL does not answer, or does not accept writes. What is done is done.
    """
    if since >= until:
        raise UsageError("the range is empty: --since must be before --until")
    days = sorted(partitions.existing_days(connection))
    done = 0
    for day in days:
        midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
        for hour in (midnight + offset * HOUR for offset in range(24)):
            if hour + HOUR <= since or hour >= until:
                continue
            if progress is not None:
                progress(hour)
            changed = hourly.recompute(
                connection, hour, max_patterns=settings.max_patterns_per_route, wait=True
            )
            done += changed is not None
    return done


class Schedule:
    """When to recompute: hours that are over at an interval, the current one at a bounded share of time."""

    def __init__(self, interval_seconds: float) -> None:
        """Everything is due at once.

        Args:
            interval_seconds: The setting `rollup_interval_seconds`.
        """
        self._interval = interval_seconds
        self._due = float("-inf")
        self._current_due = float("-inf")

    def is_due(self, seconds: float) -> bool:
        """Whether marked hours are to be recomputed at this moment of a monotonic clock."""
        return seconds >= self._due

    def is_current_due(self, seconds: float) -> bool:
        """Whether the current hour is to be among them."""
        return seconds >= self._current_due

    def done(self, seconds: float) -> None:
        """Note that the hours that are over have been recomputed."""
        self._due = seconds + self._interval

    def current_done(self, seconds: float, took_seconds: float) -> None:
        """Note that the current hour has been recomputed, and what it cost."""
        self._current_due = seconds + max(self._interval, CURRENT_HOUR_SHARE * took_seconds)
