"""The shop's traffic of the days before, as events with their own timestamps. Pure."""

import datetime as dt
import math
import random
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import urlencode

from otel_analytics.capture.observed import EventIds
from otel_analytics.demo.customers import CAMPAIGN, Ask, Customers
from otel_analytics.demo.shop import CATEGORIES_TTL_SECONDS, ITEM_TTL_SECONDS, QUOTE_FAILURES
from otel_analytics.params import ParamRules
from otel_analytics.record import Event

_HOUR: Final = dt.timedelta(hours=1)
_SATURDAY: Final = 5


class Character(NamedTuple):
    """How a route behaves.

    Attributes:
        median_ms: Half of its requests take longer.
        spread: Standard deviation of the duration's logarithm.
        queries: Database queries a request.
        size: Bytes of a response, about.
        fresh_seconds: How long its answer stays the same; 0 for one that never is.
    """

    median_ms: float
    spread: float
    queries: int
    size: int
    fresh_seconds: int


# As the live shop behaves on a small machine.
CHARACTERS: Final = {
    "/api/v1/home": Character(130, 0.10, 3, 1_700, 7_200),
    "/api/v1/search": Character(330, 0.35, 1, 1_600, 172_800),
    "/api/v1/products": Character(24, 0.35, 21, 2_200, 7_200),
    "/api/v1/products/{product_id}": Character(6, 0.40, 1, 95, 172_800),
    "/api/v1/categories": Character(5, 0.35, 1, 190, 28_800),
    "/api/v1/me/recommendations": Character(168, 0.10, 1, 260, 1_800),
    "/api/v1/me/cart": Character(5, 0.40, 1, 110, 300),
    "/api/v1/orders": Character(42, 0.25, 3, 20, 0),
    "/api/v1/orders/{order_id}": Character(5, 0.40, 1, 50, 0),
    "/api/v1/shipping/quote": Character(202, 0.35, 0, 30, 86_400),
    "/api/v1/reports/sales": Character(1_830, 0.20, 1, 420, 172_800),
    "/api/v1/stock/events": Character(2_420, 0.01, 0, 190, 0),
}
CATEGORIES_CACHED_FOR: Final = dt.timedelta(days=3)
"""So long ago the shop began to cache its categories, as the ranking by savings of that time proposed."""


def past_events(
    *, now: dt.datetime, days: int, requests_a_day: int, chance: random.Random
) -> Iterator[Event]:
    """The events of the days before `now`, oldest first.

    Args:
        now: Where the past ends.
        days: How far back it goes.
        requests_a_day: On a weekday.
        chance: Where everything random comes from, but for the ids.
    """
    customers, past = Customers(chance), _Past(chance, (now - CATEGORIES_CACHED_FOR).timestamp())
    hour = now - days * 24 * _HOUR
    while hour < now:
        end = min(hour + _HOUR, now)
        share = (end - hour) / _HOUR
        count = round(requests_a_day * share * _hourly_share(hour) * chance.uniform(0.9, 1.1))
        start, seconds = hour.timestamp(), (end - hour).total_seconds()
        for moment in sorted(start + chance.random() * seconds for _ in range(count)):
            yield past.event(customers.ask(), moment)
        hour = end


def _hourly_share(hour: dt.datetime) -> float:
    """The share of a day's requests that falls into this hour: quiet at night, busy in the evening."""
    curve = 1 + 0.75 * math.sin((hour.hour - 13) / 24 * 2 * math.pi)
    return curve / 24 * (0.7 if hour.weekday() >= _SATURDAY else 1.0)


class _Past:
    """Knows how the shop would have answered."""

    def __init__(self, chance: random.Random, categories_cached_since: float) -> None:
        self._chance = chance
        self._categories_cached_since = categories_cached_since
        self._rules = ParamRules()
        self._ids = EventIds()
        self._answered_at: dict[str, float] = {}

    def event(self, ask: Ask, moment: float) -> Event:
        """The event of one request, at a time in seconds since 1970."""
        character = CHARACTERS[ask.route]
        duration = character.median_ms * self._chance.lognormvariate(0, character.spread)
        status, queries, cache_status = 200, character.queries, None
        made_at = moment
        if ttl := self._ttl_seconds(ask.route, moment):
            copied_at = self._answered_at.get(ask.path, 0.0)
            cache_status = "hit" if moment < copied_at + ttl else "miss"
            if cache_status == "hit":
                duration, queries, made_at = duration / 3, 0, copied_at
            else:
                self._answered_at[ask.path] = moment
        elif ask.route == "/api/v1/orders":
            status = 201
        elif ask.route == "/api/v1/orders/{order_id}":
            status = 404 if self._chance.random() < 0.6 else 200  # noqa: PLR2004 - most ask for an order of somebody else
        elif ask.route == "/api/v1/shipping/quote" and self._chance.random() < QUOTE_FAILURES:
            status = 503
        query = urlencode(ask.params)
        params, pattern = self._rules.read(query)
        key = f"{ask.path}?{query}"
        return Event(
            event_id=self._ids.next(),
            timestamp_us=round(moment * 1e6),
            route=ask.route,
            route_full=key if query else ask.path,
            method=ask.method,
            status_code=status,
            duration_ms=round(duration, 3),
            ttfb_ms=round(2.0 if ask.route.endswith("/events") else duration * 0.98, 3),
            user_id=ask.user,
            error_type=str(status) if status >= 500 else None,  # noqa: PLR2004
            query_params=params,
            query_params_normalized=pattern,
            request_size_bytes=0 if ask.body is None else 34,
            response_size_bytes=round(character.size * self._chance.uniform(0.8, 1.2)),
            db_query_count=queries,
            cache_status=cache_status,
            response_hash=_hash(ask, made_at) if ask.method == "GET" and status == 200 else None,  # noqa: PLR2004
        )

    def _ttl_seconds(self, route: str, moment: float) -> float:
        """How long the shop itself keeps the answers of a route; 0 for not at all."""
        if route == "/api/v1/products/{product_id}":
            return ITEM_TTL_SECONDS
        cached = route == "/api/v1/categories" and moment >= self._categories_cached_since
        return CATEGORIES_TTL_SECONDS if cached else 0.0


def _hash(ask: Ask, moment: float) -> int:
    """The same as long as the answer is, and another one for each user where the answer is."""
    fresh = CHARACTERS[ask.route].fresh_seconds
    version = int(moment // fresh) if fresh else round(moment * 1e6)
    whose = ask.user if "/me/" in ask.route else ""
    asked = urlencode({name: value for name, value in ask.params.items() if name != CAMPAIGN})
    text = f"{ask.path}?{asked} {whose} {version}".encode()
    return (zlib.crc32(text) << 32 | zlib.crc32(text[::-1])) - 2**63
