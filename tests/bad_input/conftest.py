"""Servers of one application, with and without the two lines, for as long as tests ask for them."""

import pytest
from capture_sources import Server

ALL_CLIENT_FIELDS = ["client_address", "user_agent", "referrer", "session_id"]


@pytest.fixture(scope="session")
def one_redis(_redis_server):
    """For the examples of one test, which empty it themselves."""
    return _redis_server


@pytest.fixture(scope="session")
def both(_redis_server, tmp_path_factory):
    """By the source of spans: the application instrumented, with all fields on, and the same bare."""
    started = {}

    def named(source):
        if source not in started:
            # Sets of methods come in the same order, so that answers can be compared byte by byte.
            options = {"environ": {"PYTHONHASHSEED": "0"}}
            started[source] = [
                Server(
                    source,
                    _redis_server,
                    tmp_path_factory.mktemp(source),
                    capture_client=ALL_CLIENT_FIELDS,
                    **options,
                ),
                Server(f"bare:{source}", _redis_server, tmp_path_factory.mktemp("bare"), **options),
            ]
        return started[source]

    yield named
    for pair in started.values():
        for server in pair:
            server.stop()
