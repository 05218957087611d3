"""The router: which questions can be asked, and with which parameters."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import APIRouter, Query, Response
from fastapi.params import Depends

from otel_analytics import questions, ranking
from otel_analytics.analyze.routes import ErrorOrder, SlowOrder
from otel_analytics.api.models import model_of
from otel_analytics.api.reader import Ask, Found, Reader
from otel_analytics.errors import UsageError
from otel_analytics.present.documents import json_text
from otel_analytics.present.question_rows import (
    ErrorRow,
    PatternRow,
    PeakRow,
    SlowRow,
    TrendRow,
    UserShareRow,
    WeekRow,
)
from otel_analytics.present.rows import AbsoluteRow, RelativeRow, SavingsRow
from otel_analytics.record import MAX_ROUTE_BYTES
from otel_analytics.settings import Settings, load
from otel_analytics.store.connection import Connection, check_dsn

PREFIX: Final = "/api/v1/analytics"
PATHS: Final = tuple(
    PREFIX + path
    for path in (
        "/routes/cache-priorities",
        "/routes/peaks",
        "/routes/peaks/week",
        "/routes/patterns",
        "/routes/trends",
        "/routes/errors",
        "/routes/slow",
        "/users",
    )
)
"""For the setting `excluded_paths`, where these requests are not to be recorded."""
MAX_ROWS: Final = 1_000
"""In one response."""
STATEMENT_SECONDS: Final = 10.0
"""An answer needs several statements, and all but one or two of them are quick."""

RankingName = Literal["absolute", "relative", "savings"]

Offset = Annotated[int, Query(ge=0, le=1_000_000, description="Rows to leave out first.")]
# PostgreSQL cannot hold a NUL, so no route has one.
_A_ROUTE: Final = Query(
    min_length=1, max_length=MAX_ROUTE_BYTES, pattern=r"^[^\x00]*$", description="The template of a route."
)
Route = Annotated[str, _A_ROUTE]
OneRoute = Annotated[str | None, _A_ROUTE]
Least = Annotated[float, Query(ge=0, le=1e12, description="An hour must have more requests on average.")]

_HEADERS: Final = {
    "X-Total-Count": {
        "description": "Rows there are, those left out included; only where there is an offset.",
        "schema": {"type": "integer"},
    },
    "X-Remark": {
        "description": "What the rows rest on, or why there are none.",
        "schema": {"type": "string"},
    },
}


def analytics_router(
    *,
    dependencies: Sequence[Depends] = (),
    public: bool = False,
    settings: Settings | None = None,
    statement_seconds: float = STATEMENT_SECONDS,
) -> APIRouter:
    """The rankings and the other questions under `/api/v1/analytics`, in the JSON of the command line.

    Nothing is connected before somebody asks.

    Args:
        dependencies: Such as `[Depends(require_admin)]`: they run before every answer, and at least one
            refuses whoever may not ask.
        public: Whether everybody may ask. Then there must be no dependencies.
        settings: In place of what the environment says: where PostgreSQL is, and the defaults of `n` and
            `days`.
        statement_seconds: So long may a statement of an answer take; longer, and the answer is 504.

    Raises:
        UsageError: It is not said who may ask, nor that everybody may; or both are.
        SettingsError: A setting cannot be used.
    """
    if bool(dependencies) == public:
        raise UsageError(
            "analytics_router() takes dependencies=[Depends(...)] that refuse whoever may not ask,"
            " or public=True where everybody may"
        )
    settings = settings or load()
    check_dsn(settings.postgres_dsn)
    router = APIRouter(
        prefix=PREFIX,
        tags=["analytics"],
        dependencies=list(dependencies),
        responses={
            200: {"headers": _HEADERS},
            503: {"description": "The database does not answer or is not migrated, or too many ask at once."},
            504: {"description": "The answer takes too long; ask for fewer days."},
        },
    )
    _add_answers(router, settings, Reader(settings.postgres_dsn, statement_seconds=statement_seconds))
    return router


def _add_answers(router: APIRouter, settings: Settings, reader: Reader) -> None:
    most_days = settings.hourly_retention_days
    the_days = min(settings.days, most_days)
    peak_days = min(questions.PEAK_DAYS, most_days)
    the_n = min(settings.top_n_routes, MAX_ROWS)
    N = Annotated[int, Query(ge=1, le=MAX_ROWS, description="Rows at most.")]  # noqa: N806 - a type
    Days = Annotated[int, Query(ge=1, le=most_days, description="How far back.")]  # noqa: N806 - a type

    async def cache_priorities(
        n: N = the_n,
        days: Days = the_days,
        by: Annotated[
            RankingName,
            Query(
                alias="ranking",
                description="By thresholds, by comparison, or by what a cache would have saved.",
            ),
        ] = "absolute",
    ) -> Response:
        """What is worth caching, best first, as `otel-analytics rank` has it."""
        chosen = dataclasses.replace(settings, top_n_routes=n, days=days)

        return await reader.answer(_ranking(by, chosen))

    async def peaks(
        route: OneRoute = None,
        n: N = the_n,
        offset: Offset = 0,
        days: Days = peak_days,
        min_requests: Least = questions.PEAK_REQUESTS,
    ) -> Response:
        """When there is most to do, by route and hour of the day, as `otel-analytics peaks` has it."""
        asked = {"route": route, "limit": n, "offset": offset, "days": days, "min_requests": min_requests}
        return await reader.answer(_asking(questions.peaks, **asked))

    async def week(route: OneRoute = None, days: Days = peak_days) -> Response:
        """The hours of the week, of all routes or of one, as `otel-analytics peaks --heatmap` has them."""
        return await reader.answer(_asking(questions.week, route=route, days=days))

    async def patterns(route: Route, n: N = the_n, offset: Offset = 0, days: Days = the_days) -> Response:
        """With which parameters a route is asked for, as `otel-analytics patterns` has it."""
        return await reader.answer(
            _asking(questions.patterns, route=route, limit=n, offset=offset, days=days)
        )

    async def trends(route: Route, days: Days = the_days) -> Response:
        """How a route fares by day, or by hour over two days or one, as `otel-analytics trends` has it."""
        return await reader.answer(_asking(questions.trend, route=route, days=days))

    async def errors(
        n: N = the_n, offset: Offset = 0, days: Days = the_days, sort: ErrorOrder = "count"
    ) -> Response:
        """The routes that fail, and with what, as `otel-analytics errors` has them."""
        return await reader.answer(_asking(questions.errors, limit=n, offset=offset, days=days, order=sort))

    async def slow(
        n: N = the_n, offset: Offset = 0, days: Days = the_days, sort: SlowOrder = "p95"
    ) -> Response:
        """The slowest routes, as `otel-analytics slow` has them."""
        return await reader.answer(_asking(questions.slow, limit=n, offset=offset, days=days, order=sort))

    async def users(route: OneRoute = None, days: Days = the_days) -> Response:
        """How concentrated traffic is on few users, as `otel-analytics users` has it; none is named."""
        return await reader.answer(_asking(questions.user_shares, route=route, days=days))

    rankings: Any = (
        list[model_of(AbsoluteRow)]  # type: ignore[misc]
        | list[model_of(RelativeRow)]  # type: ignore[misc]
        | list[model_of(SavingsRow)]  # type: ignore[misc]
    )
    router.add_api_route("/routes/cache-priorities", cache_priorities, response_model=rankings)
    rows: list[tuple[str, Callable[..., Any], type[NamedTuple]]] = [
        ("/routes/peaks", peaks, PeakRow),
        ("/routes/peaks/week", week, WeekRow),
        ("/routes/patterns", patterns, PatternRow),
        ("/routes/trends", trends, TrendRow),
        ("/routes/errors", errors, ErrorRow),
        ("/routes/slow", slow, SlowRow),
        ("/users", users, UserShareRow),
    ]
    for path, endpoint, row in rows:
        model: Any = list[model_of(row)]  # type: ignore[misc]
        router.add_api_route(path, endpoint, response_model=model)


def _ranking(by: RankingName, settings: Settings) -> Ask:
    def ask(connection: Connection, now: dt.datetime) -> Found:
        if by == "savings":
            # Brings numpy along, which an application should not load before somebody asks.
            from otel_analytics.savings import rank_savings  # noqa: PLC0415

            saved = rank_savings(connection, settings, now=now)
            return Found(json_text(saved.rows), None, saved.remark)
        compute: Any = ranking.rank_relative if by == "relative" else ranking.rank_absolute
        ranked = compute(connection, settings, now=now)
        return Found(json_text(ranked.rows), None, ranking.remark(ranked, settings))

    return ask


def _asking(question: Callable[..., questions.Answer[Any]], **arguments: Any) -> Ask:
    def ask(connection: Connection, now: dt.datetime) -> Found:
        found = question(connection, now=now, **arguments)
        return Found(json_text(found.rows), found.total, found.remark)

    return ask
