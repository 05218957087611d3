"""What several acceptance tests look at while it runs."""

from pathlib import Path

import pytest
from backend import raw_postgres
from live_shop import live_shop
from psycopg.conninfo import make_conninfo

from otel_analytics.embedded import redis_server
from otel_analytics.store.migrations import migrate

ROLES = Path(__file__).parents[2] / "deploy/postgres/roles.sql"


@pytest.fixture(scope="session")
def live(tmp_path_factory, _postgres_server):
    """A shop, its worker and a Prometheus; tests that look at them belong to the xdist group `live`."""
    dsn = make_conninfo(_postgres_server, dbname="live")
    with raw_postgres(_postgres_server) as admin:
        admin.execute("CREATE DATABASE live")
        with raw_postgres(dsn) as superuser:
            superuser.execute(ROLES.read_text())
        migrate(make_conninfo(dsn, user="otel_analytics_owner"))
        with (
            redis_server(tmp_path_factory.mktemp("live-redis")) as redis_url,
            live_shop(tmp_path_factory.mktemp("live"), redis_url, dsn) as shop,
        ):
            yield shop
        admin.execute("DROP DATABASE live WITH (FORCE)")
        admin.execute("DROP ROLE otel_analytics_owner, otel_analytics_ingest, otel_analytics_reader")
