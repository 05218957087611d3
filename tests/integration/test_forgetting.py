"""A person is taken out of everything, and nobody else is."""

import os
import subprocess
import time

import pytest
from backend import NOW, PREFIX, make_event, make_settings, make_worker, raw_postgres, raw_redis
from program import PROGRAM

from otel_analytics.errors import OtelAnalyticsError
from otel_analytics.forgetting import Person, forget
from otel_analytics.privacy import Privacy
from otel_analytics.store.connection import connect
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

USER = "zoë.o'hara+1@example.com"
KEY = "a secret"
TABLES = "SELECT relname FROM pg_class WHERE relname LIKE 'route_analytics%' AND relkind IN ('r', 'p')"


@pytest.fixture
def settings(redis_url, migrated_dsn):
    return make_settings(redis_url, migrated_dsn, hash_key=KEY)


def events():
    """Of the person, of others who speak of the person, and of others who do not."""
    hidden = Privacy(make_settings(hash_key=KEY, user_id_hmac=True)).user(USER)
    theirs = [
        make_event(user_id=USER, route_full=f"/items/{USER}", session_id="s-77-theirs"),
        make_event(user_id=hidden),
        make_event(user_id=USER, status_code=10_000),  # goes to the dead letters
    ]
    mentions = [
        make_event(user_id="admin", route_full="/users/zo%C3%AB.o%27hara%2B1%40example.com?x=1"),
        make_event(
            user_id="admin", query_params={"q": f"mail {USER}"}, query_params_normalized={"q": USER.upper()}
        ),
        make_event(user_id="admin", query_params={"to": ["a", USER]}, referrer=f"https://shop.test/{USER}"),
    ]
    others = [
        make_event(user_id="zoe"),
        make_event(user_id=None),
        make_event(user_id="admin", status_code=10_001),
    ]
    return theirs, mentions, others


def everything(settings):
    """All that can be read, of PostgreSQL and of Redis, as bytes."""
    found = []
    with raw_postgres(settings.postgres_dsn) as connection:
        for (table,) in connection.execute(TABLES).fetchall():
            found += connection.execute(f"SELECT t::text FROM {table} AS t").fetchall()
    with raw_redis(settings.redis_url) as client:
        found += [client.dump(key) for key in client.keys(f"{PREFIX}:*")]
    return repr(found).encode().decode("unicode_escape", errors="replace").lower() + repr(found).lower()


def store(settings, batch):
    exporter = RedisStreamSpanExporter(settings)
    for event in batch:
        exporter.send([event], {})
    exporter.disconnect()
    with make_worker(settings) as worker:
        worker.run_once()


def test_nothing_of_the_person_is_left_and_everything_of_others(settings):
    theirs, mentions, others = events()
    store(settings, [*theirs, *mentions, *others])
    secrets = ("hara", "s-77-theirs", Privacy(make_settings(hash_key=KEY, user_id_hmac=True)).user(USER))
    before = everything(settings)
    assert all(secret in before for secret in secrets)
    with connect(settings.postgres_dsn) as connection:
        done = forget(connection, settings, Person(USER, settings), now=NOW)
        again = forget(connection, settings, Person(USER, settings), now=NOW)
        rows = connection.execute("SELECT event_id, route, user_id FROM route_analytics").fetchall()
        totals = connection.execute(
            "SELECT sum(total_requests), max(unique_users) FROM route_analytics_hourly"
        ).fetchone()
    after = everything(settings)
    assert not [secret for secret in secrets if secret in after]
    assert (done.events, done.mentions, done.letters) == (2, 3, 1)
    assert done.entries == 9
    assert (again.events, again.mentions, again.entries, again.letters) == (0, 0, 0, 0)
    assert {each.hex for each, *_ in rows} == {
        event.event_id for event in [*mentions, *others] if event.status_code == 200
    }
    assert totals[0] == 5
    with raw_redis(settings.redis_url) as client:
        assert client.xlen(f"{PREFIX}:dead") == 1
        assert client.hget(f"{PREFIX}:ledger", "purged") == b"1"


def test_an_id_that_may_mean_anything_is_looked_for_only_where_users_stand(settings):
    store(settings, [make_event(user_id="42"), make_event(user_id="7", route_full="/items/42?page=42")])
    with connect(settings.postgres_dsn) as connection:
        done = forget(connection, settings, Person("42", settings), now=NOW)
        rows = connection.execute("SELECT user_id, route_full FROM route_analytics").fetchall()
        told = forget(connection, settings, Person("42", settings, mentions=True), now=NOW)
        hidden = connection.execute("SELECT route_full FROM route_analytics").fetchall()
    assert (done.events, done.mentions) == (1, 0)
    assert rows == [("7", "/items/42?page=42")]
    assert told.mentions == 1
    assert hidden == [("/items/REDACTED?page=REDACTED",)]


def test_what_is_not_stored_yet_would_come_back(settings, monkeypatch):
    monkeypatch.setattr("otel_analytics.forgetting._WAIT_SECONDS", 0.1)
    exporter = RedisStreamSpanExporter(settings)
    exporter.send([make_event(user_id=USER)], {})
    exporter.disconnect()
    with (
        connect(settings.postgres_dsn) as connection,
        pytest.raises(OtelAnalyticsError, match="worker --once"),
    ):
        forget(connection, settings, Person(USER, settings), now=NOW)


def test_the_command_says_what_it_removed_and_asks_first(settings):
    now = time.time_ns() // 1_000
    store(settings, [make_event(user_id=USER, timestamp_us=now)])
    environ = {
        "PATH": os.environ["PATH"],
        "OTEL_ANALYTICS_REDIS_URL": settings.redis_url,
        "OTEL_ANALYTICS_POSTGRES_DSN": settings.postgres_dsn,
    }

    def run(*arguments):
        return subprocess.run(
            [PROGRAM, "forget", *arguments],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    refused = run("--user", USER)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--yes" in refused.stderr
    assert run("--user", " ", "--yes").returncode == 2
    done = run("--user", USER, "--yes")
    assert done.returncode == 0, done.stderr
    assert "removed     1 event of the user" in done.stdout
    assert "backups" in done.stderr
