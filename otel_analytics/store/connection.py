"""Connections to PostgreSQL, and the one place where its errors become ours."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from otel_analytics.errors import (
    NotMigrated,
    OtelAnalyticsError,
    RejectedRows,
    SettingsError,
    StoreUnavailable,
)
from otel_analytics.store.queries import load

Connection = psycopg.Connection[TupleRow]

APPLICATION_NAME: Final = "otel-analytics"
CONNECT_TIMEOUT_SECONDS: Final = 5
_DEAD_PEER_TIMEOUT_MS: Final = 30_000
_QUERIES: Final = load("connection")


class MissingPartition(OtelAnalyticsError):  # noqa: N818
    """A row's day has no partition; making one and trying again may succeed."""


class QueryTimeout(StoreUnavailable):
    """A statement took longer than it may, and was stopped."""


def connect(dsn: str, *, application_name: str = APPLICATION_NAME) -> Connection:
    """Open a connection that commits each statement unless `transaction` says otherwise.

    Args:
        dsn: A URL or a libpq string. What it sets wins over the defaults here.
        application_name: What the server shows in `pg_stat_activity`.

    Raises:
        SettingsError: The DSN cannot be used.
        StoreUnavailable: The server does not answer, or does not let us in.
    """
    defaults: dict[str, Any] = {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "tcp_user_timeout": _DEAD_PEER_TIMEOUT_MS,
    }
    conninfo = make_conninfo(**{**defaults, **check_dsn(dsn)})
    with translated():
        # Prepared statements would meet another session behind a pooler, and turn into generic plans.
        connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
        connection.execute(_QUERIES["use_utc"])
    return connection


def check_dsn(dsn: str) -> dict[str, Any]:
    """Read a DSN without connecting.

    Raises:
        SettingsError: It cannot be used.
    """
    malformed = SettingsError(
        "setting postgres_dsn: not a PostgreSQL DSN; it looks like"
        " postgresql://user:password@host:5432/database, with special characters percent-encoded"
    )
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # The cause may quote a part of the password, so it is not repeated.
        raise malformed from None
    # Nor may the server's words quote what libpq took for a host or a database: the end of a password with
    # an @ or a / in it. A socket in the abstract namespace begins with @.
    if any("@" in str(given.get(key, ""))[1:] for key in ("host", "port", "dbname")):
        raise malformed
    # Where the host was forgotten, what stands for the port is the password.
    if any(port and not port.isdecimal() for port in str(given.get("port", "")).split(",")):
        raise malformed
    return given


def limit_statements(connection: Connection, seconds: float) -> None:
    """Stop every later statement of the connection that takes longer, its wait for locks included.

    Such a statement raises `QueryTimeout`.
    """
    with translated():
        connection.execute(_QUERIES["limit_statements"], {"limit": f"{math.ceil(seconds * 1_000)}ms"})


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit what happens inside, or none of it; inside another transaction, a savepoint."""
    with translated(), connection.transaction():
        yield


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Every statement inside sees the database at one moment; nothing can be written."""
    with transaction(connection):
        connection.execute(_QUERIES["see_one_moment"])
        yield


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours; also usable as a decorator.

    Raises:
        NotMigrated: A table is missing.
        MissingPartition: A row belongs to a day without a partition.
        RejectedRows: The content can never be stored.
        QueryTimeout: A statement was stopped, as it took too long.
        StoreUnavailable: Anything that may be better later.
    """
    try:
        yield
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction) as error:
        raise NotMigrated(
            "the database lacks the tables of this version; run: otel-analytics migrate"
        ) from error
    except errors.CheckViolation as error:
        # The same code serves a failed check, which has a name, and a row that no partition takes.
        if error.diag.constraint_name is None:
            raise MissingPartition("a row belongs to a day without a partition") from error
        raise _rejected(error) from error
    except (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded) as error:
        raise _rejected(error) from error
    except UnicodeEncodeError as error:
        raise RejectedRows("refused by the driver: a text that is not Unicode") from error
    except errors.QueryCanceled as error:
        raise QueryTimeout(f"PostgreSQL: {_first_line(error)}") from error
    except (psycopg.OperationalError, psycopg.InternalError, errors.InsufficientPrivilege) as error:
        raise StoreUnavailable(f"PostgreSQL: {_first_line(error)}") from error


def _rejected(error: psycopg.Error) -> RejectedRows:
    # Not the server's own words: they quote values.
    where = error.diag.constraint_name or error.diag.column_name or error.sqlstate
    return RejectedRows(f"refused by PostgreSQL: {type(error).__name__} ({where})")


def _first_line(error: psycopg.Error) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
