"""Real servers: one Redis and one PostgreSQL for each process that runs tests, started when first needed."""

import itertools
import os
import signal

import pytest
from backend import raw_postgres, raw_redis
from hypothesis import HealthCheck, settings

from otel_analytics.embedded import postgres_server, redis_server
from otel_analytics.store.migrations import migrate

# A busy machine is no failure, and nothing is left behind in the working directory.
settings.register_profile("ours", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

# A shell that starts the tests in the background has programs ignore Ctrl-C, and theirs would with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _signals_pass():
    """A test that blocks signals would block them in every program that is started after it."""
    yield
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """What the developer has set for OpenTelemetry, PostgreSQL or this package does not reach the tests."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "PG")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _redis_server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def _postgres_server(tmp_path_factory):
    with postgres_server(tmp_path_factory.mktemp("postgres"), durable=False) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def _migrated_template(_postgres_server):
    with raw_postgres(_postgres_server) as admin:
        admin.execute("CREATE DATABASE migrated")
    migrate(_named(_postgres_server, "migrated"))
    return "migrated"


@pytest.fixture
def redis_url(_redis_server):
    """An empty Redis."""
    with raw_redis(_redis_server) as client:
        client.flushall()
    return _redis_server


@pytest.fixture
def postgres_dsn(_postgres_server):
    """An empty database."""
    yield from _database(_postgres_server, template="template0")


@pytest.fixture
def migrated_dsn(_postgres_server, _migrated_template):
    """A migrated database without events."""
    yield from _database(_postgres_server, template=_migrated_template)


def _database(server, template):
    name = f"test_{next(_numbers)}"
    with raw_postgres(server) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield _named(server, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _named(dsn, name):
    return f"{dsn.rpartition('/')[0]}/{name}"
