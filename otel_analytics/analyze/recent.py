"""The last minutes, from events as they come. Memory is bounded, however many there are."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from otel_analytics.analyze.histogram import GROWTH, percentile_ms
from otel_analytics.record import Event

SLOTS: Final = 60
"""Into which the window is cut; the last has just begun, so the window is shorter by up to one of them."""
MAX_ROUTES: Final = 500
"""Kept apart in a slot; the requests of further ones are summed under `OTHER_ROUTES`."""
OTHER_ROUTES: Final = ("(other routes)", "-")

_FIRST_SERVER_ERROR: Final = 500
_LEAST_MS: Final = 0.001

RouteKey = tuple[str, str]
"""Route and method."""


class RecentFigures(NamedTuple):
    """Requests of the window; of all routes or of one.

    Attributes:
        requests: All of them.
        server_errors: Answered 5xx.
        total_seconds: Spent on all of them.
        p50_ms: None where there are no requests.
        p95_ms: None where there are no requests.
    """

    requests: int
    server_errors: int
    total_seconds: float
    p50_ms: float | None
    p95_ms: float | None


class Frame(NamedTuple):
    """The window at one moment.

    Attributes:
        total: All routes together.
        routes: By route and method, most requests first.
        course: Requests in each slot, oldest first.
        outside: Events that came since the start and were far older than the window, or of the future.
    """

    total: RecentFigures
    routes: dict[RouteKey, RecentFigures]
    course: list[int]
    outside: int


@dataclass
class _Sum:
    requests: int = 0
    server_errors: int = 0
    total_ms: float = 0.0
    histogram: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def merge(self, other: "_Sum") -> None:
        self.requests += other.requests
        self.server_errors += other.server_errors
        self.total_ms += other.total_ms
        for bucket, requests in other.histogram.items():
            self.histogram[bucket] += requests

    def figures(self) -> RecentFigures:
        return RecentFigures(
            self.requests,
            self.server_errors,
            self.total_ms / 1_000,
            percentile_ms(self.histogram, 0.5),
            percentile_ms(self.histogram, 0.95),
        )


class Window:
    """The last so many seconds, by the start of the requests."""

    def __init__(self, seconds: float) -> None:
        """Nothing was seen yet.

        Args:
            seconds: How long an event counts.
        """
        self._slot_seconds: Final = seconds / SLOTS
        self._slots: dict[int, dict[RouteKey, _Sum]] = {}
        self._outside = 0

    def add(self, events: Iterable[Event], now: float) -> None:
        """Take events in, in any order.

        Args:
            events: Those far older than the window are only counted, and so are those of the future.
            now: Seconds since 1970.
        """
        last = self._slot(now)
        for event in events:
            slot = self._slot(event.timestamp_us / 1e6)
            # Clocks differ by a little.
            if not last - SLOTS < slot <= last + 1:
                # Just left the window, as many did when the view began, is no other time.
                self._outside += not last - 2 * SLOTS < slot <= last
                continue
            routes = self._slots.setdefault(min(slot, last), {})
            key = (event.route, event.method)
            if key not in routes and len(routes) >= MAX_ROUTES:
                key = OTHER_ROUTES
            found = routes.setdefault(key, _Sum())
            found.requests += 1
            found.server_errors += event.status_code >= _FIRST_SERVER_ERROR
            found.total_ms += event.duration_ms
            found.histogram[_bucket(event.duration_ms)] += 1

    def frame(self, now: float) -> Frame:
        """What the window holds at a moment, seconds since 1970."""
        last = self._slot(now)
        for old in [slot for slot in self._slots if slot <= last - SLOTS]:
            del self._slots[old]
        total = _Sum()
        routes: defaultdict[RouteKey, _Sum] = defaultdict(_Sum)
        course = [0] * SLOTS
        for slot, found in self._slots.items():
            for key, each in found.items():
                routes[key].merge(each)
                course[SLOTS - 1 - max(0, last - slot)] += each.requests
        for each in routes.values():
            total.merge(each)
        ordered = sorted(routes.items(), key=lambda item: (-item[1].requests, item[0]))
        return Frame(total.figures(), {key: each.figures() for key, each in ordered}, course, self._outside)

    def _slot(self, seconds: float) -> int:
        return math.floor(seconds / self._slot_seconds)


def _bucket(milliseconds: float) -> int:
    return math.ceil(math.log(max(milliseconds, _LEAST_MS)) / math.log(GROWTH))
