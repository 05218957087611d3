"""`keep`, and the worker that runs it now and then, on real servers."""

import contextlib
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from backend import HOUR, make_event, raw_postgres, scalar
from program import PROGRAM, environ, run
from waiting import until

from otel_analytics.embedded.process import free_port
from otel_analytics.rollup import rollup_touched
from otel_analytics.settings import Settings
from otel_analytics.store.connection import connect
from otel_analytics.store.events import insert_making_partitions
from otel_analytics.worker import utc_now

ALONE = {"OTEL_ANALYTICS_EXPORTER": "postgres", "OTEL_ANALYTICS_WORKER_METRICS_PORT": "0"}
COUNT = "SELECT count(*) FROM route_analytics_rankings"
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE '%%pg_advisory_lock%%'
"""


@pytest.fixture
def dsn(migrated_dsn):
    """A database with something to rank."""
    now = utc_now()
    events = [
        make_event(now - 2 * HOUR, duration_ms=300.0, response_hash=1, user_id=f"u{n % 5}") for n in range(40)
    ]
    with connect(migrated_dsn) as connection:
        insert_making_partitions(connection, events, first_day=(now - 24 * HOUR).date())
        rollup_touched(connection, Settings(), now=now)
    return migrated_dsn


@contextlib.contextmanager
def worker(dsn, tmp_path, **more):
    """A running worker and what it logs; it is gone at the end."""
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, "worker"], env=environ(dsn) | ALONE | more, cwd=tmp_path, stdout=output, stderr=output
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()


def children(pid):
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text().split()
    ]


def is_there(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_it_says_in_one_line_what_it_did(dsn, postgres_dsn):
    assert run(dsn, "keep") == ("kept the rankings: 1 absolute, 1 relative\n", "")
    kept_nothing, _ = run(dsn, "keep", "--if-older-than", "3600")
    assert re.fullmatch(r"kept nothing, as there are rankings of 20[-\d]+ \d\d:\d\d UTC\n", kept_nothing)
    with raw_postgres(dsn) as connection:
        connection.execute("DELETE FROM route_analytics_hourly")
        connection.execute("DELETE FROM route_analytics")
    assert run(dsn, "keep") == ("kept nothing, as there is nothing to rank in the last 7 days\n", "")
    _, errors = run(postgres_dsn, "keep", code=1)
    assert errors.count("\n") == 1
    assert "run: otel-analytics migrate" in errors


def test_a_worker_keeps_them_once_and_says_when(dsn, tmp_path):
    port = free_port()
    metrics = f"http://127.0.0.1:{port}/metrics"

    def kept_at():
        with contextlib.suppress(OSError), urllib.request.urlopen(metrics, timeout=2) as response:
            found = re.search(
                r"^otel_analytics_rankings_kept_timestamp_seconds (\S+)$",
                response.read().decode(),
                re.MULTILINE,
            )
            return float(found[1]) if found else None
        return None

    began = time.time()
    port_setting = {"OTEL_ANALYTICS_WORKER_METRICS_PORT": str(port)}
    with worker(dsn, tmp_path, **port_setting) as (process, log), raw_postgres(dsn) as connection:
        until(lambda: "kept the rankings: 1 absolute, 1 relative" in log.read_text())
        assert scalar(connection, COUNT) == 2
        until(lambda: children(process.pid) == [])
        until(kept_at)
        assert began < kept_at() < time.time()
        process.terminate()
        assert process.wait(10) == 0
    assert log.read_text().count("kept the rankings") == 1


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_stopped_leaves_no_keeper_behind(dsn, tmp_path, sent):
    with raw_postgres(dsn) as connection, connect(dsn) as other:
        other.execute(
            "SELECT pg_advisory_lock(hashtext('otel_analytics.rankings'), hashtext(current_schema()))"
        )
        with worker(dsn, tmp_path) as (process, log):
            until(lambda: scalar(connection, WAITING))
            (keeper,) = children(process.pid)
            assert os.getpriority(os.PRIO_PROCESS, keeper) == 10
            process.send_signal(sent)
            assert process.wait(10) == 0
            assert not is_there(keeper)
            assert "WARNING" not in log.read_text()


def test_a_keeper_that_fails_is_one_line_and_the_worker_goes_on(dsn, tmp_path):
    with raw_postgres(dsn) as connection:
        connection.execute("ALTER TABLE route_analytics_rankings ADD CHECK (rank > 1)")
        with worker(dsn, tmp_path) as (process, log):
            until(lambda: "rankings were not kept" in log.read_text())
            assert process.poll() is None
            (line,) = [line for line in log.read_text().splitlines() if "WARNING" in line]
            assert "rankings were not kept: otel-analytics: refused by PostgreSQL" in line
            process.terminate()
            assert process.wait(10) == 0


def test_a_worker_that_keeps_none_starts_no_process(dsn, tmp_path):
    with worker(dsn, tmp_path, OTEL_ANALYTICS_RANKINGS_INTERVAL_SECONDS="0") as (process, log):
        until(lambda: "connected to postgresql" in log.read_text())
        time.sleep(1)
        assert children(process.pid) == []
    assert run(dsn, "worker", "--once", **ALONE)[0].startswith("stored 0 events")
    with raw_postgres(dsn) as connection:
        assert scalar(connection, COUNT) == 0
