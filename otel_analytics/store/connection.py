"""Connections to PostgreSQL, and the one place where its errors become ours."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.waiting import Ready

from otel_analytics.errors import (
    NotMigrated,
    OtelAnalyticsError,
    RejectedRows,
    SettingsError,
    StoreUnavailable,
)
from otel_analytics.store.queries import load

APPLICATION_NAME: Final = "otel-analytics"
CONNECT_TIMEOUT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 60.0
"""What a statement of an unattended connection may take; a batch takes a second at most."""
LONG_STATEMENT_SECONDS: Final = 900.0
"""The same for one that goes through an hour of events or a week of figures."""
_ANSWER_SECONDS: Final = 5.0
"""How long the server may take to say that it stopped a statement at its limit."""
# A peer that vanished without a word is noticed after 30 seconds, whether it owes us an answer or not.
_DEAD_PEER: Final = {
    "tcp_user_timeout": 30_000,  # milliseconds
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}
_QUERIES: Final = load("connection")
_Result = TypeVar("_Result")


class Connection(psycopg.Connection[TupleRow]):
    """A connection to PostgreSQL that gives the server up when it is silent for too long.

    A server that is stopped, or a pooler or load balancer that hangs, keeps a connection open and never
    answers, so that TCP has nothing to complain of.

    Attributes:
        unattended: Nobody is there to interrupt it, so its transactions have limits; see `transaction`.
        given_limit: What the DSN, the role or the database allows a statement to take, in seconds; 0 for any
            time.
        patience: How long to wait for an answer, in seconds.
    """

    unattended = False
    given_limit = 0.0
    patience = math.inf

    def wait(self, gen: PQGen[_Result], *args: Any, **kwargs: Any) -> _Result:
        """Every wait of the driver passes here; of a COPY, one for each row."""
        if self.patience == math.inf:
            return super().wait(gen, *args, **kwargs)
        try:
            return super().wait(_in_time(gen, self.patience), *args, **kwargs)
        except _NoAnswer:
            self.close()  # whatever came would be the answer to an earlier question
            raise


class _NoAnswer(psycopg.OperationalError):
    """The server was silent for too long."""


class MissingPartition(OtelAnalyticsError):  # noqa: N818
    """A row's day has no partition; making one and trying again may succeed."""


class QueryTimeout(StoreUnavailable):
    """A statement took longer than it may, and was stopped."""


def connect(dsn: str, *, application_name: str = APPLICATION_NAME, unattended: bool = False) -> Connection:
    """Open a connection that commits each statement unless `transaction` says otherwise.

    Args:
        dsn: A URL or a libpq string. What it sets wins over the defaults here.
        application_name: What the server shows in `pg_stat_activity`.
        unattended: Whether nobody is there to interrupt it; see `transaction`.

    Raises:
        SettingsError: The DSN cannot be used.
        StoreUnavailable: The server does not answer, or does not let us in.
    """
    defaults: dict[str, Any] = {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        **_DEAD_PEER,
    }
    conninfo = make_conninfo(**{**defaults, **check_dsn(dsn)})
    with translated():
        # Prepared statements would meet another session behind a pooler, and turn into generic plans.
        connection = Connection.connect(conninfo, autocommit=True, prepare_threshold=None)
        try:
            connection.unattended = unattended
            connection.patience = CONNECT_TIMEOUT_SECONDS
            (connection.given_limit,) = connection.execute(_QUERIES["begin_session"]).fetchone() or (0.0,)
            connection.patience = _patience(connection, STATEMENT_SECONDS if unattended else math.inf)
        except BaseException:
            connection.close()
            raise
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
        connection.execute(_QUERIES["limit_statements"], {"limit": _milliseconds(seconds)})
    connection.given_limit = seconds
    connection.patience = _patience(connection, seconds)


@contextmanager
def transaction(connection: Connection, *, statement_seconds: float = STATEMENT_SECONDS) -> Iterator[None]:
    """Commit what happens inside, or none of it; inside another transaction, a savepoint.

    Who is cut off, stopped or killed in the middle of it may not hold its locks for ever, nor may anybody
    wait for others' locks for ever. So where the connection is unattended, the server ends a transaction that
    waits ten seconds for a lock or for us, or whose statement takes longer than allowed.

    Args:
        connection: Where.
        statement_seconds: What a statement may take on an unattended connection.
    """
    is_outermost = connection.info.transaction_status == TransactionStatus.IDLE
    with translated(), connection.transaction():
        if is_outermost:
            with _limited(connection, statement_seconds):
                yield
        else:
            yield


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Every statement inside sees the database at one moment; nothing can be written."""
    with translated(), connection.transaction():
        connection.execute(_QUERIES["see_one_moment"])  # PostgreSQL wants it first
        with _limited(connection, LONG_STATEMENT_SECONDS):
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


@contextmanager
def _limited(connection: Connection, statement_seconds: float) -> Iterator[None]:
    """Limits of the transaction, where the connection is unattended."""
    if not connection.unattended:
        yield
        return
    connection.execute(_QUERIES["limit_transaction"], {"limit": _milliseconds(statement_seconds)})
    usual, connection.patience = connection.patience, _patience(connection, statement_seconds)
    try:
        yield
    finally:
        connection.patience = usual


def _in_time(gen: PQGen[_Result], seconds: float) -> PQGen[_Result]:
    """The same, until nothing has come for too long."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            # The driver looks in several times a second, even where nothing comes.
            ready = yield wanted
            if ready == Ready.NONE and time.monotonic() > deadline:
                raise _NoAnswer(f"no answer within {seconds:.0f} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: _Result = end.value
        return result


def _patience(connection: Connection, seconds: float) -> float:
    return (connection.given_limit or seconds) + _ANSWER_SECONDS


def _milliseconds(seconds: float) -> str:
    return f"{math.ceil(seconds * 1_000)}ms"


def _rejected(error: psycopg.Error) -> RejectedRows:
    # Not the server's own words: they quote values.
    where = error.diag.constraint_name or error.diag.column_name or error.sqlstate
    return RejectedRows(f"refused by PostgreSQL: {type(error).__name__} ({where})")


def _first_line(error: psycopg.Error) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
