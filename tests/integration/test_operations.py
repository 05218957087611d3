"""What docs/operations.md says of servers that are restored, follow others or are newer."""

import datetime as dt
import os
import subprocess
import threading
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from backend import PREFIX, make_event, make_settings, produce, raw_postgres, raw_redis, scalar
from deployment import as_role, init_postgres
from program import run
from waiting import until

from otel_analytics.embedded import postgres_server
from otel_analytics.embedded.postgres import _account, _binaries
from otel_analytics.embedded.process import run_as
from otel_analytics.errors import SchemaTooNew
from otel_analytics.ledger import audit
from otel_analytics.store.connection import connect
from otel_analytics.store.migrations import migrate
from otel_analytics.stream import GROUP, Inspector, Producer
from otel_analytics.stream.connection import Refused
from otel_analytics.worker import Worker

QUESTIONS = [
    ("rank", "--min-requests=0"),
    ("rank", "--relative"),
    ("rank", "--by=savings"),
    ("advise",),
    ("patterns", "/items/{id}"),
    ("slow",),
    ("users",),
    ("audit",),
]


@pytest.fixture(scope="module")
def binaries():
    """The programs that belong to the server of the tests."""
    with _binaries(_account(), packaged_only=False) as found:
        yield found


def program_of(binaries, name, *arguments, given=None):
    """Run one of PostgreSQL's own programs; what it prints."""
    command = [binaries / name, *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True, **run_as(None)).stdout


def events(count):
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    return [make_event(moment, duration_ms=300.0, user_id=f"u{number}") for number in range(count)]


@contextmanager
def worker_running(settings):
    """A worker that goes on whatever happens to its servers."""
    stop = threading.Event()
    with Worker(settings) as worker:
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def stored(dsn):
    try:
        with raw_postgres(dsn) as connection:
            return scalar(connection, "SELECT count(*) FROM route_analytics")
    except psycopg.Error:
        return None


def put_in_place(dsn, dump, binaries):
    """An older database under the name of the one that is there."""
    name = urlsplit(dsn).path[1:]
    with raw_postgres(dsn.rpartition("/")[0] + "/postgres") as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    program_of(binaries, "psql", "--quiet", "--set=ON_ERROR_STOP=1", dsn, given=dump)


@pytest.mark.parametrize("before", [0, 10], ids=["before the first event", "later"])
def test_what_an_older_database_lacks_is_stored_again(redis_url, migrated_dsn, binaries, before):
    settings = make_settings(redis_url, migrated_dsn)
    with worker_running(settings):
        if before:
            produce(redis_url, events(before))
            until(lambda: stored(migrated_dsn) == before)
        dump = program_of(binaries, "pg_dump", migrated_dsn)
        produce(redis_url, events(20), events(20))
        until(lambda: stored(migrated_dsn) == before + 40)
        put_in_place(migrated_dsn, dump, binaries)
        produce(redis_url, events(5))
        until(lambda: stored(migrated_dsn) == before + 5)
        with closing(Inspector(redis_url, key_prefix=PREFIX)) as stream, connect(migrated_dsn) as connection:
            until(lambda: stream.status().pending == 0)
            assert audit(stream, connection).difference == 40
            with raw_redis(redis_url) as client:
                client.xgroup_setid(f"{PREFIX}:stream", GROUP, "0")
            until(lambda: stored(migrated_dsn) == before + 45)
            until(lambda: stream.status().undelivered + stream.status().pending == 0)
            assert audit(stream, connection).balanced


def test_a_redis_that_became_a_replica_is_looked_up_anew(redis_url):
    """Its name may lead to another server by now, while a connection to it would go on for ever."""
    with (
        raw_redis(redis_url) as client,
        closing(Producer(redis_url, key_prefix=PREFIX, max_entries=100)) as producer,
    ):
        producer.add(events(1), {})
        connected = len(client.client_list())
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(Refused, match="read only replica"):
                producer.add(events(1), {})
            until(lambda: len(client.client_list()) == connected - 1)  # Redis hears of it a moment later
        finally:
            client.replicaof("NO", "ONE")
        producer.add(events(1), {})


def test_a_worker_goes_on_with_newer_tables_and_does_not_begin_with_them(redis_url, migrated_dsn):
    settings = make_settings(redis_url, migrated_dsn)
    with worker_running(settings):
        produce(redis_url, events(1))
        until(lambda: stored(migrated_dsn) == 1)
        with raw_postgres(migrated_dsn) as connection:
            connection.execute(
                "INSERT INTO route_analytics_migrations (name) VALUES ('9999_from_the_future')"
            )
        produce(redis_url, events(1))
        until(lambda: stored(migrated_dsn) == 2)
    with Worker(settings) as worker, pytest.raises(SchemaTooNew):
        worker.start()


def copy_to_follow(dsn, data, binaries):
    """The files of a server that follows another."""
    program_of(binaries, "pg_basebackup", "-D", data, "-d", dsn, "--write-recovery-conf", "--checkpoint=fast")
    account = _account()
    for each in [data, *data.rglob("*")] if account else []:
        os.chown(each, account.uid, account.gid)


def test_a_standby_answers_every_question(redis_url, binaries, tmp_path):
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url}
    with postgres_server(tmp_path / "primary", durable=False) as dsn:
        init_postgres(dsn)
        migrate(as_role(dsn, "owner"))
        produce(redis_url, events(200))
        with Worker(make_settings(redis_url, as_role(dsn, "ingest"))) as worker:
            worker.run_once()
        (tmp_path / "standby").mkdir()
        copy_to_follow(dsn, tmp_path / "standby" / "data", binaries)
        with postgres_server(tmp_path / "standby", durable=False) as standby:
            for question in QUESTIONS:
                theirs, ours = (
                    run(as_role(server, "reader"), *question, "--format=json", **environ)[0]
                    for server in (dsn, standby)
                )
                assert theirs == ours
            _, said = run(as_role(standby, "ingest"), "worker", "--once", code=1, **environ)
            assert "read-only transaction" in said
