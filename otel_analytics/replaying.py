"""The raw requests of the last days, replayed with both keys in one pass."""

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from otel_analytics import evidence
from otel_analytics.analyze import savings
from otel_analytics.analyze.basis import Basis
from otel_analytics.analyze.replay import CacheModel, History, Replay
from otel_analytics.analyze.savings import Pattern
from otel_analytics.settings import Settings
from otel_analytics.store.connection import Connection
from otel_analytics.store.replay import RequestStream

_HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True)
class Replayed:
    """What a replay found, and what it rests on.

    Attributes:
        patterns: In no order; without those that were too many to be kept apart.
        basis: What was replayed; the requests of patterns that were too many stand beside the others.
        history: The same as the rules and caveats want it, with all requests.
    """

    patterns: list[Pattern]
    basis: Basis
    history: History


def replay_both_keys(
    connection: Connection,
    settings: Settings,
    *,
    now: dt.datetime,
    route: str | None = None,
    min_requests: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Replayed:
    """Replay a cache with a key that all users share, and one with a key for each user.

    To be used inside `connection.snapshot`.

    Args:
        connection: Where the tables are.
        settings: For `days` and `cache_latency_ms`.
        now: The present.
        route: Only this one; None for all.
        min_requests: Patterns with fewer requests get no options.
        progress: Told how far it has come.

    Raises:
        NotMigrated: The tables are missing.
        StoreUnavailable: PostgreSQL does not answer.
    """
    since = now - dt.timedelta(days=settings.days)
    shared = Replay(CacheModel(latency_ms=settings.cache_latency_ms))
    per_user = Replay(CacheModel(latency_ms=settings.cache_latency_ms, per_user=True))
    stream = RequestStream(connection, since, now, route=route)
    hours: set[int] = set()
    first_us = None
    requests = 0
    progress("Replaying requests")
    # numpy mostly lets go of the interpreter: side by side, the two take 0.6 of the time.
    with ThreadPoolExecutor(1) as beside:
        for chunk in stream.chunks():
            fed = beside.submit(per_user.feed, chunk)
            shared.feed(chunk)
            fed.result()
            hours.update(np.unique(chunk.start_us // _HOUR_US).tolist())
            first_us = int(chunk.start_us[0]) if first_us is None else first_us
            requests += len(chunk)
            progress(f"Replaying requests: {requests:,}")
    names = stream.names()
    patterns = [
        savings.pattern(names[one.group], one, own)
        for one, own in zip(
            shared.result(min_requests=min_requests), per_user.result(min_requests=min_requests), strict=True
        )
        if one.group < len(names)
    ]
    of_patterns = sum(each.evidence.requests for each in patterns)
    basis = evidence.basis(
        connection,
        [dt.datetime.fromtimestamp(hour * 3_600, dt.UTC) for hour in sorted(hours)],
        days=settings.days,
        requests=of_patterns,
        overflow_requests=requests - of_patterns,
    )
    history = History.of(since, now, first_us=first_us, requests=requests, coverage=basis.coverage)
    return Replayed(patterns, basis, history)
