"""How a route fares over time, against the span of the same length before."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from otel_analytics.analyze.histogram import percentile_ms
from otel_analytics.figures import SlotFigures

HOUR: Final = dt.timedelta(hours=1)
DAY: Final = dt.timedelta(days=1)
SHORT_DAYS: Final = 2
"""Spans of so many days or fewer are told by the hour."""

NOTHING: Final = SlotFigures(0, 0, 0.0, {})


class Slots(NamedTuple):
    """A span cut into slots. Only hours that are over count, so that each can be compared.

    Attributes:
        since: Where the first slot begins.
        until: The beginning of the last hour that counts.
        length: Of a slot, an hour or a day; the last may be cut short.
        before: How far back the span to compare with lies.
    """

    since: dt.datetime
    until: dt.datetime
    length: dt.timedelta
    before: dt.timedelta

    @property
    def number(self) -> int:
        """Slots that have begun."""
        return int((self.until - self.since) / self.length) + 1

    def start(self, slot: int) -> dt.datetime:
        """Where a slot begins."""
        return self.since + slot * self.length

    def hours(self, slot: int) -> int:
        """How many hours of a slot are over."""
        end = min(self.start(slot) + self.length, self.until + HOUR)
        return int((end - self.start(slot)) / HOUR)


class Trend(NamedTuple):
    """One slot and what it is compared with.

    Attributes:
        slot: The first is 0.
        figures: Of the slot.
        p95_ms: Of the slot; None where it has no requests.
        requests_change: Against the same slot of the span before, as a share: 0.1 is a tenth more; None where
            there is nothing to compare.
        p95_change: The same of the p95.
    """

    slot: int
    figures: SlotFigures
    p95_ms: float | None
    requests_change: float | None
    p95_change: float | None


def slots(current_hour: dt.datetime, days: int) -> Slots:
    """Calendar days (UTC), today so far included; by the hour where they are few.

    Args:
        current_hour: The beginning of the hour that is not over yet.
        days: How many.
    """
    if days <= SHORT_DAYS:
        return Slots(current_hour - days * DAY, current_hour - HOUR, HOUR, days * DAY)
    last = current_hour - HOUR
    midnight = last.replace(hour=0)
    return Slots(midnight - (days - 1) * DAY, last, DAY, days * DAY)


def trends(slots: Slots, now: Mapping[int, SlotFigures], before: Mapping[int, SlotFigures]) -> list[Trend]:
    """The slots in order, from the first on that has requests in one of the spans."""
    first = min([*now, *before], default=0)
    return [
        compared(slot, now.get(slot, NOTHING), before.get(slot, NOTHING))
        for slot in range(first, slots.number)
    ]


def compared(slot: int, now: SlotFigures, before: SlotFigures) -> Trend:
    """Figures beside those before them."""
    p95, p95_before = percentile_ms(now.histogram, 0.95), percentile_ms(before.histogram, 0.95)
    return Trend(
        slot,
        now,
        p95,
        _change(now.total_requests, before.total_requests or None),
        _change(p95, p95_before),
    )


def together(slots: Iterable[SlotFigures]) -> SlotFigures:
    """All of them as one."""
    slots = list(slots)
    merged: dict[int, int] = {}
    for each in slots:
        for bucket, requests in each.histogram.items():
            merged[bucket] = merged.get(bucket, 0) + requests
    return SlotFigures(
        sum(each.total_requests for each in slots),
        sum(each.server_errors for each in slots),
        sum(each.total_seconds for each in slots),
        merged,
    )


def _change(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now / before - 1
