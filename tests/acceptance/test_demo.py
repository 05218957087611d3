"""The demo from start to end, as `make demo-once` runs it, with less live traffic."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from backend import raw_postgres, raw_redis
from waiting import until

# They would take each other's ports between looking and using.
pytestmark = pytest.mark.xdist_group("demo")

COMMAND = str(Path(sys.executable).with_name("otel-analytics"))


def run_demo(tmp_path, **settings):
    return subprocess.run(
        [COMMAND, "demo", "--once", "--seconds", "3"],
        env={**os.environ, "COLUMNS": "120", **settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_shows_both_rankings_and_leaves_nothing(tmp_path):
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stderr
    absolute, relative = done.stdout.split("otel-analytics rank --relative")
    assert re.search(r"1 +GET +/api/v1/home +- ", absolute)
    assert "/api/v1/reports/sales" in relative
    assert done.stdout.count("In plain words:") == 2
    assert "coverage 100 %" in absolute + done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demo_uses_given_servers_and_touches_nothing_of_theirs(tmp_path, redis_url, postgres_dsn):
    with raw_postgres(postgres_dsn) as connection:
        connection.execute("CREATE TABLE products (mine text); INSERT INTO products VALUES ('kept')")
    with raw_redis(redis_url) as client:
        client.set("route_analytics:stream", "kept")
    done = run_demo(tmp_path, OTEL_ANALYTICS_REDIS_URL=redis_url, OTEL_ANALYTICS_POSTGRES_DSN=postgres_dsn)
    assert done.returncode == 0, done.stderr
    assert "/api/v1/home" in done.stdout
    with raw_postgres(postgres_dsn) as connection:
        assert connection.execute("SELECT mine FROM products").fetchall() == [("kept",)]
        schemas = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'"
        ).fetchall()
    assert schemas == [("public",)]
    with raw_redis(redis_url) as client:
        assert client.keys() == [b"route_analytics:stream"]


def test_a_server_that_does_not_answer_is_one_line(tmp_path):
    done = run_demo(tmp_path, OTEL_ANALYTICS_POSTGRES_DSN="postgresql://u:hidden@127.0.0.1:1/x")
    assert done.returncode == 1
    assert done.stderr.startswith("otel-analytics: PostgreSQL")
    assert len(done.stderr.splitlines()) == 1
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_demo_ends_in_order_when_it_is_told_to(tmp_path):
    demo = subprocess.Popen([COMMAND, "demo", "--seconds", "60"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    config = tmp_path / ".demo" / "otel-analytics.toml"
    try:
        until(config.exists, 60)
        values = tomllib.loads(config.read_text())
        worker = ("127.0.0.1", values["worker_metrics_port"])
        until(lambda: answers(worker), 60)
    finally:
        demo.send_signal(signal.SIGTERM)
    assert demo.wait(timeout=60) == 128 + signal.SIGTERM
    redis = urlsplit(values["redis_url"])
    assert not config.exists()
    assert not answers(worker)
    assert not answers((redis.hostname, redis.port))


def answers(address):
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False
