"""What several acceptance tests look at while it runs."""

import pytest
from backend import raw_postgres
from live_shop import live_shop

from otel_analytics.embedded import redis_server


@pytest.fixture(scope="session")
def live(tmp_path_factory, _postgres_server, _migrated_template):
    """A shop, its worker and a Prometheus, all of its own; tests that look at them belong to one xdist group."""
    with raw_postgres(_postgres_server) as admin:
        admin.execute(f"CREATE DATABASE live TEMPLATE {_migrated_template}")
    dsn = f"{_postgres_server.rpartition('/')[0]}/live"
    with redis_server(tmp_path_factory.mktemp("live-redis")) as redis_url:
        with live_shop(tmp_path_factory.mktemp("live"), redis_url, dsn) as shop:
            yield shop
