"""Servers of the capture contract: one a span source, for as long as its tests run."""

import pytest
from capture_sources import ALL_SOURCES, Server

ALL_DATABASES = "sqlalchemy,psycopg,asyncpg"


@pytest.fixture(scope="session")
def serve(_redis_server, _postgres_server, tmp_path_factory):
    """Start servers, which end with the session."""
    servers = []

    def start(source, *, databases=ALL_DATABASES, environ=None, **settings):
        folder = tmp_path_factory.mktemp(source.replace(":", "-"))
        environ = {"DSN": _postgres_server, "DATABASES": databases, **(environ or {})}
        servers.append(Server(source, _redis_server, folder, environ=environ, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def servers(serve):
    """Started when first asked for, by name of the source."""
    started = {}

    def named(source):
        if source not in started:
            started[source] = serve(source)
        return started[source]

    return named


@pytest.fixture(params=[pytest.param(each, marks=pytest.mark.xdist_group(each)) for each in ALL_SOURCES])
def server(request, servers):
    """The application on each source of spans; a test has to take all events that it causes."""
    server = servers(request.param)
    yield server
    assert server.drain() == []


@pytest.fixture(scope="session")
def hashes():
    """Response hashes seen so far, whichever server took them."""
    return {}
