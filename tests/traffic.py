"""Traffic with a character, for the tests of the rules: who asks for what, and what the answer depends on."""

import datetime as dt
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backend import DAY, NOW, make_event

from otel_analytics.params import ParamRules
from otel_analytics.record import Event

RULES = ParamRules()


@dataclass
class Ask:
    """One request, and what its answer is made of."""

    moment: dt.datetime
    user: str | None
    params: dict[str, str]
    chance: random.Random

    def version(self, seconds: float) -> int:
        """Another number every so many seconds."""
        return int(self.moment.timestamp() // seconds)


@dataclass
class Traffic:
    """Gathers events, route by route.

    Attributes:
        events: So far.
        days: How far back requests go.
    """

    seed: int = 1
    days: float = 2
    events: list[Event] = field(default_factory=list)

    def route(
        self,
        route: str,
        *,
        requests: int = 600,
        body: Callable[[Ask], object] = lambda _: "same",
        users: int = 40,
        anonymous: float = 0.0,
        params: Callable[[random.Random], dict[str, str]] = lambda _: {},
        moment: Callable[[random.Random], dt.datetime] | None = None,
        fields: Callable[[Ask], dict[str, Any]] = lambda _: {},
        **fixed: Any,
    ) -> "Traffic":
        """Add requests of a route at random moments.

        Args:
            route: The template, which is the path, too.
            requests: How many.
            body: What the body is made of; equal values are equal bodies.
            users: Different ones; 0 for none that is known.
            anonymous: Share of the requests without one.
            params: Of the query, for each request.
            moment: When it comes.
            fields: Of the event, for each request.
            fixed: Fields that all of them have.
        """
        chance = random.Random(f"{self.seed} {route}")
        when = moment or (lambda chance: NOW - chance.random() * self.days * DAY)
        for _ in range(requests):
            known = users and chance.random() >= anonymous
            user = f"u{chance.randrange(users)}" if known else None
            ask = Ask(when(chance), user, params(chance), chance)
            query = "&".join(f"{name}={value}" for name, value in ask.params.items())
            all_params, pattern = RULES.read(query)
            values: dict[str, Any] = {
                "route": route,
                "route_full": f"{route}?{query}" if query else route,
                "user_id": user,
                "duration_ms": 100.0 + chance.random(),
                "ttfb_ms": 99.0,
                "query_params": all_params,
                "query_params_normalized": pattern,
                "response_size_bytes": 1_000,
                **fixed,
                **fields(ask),
            }
            status = values.get("status_code", 200)
            if values.get("method", "GET") == "GET" and 200 <= status < 300:
                values.setdefault("response_hash", _hash(f"{route} {body(ask)}"))
            self.events.append(make_event(ask.moment, **values))
        return self


def _hash(text: str) -> int:
    return (zlib.crc32(text.encode()) << 31 | zlib.crc32(text[::-1].encode())) + 1
