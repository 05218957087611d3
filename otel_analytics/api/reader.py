"""From a question to a response: off the event loop, and for a bounded time."""

import datetime as dt
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

import anyio
import anyio.to_thread
from fastapi import HTTPException, Response

from otel_analytics.errors import NotMigrated, SchemaTooNew, StoreUnavailable
from otel_analytics.store import migrations
from otel_analytics.store.connection import Connection, QueryTimeout, connect, limit_statements

CONCURRENT: Final = 4
"""Questions answered at once, each in a thread and on a connection of its own. The threads that the
application runs its own code in are others."""
WAITING: Final = 16
"""Questions that wait for their turn; further ones are refused."""
_RETRY_SECONDS: Final = 5
_LONGEST_REMARK: Final = 1_000
"""Characters. It may name a route that was asked for, and proxies refuse long headers."""

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """An answer as it is sent.

    Attributes:
        body: JSON.
        total: Rows there are, those left out included; None where they were not counted.
        remark: What the rows rest on, or why there are none.
    """

    body: str
    total: int | None
    remark: str


Ask = Callable[[Connection, dt.datetime], Found]
"""A question: gets a connection to a migrated database, and the present."""


class Reader:
    """Asks one database. A connection lives as long as a question, so that none is held when nobody asks."""

    def __init__(self, dsn: str, *, statement_seconds: float) -> None:
        """Nothing is connected yet.

        Args:
            dsn: Of the database.
            statement_seconds: So long may a statement take.
        """
        self._dsn = dsn
        self._statement_seconds = statement_seconds
        self._limiter: anyio.CapacityLimiter | None = None  # belongs to an event loop, so it is made in one
        self._asked = 0

    async def answer(self, ask: Ask) -> Response:
        """Ask, and make a response of what is found.

        Args:
            ask: The question; runs in a thread.

        Raises:
            HTTPException: 503 or 504, with words that tell what to do and not where the database is.
        """
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(CONCURRENT)
        if self._asked >= CONCURRENT + WAITING:
            raise HTTPException(
                503, "too many questions at once; try again later", {"Retry-After": str(_RETRY_SECONDS)}
            )
        self._asked += 1
        try:
            found = await anyio.to_thread.run_sync(self._ask, ask, limiter=self._limiter)
        except (NotMigrated, SchemaTooNew) as error:
            raise HTTPException(503, str(error)) from error
        except QueryTimeout as error:
            raise HTTPException(
                504, f"the answer takes longer than {self._statement_seconds:g} s; ask for fewer days"
            ) from error
        except StoreUnavailable as error:
            _log.warning("the analytics database does not answer: %s", error)
            raise HTTPException(
                503, "the analytics database does not answer; the application's log says more"
            ) from error
        finally:
            self._asked -= 1
        headers = {
            "Cache-Control": "no-store",
            "X-Remark": found.remark.encode("ascii", "backslashreplace").decode()[:_LONGEST_REMARK],
        }
        if found.total is not None:
            headers["X-Total-Count"] = str(found.total)
        return Response(found.body, media_type="application/json", headers=headers)

    def _ask(self, ask: Ask) -> Found:
        with connect(self._dsn) as connection:
            limit_statements(connection, self._statement_seconds)
            migrations.check(connection)
            return ask(connection, dt.datetime.now(dt.UTC))
