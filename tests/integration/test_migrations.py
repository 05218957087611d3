from concurrent.futures import ThreadPoolExecutor

import pytest
from backend import make_event, raw_postgres, scalar, store_connection

from otel_analytics.errors import NotMigrated, SchemaTooNew, SettingsError, StoreUnavailable
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_events
from otel_analytics.store.migrations import check, migrate, pending


def test_migrate_applies_all_in_order_and_then_nothing(postgres_dsn):
    first = migrate(postgres_dsn)
    assert first == sorted(first)
    assert first[0] == "0001_initial"
    assert migrate(postgres_dsn) == []
    with connect(postgres_dsn) as connection:
        check(connection)
        assert pending(connection) == []


def test_two_migrations_at_once_apply_each_file_once(postgres_dsn):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(migrate, [postgres_dsn] * 4))
    applied = [name for result in results for name in result]
    assert sorted(applied) == sorted(set(applied))
    assert "0001_initial" in applied


def test_check_says_what_to_do_on_an_empty_database(postgres_dsn):
    with connect(postgres_dsn) as connection:
        with pytest.raises(NotMigrated, match="run: otel-analytics migrate"):
            check(connection)
        assert pending(connection) == migrate(postgres_dsn)


def test_a_query_on_an_empty_database_says_so_too(postgres_dsn):
    with connect(postgres_dsn) as connection, pytest.raises(NotMigrated, match="otel-analytics migrate"):
        insert_events(connection, [make_event()])


def test_a_newer_schema_is_left_alone(migrated_dsn):
    with raw_postgres(migrated_dsn) as connection:
        connection.execute("INSERT INTO route_analytics_migrations (name) VALUES ('9999_from_the_future')")
    with connect(migrated_dsn) as connection, pytest.raises(SchemaTooNew, match="9999_from_the_future"):
        check(connection)
    with pytest.raises(SchemaTooNew):
        migrate(migrated_dsn)


def test_a_schema_of_ones_own_by_search_path(postgres_dsn):
    with raw_postgres(postgres_dsn) as connection:
        connection.execute("CREATE SCHEMA elsewhere")
    separator = "&" if "?" in postgres_dsn else "?"
    dsn = f"{postgres_dsn}{separator}options=-csearch_path%3Delsewhere"
    migrate(dsn)
    with store_connection(dsn) as connection:
        assert insert_events(connection, [make_event()]) == 1
    with raw_postgres(postgres_dsn) as connection:
        assert scalar(connection, "SELECT count(*) FROM elsewhere.route_analytics") == 1
        assert scalar(connection, "SELECT to_regclass('public.route_analytics') IS NULL")


def test_errors_name_no_password():
    with pytest.raises(StoreUnavailable) as unreachable:
        connect("postgresql://me:hunter2@127.0.0.1:1/nowhere")
    with pytest.raises(SettingsError) as unreadable:
        connect("host=127.0.0.1 password=hunter2 oops hunter2")
    for error in (unreachable, unreadable):
        assert "hunter2" not in str(error.value)
        assert "\n" not in str(error.value)
