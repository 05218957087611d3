"""A password that was planted everywhere shows nowhere: not in what is printed, logged, raised or listed."""

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from backend import PREFIX, make_settings, raw_redis
from program import PROGRAM, run
from waiting import until

from otel_analytics.cli import keeper, worker
from otel_analytics.cli.__main__ import run as run_here
from otel_analytics.errors import OtelAnalyticsError
from otel_analytics.settings import Settings, without_password
from otel_analytics_exporters.postgres import PostgresSpanExporter
from otel_analytics_exporters.redis_stream import RedisStreamSpanExporter

WORD = "Zq9"
"""Part of every password here, on both sides of what may take it apart."""
NOWHERE = "127.0.0.1:1"
PASSWORDS = [WORD, *(f"{WORD}{mark}{WORD}" for mark in "@/?#: %&=")]
REDIS_URLS = [
    *(f"redis://me:{password}@{NOWHERE}/0" for password in PASSWORDS),
    *(f"redis://me:{quote(password, safe='')}@{NOWHERE}/0" for password in PASSWORDS),
    f"redis://:{WORD}@{NOWHERE}",
    f"redis://{NOWHERE}/0?password={WORD}",
    f"redis://{NOWHERE}/0?username=me&password={WORD}&nonsense={WORD}",
    f"rediss://me:{WORD}@{NOWHERE}/0?ssl_password={WORD}",
    f"rediss://{NOWHERE}/0?ssl_cert_reqs={WORD}",
    f"unix://me:{WORD}@/nowhere.sock?password={WORD}",
    f"redis://me:{WORD}@host.invalid:{WORD}/0",
    f"http://me:{WORD}@{NOWHERE}/0",
    f"me:{WORD}@{NOWHERE}",
]
DSNS = [
    *(f"postgresql://me:{password}@{NOWHERE}/db" for password in PASSWORDS),
    *(f"postgresql://me:{quote(password, safe='')}@{NOWHERE}/db" for password in PASSWORDS),
    f"postgresql://{NOWHERE}/db?user=me&password={WORD}",
    f"postgresql://{NOWHERE}/db?sslpassword={WORD}&nonsense={WORD}",
    f"host=127.0.0.1 port=1 user=me password={WORD}",
    f"host=127.0.0.1 port=1 password='{WORD} \\' {WORD}' user=me",
    f"host=127.0.0.1 port=1 password='{WORD}",
    f"host=127.0.0.1 port=1 {WORD}",
    f"postgresql://me:{WORD}@127.0.0.1:{WORD}/db",
    f"postgres://me:{WORD}",
]


@pytest.fixture
def said(monkeypatch, tmp_path, capfd, caplog):
    """Runs a command here with every log line, and gives all that came of it."""
    monkeypatch.chdir(tmp_path)
    # What a worker does with signals would last, and be handed on to every program that later tests start.
    monkeypatch.setattr(worker, "_stop_on_signal", threading.Event)
    caplog.set_level(logging.DEBUG)

    def run_it(*arguments, **environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        code = run_here(["--debug", *arguments])
        printed = "".join(capfd.readouterr()) + caplog.text
        caplog.clear()
        return code, printed

    return run_it


@pytest.mark.parametrize("url", REDIS_URLS)
def test_the_password_of_redis_shows_in_no_failure(said, url):
    for arguments in (["worker", "--once"], ["doctor"], ["audit"], ["dlq", "list"], ["live", "--once"]):
        code, printed = said(*arguments, OTEL_ANALYTICS_REDIS_URL=url, OTEL_ANALYTICS_POSTGRES_DSN=DSNS[0])
        assert code
        assert printed
        assert WORD not in printed, printed
    check_exporter(RedisStreamSpanExporter, redis_url=url)
    assert WORD not in without_password(url)


@pytest.mark.parametrize("dsn", DSNS)
def test_the_password_of_postgresql_shows_in_no_failure(said, dsn):
    for arguments in (["rank"], ["doctor", "--format", "json"], ["migrate"], ["keep"], ["rollup"]):
        code, printed = said(*arguments, OTEL_ANALYTICS_POSTGRES_DSN=dsn)
        assert code
        assert printed
        assert WORD not in printed, printed
    check_exporter(PostgresSpanExporter, postgres_dsn=dsn)
    assert WORD not in without_password(dsn)


def check_exporter(exporter, **settings):
    """What an application's log gets of it."""
    with pytest.raises(OtelAnalyticsError) as failed:
        exporter(Settings(**settings)).send([], {"buffer_full": 1})
    assert WORD not in str(failed.value)


def test_a_password_that_is_refused_is_not_repeated(said, redis_url, migrated_dsn):
    with raw_redis(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "me", "on", ">right", "~*", "+@all")
        url = redis_url.replace("redis://", f"redis://me:{WORD}@")
        environ = {"OTEL_ANALYTICS_REDIS_URL": url, "OTEL_ANALYTICS_POSTGRES_DSN": migrated_dsn}
        code, printed = said("audit", **environ)
        client.execute_command("ACL", "DELUSER", "me")
    assert code == 1
    assert "invalid username-password pair" in printed
    assert WORD not in printed


def test_settings_tell_nothing_where_they_are_printed(tmp_path, said):
    secret = {"redis_url": f"redis://:{WORD}@h", "postgres_dsn": f"password={WORD}", "hash_key": WORD}
    settings = Settings(**secret)
    assert WORD not in f"{settings} {settings!r} {[settings]}"
    file = tmp_path / "otel-analytics.toml"
    file.write_text("".join(f'{name} = "{value}"\n' for name, value in secret.items()) + "days = 0\n")
    code, printed = said("rank")
    assert (code, "setting days" in printed, WORD in printed) == (2, True, False)


def test_the_doctor_says_who_else_may_read_the_settings(tmp_path, said, redis_url, migrated_dsn):
    file = tmp_path / "otel-analytics.toml"
    file.write_text(f'redis_url = "{redis_url}"\npostgres_dsn = "{migrated_dsn}"\n')
    file.chmod(0o644)
    assert "may read" not in said("doctor")[1]  # there is no password in it
    file.write_text(f'redis_url = "{redis_url}"\npostgres_dsn = "{migrated_dsn}"\nhash_key = "{WORD}"\n')
    code, printed = said("doctor")
    assert code == 0
    words = " ".join(printed.split())
    assert "every user of this machine may read otel-analytics.toml, which holds hash_key" in words
    assert WORD not in printed
    file.chmod(0o640)
    assert "may read" not in said("doctor")[1]


def test_nobody_sees_a_password_among_the_processes(tmp_path, redis_url, migrated_dsn, monkeypatch):
    with raw_redis(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "me", "on", f">{WORD}", "~*", "+@all")
    url = redis_url.replace("redis://", f"redis://me:{WORD}@")
    dsn = migrated_dsn.replace("@", f":{WORD}@")
    environ = {
        "PATH": os.environ["PATH"],
        "OTEL_ANALYTICS_REDIS_URL": url,
        "OTEL_ANALYTICS_POSTGRES_DSN": dsn,
        "OTEL_ANALYTICS_WORKER_METRICS_PORT": "0",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [PROGRAM, "worker"], env=environ, cwd=tmp_path, stdout=output, stderr=output
        )
    try:
        until(lambda: b"connected to" in log.read_bytes() or worker.poll() is not None)
        for name in ("cmdline", "comm", "stat"):
            assert WORD.encode() not in Path(f"/proc/{worker.pid}/{name}").read_bytes()
        with raw_redis(redis_url) as client:
            assert WORD not in str(client.client_list())
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
        with raw_redis(redis_url) as client:
            client.execute_command("ACL", "DELUSER", "me")
    assert WORD not in log.read_text()

    begun = []
    monkeypatch.setattr(keeper, "_run", lambda command, *_: begun.append(command))
    with keeper.keeping_rankings(make_settings(url, dsn), tmp_path / "settings.toml", threading.Event()):
        until(lambda: begun)
    ((program, *arguments),) = begun
    assert (program, WORD in str(arguments)) == (sys.executable, False)


def test_no_option_of_the_command_takes_a_secret():
    secret = ("password", "dsn", "url", "hash-key", "token")
    commands = ["rank", "worker", "migrate", "keep", "doctor", "audit", "live", "report"]
    shown = run("", "--help")[0] + "".join(run("", each, "--help")[0] for each in commands)
    assert "--config" in shown
    assert not any(f"--{name}" in shown.lower() for name in secret)


def test_the_wrong_words_of_a_stranger_are_not_logged(said, redis_url, migrated_dsn):
    """What somebody writes onto the stream may be anything; the log and the reasons do not repeat it."""
    with raw_redis(redis_url) as client:
        for fields in (
            {"v": "1", "events": f'["{WORD}"]'},
            {"v": "1", "events": f"{{{WORD}"},
            {"v": WORD, WORD: WORD},
            {"v": "1", "events": "[]", "dropped": f'{{"{WORD}": "{WORD}"}}'},
        ):
            client.xadd(f"{PREFIX}:stream", fields)
    environ = {"OTEL_ANALYTICS_REDIS_URL": redis_url, "OTEL_ANALYTICS_POSTGRES_DSN": migrated_dsn}
    code, printed = said("worker", "--once", **environ)
    assert (code, WORD in printed) == (0, False)
    with raw_redis(redis_url) as client:
        letters = [fields for _, fields in client.xrange(f"{PREFIX}:dead")]
    assert len(letters) == 3
    assert not any(WORD.encode() in letter[b"reason"] for letter in letters)
