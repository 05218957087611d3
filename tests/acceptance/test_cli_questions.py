"""The questions beside the rankings as their users ask them: the installed command, a pipe or a terminal."""

import csv
import datetime as dt
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from backend import HOUR, make_event, produce, raw_postgres, raw_redis
from rich.cells import cell_len

from otel_analytics.present import question_rows
from otel_analytics.rollup import rollup_touched
from otel_analytics.settings import Settings
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions

PROGRAM = str(Path(sys.executable).with_name("otel-analytics"))
NOWHERE = {"redis": "redis://127.0.0.1:1/0", "dsn": "postgresql://user:hidden@127.0.0.1:1/nowhere"}
ROUTE = "/api/v1/tenants/{tenant_id}/reports/{report_id}"
EVIL = "/evil\x1b[31m\n\u202e{id}"
SECRET = "alice@example.com"
BASED = r"Based on [\d,]+ requests in \d+ hours?, [-\d: ]+ to [-\d: ]+ UTC.*;"
ASKED = {
    "peaks": (["peaks", "--min-requests", "1"], question_rows.PeakRow),
    "heatmap": (["peaks", "--heatmap"], question_rows.WeekRow),
    "patterns": (["patterns", ROUTE], question_rows.PatternRow),
    "trends": (["trends", ROUTE], question_rows.TrendRow),
    "hours": (["trends", ROUTE, "--days", "1"], question_rows.TrendRow),
    "errors": (["errors"], question_rows.ErrorRow),
    "slow": (["slow"], question_rows.SlowRow),
    "users": (["users"], question_rows.UserShareRow),
    "ids": (["users", "--ids"], question_rows.TopUserRow),
}


def environ(redis=NOWHERE["redis"], dsn=NOWHERE["dsn"]):
    return {
        "PATH": os.environ["PATH"],
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "OTEL_ANALYTICS_POSTGRES_DSN": dsn,
        "OTEL_ANALYTICS_REDIS_URL": redis,
    }


def run(*arguments, code=0, **servers):
    """Standard output and standard error, not run in a terminal."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        env=environ(**servers),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.decode(), done.stderr.decode()


class Session:
    """A program in a terminal of its own."""

    def __init__(self, process, ours):
        self.process = process
        self._ours = ours
        self.seen = ""

    def until(self, wanted, seconds=20.0):
        """Read until the text was shown, or None for the end of the program; gives what was read."""
        end = time.monotonic() + seconds
        while wanted is None or wanted not in self.seen:
            assert time.monotonic() < end, self.seen
            over = self.process.poll() is not None
            if select.select([self._ours], [], [], 0.1)[0]:
                self.seen += os.read(self._ours, 65_536).decode(errors="replace")
            elif over:
                assert wanted is None, self.seen
                break
        seen, self.seen = self.seen, ""
        return seen

    def type(self, text):
        os.write(self._ours, text.encode())


@contextmanager
def in_terminal(*arguments, columns=80, **servers):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        env=environ(**servers),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        yield Session(process, ours)
        # However it was left, the terminal is as it was.
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)


def lines_of(text):
    return re.sub("\x1b\\[[0-9;]*m", "", text).replace("\r\n", "\n").splitlines()


@pytest.fixture(scope="module")
def filled_dsn(_postgres_server, _migrated_template):
    now = dt.datetime.now(dt.UTC)
    events = [
        make_event(
            now - hours * HOUR,
            route=route,
            duration_ms=50.0 + n,
            status_code=500 if n % 9 == 0 else 404 if n % 10 == 0 else 200,
            error_type="app.OutOfStock" if n % 9 == 0 else None,
            user_id=SECRET if n % 3 else f"u{n}",
            query_params_normalized={"q": "x" * (n % 4)},
        )
        for route in (ROUTE, "/home", EVIL)
        for hours in (1, 2, 25, 49)
        for n in range(60)
    ]
    # Not changed by any test, so one does for all.
    with raw_postgres(_postgres_server) as admin:
        admin.execute(f"CREATE DATABASE questions TEMPLATE {_migrated_template}")
    dsn = f"{_postgres_server.rpartition('/')[0]}/questions"
    with connect(dsn) as connection:
        insert_making_partitions(connection, events, first_day=(now - dt.timedelta(days=4)).date())
        rollup_touched(connection, Settings(), now=now)
    return dsn


@pytest.mark.parametrize("name", ASKED)
def test_each_question_for_people_and_for_programs(filled_dsn, name):
    arguments, row = ASKED[name]
    output, errors = run(*arguments, dsn=filled_dsn)
    assert errors == ""
    assert re.search(BASED, output.splitlines()[-1])
    assert "\x1b" not in output

    output, errors = run(*arguments, "--format", "json", dsn=filled_dsn)
    rows = json.loads(output)
    assert output.isascii()
    assert rows
    assert {tuple(each) for each in rows} == {row._fields}
    assert re.search(BASED, errors)
    assert errors.count("\n") == 1

    output, errors = run(*arguments, "--format", "csv", dsn=filled_dsn)
    header, *cells = csv.reader(io.StringIO(output, newline=""))
    assert (tuple(header), len(cells)) == (row._fields, len(rows))
    assert "\x1b" not in output
    assert re.search(BASED, errors)


@pytest.mark.parametrize("columns", [80, 120])
def test_each_answer_fits_the_terminal(filled_dsn, columns, subtests):
    for name, (arguments, _) in ASKED.items():
        with (
            subtests.test(name),
            in_terminal(*arguments, "--days", "3", columns=columns, dsn=filled_dsn)
            if "--days" not in arguments
            else in_terminal(*arguments, columns=columns, dsn=filled_dsn) as session,
        ):
            lines = lines_of(session.until(None))
            assert session.process.wait(20) == 0
            assert len(lines) > 4
            assert max(map(cell_len, lines)) <= columns
            assert not [character for line in lines for character in line if not character.isprintable()]


def test_users_are_not_named_unless_that_is_asked_for(filled_dsn):
    for arguments, _ in ASKED.values():
        output, errors = run(*arguments, "--format", "json", dsn=filled_dsn)
        assert (SECRET in output) == ("--ids" in arguments)
        assert SECRET not in errors
    for form in ("table", "csv"):
        assert SECRET not in "".join(run("users", "--format", form, dsn=filled_dsn))


def test_no_data_is_an_answer(migrated_dsn):
    for number, (arguments, row) in enumerate(ASKED.values()):
        form, printed = [("table", ""), ("json", "[]\n"), ("csv", ",".join(row._fields) + "\r\n")][number % 3]
        output, errors = run(*arguments, "--format", form, dsn=migrated_dsn)
        assert output == printed
        assert "nothing was stored" in errors
        assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["patterns"], ["trends"], ["patterns", "/a", "/b"], ["peaks", "-n", "0"], ["peaks", "--days", "-1"],
     ["peaks", "--heatmap", "-n", "3"], ["peaks", "--min-requests", "nan"], ["errors", "--sort", "x"],
     ["slow", "--days", "0"], ["users", "-n", "3"], ["trends", "/a", "-n", "3"], ["live", "--minutes", "0"],
     ["live", "--minutes", "121"], ["patterns", "/a\udcff"]],
)  # fmt: skip
def test_wrong_use_is_one_line(arguments):
    output, errors = run(*arguments, code=2)
    assert output == ""
    assert errors.startswith("otel-analytics: ")
    assert errors.count("\n") == 1


def test_a_server_that_is_down_is_one_line_without_a_password():
    for arguments in (["peaks"], ["patterns", "/a"], ["users"], ["live"], ["live", "--once"]):
        output, errors = run(*arguments, code=1)
        assert output == ""
        assert errors.count("\n") == 1
        assert "hidden" not in errors


def live_events(count, **fields):
    return [make_event(dt.datetime.now(dt.UTC), route="/shown", **fields) for _ in range(count)]


def test_live_prints_once_where_nobody_watches(redis_url):
    produce(redis_url, live_events(30, duration_ms=200.0), live_events(10, status_code=503))
    for arguments in (["live"], ["live", "--once"]):
        output, errors = run(*arguments, redis=redis_url)
        assert errors == ""
        assert "\x1b" not in output
        assert "25.0 % 5xx" in output
        assert "GET     /shown   0.13   25.0" in output
        assert "No worker has run yet: 2 entries wait" in output
    (row,) = json.loads(run("live", "--format", "json", "--minutes", "1", redis=redis_url)[0])
    assert (row["requests"], row["server_error_rate"]) == (40, 0.25)
    assert row["requests_per_second"] == pytest.approx(40 / 60, abs=1e-3)
    assert row["p95_latency_ms"] == pytest.approx(200, rel=0.02)
    header, _ = run("live", "--format", "csv", redis=redis_url)[0].split("\r\n", 1)
    assert header == ",".join(question_rows.LiveRow._fields)


@pytest.mark.parametrize("leave", ["q", "\x03", signal.SIGINT])
def test_live_follows_the_stream_until_it_is_left(redis_url, leave):
    produce(redis_url, live_events(3))
    with in_terminal("live", redis=redis_url) as session:
        assert "/shown" in session.until("q leaves")
        produce(redis_url, [make_event(dt.datetime.now(dt.UTC), route="/added/later")])
        assert "/added/later" in session.until("/added/later")
        if isinstance(leave, str):
            session.type(leave)
            # In a session of its own it has no controlling terminal that would make a signal of Ctrl-C.
            if leave == "\x03":
                session.process.send_signal(signal.SIGINT)
        else:
            session.process.send_signal(leave)
        assert session.process.wait(10) == 0
        assert "\x1b[?1049l" in session.until("\x1b[?1049l")  # back to the screen before


def test_live_says_when_redis_goes_away_and_goes_on(redis_url):
    produce(redis_url, live_events(3))
    with in_terminal("live", redis=redis_url) as session:
        session.until("q leaves")
        with raw_redis(redis_url) as client:
            client.execute_command("CLIENT", "PAUSE", 4_000, "ALL")
        assert "trying again" in session.until("trying again")
        time.sleep(2)
        produce(redis_url, [make_event(dt.datetime.now(dt.UTC), route="/added/later")])
        session.until("/added/later")
        session.type("q")
        assert session.process.wait(10) == 0
