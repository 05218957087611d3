"""The roles of deploy/postgres: each can do its work, and nothing else."""

import datetime as dt
import json
from urllib.parse import quote

import psycopg
import pytest
from backend import DAY, HOUR, PREFIX, make_event, make_settings, produce, raw_postgres, raw_redis, scalar
from deployment import POSTGRES_PASSWORDS, as_role, init_postgres
from program import run

from otel_analytics.errors import NotMigrated, StoreUnavailable
from otel_analytics.record import Event
from otel_analytics.settings import Settings
from otel_analytics.store import partitions
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_events
from otel_analytics.store.migrations import check, migrate
from otel_analytics.worker import Worker
from otel_analytics_exporters.postgres import PostgresSpanExporter

TABLES = "SELECT relname FROM pg_class WHERE relname LIKE 'route_analytics%' AND relkind IN ('r', 'p')"


def now():
    return dt.datetime.now(dt.UTC)


@pytest.fixture
def database(postgres_dsn):
    """With the roles, migrated by the owner; for a superuser."""
    init_postgres(postgres_dsn)
    migrate(as_role(postgres_dsn, "owner"))
    return postgres_dsn


def refused(dsn, role, statement, match="permission denied|must be owner"):
    """The role may not do that, whatever the reason it is told."""
    no_privilege = pytest.raises(psycopg.errors.InsufficientPrivilege, match=match)
    with raw_postgres(as_role(dsn, role)) as connection, no_privilege:
        connection.execute(statement)


# --- what they can do


def test_the_worker_does_its_whole_job_as_ingest(database, redis_url):
    days = [now().date() - n * DAY for n in (40, 2)]
    with connect(as_role(database, "owner")) as connection:
        partitions.ensure(connection, days)
    with raw_redis(redis_url) as client:
        client.xadd(f"{PREFIX}:stream", {"v": "of the future"})
    produce(redis_url, [make_event(now() - HOUR), make_event(now() - 5 * DAY)], dropped={"buffer full": 1})
    with Worker(make_settings(redis_url, as_role(database, "ingest"))) as worker:
        done = worker.run_once()
        worker.trim()
        worker._rank_if_due()
    assert (done.events.stored, done.events.dead, done.hours) == (2, 0, 2)
    with connect(as_role(database, "ingest")) as connection:
        existing = partitions.existing_days(connection)
    assert existing == {now().date() + n * DAY for n in (-5, -2, -1, 0, 1)} - {(now() - DAY).date()} | {
        (now() - HOUR).date()
    }


def test_an_application_without_redis_writes_as_ingest(database):
    exporter = PostgresSpanExporter(Settings(postgres_dsn=as_role(database, "ingest")))
    exporter.send([make_event(now())], {"buffer full": 2})
    exporter.disconnect()
    with raw_postgres(as_role(database, "reader")) as connection:
        assert scalar(connection, "SELECT count(*) FROM route_analytics") == 1
        assert scalar(connection, "SELECT sum(events) FROM route_analytics_drops") == 2


def test_the_reader_reads_every_table(database):
    with raw_postgres(as_role(database, "reader")) as connection:
        tables = [name for (name,) in connection.execute(TABLES)]
        assert len(tables) > 7
        for name in tables:
            connection.execute(f"SELECT * FROM {name}")
    with connect(as_role(database, "reader")) as connection:
        check(connection)


# --- what they cannot do


def test_the_reader_writes_nothing(database):
    with raw_postgres(database) as connection:
        tables = [name for (name,) in connection.execute(TABLES)]
    for name in tables:
        refused(database, "reader", f"INSERT INTO {name} DEFAULT VALUES")
        refused(database, "reader", f"DELETE FROM {name}")
        refused(database, "reader", f"TRUNCATE {name}")
    refused(database, "reader", "UPDATE route_analytics SET user_id = NULL")
    refused(database, "reader", "CREATE TABLE mine ()")
    refused(database, "reader", "CREATE TEMPORARY TABLE mine ()")
    refused(database, "reader", "CREATE SCHEMA mine")
    refused(database, "reader", "SELECT route_analytics_make_partition(current_date)")
    refused(database, "reader", "SELECT route_analytics_drop_partition('2000-01-01')")
    refused(database, "reader", "SET ROLE otel_analytics_owner", "permission denied to set role")
    refused(database, "reader", "COPY route_analytics TO PROGRAM 'cat'", "superuser|denied")


NOT_FOR_INGEST = [
    "DELETE FROM route_analytics",
    "UPDATE route_analytics SET duration_ms = 0",
    "TRUNCATE route_analytics",
    "DROP TABLE route_analytics",
    "ALTER TABLE route_analytics ADD mine int",
    "ALTER TABLE route_analytics DETACH PARTITION {today}",
    "CREATE INDEX ON route_analytics (method)",
    "DROP TABLE {today}",
    "TRUNCATE {today}",
    "SELECT * FROM {today}",
    "INSERT INTO {today} SELECT FROM generate_series(1, 1)",
    "SELECT * FROM route_analytics",
    "SELECT client_address FROM route_analytics",
    "SELECT session_id FROM route_analytics",
    "TRUNCATE route_analytics_hourly",
    "DELETE FROM route_analytics_ledger",
    "UPDATE route_analytics_touched_hours SET hour = now()",
    "UPDATE route_analytics_rankings SET score = 0",
    "INSERT INTO route_analytics_migrations (name) VALUES ('9999_future')",
    "DROP FUNCTION route_analytics_make_partition(date)",
    "CREATE OR REPLACE FUNCTION route_analytics_make_partition(day date) RETURNS void LANGUAGE sql AS ''",
    "CREATE TABLE mine ()",
    "CREATE SCHEMA mine",
    "SET ROLE otel_analytics_owner",
    "COPY route_analytics_incoming FROM PROGRAM 'cat'",
]


def test_ingest_changes_no_table_and_reads_nobodys_address(database):
    with connect(as_role(database, "ingest")) as connection:
        partitions.ensure(connection, [now().date()])
        insert_events(connection, [make_event(now())])
    with raw_postgres(as_role(database, "ingest")) as connection:
        connection.execute("CREATE TEMPORARY TABLE route_analytics_incoming ()")
        for statement in NOT_FOR_INGEST:
            todays = f"route_analytics_y{now():%Y}m{now():%m}d{now():%d}"
            try:
                connection.execute(statement.format(today=todays))
            except psycopg.errors.InsufficientPrivilege:
                continue
            except psycopg.Error as error:
                pytest.fail(f"{statement}: {error}")
            pytest.fail(f"{statement} was done")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("SELECT route_analytics_drop_partition(current_date)", "too young"),
        ("SELECT route_analytics_drop_partition(current_date - 1)", "too young"),
        ("SELECT route_analytics_make_partition(current_date + 1000)", "as far away as"),
        ("SELECT route_analytics_make_partition('infinity')", "as far away as"),
        ("SELECT route_analytics_make_partition('1900-01-01')", "as far away as"),
    ],
)
def test_what_is_lent_to_ingest_has_bounds(database, statement, match):
    with connect(as_role(database, "owner")) as connection:
        partitions.ensure(connection, [now().date() - n * DAY for n in (0, 1)])
    refused(database, "ingest", statement, match)


def test_a_drop_that_is_refused_is_no_failure_of_maintenance(database):
    days = [now().date() - n * DAY for n in (0, 1, 2)]
    with connect(as_role(database, "ingest")) as connection:
        partitions.ensure(connection, days)
        assert partitions.drop_before(connection, now().date() + DAY) == [days[2]]
        assert partitions.existing_days(connection) == set(days[:2])


def test_what_is_lent_works_on_no_table_of_the_callers(database):
    today = now().date()
    with raw_postgres(as_role(database, "ingest")) as connection:
        connection.execute("CREATE TEMPORARY TABLE route_analytics (LIKE route_analytics_drops)")
        connection.execute("SET search_path = pg_temp, public")
        connection.execute("SELECT route_analytics_make_partition(%s)", [today])
    with connect(as_role(database, "reader")) as connection:
        assert partitions.existing_days(connection) == {today}


def test_a_role_of_others_does_not_get_in(database):
    with raw_postgres(database) as connection:
        connection.execute("CREATE ROLE stranger LOGIN")
        try:
            with pytest.raises(StoreUnavailable, match="permission denied for database"):
                connect(as_role(database, "owner").replace("otel_analytics_owner", "stranger"))
        finally:
            connection.execute("DROP ROLE stranger")


# --- how they come about


def test_init_can_be_repeated_and_migrate_grants_what_is_missing(database):
    init_postgres(database)
    with raw_postgres(database) as connection:
        connection.execute("REVOKE ALL ON route_analytics_drops FROM otel_analytics_ingest")
    environ = {"OTEL_ANALYTICS_EXPORTER": "postgres"}
    ingest = as_role(database, "ingest")
    found = json.loads(run(ingest, "doctor", "--format", "json", code=1, **environ)[0])
    (problem,) = (each for each in found if each["level"] == "problem")
    assert problem["check"] == "permissions"
    lacking = [
        f"{privilege} on route_analytics_drops" for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
    ]
    assert problem["message"] == f"the role lacks {', '.join(lacking)}"
    assert "run otel-analytics migrate as the owner" in problem["advice"]
    assert migrate(as_role(database, "owner")) == []
    assert "the role may do what the worker does" in run(ingest, "doctor", **environ)[0]
    assert (
        "nothing: enough for questions"
        in run(as_role(database, "reader"), "doctor", COLUMNS="200", **environ)[0]
    )


@pytest.mark.parametrize("missing", [*POSTGRES_PASSWORDS, "POSTGRES_DB"])
def test_init_refuses_without_each_password(postgres_dsn, missing):
    said = init_postgres(postgres_dsn, code=1, **{missing: ""})
    assert said == f"init.sh: {missing} is not set; nothing was done\n"
    with raw_postgres(postgres_dsn) as connection:
        assert scalar(connection, "SELECT has_schema_privilege('public', 'public', 'USAGE')")


def test_no_password_reaches_the_server(postgres_dsn):
    said = init_postgres(postgres_dsn)
    with raw_postgres(postgres_dsn) as connection:
        stored = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'otel_analytics_%'"
        ).fetchall()
    assert len(stored) == 3
    assert all(password.startswith("SCRAM-SHA-256$") for (password,) in stored)
    assert said == ""


def test_a_database_of_one_role_gives_nothing_to_the_others(postgres_dsn):
    init_postgres(postgres_dsn)
    with raw_postgres(postgres_dsn) as connection:
        connection.execute("GRANT ALL ON SCHEMA public TO CURRENT_USER")
    migrate(postgres_dsn)
    refused(postgres_dsn, "reader", "SELECT * FROM route_analytics_hourly")


def test_what_another_role_has_migrated_is_taken_over(postgres_dsn, redis_url):
    migrate(postgres_dsn)
    with connect(postgres_dsn) as connection:
        partitions.ensure(connection, [now().date() - 40 * DAY])
    init_postgres(postgres_dsn)
    refused(postgres_dsn, "ingest", "SELECT * FROM route_analytics_hourly")
    assert migrate(as_role(postgres_dsn, "owner")) == []
    with Worker(make_settings(redis_url, as_role(postgres_dsn, "ingest"))) as worker:
        worker.start()
    with connect(as_role(postgres_dsn, "reader")) as connection:
        assert partitions.existing_days(connection) == {now().date(), now().date() + DAY}
        assert partitions.hold(connection, now().date())


def test_partitions_lie_beside_their_table_in_any_schema(postgres_dsn):
    schema = 'A "schema" of its own'
    with raw_postgres(postgres_dsn) as connection:
        connection.execute('CREATE SCHEMA "A ""schema"" of its own"')
    path = quote('-csearch_path="A\\ ""schema""\\ of\\ its\\ own"')
    dsn = f"{postgres_dsn}?options={path}"
    migrate(dsn)
    with raw_postgres(postgres_dsn) as connection:
        connection.execute("CREATE SCHEMA earlier")
    with connect(dsn.replace(quote("search_path="), quote("search_path=earlier,"))) as connection:
        assert scalar(connection, "SELECT current_schema()") == "earlier"
        days = [now().date() - n * DAY for n in (1, 0)]
        assert partitions.ensure(connection, days) == days
        where = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE %s"
        assert scalar(connection, where, "route_analytics_y%") == schema
        assert partitions.drop_before(connection, days[1]) == [days[0]]
        assert partitions.existing_days(connection) == {days[1]}


def test_a_database_of_an_older_version_says_so(postgres_dsn):
    migrate(postgres_dsn)
    with connect(postgres_dsn) as connection:
        connection.execute("DROP FUNCTION route_analytics_make_partition(date)")
        with pytest.raises(NotMigrated, match="otel-analytics migrate"):
            partitions.ensure(connection, [now().date()])


def test_ingest_reads_every_column_but_those_that_tell_who_asked(database):
    with raw_postgres(as_role(database, "ingest")) as connection:
        hidden = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'route_analytics'::regclass AND attnum > 0"
            " AND NOT has_column_privilege('route_analytics', attname, 'SELECT')"
        )
        hidden = {name for (name,) in hidden}
    private = {"client_address", "user_agent", "referrer", "session_id", "trace_id", "span_id", "error_type"}
    assert hidden == private | {"ttfb_ms", "created_at"}
    assert private < set(Event._fields)
