"""Questions about the PostgreSQL server that change nothing."""

from typing import Final

from otel_analytics.store.connection import Connection, translated
from otel_analytics.store.queries import load

_QUERIES: Final = load("health")


@translated()
def clock(connection: Connection) -> float:
    """The time on the server, seconds since 1970."""
    (seconds,) = connection.execute(_QUERIES["clock"]).fetchone() or (0.0,)
    return float(seconds)


@translated()
def is_read_only(connection: Connection) -> bool:
    """Whether the server accepts no writes from us: a standby, or a setting."""
    (read_only,) = connection.execute(_QUERIES["is_read_only"]).fetchone() or (False,)
    return bool(read_only)


@translated()
def may_write(connection: Connection) -> bool:
    """Whether the role may write to any of the tables; where not, it is one for questions."""
    (may,) = connection.execute(_QUERIES["may_write"]).fetchone() or (False,)
    return bool(may)


@translated()
def lacking_permissions(connection: Connection) -> list[str]:
    """What the worker does and the role may not, such as `INSERT on route_analytics`."""
    return [lacking for (lacking,) in connection.execute(_QUERIES["lacking_permissions"])]
