"""The users of deploy/redis: each can do its work, and nothing else."""

import datetime as dt
import json
import os
import stat
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest
import redis
from backend import PREFIX, make_event, make_settings, produce, store_connection
from deployment import DEPLOY, REDIS_PASSWORDS, redis_of_deploy
from program import run

from otel_analytics.ledger import audit
from otel_analytics.recent_traffic import RecentTraffic
from otel_analytics.stream import Consumer, DeadLetters, Inspector
from otel_analytics.stream.connection import Connection
from otel_analytics.stream.persons import PersonsOnStream
from otel_analytics.worker import Worker

STREAM, DEAD, LEDGER = (f"{PREFIX}:{name}" for name in ("stream", "dead", "ledger"))
PROC = ("environ", "cmdline")
USERS = ("app", "worker", "reader")


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with redis_of_deploy(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(started):
    """With nothing in it and nothing refused yet."""
    started.tester.flushall()
    started.refused()
    return started


def now():
    return dt.datetime.now(dt.UTC)


def be_killed(server):
    """A worker of this host that has read an entry and is no more."""
    consumer = Consumer(server.url("worker"), key_prefix=PREFIX, claim_idle_seconds=60)
    gone = subprocess.Popen(["true"])
    gone.wait()
    consumer.name = f"{consumer._host}-{gone.pid}-00000000"
    assert consumer.read(1).entries
    consumer._connection.close()


def be_app(server, dsn):
    bad = [make_event(now(), status_code=999, user_id=user) for user in ("ann", "bob", "cleo")]
    batches = [*([make_event(now())] for _ in range(3)), bad]
    produce(server.url("app"), *batches, dropped={"buffer full": 1})


def be_worker(server, dsn):
    be_killed(server)
    with Worker(make_settings(server.url("worker"), dsn)) as worker:
        worker.start()
        done = worker.drain(threading.Event())
        assert (done.stored, done.dead) == (3, 3)
    with closing(DeadLetters(server.url("worker"), key_prefix=PREFIX)) as letters:
        assert letters.replay(letters.ids()) == 3
    # Time passes, and there is nothing left to keep.
    settings = make_settings(server.url("worker"), dsn, stream_retention_seconds=0)
    with Worker(settings) as worker:
        assert worker.run_once().events.dead == 3
    # PostgreSQL was restored.
    with closing(Connection(server.url("worker"))) as connection:
        connection.call("XGROUP", "SETID", STREAM, "otel-analytics", "0")
    with closing(DeadLetters(server.url("worker"), key_prefix=PREFIX)) as letters:
        assert letters.purge(letters.ids()[:1]) == 1
    with closing(PersonsOnStream(server.url("worker"), key_prefix=PREFIX)) as persons:
        assert persons.purge_letters(lambda payload: b"bob" in payload) == 1
        assert persons.rewrite_file()


def be_reader(server, dsn):
    with closing(Inspector(server.url("reader"), key_prefix=PREFIX)) as inspector:
        assert inspector.server_info().append_only
        inspector.ensure_safe()
        with store_connection(dsn, now().date()) as connection:
            assert audit(inspector, connection).balanced
        RecentTraffic(inspector, seconds=60).read()
        status = inspector.status()
        assert (status.has_group, status.dead_letters) == (True, 3)
    with closing(DeadLetters(server.url("reader"), key_prefix=PREFIX)) as letters:
        assert letters.count() == len(letters.page(10)) == 3
    environ = {"OTEL_ANALYTICS_REDIS_URL": server.url("reader")}
    found = json.loads(run(dsn, "doctor", "--format", "json", **environ)[0])
    assert {each["check"] for each in found if each["level"] != "ok"} <= {"dead letters", "partitions"}


def lose_the_epoch(server, dsn):
    be_app(server, dsn)
    server.tester.hdel(LEDGER, "epoch")


def leave_a_dead_letter(server, dsn):
    be_app(server, dsn)
    with Worker(make_settings(server.url("worker"), dsn)) as worker:
        worker.run_once()


@pytest.mark.parametrize(
    ("user", "before", "work"),
    [
        ("app", None, be_app),
        ("worker", lose_the_epoch, be_worker),
        ("reader", leave_a_dead_letter, be_reader),
    ],
)
def test_each_user_can_do_its_work_and_has_no_command_that_it_does_not_need(
    server, migrated_dsn, user, before, work
):
    if before:
        before(server, migrated_dsn)
    (rules,) = (line for line in server.access_list() if line.startswith(f"user {user} "))
    allowed = {rule[1:].partition("|")[0] for rule in rules.split() if rule.startswith("+")}
    server.tester.config_resetstat()
    work(server, migrated_dsn)
    if user == "reader":
        health_check(server)
    used = {name.removeprefix("cmdstat_").partition("|")[0] for name in server.tester.info("commandstats")}
    assert server.refused() == []
    assert used - {"auth", "config"} == allowed


def health_check(server):
    """That of the compose file, given the server's port."""
    done = subprocess.run(
        ["redis-cli", "-p", str(server.port), "--user", "reader", "-e", "ping"],
        env={"PATH": server.path, "REDISCLI_AUTH": "reader-secret"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "PONG\n"


NO_PERMISSION = r"(?i)no permissions|can't run this command|can't access"
FORBIDDEN = [
    "FLUSHALL",
    "FLUSHDB",
    "SHUTDOWN",
    "KEYS *",
    "SCAN 0",
    "CONFIG SET maxmemory-policy allkeys-lru",
    "CONFIG GET *",
    "ACL LIST",
    "ACL SETUSER app +@all",
    "CLIENT KILL TYPE normal",
    "REPLICAOF NO ONE",
    "SUBSCRIBE anything",
    f"DEL {STREAM}",
    f"UNLINK {LEDGER}",
    f"RENAME {STREAM} other",
    f"HDEL {LEDGER} epoch",
    f"EXPIRE {STREAM} 1",
    "GET other",
    "SET other 1",
    "XADD other:stream * a b",
    "HINCRBY other accepted 1",
]
OF_ONE_USER = {
    "app": [
        f"XRANGE {STREAM} - +",
        f"XREAD STREAMS {STREAM} 0",
        f"XTRIM {STREAM} MAXLEN 0",
        f"XDEL {STREAM} 1-1",
        f"XADD {DEAD} * a b",
        f"HGETALL {LEDGER}",
        "TIME",
    ],
    "worker": [
        f"XGROUP DESTROY {STREAM} otel-analytics",
        "XRANGE other:stream - +",
    ],
    "reader": [
        f"XADD {STREAM} * a b",
        f"XDEL {DEAD} 1-1",
        f"XACK {STREAM} otel-analytics 1-1",
        f"XREADGROUP GROUP otel-analytics me STREAMS {STREAM} >",
        f"HINCRBY {LEDGER} purged 1",
        "EVAL return(1) 0",
    ],
}


IN_A_SCRIPT = {
    "app": [f"return redis.call('XRANGE', '{STREAM}', '-', '+')"],
    "worker": ["return redis.call('XADD', 'other', '*', 'a', 'b')"],
}


@pytest.mark.parametrize("user", USERS)
def test_nobody_can_do_more(server, user):
    produce(server.url("app"), [make_event()])
    server.tester.xgroup_create(STREAM, "otel-analytics", "0")
    server.tester.set("other", "1")
    before = state(server)
    with closing(server.client(user)) as client:
        for line in [*FORBIDDEN, *OF_ONE_USER[user]]:
            with pytest.raises(redis.ResponseError, match=NO_PERMISSION):
                client.execute_command(*line.split())
        if user in IN_A_SCRIPT:
            for script in ["return redis.call('FLUSHALL')", *IN_A_SCRIPT[user]]:
                with pytest.raises(redis.ResponseError, match=NO_PERMISSION):
                    client.eval(script, 0)
    assert state(server) == before


def state(server):
    tester = server.tester
    return sorted(tester.keys()), tester.xrange(STREAM), tester.hgetall(LEDGER), tester.acl_list()


def test_nobody_gets_in_without_a_password(server):
    for user, password in [(None, None), ("default", ""), ("app", ""), ("app", "worker-secret")]:
        client = redis.Redis(port=server.port, username=user, password=password, driver_info=None)
        with closing(client), pytest.raises(redis.AuthenticationError):
            client.ping()


def test_the_passwords_are_nowhere_to_be_seen(server):
    users = server.directory / "users.acl"
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    files = [users, server.directory / "redis.log", *(Path(f"/proc/{server.pid}/{name}") for name in PROC)]
    seen = [file.read_bytes() for file in files]
    for password in REDIS_PASSWORDS.values():
        assert not any(password.encode() in text for text in seen)


@pytest.mark.parametrize("missing", REDIS_PASSWORDS)
def test_it_does_not_start_without_each_password(tmp_path, missing):
    environ = {"PATH": os.environ["PATH"], **REDIS_PASSWORDS, missing: ""}
    done = subprocess.run(
        ["sh", DEPLOY / "redis" / "start.sh"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"start.sh: {missing} is not set; Redis was not started\n")
    assert not list(tmp_path.iterdir())


def test_the_doctor_says_which_right_is_missing(server, migrated_dsn):
    server.tester.execute_command("ACL", "SETUSER", "half", "on", ">half-secret", "~*", "+@all", "-xlen")
    environ = {"OTEL_ANALYTICS_REDIS_URL": server.url("half")}
    found = json.loads(run(migrated_dsn, "doctor", "--format", "json", code=1, **environ)[0])
    problems = [each for each in found if each["level"] == "problem"]
    assert [each["check"] for each in problems] == ["stream"], problems
    (problem,) = problems
    assert "no permissions to run the 'xlen' command" in problem["message"]
    assert "\n" not in problem["message"]
    assert "deploy/redis/start.sh" in problem["advice"]
