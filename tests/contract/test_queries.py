"""Database queries of a request, counted on real PostgreSQL through OpenTelemetry's instrumentations."""

import pytest

EVERY_WAY = ("sqlalchemy", "sqlalchemy-async", "psycopg", "psycopg-async", "asyncpg")


@pytest.mark.parametrize("how", EVERY_WAY)
@pytest.mark.parametrize("number", [0, 5])
def test_each_query_of_an_n_plus_one_counts_once(server, how, number):
    """ORM and driver are both instrumented; opening connections and transactions is no query."""
    server.ask(
        f"/queries/{how}?n=0"
    )  # the first use of an engine asks the server for its version and the like
    assert server.ask(f"/queries/{how}?n={number}").event.db_query_count == number + 1


@pytest.fixture(scope="module")
def count(serve):
    """What a server of its own counts where only some are instrumented."""
    servers = {}

    def ask(databases, how):
        if databases not in servers:
            servers[databases] = serve("fastapi", databases=databases)
        servers[databases].ask(f"/queries/{how}?n=0")
        return servers[databases].ask(f"/queries/{how}?n=2").event.db_query_count

    return ask


@pytest.mark.parametrize("how", ["psycopg", "asyncpg"])
def test_no_query_is_counted_by_nobody(count, how):
    assert count("", how) is None


@pytest.mark.parametrize(
    ("how", "queries"),
    [("sqlalchemy", 3), ("sqlalchemy-async", 3), ("psycopg", 0), ("psycopg-async", 0), ("asyncpg", 0)],
)
def test_only_the_orm_is_instrumented(count, how, queries):
    assert count("sqlalchemy", how) == queries


@pytest.mark.parametrize("how", EVERY_WAY)
def test_only_the_drivers_are_instrumented(count, how):
    assert count("psycopg,asyncpg", how) == 3


def test_a_request_without_a_query_counts_none(server):
    assert server.ask("/ping").event.db_query_count == 0
