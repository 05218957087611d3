"""Every command with nothing there, with nobody there, interrupted, cut off, and with hostile data.

Most run in this process, for speed; what is about signals and pipes runs the installed program.
"""

import contextlib
import csv
import datetime as dt
import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
import typer.main
from backend import HOUR, make_event, produce, raw_postgres
from program import PROGRAM, environ, in_terminal
from waiting import until

from otel_analytics.cli.__main__ import app, run
from otel_analytics.present.documents import FORMULA_STARTS
from otel_analytics.rollup import rollup_touched
from otel_analytics.settings import Settings
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions

NOWHERE = {"redis": "redis://:hunter2@127.0.0.1:1/0", "dsn": "postgresql://user:hunter2@127.0.0.1:1/nowhere"}
COMMANDS = {
    "rank": "rank",
    "rank relative": "rank --relative",
    "rank savings": "rank --by savings",
    "plan": "plan",
    "simulate": "simulate",
    "advise": "advise --all",
    "peaks": "peaks --min-requests 1",
    "heatmap": "peaks --heatmap",
    "patterns": "patterns /x",
    "trends": "trends /x",
    "errors": "errors",
    "slow": "slow",
    "users": "users",
    "users ids": "users --ids",
    "live": "live --once",
    "report": "report -o -",
    "worker": "worker --once",
    "migrate": "migrate",
    "rollup": "rollup",
    "rollup range": "rollup --since 2026-01-01",
    "keep": "keep",
    "audit": "audit",
    "forget": "forget --user nobody --yes",
    "doctor": "doctor",
    "dlq list": "dlq list",
    "dlq replay": "dlq replay --all",
    "dlq purge": "dlq purge --all --yes",
}
"""The forms of each command; `demo` is left out, as it brings its own servers and data."""
HOSTILE = (
    "'; DROP TABLE route_analytics; --/{id}",
    "/\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\n/{id}",
    "=cmd|'/c calc'!A1",
    "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "%s %(x)s {} {0}",
    "</script><img src=x onerror=alert(1)>",
    "\ufeff=1\u2066\u200b",
)  # fmt: skip
"""Routes, which only a hostile application or an intruder on the stream could have."""
WITH_ROUTES = ("rank", "plan", "peaks", "errors", "slow", "live")
FORMATS = ("table", "json", "csv")


def arguments(form):
    return COMMANDS[form].split()


def test_every_command_is_here():
    commands = typer.main.get_command(app).commands
    assert {arguments(form)[0] for form in COMMANDS} == set(commands) - {"demo"}
    assert {arguments(form)[1] for form in COMMANDS if form.startswith("dlq")} == set(
        commands["dlq"].commands
    )


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Runs a command in this process; gives the exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words, redis=NOWHERE["redis"], dsn=NOWHERE["dsn"]):
        monkeypatch.setenv("OTEL_ANALYTICS_REDIS_URL", redis)
        monkeypatch.setenv("OTEL_ANALYTICS_POSTGRES_DSN", dsn)
        monkeypatch.setenv("OTEL_ANALYTICS_WORKER_METRICS_PORT", "0")
        if words[0] == "worker":  # which changes how its process takes signals
            done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False)
            code, out, err = done.returncode, done.stdout, done.stderr
        else:
            code = run(list(words))
            out, err = capsys.readouterr()
        assert "hunter2" not in out + err
        return code, out, err

    return call


@pytest.mark.parametrize("form", COMMANDS)
def test_nobody_there_is_one_line(cli, form):
    code, out, err = cli(*arguments(form))
    assert code == 1
    if form == "doctor":  # whose answer it is
        assert "Connection refused" in out
        return
    assert out == ""
    assert re.fullmatch(r"otel-analytics: .*Connection refused.*\n", err), err


@pytest.mark.parametrize("form", COMMANDS)
def test_nothing_there_is_an_answer(cli, redis_url, migrated_dsn, form):
    code, out, err = cli(*arguments(form), redis=redis_url, dsn=migrated_dsn)
    assert code == 0
    assert (out + err).strip()
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        *(f"{command} -n {10**12}" for command in ("rank", "plan", "peaks", "patterns /x", "errors", "slow")),
        f"report -o - -n {10**12}", f"dlq list -n {10**12}", f"live --minutes {10**12}", f"plan -n -{10**12}",
        f"rank --days {10**20}", "rank -n 1e3", "rank --min-latency nan", "rank --min-requests inf",
        "rank --min-requests -0.1", "peaks --days 36501", "peaks --min-requests nan", "trends /x --days 0",
        "patterns \0", "trends \udcff", "users --route \0", "simulate --ttl 1e999", "simulate --ttl nan",
        "simulate --memory 99999999999GB", "simulate --memory -1GB", "dlq replay 99999999999999999999-0",
        "dlq replay \x1b[31m", "dlq purge --all --yes --before 0000-00-00", "rollup --since 2026-11-31",
        "rollup --since 2026-11-24 --until 2026-11-23", "rollup --since 10000-01-01",
        "rollup --since 2026-11-24T25:00", "rollup --since 2026-11-24T00:00+99:00",
        "rollup --since 9999-12-31T23:59:59-23:59", "rollup --since \x1b]0;owned\x07", "worker --nonsense",
        "\x1b[31m", "forget", "--config \0 rank",
    ],
)  # fmt: skip
def test_impossible_arguments_are_one_line(cli, words):
    code, out, err = cli(*words.split(" "))
    assert (code, out) == (2, "")
    assert re.fullmatch(r"otel-analytics: [^\n]+\n", err)
    assert err.rstrip("\n").isprintable()


# --- hostile routes


@pytest.fixture(scope="module")
def hostile(_postgres_server, _migrated_template):
    """A database with hostile routes only."""
    now = dt.datetime.now(dt.UTC)
    events = [
        make_event(
            now - hours * HOUR,
            route=route,
            route_full=route,
            duration_ms=500.0 + n,
            status_code=500 if n % 10 == 0 else 200,
            error_type=route if n % 10 == 0 else None,
            user_id=f"{route}{n % 3}",
            query_params={route: route},
            query_params_normalized={route: [route, route]},
            response_hash=1,
            cache_status="miss",
        )
        for route in HOSTILE
        for hours in (1, 2)
        for n in range(60)
    ]
    with raw_postgres(_postgres_server) as admin:
        admin.execute(f"CREATE DATABASE hostile TEMPLATE {_migrated_template}")
    dsn = f"{_postgres_server.rpartition('/')[0]}/hostile"
    with connect(dsn) as connection:
        insert_making_partitions(connection, events, first_day=(now - dt.timedelta(days=2)).date())
        rollup_touched(connection, Settings(), now=now)
    yield dsn
    with raw_postgres(_postgres_server) as admin:
        admin.execute("DROP DATABASE hostile WITH (FORCE)")


@pytest.fixture
def hostile_redis(redis_url):
    """The same on the stream, and once more where it is dead."""
    now = dt.datetime.now(dt.UTC)
    produce(redis_url, [make_event(now, route=route, route_full=route) for route in HOSTILE])
    return redis_url


SHOWN = [
    form
    for form in COMMANDS
    if form not in ("worker", "migrate", "report", "forget", "dlq replay", "dlq purge")
]


@pytest.mark.parametrize(
    "form", [*SHOWN, *(f"patterns {n}" for n in range(3)), *(f"trends {n}" for n in range(3))]
)
def test_what_a_hostile_route_holds_is_shown_and_does_nothing(cli, hostile_redis, hostile, form):
    command, _, number = form.partition(" ")
    words = [command, HOSTILE[int(number)]] if number.isdigit() else arguments(form)
    for each in FORMATS:
        code, out, err = cli(*words, "--format", each, redis=hostile_redis, dsn=hostile)
        if code == 2 and "--format" in err:  # it has no such form
            continue
        assert code == 0, err
        lines = (out.replace("\r\n", "\n") if each == "csv" else out) + err
        if each == "csv":
            check_csv(out)
            lines = lines.replace("\r", "").replace("\t", "")
        assert not [c for c in lines if not c.isprintable() and c != "\n"], repr(lines)
        if each == "json":
            assert out.isascii()
            json.loads(out)
        if command in WITH_ROUTES:
            assert "DROP TABLE" in out


def check_csv(text):
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(FORMULA_STARTS) or re.fullmatch(r"-?\d+(\.\d+)?", cell)


def test_a_report_of_hostile_routes_holds_no_markup_of_theirs(cli, hostile):
    code, page, _ = cli("report", "-o", "-", "-n", "20", dsn=hostile)
    assert code == 0
    assert "DROP TABLE" in page
    assert "<script" not in page
    assert "<img" not in page
    assert not [c for c in page if not c.isprintable() and c != "\n"]


def test_a_terminal_is_steered_by_nobody_but_us(hostile, hostile_redis):
    for words in ("rank", "slow", "errors", "users --ids"):
        lines = in_terminal(hostile, 100, *words.split())
        assert len(lines) > 5
        assert not [c for line in lines for c in line if not c.isprintable()]
    with terminal("live", hostile_redis, hostile) as (process, screen):
        seen = read_until(screen, "q leaves")
        os.write(screen, b"q")
        seen += read_until(screen, "")
        assert process.wait(20) == 0
    assert "DROP TABLE" in seen
    assert not [each for each in ("\x1b]", "\x9b", "\u202e", "\ufeff") if each in seen]


@contextmanager
def terminal(words, redis, dsn):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *words.split()],
        env=environ(dsn) | {"OTEL_ANALYTICS_REDIS_URL": redis, "COLUMNS": "120", "LINES": "50"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(screen, wanted):
    seen = ""
    while not wanted or wanted not in seen:
        if not select.select([screen], [], [], 20)[0]:
            break
        try:
            seen += os.read(screen, 65_536).decode(errors="replace")
        except OSError:  # the other end is closed
            break
    return seen


# --- cut off and interrupted


def start(form, redis, dsn, **streams):
    return subprocess.Popen(
        [PROGRAM, *arguments(form)],
        env=environ(dsn) | {"OTEL_ANALYTICS_REDIS_URL": redis, "OTEL_ANALYTICS_WORKER_METRICS_PORT": "0"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **{"stdout": subprocess.PIPE} | streams,
    )


def test_a_reader_that_goes_away_is_no_failure(hostile_redis, hostile):
    """Of all commands with much to say; acceptance/test_cli_operations.py has others."""
    reading, writing = os.pipe()
    os.close(reading)
    for form in SHOWN:
        if form.partition(" ")[0] in ("rollup", "audit", "doctor", "dlq"):
            continue
        process = start(form, hostile_redis, hostile, stdout=writing)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, (form, err)
        assert b"Traceback" not in err
        assert b"Broken pipe" not in err
    os.close(writing)


@contextmanager
def black_hole():
    """A server that takes connections and what is sent, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    held.append(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], held
        listening.shutdown(socket.SHUT_RDWR)
    for each in held:
        each.close()


@pytest.mark.parametrize("form", COMMANDS)
def test_ctrl_c_while_a_server_does_not_answer(form):
    with black_hole() as (port, held):
        process = start(form, f"redis://127.0.0.1:{port}/0", f"postgresql://me@127.0.0.1:{port}/db")
        until(lambda: held)
        process.send_signal(signal.SIGINT)
        if form == "worker":  # it may have a batch in hand, so that only the second one ends it at once
            assert b"a second signal ends at once" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_ctrl_c_while_the_program_starts():
    ended = set()
    for after in (0.06, 0.09, 0.12, 0.15, 0.2, 0.3):
        process = start("rank", NOWHERE["redis"], NOWHERE["dsn"])
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert b"otel_analytics" not in err, err  # what Python says before it comes to ours is its own
        ended.add(process.returncode)
    assert ended <= {130, 1, -signal.SIGINT}
