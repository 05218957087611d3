"""Requests for the tests of the replay, and a cache that does it one request at a time."""

from dataclasses import dataclass, field
from typing import Any

from otel_analytics.analyze.replay import CacheModel
from otel_analytics.request_columns import ERROR, KEYED, SAFE, STORABLE, RequestColumns, columns

SECOND = 1_000_000
GOOD = SAFE | KEYED | STORABLE
BAD = SAFE | KEYED | ERROR


@dataclass
class Request:
    """One request; times in seconds."""

    start: float
    duration: float = 0.0
    key: int = 1
    user: int = 0
    body: int = 0
    size: int = -1
    queries: int = -1
    group: int = 0
    flags: int = GOOD

    @property
    def start_us(self) -> int:
        return round(self.start * SECOND) + 3_600 * SECOND

    @property
    def duration_us(self) -> int:
        return round(self.duration * SECOND)

    @property
    def end_us(self) -> int:
        return self.start_us + self.duration_us


def trace(requests: list[Request]) -> RequestColumns:
    rows = [
        (r.start_us, r.duration_us, r.key, r.user, r.body, r.size, r.queries, r.group, r.flags)
        for r in requests
    ]
    return columns(*zip(*rows, strict=True)) if rows else columns(*((),) * 9)


@dataclass
class _Group:
    figures: dict[str, int] = field(default_factory=dict)
    by_hour: dict[int, list[int]] = field(default_factory=dict)
    entries: list[tuple[int, int]] = field(default_factory=list)

    def add(self, name: str, value: int) -> None:
        self.figures[name] = self.figures.get(name, 0) + value


def naive(  # noqa: C901 - one loop, as plain as can be
    requests: list[Request], ttl: float, model: CacheModel
) -> dict[int, dict[str, Any]]:
    """What the rules of docs/replay.md say, for each group: a loop over requests, a dictionary, no numpy."""
    ttl_us = round(ttl * SECOND)
    flights: dict[Any, list[Request]] = {}
    copies: dict[Any, tuple[int, Request]] = {}
    groups: dict[int, _Group] = {}

    def land(key: Any, now: int | None) -> None:
        """Store the answer that was ready first, once it is."""
        if key in flights:
            first = min(flights[key], key=lambda each: each.end_us)
            if now is None or first.end_us <= now:
                del flights[key]
                copies[key] = (first.end_us, first)
                group = groups[first.group]
                group.add("stored", 1)
                group.entries.append((first.end_us, max(first.size, 0) + model.entry_overhead_bytes))

    for r in requests:
        group = groups.setdefault(r.group, _Group())
        group.add("requests", 1)
        hour = group.by_hour.setdefault(r.start_us // (3_600 * SECOND), [0, 0])
        hour[0] += 1
        if not (r.flags & SAFE and r.flags & KEYED) or (model.per_user and not r.user):
            continue
        key = (r.key, r.user) if model.per_user else r.key
        land(key, r.start_us)
        served, wait = None, 0
        if key in copies and r.start_us - copies[key][0] < ttl_us:
            served = copies[key][1]
        elif key in flights and model.single_flight:
            served = flights[key][0]
            wait = served.end_us - r.start_us
        if served is None:
            copies.pop(key, None)
            if r.flags & STORABLE:
                flights.setdefault(key, []).append(r)
            continue
        hour[1] += 1
        group.add("hits", 1)
        group.add("joined", wait > 0)
        group.add("saved_us", max(0, r.duration_us - model.latency_us - wait))
        group.add("saved_queries", max(0, r.queries))
        group.add("saved_bytes", max(0, r.size))
        group.add("masked_errors", bool(r.flags & ERROR))
        if r.body and served.body:
            foreign = bool(r.user and served.user and r.user != served.user)
            group.add("compared", 1)
            group.add("stale", r.body != served.body)
            group.add("foreign", foreign)
            group.add("foreign_stale", foreign and r.body != served.body)
    for key in list(flights):
        land(key, None)
    return {
        number: {
            **group.figures,
            "peak_bytes": max(
                (
                    sum(size for since, size in group.entries if since <= now < since + ttl_us)
                    for now, _ in group.entries
                ),
                default=0,
            ),
            "busiest": max(group.by_hour.items(), key=lambda item: (item[1][0], -item[0]))[1],
        }
        for number, group in groups.items()
    }
