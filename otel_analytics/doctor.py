"""Goes round everything that can be wrong with an installation, and says what to do about it.

It only asks. What to think of the answers is decided in `findings`.
"""

import datetime as dt
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from otel_analytics import findings
from otel_analytics.errors import (
    NotMigrated,
    OtelAnalyticsError,
    SchemaTooNew,
    StoreUnavailable,
    StreamUnavailable,
)
from otel_analytics.findings import Finding
from otel_analytics.settings import Settings, without_password
from otel_analytics.store import health, hourly, migrations, partitions
from otel_analytics.store.connection import Connection, connect
from otel_analytics.stream import Inspector
from otel_analytics.stream.connection import Refused

METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


def examine(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything there is to find. What cannot be looked at is a problem; the rest is looked at all the same.

    Args:
        settings: All of them.
        environ: Environment variables, for the one that prometheus_client reads.
    """
    ahead: dict[str, float] = {}
    if settings.exporter == "postgres":
        yield Finding("redis", "ok", "not looked at, since the setting exporter is postgres")
    else:
        yield from _guarded("redis", lambda: _redis(settings, ahead))
    yield from _guarded("postgresql", lambda: _postgres(settings, ahead))
    yield from findings.judge_clocks(ahead)
    yield from _metrics_directory(environ.get(METRICS_VARIABLE, ""))


def _redis(settings: Settings, ahead: dict[str, float]) -> Iterator[Finding]:
    with closing(Inspector(settings.redis_url, key_prefix=settings.key_prefix)) as inspector:
        ahead["Redis"] = _seconds_ahead(inspector.clock)
        yield Finding("redis", "ok", f"{without_password(settings.redis_url)} answers")
        yield from _guarded("redis", lambda: findings.judge_redis(inspector.server_info()))
        yield from _guarded("stream", lambda: findings.judge_stream(inspector.status(), settings))


def _postgres(settings: Settings, ahead: dict[str, float]) -> Iterator[Finding]:
    with connect(settings.postgres_dsn) as connection:
        ahead["PostgreSQL"] = _seconds_ahead(lambda: health.clock(connection))
        yield Finding("postgresql", "ok", f"{without_password(settings.postgres_dsn)} answers")
        yield from findings.judge_postgres_version(connection.info.server_version // 10_000)
        try:
            migrations.check(connection)
        except (NotMigrated, SchemaTooNew) as error:
            yield Finding("migrations", "problem", str(error))
            return
        yield Finding("migrations", "ok", "all applied")
        yield from _guarded("permissions", lambda: _permissions(connection))
        now = dt.datetime.now(dt.UTC)
        yield from _guarded("partitions", lambda: _partitions(connection, now.date(), settings))
        yield from _guarded("rollup", lambda: findings.judge_rollup(hourly.touched_hours(connection), now))


def _permissions(connection: Connection) -> Iterator[Finding]:
    return findings.judge_permissions(
        read_only=health.is_read_only(connection),
        may_write=health.may_write(connection),
        lacking=health.lacking_permissions(connection),
    )


def _partitions(connection: Connection, today: dt.date, settings: Settings) -> Iterator[Finding]:
    return findings.judge_partitions(partitions.existing_days(connection), today, settings)


def _metrics_directory(name: str) -> Iterator[Finding]:
    if not name:
        yield Finding(
            "metrics", "ok", f"{METRICS_VARIABLE} is not set, and need not be under uvicorn and gunicorn"
        )
        return
    directory = Path(name)
    while not directory.exists():  # the application makes it when it starts
        directory = directory.parent
    try:
        # Permission bits tell root nothing, nor do they tell of a file system that is full or read-only.
        with tempfile.TemporaryFile(dir=directory):
            yield Finding("metrics", "ok", f"{METRICS_VARIABLE} {name} can be written to")
    except OSError as error:
        message = f"{METRICS_VARIABLE} {name} cannot be written to: {error.strerror}"
        yield Finding("metrics", "problem", message, "make it a directory that the application may write to")


def _seconds_ahead(ask: Callable[[], float]) -> float:
    """How far a clock is ahead of this machine's: the answer was made in the middle of the question's way."""
    began = time.time()
    theirs = ask()
    return theirs - (began + time.time()) / 2


def _guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What is found, and a problem where looking failed."""
    try:
        yield from look()
    except Refused as error:
        advice = "look into the log of Redis"
        if error.code == "NOPERM":
            advice = "let the user in redis_url do this; deploy/redis/start.sh lists what each user needs"
        yield Finding(check, "problem", str(error), advice)
    except StreamUnavailable as error:
        advice = "start it, or correct the setting redis_url (OTEL_ANALYTICS_REDIS_URL)"
        yield Finding(check, "problem", str(error), advice)
    except StoreUnavailable as error:
        advice = "start it, or correct the setting postgres_dsn (OTEL_ANALYTICS_POSTGRES_DSN)"
        yield Finding(check, "problem", str(error), advice)
    except OtelAnalyticsError as error:
        yield Finding(check, "problem", str(error))
    except Exception as error:  # noqa: BLE001 - a mistake here must not hide what the other checks find
        advice = "look at the other findings first; if all else is well, this is a mistake in this program"
        yield Finding(check, "problem", f"could not be looked at: {type(error).__name__}", advice)
