"""What the shop's customers ask for: one model for the traffic of the past and for the live one. Pure."""

import random
from bisect import bisect
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

_WORDS: Final = ("chair", "lamp", "table", "shelf", "rug", "mirror", "vase", "oak", "linen", "copper")
_CATEGORIES: Final = ("chairs", "lamps", "tables", "shelves", "rugs")
_COUNTRIES: Final = ("DE", "FR", "IT", "ES", "PL", "SE")
USERS: Final = 400
_PRODUCTS: Final = 2_000
_ANONYMOUS: Final = 0.35
CAMPAIGN: Final = "utm_source"
"""A parameter that changes no answer."""
_CAMPAIGNS: Final = ("newsletter", "partner", "search")
_BY_CAMPAIGN: Final = 0.3


@dataclass(frozen=True)
class Ask:
    """One request that somebody makes.

    Attributes:
        route: The template it will be served by.
        path: With its values.
        method: Of HTTP.
        params: Query parameters, in the order sent.
        user: Who asks, or None.
        body: To be sent as JSON, or None.
    """

    route: str
    path: str
    method: str = "GET"
    params: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    body: dict[str, int] | None = None


class Customers:
    """Asks for things as a crowd does: a few are wanted by many."""

    # Of 1,000 requests.
    _SHARES: Final = {
        "/api/v1/products/{product_id}": 390,
        "/api/v1/home": 150,
        "/api/v1/search": 145,
        "/api/v1/categories": 90,
        "/api/v1/me/cart": 75,
        "/api/v1/products": 60,
        "/api/v1/me/recommendations": 40,
        "/api/v1/shipping/quote": 20,
        "/api/v1/orders/{order_id}": 14,
        "/api/v1/orders": 10,
        "/api/v1/stock/events": 4,
        "/api/v1/reports/sales": 7,
    }

    def __init__(self, chance: random.Random) -> None:
        """Everything random comes from `chance`."""
        self._chance = chance
        self._products = Popularity(_PRODUCTS, 1.1)
        self._users = Popularity(USERS, 0.7)
        self._searches = Popularity(len(_WORDS) * 4, 1.0)
        self._routes = list(self._SHARES)
        self._weights = list(self._SHARES.values())

    def ask(self) -> Ask:
        """The next request."""
        (route,) = self._chance.choices(self._routes, self._weights)
        user = f"u{self._users.draw(self._chance)}"
        path, body = route, None
        params: dict[str, str] = {}
        match route:
            case "/api/v1/products/{product_id}":
                path = f"/api/v1/products/{self._products.draw(self._chance) + 1}"
            case "/api/v1/home":
                params = self._campaign()
            case "/api/v1/search":
                params = self._search()
            case "/api/v1/products":
                params = {"category": self._chance.choice(_CATEGORIES), **self._page()}
            case "/api/v1/shipping/quote":
                params = {
                    "country": self._chance.choice(_COUNTRIES),
                    "weight_kg": str(self._chance.randint(1, 3)),
                }
            case "/api/v1/reports/sales":
                params = self._chance.choice(({}, {}, {}, {"days": "7"}, {"days": "365"}))
            case "/api/v1/orders/{order_id}":
                path = f"/api/v1/orders/{self._chance.randint(1, 6_000)}"
            case "/api/v1/orders":
                body = {"product_id": self._products.draw(self._chance) + 1, "quantity": 1}
        must_sign_in = "/me/" in route or "/orders" in route
        return Ask(
            route,
            path,
            method="POST" if body else "GET",
            params=params,
            user=user if must_sign_in or self._chance.random() >= _ANONYMOUS else None,
            body=body,
        )

    def _search(self) -> dict[str, str]:
        word, variant = divmod(self._searches.draw(self._chance), 4)
        params = {"q": _WORDS[word]}
        if variant % 2:
            params["category"] = _CATEGORIES[word % len(_CATEGORIES)]
        if variant >= 2:  # noqa: PLR2004 - two of the four variants
            params["sort"] = "price"
        return {**params, **self._page()}

    def _campaign(self) -> dict[str, str]:
        """Some come by a link that says where it stood, which the shop does not look at."""
        if self._chance.random() >= _BY_CAMPAIGN:
            return {}
        return {CAMPAIGN: self._chance.choice(_CAMPAIGNS)}

    def _page(self) -> dict[str, str]:
        page = min(int(self._chance.expovariate(1.4)) + 1, 9)
        return {"page": str(page)} if page > 1 else {}


class Popularity:
    """Numbers from 0 on, of which number n is drawn in proportion to 1 / (n + 1) ** exponent (Zipf)."""

    def __init__(self, count: int, exponent: float) -> None:
        """Prepare.

        Args:
            count: How many numbers.
            exponent: The larger, the more uneven.
        """
        self._cumulated = list(accumulate((rank + 1) ** -exponent for rank in range(count)))

    def draw(self, chance: random.Random) -> int:
        """One of them."""
        return bisect(self._cumulated, chance.random() * self._cumulated[-1])
