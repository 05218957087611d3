"""Rankings as they were at a moment, kept so that later ones can be compared with them."""

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

from otel_analytics.store.connection import Connection, transaction, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("kept_rankings")

RankingName = Literal["absolute", "relative", "savings"]


class KeptRow(NamedTuple):
    """A place in a ranking.

    Attributes:
        ranking: Which.
        rank: From 1 on.
        route: The template.
        method: A known HTTP method or `_OTHER`.
        pattern: The normalised parameters, as the JSON text that PostgreSQL makes of them.
        score: What the ranking is sorted by; of savings, the seconds saved in a day.
        avg_hourly_requests: Requests in an hour with traffic; this and the next three are None where the
            pattern is not rolled up yet.
        avg_p95_latency_ms: The p95 of such an hour, on average.
        avg_unique_users: Different users in such an hour, on average.
        success_rate: Share of the requests answered 2xx, from 0 to 1.
        cache_key: `shared` or `per user`; this and all that follow are None but for savings.
        ttl_seconds: The time to live proposed.
        predicted_hit_ratio: Hits of all requests at that time to live, from 0 to 1.
        predicted_stale_ratio: Of the compared hits, those that were stale.
        saved_seconds_per_day: Time of the application's that the hits save in a day.
        peak_memory_bytes: Most memory that live entries took together.
    """

    ranking: RankingName
    rank: int
    route: str
    method: str
    pattern: str
    score: float
    avg_hourly_requests: float | None = None
    avg_p95_latency_ms: float | None = None
    avg_unique_users: float | None = None
    success_rate: float | None = None
    cache_key: str | None = None
    ttl_seconds: float | None = None
    predicted_hit_ratio: float | None = None
    predicted_stale_ratio: float | None = None
    saved_seconds_per_day: float | None = None
    peak_memory_bytes: int | None = None


@contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """Wait until nobody else is inside, and keep others out; not inside a transaction.

    Raises:
        QueryTimeout: The wait took longer than a statement of the connection may.
        StoreUnavailable: The server does not answer.
    """
    with translated():
        connection.execute(_QUERIES["lock"])
    try:
        yield
    finally:
        if not connection.closed:
            with translated():
                connection.execute(_QUERIES["unlock"])


@translated()
def latest(connection: Connection) -> dt.datetime | None:
    """When the rankings that were kept last were made; None where none ever were."""
    moment: dt.datetime | None
    (moment,) = connection.execute(_QUERIES["latest"]).fetchone() or (None,)
    return moment


def add(connection: Connection, ranked_at: dt.datetime, rows: Iterable[KeptRow]) -> None:
    """Keep the rankings of a moment, all of them or none.

    Raises:
        NotMigrated: The table is missing.
        StoreUnavailable: The server does not answer, or does not accept writes.
    """
    with transaction(connection), connection.cursor() as cursor:
        cursor.executemany(_QUERIES["add"], [{"ranked_at": ranked_at, **row._asdict()} for row in rows])


@translated()
def forget(connection: Connection, before: dt.datetime) -> int:
    """Delete the rankings of before a time; returns the number of rows."""
    return connection.execute(_QUERIES["forget"], {"before": before}).rowcount
