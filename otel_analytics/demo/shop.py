"""A small shop with routes of different character, instrumented with the two lines.

Run it with `uvicorn otel_analytics.demo.shop:create_app --factory`. Its tables are in the
database that `postgres_dsn` names. `sleep` stands for work that a real shop has and this one has not: a
full-text search over millions of rows, a model, a provider abroad.
"""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from importlib import resources
from typing import Annotated, Any, Final

import psycopg
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query
from fastapi.responses import StreamingResponse
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from psycopg.rows import dict_row
from pydantic import BaseModel, Field

from otel_analytics import instrument, set_cache_status, set_user
from otel_analytics.settings import load

ITEM_TTL_SECONDS: Final = 20.0
"""Too short: the ranking by savings proposes 15 minutes."""
CATEGORIES_TTL_SECONDS: Final = 300.0
"""What the ranking by savings proposed."""
QUOTE_FAILURES: Final = 0.06
"""Share of shipping quotes that the provider fails to give."""
_PAGE_SIZE: Final = 20

Rows = list[dict[str, Any]]
router = APIRouter(prefix="/api/v1")


class Database:
    """One connection a thread; FastAPI runs plain functions in a pool of threads."""

    def __init__(self, dsn: str) -> None:
        """Nothing is connected yet."""
        self._dsn = dsn
        self._local = threading.local()

    def query(self, text: str, *parameters: object) -> Rows:
        """The rows of a statement."""
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = self._local.connection = psycopg.connect(
                self._dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None
            )
        cursor = connection.execute(text, parameters)
        rows: Rows = cursor.fetchall() if cursor.description else []
        return rows


class NewOrder(BaseModel):
    """What somebody buys."""

    product_id: int
    quantity: int = Field(default=1, ge=1, le=10)


class _Shop:
    database: Database
    items: dict[int, tuple[float, dict[str, Any]]]
    categories: tuple[float, Rows] | None


shop = _Shop()


def known_user(x_shop_user: Annotated[str | None, Header()] = None) -> str | None:
    """Who asks, as far as the header tells."""
    set_user(x_shop_user)
    return x_shop_user


def signed_in(user: Annotated[str | None, Depends(known_user)]) -> str:
    """Who asks; refuses those who do not say."""
    if user is None:
        raise HTTPException(401, "say who you are with the header X-Shop-User")
    return user


@router.get("/home", dependencies=[Depends(known_user)])
def home() -> dict[str, Rows]:
    """The front page: the same for everybody, and not cheap."""
    query = shop.database.query
    new = query("SELECT id, name, price_cents FROM products ORDER BY id DESC LIMIT 12")
    time.sleep(0.12)
    best = query(
        "SELECT product_id, sum(quantity) AS sold FROM orders GROUP BY product_id ORDER BY sold DESC LIMIT 12"
    )
    categories = query("SELECT category, count(*) FROM products GROUP BY category ORDER BY category")
    return {"new": new, "best": best, "categories": categories}


@router.get("/search", dependencies=[Depends(known_user)])
def search(
    q: str,
    category: str | None = None,
    sort: str = "relevance",
    page: Annotated[int, Query(ge=1)] = 1,
) -> dict[str, Any]:
    """A slow search whose parameters make patterns, and whose `page` does not."""
    order = {"price": "price_cents", "name": "name"}.get(sort, "id")
    time.sleep(random.lognormvariate(-1.15, 0.35))
    found = shop.database.query(
        "SELECT id, name, price_cents FROM products"  # noqa: S608 - one of three names
        f" WHERE name ILIKE %s AND (%s::text IS NULL OR category = %s) ORDER BY {order} LIMIT %s OFFSET %s",
        *(f"%{q}%", category, category, _PAGE_SIZE, (page - 1) * _PAGE_SIZE),
    )
    return {"q": q, "page": page, "results": found}


@router.get("/products", dependencies=[Depends(known_user)])
def products(category: str = "chairs", page: Annotated[int, Query(ge=1)] = 1) -> Rows:
    """A list that asks for the reviews of each product on its own: 1 + N queries."""
    query = shop.database.query
    listed = query(
        "SELECT id, name, price_cents FROM products WHERE category = %s ORDER BY id LIMIT %s OFFSET %s",
        *(category, _PAGE_SIZE, (page - 1) * _PAGE_SIZE),
    )
    for each in listed:
        each["stars"] = query("SELECT avg(stars)::float FROM reviews WHERE product_id = %s", each["id"])
    return listed


@router.get("/products/{product_id}", dependencies=[Depends(known_user)])
def product(product_id: int) -> dict[str, Any]:
    """The hot item: cheap, asked for all the time, and cached by the shop already."""
    cached = shop.items.get(product_id)
    if cached and time.monotonic() - cached[0] < ITEM_TTL_SECONDS:
        set_cache_status("hit")
        return cached[1]
    set_cache_status("miss")
    found = shop.database.query("SELECT * FROM products WHERE id = %s", product_id)
    if not found:
        raise HTTPException(404, "no such product")
    shop.items[product_id] = (time.monotonic(), found[0])
    return found[0]


@router.get("/categories", dependencies=[Depends(known_user)])
def categories() -> Rows:
    """Small, quick, seldom different, and cached by the shop for as long as the ranking proposed."""
    cached = shop.categories
    if cached and time.monotonic() - cached[0] < CATEGORIES_TTL_SECONDS:
        set_cache_status("hit")
        return cached[1]
    set_cache_status("miss")
    found = shop.database.query("SELECT category, count(*) FROM products GROUP BY category ORDER BY 1")
    shop.categories = (time.monotonic(), found)
    return found


@router.get("/me/recommendations")
def recommendations(user: Annotated[str, Depends(signed_in)]) -> dict[str, Any]:
    """A personal page: another answer for everybody, so a cache must not share it."""
    time.sleep(0.16)
    bought = shop.database.query(
        "SELECT product_id, count(*) FROM orders WHERE user_id = %s GROUP BY 1 ORDER BY 2 DESC LIMIT 5", user
    )
    return {"user": user, "because_you_bought": bought}


@router.get("/me/cart")
def cart(user: Annotated[str, Depends(signed_in)]) -> dict[str, Any]:
    """Personal and quick."""
    latest = shop.database.query(
        "SELECT product_id, quantity FROM orders WHERE user_id = %s ORDER BY id DESC LIMIT 3", user
    )
    return {"user": user, "items": latest}


@router.post("/orders", status_code=201)
def place_order(order: NewOrder, user: Annotated[str, Depends(signed_in)]) -> dict[str, Any]:
    """A write: three queries, and nothing that could be cached."""
    query = shop.database.query
    if not query("SELECT stock FROM products WHERE id = %s", order.product_id):
        raise HTTPException(404, "no such product")
    time.sleep(0.03)
    (new,) = query(
        "INSERT INTO orders (user_id, product_id, quantity) VALUES (%s, %s, %s) RETURNING id",
        *(user, order.product_id, order.quantity),
    )
    query(
        "UPDATE products SET stock = greatest(stock - %s, 0) WHERE id = %s",
        *(order.quantity, order.product_id),
    )
    return {"order_id": new["id"]}


@router.get("/orders/{order_id}")
def get_order(order_id: int, user: Annotated[str, Depends(signed_in)]) -> dict[str, Any]:
    """Many ask for an order that is not theirs."""
    found = shop.database.query(
        "SELECT id, product_id, quantity FROM orders WHERE id = %s AND user_id = %s", order_id, user
    )
    if not found:
        raise HTTPException(404, "no such order of yours")
    return found[0]


@router.get("/shipping/quote", dependencies=[Depends(known_user)])
async def shipping_quote(country: str, weight_kg: Annotated[int, Query(ge=1, le=30)] = 1) -> dict[str, Any]:
    """A provider abroad that is slow, and does not always answer."""
    await asyncio.sleep(random.lognormvariate(-1.6, 0.35))
    if random.random() < QUOTE_FAILURES:
        raise HTTPException(503, "the provider does not answer")
    return {"country": country, "cents": 490 + 110 * weight_kg}


@router.get("/reports/sales", dependencies=[Depends(known_user)])
def sales_report(days: Annotated[int, Query(ge=1, le=365)] = 30) -> Rows:
    """Heavy and rare."""
    time.sleep(1.8)
    return shop.database.query(
        "SELECT category, count(*), sum(price_cents * quantity) AS cents"
        " FROM orders JOIN products ON products.id = product_id"
        " WHERE created_at > now() - %s * interval '1 day' GROUP BY category ORDER BY category",
        days,
    )


@router.get("/stock/events", dependencies=[Depends(known_user)])
async def stock_events() -> StreamingResponse:
    """A stream: the first byte comes at once, the last one seconds later."""

    async def events() -> AsyncIterator[str]:
        for number in range(6):
            yield f"event: stock\ndata: {number}\n\n"
            await asyncio.sleep(0.4)

    return StreamingResponse(events(), media_type="text/event-stream")


def create_app() -> FastAPI:
    """The shop, with settings from `OTEL_ANALYTICS_*`."""
    settings = load()
    shop.database = Database(settings.postgres_dsn)
    shop.items = {}
    shop.categories = None
    PsycopgInstrumentor().instrument()
    app = FastAPI(title="Demo shop")
    app.include_router(router)
    app.add_api_route("/healthz", lambda: {"status": "ok"}, include_in_schema=False)
    instrument(app, settings=settings)
    return app


def create_tables(dsn: str) -> None:
    """Make the shop's tables and fill them, unless that is done."""
    script = resources.files(__package__).joinpath("sql", "shop.sql").read_text(encoding="utf-8")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(script.encode())
