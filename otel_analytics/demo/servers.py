"""The servers of the demo: those that the settings name, else embedded ones."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from otel_analytics.embedded import postgres_server, redis_server
from otel_analytics.settings import Settings
from otel_analytics.store.connection import connect
from otel_analytics.stream.removal import remove_all

NAME: Final = "otel_analytics_demo"
"""Of the schema and the Redis keys on servers that are not the demo's own."""


@dataclass(frozen=True)
class Servers:
    """Where the demo's data go.

    Attributes:
        redis_url: Of the stream.
        postgres_dsn: Of the tables, the shop's own included.
        key_prefix: Of the Redis keys.
    """

    redis_url: str
    postgres_dsn: str
    key_prefix: str = "route_analytics"


@contextlib.contextmanager
def demo_servers(directory: Path, settings: Settings) -> Iterator[Servers]:
    """Use the servers that the settings name, in a schema and under keys of the demo's own, or start others.

    Args:
        directory: For the data of those that are started.
        settings: Those of the environment.

    Yields:
        Where they are; what the demo made there is gone afterwards.

    Raises:
        OtelAnalyticsError: A server does not start.
        StoreUnavailable: The PostgreSQL that is named does not answer.
    """
    defaults = Settings()
    with contextlib.ExitStack() as stack:
        if settings.redis_url != defaults.redis_url:
            redis_url, prefix = settings.redis_url, f"{NAME}_{secrets.token_hex(3)}"
            stack.callback(remove_all, redis_url, key_prefix=prefix)
        else:
            redis_url = stack.enter_context(redis_server(directory / "redis", append_only=True))
            prefix = defaults.key_prefix
        if settings.postgres_dsn != defaults.postgres_dsn:
            dsn = stack.enter_context(_own_schema(settings.postgres_dsn))
        else:
            dsn = stack.enter_context(postgres_server(directory / "postgres"))
        yield Servers(redis_url, dsn, prefix)


@contextlib.contextmanager
def _own_schema(dsn: str) -> Iterator[str]:
    """A new schema on somebody's server, gone afterwards; nothing else there is touched."""
    name = f"{NAME}_{secrets.token_hex(3)}"
    with connect(dsn) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    try:
        options = conninfo_to_dict(dsn).get("options") or ""
        yield make_conninfo(dsn, options=f"{options} -csearch_path={name}".strip())
    finally:
        with connect(dsn) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
