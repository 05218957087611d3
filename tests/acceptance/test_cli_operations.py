"""The installed command, run as its users run it: in a process of its own, against real servers."""

import contextlib
import datetime as dt
import json
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from backend import HOUR, PREFIX, make_event, produce, random_events, raw_postgres, raw_redis, scalar
from waiting import until

from otel_analytics.store.connection import connect

PROGRAM = str(Path(sys.executable).with_name("otel-analytics"))
SECRET = "hunter2"
STREAM, DEAD = f"{PREFIX}:stream", f"{PREFIX}:dead"
DEADLINE = 20


def now():
    return dt.datetime.now(dt.UTC)


class Command:
    """The program with an environment of its own. Whatever it prints is searched for the password."""

    def __init__(self, folder, redis_url, dsn):
        self.folder = folder
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OTEL_ANALYTICS_REDIS_URL": redis_url,
            "OTEL_ANALYTICS_POSTGRES_DSN": dsn,
            "OTEL_ANALYTICS_WORKER_METRICS_PORT": "0",
        }

    def __call__(self, *arguments, code=0, **environ):
        """Run to the end and return standard output; with another exit code, standard error."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert SECRET not in done.stdout + done.stderr
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code and not done.stdout else done.stdout

    def start(self, *arguments, **streams):
        return subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environ,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
            }
            | streams,
        )


def with_password(url):
    """The same server for the user `ops` of Redis, or for the same user of PostgreSQL, with a password."""
    parts = urllib.parse.urlsplit(url)
    user = parts.username or "ops"
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{SECRET}@{place}").geturl()


@pytest.fixture
def redis_with_password(redis_url):
    with raw_redis(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "ops", "on", f">{SECRET}", "~*", "+@all")
        yield with_password(redis_url)
        client.execute_command("ACL", "DELUSER", "ops")


@pytest.fixture
def command(tmp_path, redis_with_password, migrated_dsn):
    return Command(tmp_path, redis_with_password, with_password(migrated_dsn))


def one_line(text):
    assert text.count("\n") == 1, text
    assert text.startswith("otel-analytics: ")
    return text


# --- one line for every failure


@pytest.mark.parametrize("arguments", [["audit"], ["worker"], ["worker", "--once"], ["rollup"], ["migrate"]])
def test_a_server_that_is_down_is_one_line(command, arguments):
    environ = {"OTEL_ANALYTICS_POSTGRES_DSN": f"postgresql://me:{SECRET}@127.0.0.1:1/nowhere"}
    assert "Connection refused (to find out more, run: otel-analytics doctor)" in last_line(
        command(*arguments, code=1, **environ)
    )
    if arguments not in (["rollup"], ["migrate"]):
        environ = {"OTEL_ANALYTICS_REDIS_URL": f"redis://me:{SECRET}@127.0.0.1:1/0"}
        assert "Redis at redis://me@127.0.0.1:1/0" in last_line(command(*arguments, code=1, **environ))


def last_line(text):
    """The line that says why; log lines stand before it."""
    *log, last = text.splitlines()
    assert all(" INFO " in line for line in log), text
    assert last.startswith("otel-analytics: ")
    return last


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (
            ["audit"],
            {"POSTGRES_DSN": f"mysql://me:{SECRET}@h/x"},
            "setting postgres_dsn: not a PostgreSQL DSN",
        ),
        (["dlq", "list"], {"REDIS_URL": f"http://me:{SECRET}@h/x"}, "setting redis_url: not a Redis URL"),
        (["audit"], {"REDIS_URI": SECRET}, "did you mean OTEL_ANALYTICS_REDIS_URL?"),
        (["audit"], {"WORKER_BATCH_SIZE": "many"}, "must be a whole number"),
        (["--config", "nowhere.toml", "audit"], {}, "cannot read nowhere.toml"),
        (["nonsense"], {}, "see: otel-analytics --help"),
        (["audit", "--format", "xml"], {}, "'xml' is not one of 'table', 'json'"),
        (["rollup", "--since", "2026-02-30"], {}, "'2026-02-30' is not a date or time such as"),
        (["rollup", "--until", "2026-02-20"], {}, "--until needs --since"),
        (["rollup", "--since", "2026-02-20", "--until", "2026-02-19"], {}, "the range is empty"),
        (["rollup", "--since", "9999-01-01"], {}, "the range is empty"),
        (["rollup", "--since", "0001-01-01T00:00+23:00"], {}, "is not a date or time"),
        (["dlq"], {}, "see: otel-analytics dlq --help"),
        (["dlq", "list", "-n", "0"], {}, "greater than or equal to 1"),
        (["dlq", "replay"], {}, "name the ids of the letters, or say --all"),
        (["dlq", "replay", "1-1", "--all"], {}, "name the ids of the letters, or say --all"),
        (["dlq", "replay", "x"], {}, "'x' is not the id of a letter"),
        (["dlq", "purge", "--yes"], {}, "name the ids of the letters, or say --all"),
        (["dlq", "purge", "--all"], {}, "say --yes"),
        (["dlq", "purge", "1-1", "--before", "2026-01-01", "--yes"], {}, "--before goes with --all"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(tmp_path, arguments, environ, words):
    command = Command(tmp_path, f"redis://:{SECRET}@127.0.0.1:1", f"postgresql://me:{SECRET}@127.0.0.1:1/x")
    environ = {f"OTEL_ANALYTICS_{name}": value for name, value in environ.items()}
    assert words in one_line(command(*arguments, code=2, **environ))


def test_a_database_of_another_version_is_one_line(command, postgres_dsn, migrated_dsn):
    empty = {"OTEL_ANALYTICS_POSTGRES_DSN": with_password(postgres_dsn)}
    for arguments in (["audit"], ["rollup"], ["worker"], ["worker", "--once"]):
        assert "run: otel-analytics migrate" in last_line(command(*arguments, code=1, **empty))
    with raw_postgres(migrated_dsn) as connection:
        connection.execute("INSERT INTO route_analytics_migrations (name) VALUES ('9999_future')")
    for arguments in (["audit"], ["rollup"], ["worker"], ["migrate"]):
        assert "upgrade otel-analytics" in last_line(command(*arguments, code=1))


def test_a_worker_refuses_a_redis_that_evicts(command, redis_url):
    with raw_redis(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            refused = command("worker", code=1)
            examined = command("doctor", "--format", "json", code=1)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert "set it to noeviction" in last_line(refused)
    assert {f["check"] for f in json.loads(examined) if f["level"] == "problem"} == {"eviction"}


MISTAKE = f"""
import otel_analytics.ledger
from otel_analytics.cli.__main__ import main
def audit(*_):
    raise ValueError("{SECRET[:3]}" + "{SECRET[3:]}")
otel_analytics.ledger.audit = audit
main()
"""


def test_a_mistake_in_the_program_is_one_line_and_debug_shows_it(command):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", MISTAKE, *arguments],
            env=command.environ,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("audit")
    assert done.returncode == 1
    assert "unexpected ValueError" in one_line(done.stderr)
    assert "otel-analytics --debug" in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" in run("--debug", "audit").stderr


def test_debug_shows_no_password_either(command):
    for environ in (
        {},
        {"OTEL_ANALYTICS_POSTGRES_DSN": f"postgresql://me:{SECRET}@127.0.0.1:1/nowhere"},
        {"OTEL_ANALYTICS_POSTGRES_DSN": f"postgresql://me:{SECRET}%zz@127.0.0.1:1/nowhere"},
        {"OTEL_ANALYTICS_REDIS_URL": f"redis://me:{SECRET}@127.0.0.1:1/0"},
        {"OTEL_ANALYTICS_REDIS_URL": f"redis://me:{SECRET}@127.0.0.1:port/0"},
    ):
        command.environ |= environ
        process = command.start("--debug", "worker", "--once", stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=DEADLINE)
        assert SECRET not in output
        assert ("Traceback" in output) == bool(environ)


def test_a_reader_that_has_seen_enough_is_no_failure(command):
    # They write through Typer, and doctor more than once.
    for arguments in (["audit"], ["dlq", "list", "--format", "json"], ["doctor"], ["--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=command.environ,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, ""), arguments


def test_an_output_that_is_full_is_one_line(command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, "audit"],
            env=command.environ,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in one_line(done.stderr)


def test_ctrl_c_ends_a_command_quietly(command, migrated_dsn):
    with connect(migrated_dsn) as connection, connection.transaction():
        connection.execute("LOCK TABLE route_analytics_touched_hours")
        process = command.start("rollup")
        until(lambda: waiting_for_locks(migrated_dsn))
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (130, ("", ""))


def waiting_for_locks(dsn):
    with raw_postgres(dsn) as connection:
        return scalar(
            connection,
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()",
        )


def test_help_is_quick_because_it_imports_no_driver(command):
    program = (
        "import sys; from otel_analytics.cli.__main__ import run; run(['--help'])\n"
        "print(*{'redis', 'psycopg', 'numpy', 'rich', 'opentelemetry', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=command.environ, capture_output=True, text=True, check=True
    )
    *shown, loaded = done.stdout.splitlines()
    assert loaded == ""
    for name in ("worker", "migrate", "rollup", "audit", "dlq", "doctor"):
        assert any(line.split()[:1] == [name] and not line.endswith("...") for line in shown), name


# --- what the commands do


def test_migrate_says_what_it_did(command, postgres_dsn):
    environ = {"OTEL_ANALYTICS_POSTGRES_DSN": with_password(postgres_dsn)}
    assert "applied 0001_initial\n" in command("migrate", **environ)
    assert "nothing to do" in command("migrate", **environ)


def test_one_run_of_the_worker_and_a_rollup(command, redis_url, migrated_dsn):
    assert "no hour had changed" in command("rollup")
    moment = now() - HOUR
    produce(redis_url, [make_event(moment), make_event(moment, status_code=999)])
    assert command("worker", "--once").startswith(
        "stored 1 event (0 duplicates, 1 dead) and recomputed 1 hour in"
    )
    with raw_postgres(migrated_dsn) as connection:
        connection.execute("UPDATE route_analytics SET duration_ms = 77")
        since = (moment - dt.timedelta(days=3)).date()
        said = command("rollup", "--since", since.isoformat())
        assert scalar(connection, "SELECT p95_duration_ms FROM route_analytics_hourly") == 77
        connection.execute("UPDATE route_analytics SET duration_ms = 78")
        hour = moment.replace(minute=0, second=0, microsecond=0)
        connection.execute("INSERT INTO route_analytics_touched_hours (hour) VALUES (%s)", [hour])
        assert command("rollup") == "recomputed 1 hour that had changed\n"
        assert scalar(connection, "SELECT p95_duration_ms FROM route_analytics_hourly") == 78
    assert f"from {since} 00:00 UTC to " in said
    assert f"for want of a raw partition: {since} to " in said


def test_the_audit_is_a_statement_and_an_exit_code(command, redis_url):
    assert "nothing was accepted yet" in command("audit")
    produce(redis_url, [make_event(now()), make_event(now(), status_code=999)], dropped={"buffer full": 7})
    report = json.loads(command("audit", "--format", "json"))
    assert (report["balanced"], report["accepted"], report["pending"]) == (True, 2, 2)
    command("worker", "--once")
    statement = command("audit")
    for label, events in {
        "accepted by Redis": 2,
        "stored": 1,
        "sent to the dead letters": 1,
        "buffer full": 7,
    }.items():
        assert any(line.split() == [*label.split(), str(events)] for line in plain(statement)), label
    with raw_redis(redis_url) as client:
        client.hincrby(f"{PREFIX}:ledger", "accepted", 5)
    statement = command("audit", code=1)
    assert any(line.split() == ["difference", "5", "MISSING"] for line in plain(statement))


def plain(statement):
    return [line.removeprefix("+") for line in statement.splitlines()]


def test_dead_letters_are_shown_replayed_and_purged(command, redis_url):
    assert command("dlq", "list") == "no dead letters\n"
    with raw_redis(redis_url) as client:
        client.xadd(STREAM, {"v": "1", "n": "1", "events": "\x1b[2J\u202e\x00" + "x" * 5_000})
        produce(redis_url, *([make_event(now(), status_code=999)] for _ in range(3)))
        command("worker", "--once")
        shown = command("dlq", "list", "-n", "2")
        assert r"payload  \x1b[2J\u202e\x00xxx" in shown
        assert "reason   not JSON" in shown
        assert "reason   status_code is not a whole number from 100 to 599" in shown
        assert "2 of 4 dead letters" in shown
        assert max(map(len, shown.splitlines())) <= 120
        assert all(line.isprintable() for line in shown.splitlines())

        letters = json.loads(command("dlq", "list", "--format", "json"))
        assert len(letters[0]["payload"]) > 5_000
        ids = [letter["id"] for letter in letters]
        assert ids == [entry_id.decode() for entry_id, _ in client.xrange(DEAD)]

        assert command("dlq", "replay", ids[1]) == "replayed 1 dead letter\n"
        assert "1 of those named are not there" in command_both(command, "dlq", "replay", ids[1], ids[2])
        command("worker", "--once")  # none of them can be stored, so they come back
        assert client.xlen(DEAD) == 4
        assert (
            command("dlq", "purge", "--all", "--before", "2020-01-01", "--yes") == "purged 0 dead letters\n"
        )
        assert command("dlq", "purge", ids[0], "--yes") == "purged 1 dead letter\n"
        assert command("dlq", "purge", "--all", "--yes") == "purged 3 dead letters\n"
        assert client.xlen(DEAD) == 0
    command("audit", code=1)  # the entry of another hand was never accepted, so there is one event too many


def command_both(command, *arguments):
    process = command.start(*arguments, stderr=subprocess.STDOUT)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    return output


@pytest.mark.parametrize(("answer", "left", "code"), [("y\n", 0, 0), ("n\n", 1, 1), ("\x03", 1, 130)])
def test_purge_asks_on_a_terminal(command, redis_url, answer, left, code):
    with raw_redis(redis_url) as client:
        client.xadd(DEAD, {"v": "1", "n": "1", "events": "x", "reason": "why", "entry": "1-1", "at": "now"})
        ours, theirs = pty.openpty()
        process = command.start(
            "dlq",
            "purge",
            "--all",
            stdin=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=control_terminal,
        )
        os.close(theirs)
        asked = read_until(ours, b"[y/N]")
        os.write(ours, answer.encode())
        process.communicate(timeout=DEADLINE)
        os.close(ours)
        assert b"Discard 1 dead letter for good?" in asked
        assert process.returncode == code
        assert client.xlen(DEAD) == left


def control_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_until(descriptor, words):
    seen = b""
    while words not in seen:
        seen += os.read(descriptor, 1_000)
    return seen


def test_a_long_drain_shows_how_far_it_is_on_a_terminal(command, redis_url):
    produce(redis_url, *([make_event(now())] for _ in range(2_000)))
    command.environ["OTEL_ANALYTICS_WORKER_BATCH_SIZE"] = "100"
    ours, theirs = pty.openpty()
    process = command.start("worker", "--once", stderr=theirs)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody holds the other end any more
        while part := os.read(ours, 10_000):
            seen += part
    os.close(ours)
    output, _ = process.communicate(timeout=DEADLINE)
    assert output.startswith("stored 2,000 events")
    assert b"entries done, " in seen
    assert seen.endswith(b"\r\x1b[K")


# --- the worker and its end


def test_a_worker_killed_in_mid_drain_loses_and_doubles_nothing(command, redis_url, migrated_dsn):
    events = random_events(20_000, seed=11, since=now() - 3 * HOUR)
    produce(redis_url, *(events[start : start + 50] for start in range(0, 20_000, 50)))
    command.environ["OTEL_ANALYTICS_WORKER_BATCH_SIZE"] = "200"
    with raw_postgres(migrated_dsn) as connection:
        ended_in_mid_drain(command, connection, signal.SIGKILL)
        assert "pending on the stream" in command("audit")
        process, stored = ended_in_mid_drain(command, connection, signal.SIGTERM)
        assert process.returncode == 0
        with raw_redis(redis_url) as client:
            assert client.xpending(STREAM, "otel-analytics")["pending"] == 0
            assert client.xinfo_consumers(STREAM, "otel-analytics") == []
        report = json.loads(command("audit", "--format", "json"))
        assert (report["stored"], report["pending"]) == (stored, 20_000 - stored)
        command("worker", "--once")
        report = json.loads(command("audit", "--format", "json"))
        assert (report["stored"], report["duplicates"], report["dead"], report["pending"]) == (
            20_000,
            0,
            0,
            0,
        )
        found = {row[0].hex for row in connection.execute("SELECT event_id FROM route_analytics")}
    assert found == {event.event_id for event in events}


def ended_in_mid_drain(command, connection, sent):
    """A worker that was sent a signal while it stored; the process, and how many events are stored then."""

    def count():
        return scalar(connection, "SELECT count(*) FROM route_analytics")

    before = count()
    process = command.start("worker", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: count() > before)
    finally:
        process.send_signal(sent)
        process.wait(timeout=DEADLINE)
    stored = count()
    assert before < stored < 20_000, "stopped too late to tell"
    return process, stored


def test_a_worker_says_what_it_does_and_serves_metrics(command, redis_url, unused_port):
    command.environ["OTEL_ANALYTICS_WORKER_METRICS_PORT"] = str(unused_port)
    process = command.start("worker")
    try:
        produce(redis_url, [make_event(now())])
        until(lambda: b"otel_analytics_worker_stored_total 1.0" in scraped(unused_port))
    finally:
        process.send_signal(signal.SIGINT)
    output, log = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (0, "")
    assert SECRET not in log
    told = [
        "started",
        "connected to redis://ops@",
        f"serving metrics on http://127.0.0.1:{unused_port}/metrics",
        "SIGINT: finishing the batch in hand",
        "stopped",
    ]
    places = [log.find(words) for words in told]
    assert -1 not in places, log
    assert places == sorted(places)
    assert "events: 1 stored, 0 duplicates, 0 dead" in log


def scraped(port):
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as page,
    ):
        return page.read()
    return b""


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_a_second_signal_ends_a_worker_at_once(command, redis_url, migrated_dsn):
    with connect(migrated_dsn) as connection:
        process = command.start("worker")
        with connection.transaction():
            connection.execute("LOCK TABLE route_analytics_ledger")
            produce(redis_url, [make_event(now())])
            until(lambda: waiting_for_locks(migrated_dsn))
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None, "the batch in hand was not finished"
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=2)
    assert process.returncode == 128 + signal.SIGTERM
    command("worker", "--once")
    report = json.loads(command("audit", "--format", "json"))
    assert (report["stored"], report["pending"]) == (1, 0)


# --- the doctor


def test_a_doctor_finds_a_sound_installation_sound(command):
    command("worker", "--once")
    found = json.loads(command("doctor", "--format", "json"))
    assert {f["check"] for f in found if f["level"] != "ok"} <= {"persistence", "redis memory"}
    for check in (
        "settings",
        "redis",
        "stream",
        "postgresql",
        "migrations",
        "permissions",
        "partitions",
        "rollup",
    ):
        assert [f["level"] for f in found if f["check"] == check] == ["ok"]
    shown = command("doctor", COLUMNS="80")
    assert max(map(len, shown.splitlines())) <= 80
    assert "0 problems" in shown


def test_a_doctor_finds_all_there_is_to_find(command, redis_url, migrated_dsn, tmp_path):
    (tmp_path / "otel-analytics.toml").write_text("stream_max_entries = 5\nexport_batch_size = 1\n")
    (tmp_path / "file").touch()
    with raw_redis(redis_url) as client:
        for _ in range(5):
            client.xadd(STREAM, {"v": "1"})
        client.xadd(DEAD, {"v": "1"})
    with raw_postgres(migrated_dsn) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        connection.execute("INSERT INTO route_analytics_touched_hours (hour) VALUES ('2020-01-01 00:00Z')")
        try:
            reader = urllib.parse.urlsplit(migrated_dsn)
            dsn = reader._replace(netloc=f"reader@{reader.netloc.rpartition('@')[2]}").geturl()
            environ = {"OTEL_ANALYTICS_POSTGRES_DSN": dsn, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file")}
            found = json.loads(command("doctor", "--format", "json", code=1, **environ))
        finally:
            connection.execute("DROP OWNED BY reader")
            connection.execute("DROP ROLE reader")
    levels = {f["check"]: f["level"] for f in found}
    for check, level in {
        "settings": "ok",
        "stream": "problem",
        "worker": "warning",
        "dead letters": "warning",
        "permissions": "warning",
        "partitions": "warning",
        "rollup": "warning",
        "metrics": "problem",
    }.items():
        assert levels[check] == level, check
    assert all(f["advice"] for f in found if f["level"] != "ok")
    (settings,) = (f for f in found if f["check"] == "settings")
    assert "otel-analytics.toml" in settings["message"]
    (permissions,) = (f for f in found if f["check"] == "permissions")
    assert "may read everything and write nothing" in permissions["message"]


def test_a_server_that_is_down_hides_no_other_finding(command, postgres_dsn):
    down = {"OTEL_ANALYTICS_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1"}
    levels = {
        f["check"]: f["level"] for f in json.loads(command("doctor", "--format", "json", code=1, **down))
    }
    assert (levels["redis"], levels["postgresql"], levels["rollup"]) == ("problem", "ok", "ok")
    down = {"OTEL_ANALYTICS_POSTGRES_DSN": f"postgresql://me:{SECRET}@127.0.0.1:1/x"}
    levels = {
        f["check"]: f["level"] for f in json.loads(command("doctor", "--format", "json", code=1, **down))
    }
    assert (levels["redis"], levels["stream"], levels["postgresql"]) == ("ok", "ok", "problem")
    empty = {"OTEL_ANALYTICS_POSTGRES_DSN": with_password(postgres_dsn)}
    assert "run: otel-analytics migrate" in command("doctor", code=1, **empty)
    broken = {"OTEL_ANALYTICS_POSTGRES_DSN": "nonsense", "OTEL_ANALYTICS_REDIS_URL": "nonsense"}
    assert command("doctor", code=1, **broken).count("problem ") == 2
    without_redis = {"OTEL_ANALYTICS_EXPORTER": "postgres", "OTEL_ANALYTICS_REDIS_URL": "redis://127.0.0.1:1"}
    assert "not looked at" in command("doctor", **without_redis)
