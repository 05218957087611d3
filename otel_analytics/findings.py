"""What to think of the state of an installation: facts in, findings out."""

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from otel_analytics.settings import Settings
from otel_analytics.stream import ServerInfo, StreamStatus

Level = Literal["ok", "warning", "problem"]

OLDEST_REDIS: Final = (6, 2)
OLDEST_POSTGRES: Final = 13
NEWEST_POSTGRES: Final = 18
_FULL: Final = 0.95
_NEARLY_FULL: Final = 0.8
_LATE_SECONDS: Final = 900.0
"""Somewhat more than the ten minutes between two runs of a worker that is called by a scheduler."""
_ROLLUP_LATE: Final = dt.timedelta(hours=2)
"""Twice the time between two rollups that are called by a scheduler."""
_CLOCK_SECONDS: Final = 2.0
_CLOCK_WRONG_SECONDS: Final = 3_600.0


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        check: What was looked at, in a word or two.
        level: `problem` where something does not work or events may be lost now; `warning` where that may
            come.
        message: What was found, in one line.
        advice: What to do about it; empty where nothing is to be done.
    """

    check: str
    level: Level
    message: str
    advice: str = ""


def judge_redis(server: ServerInfo) -> Iterator[Finding]:
    """The Redis server: can it keep what it accepts, and what the worker needs?"""
    yield _redis_version(server.version)
    if server.is_replica:
        yield Finding(
            "redis role", "problem", "a replica, which accepts no writes", "point redis_url to the primary"
        )
    yield _eviction(server)
    yield _persistence(server)
    yield _memory(server)


def judge_stream(status: StreamStatus, settings: Settings) -> Iterator[Finding]:
    """The stream: is it drained, and is there room?"""
    yield _length(status, settings.stream_max_entries)
    if status.length and not status.has_group:
        yield Finding("worker", "warning", "no worker has read the stream yet", "run: otel-analytics worker")
    else:
        yield _lag(status, settings.worker_interval_seconds)
    if status.dead_letters:
        advice = "see: otel-analytics dlq list; then replay or purge them"
        yield Finding("dead letters", "warning", f"{status.dead_letters:,} entries", advice)
    else:
        yield Finding("dead letters", "ok", "none")


def judge_postgres_version(version: int) -> Iterator[Finding]:
    """The major version of the PostgreSQL server."""
    known = f"versions {OLDEST_POSTGRES} to {NEWEST_POSTGRES} are supported"
    if version < OLDEST_POSTGRES:
        yield Finding("postgresql version", "problem", f"{version} is too old", f"upgrade it: {known}")
    elif version > NEWEST_POSTGRES:
        yield Finding("postgresql version", "warning", f"{version} is newer than what was tested", known)
    else:
        yield Finding("postgresql version", "ok", str(version))


def judge_permissions(*, read_only: bool, may_write: bool, lacking: Sequence[str]) -> Iterator[Finding]:
    """Whether PostgreSQL lets the worker do its work.

    Args:
        read_only: Whether it accepts no writes.
        may_write: Whether the role may write to any table.
        lacking: Permissions that the worker needs and does not have.
    """
    if read_only:
        advice = "point postgres_dsn to the primary, or unset default_transaction_read_only"
        yield Finding("permissions", "problem", "the database accepts no writes", advice)
    elif not may_write and not any(each.startswith("SELECT") for each in lacking):
        message = "the role may read everything and write nothing: enough for questions, not for a worker"
        advice = "give workers another role, such as otel_analytics_ingest; see deploy/postgres/roles.sql"
        yield Finding("permissions", "warning", message, advice)
    elif lacking:
        advice = "run otel-analytics migrate as the owner of the tables, or grant these to the role"
        yield Finding("permissions", "problem", f"the role lacks {', '.join(lacking)}", advice)
    else:
        yield Finding("permissions", "ok", "the role may do what the worker does")


def judge_partitions(days: Collection[dt.date], today: dt.date, settings: Settings) -> Iterator[Finding]:
    """The daily partitions of the raw table: is there one for today and the days ahead, and none too old?"""
    wanted = [today + dt.timedelta(days=ahead) for ahead in range(settings.partitions_ahead_days + 1)]
    missing = [day for day in wanted if day not in days]
    oldest = today - dt.timedelta(days=settings.raw_retention_days)
    too_old = [day for day in days if day < oldest]
    by_worker = "a running worker does this every hour; or run: otel-analytics worker --once"
    if missing:
        message = f"{len(missing)} of the days from {today} to {wanted[-1]} have no partition"
        yield Finding("partitions", "warning", message, by_worker)
    if too_old:
        message = f"{len(too_old)} are older than raw_retention_days ({settings.raw_retention_days})"
        yield Finding("partitions", "warning", message, by_worker)
    if not missing and not too_old:
        yield Finding("partitions", "ok", f"{len(days)}, up to {max(days)}")


def judge_rollup(touched: Sequence[dt.datetime], now: dt.datetime) -> Iterator[Finding]:
    """The hours that wait to be recomputed, oldest first."""
    over = [hour for hour in touched if hour + dt.timedelta(hours=1) <= now]
    if over and now - over[0] - dt.timedelta(hours=1) > _ROLLUP_LATE:
        message = f"{len(over):,} hours wait to be recomputed, the oldest of {over[0]:%Y-%m-%d %H:%M} UTC"
        advice = "unless a worker is at it this minute, run: otel-analytics rollup"
        yield Finding("rollup", "warning", message, advice)
    else:
        yield Finding("rollup", "ok", f"{len(over)} hours wait" if over else "up to date")


def judge_clocks(ahead_seconds: Mapping[str, float]) -> Iterator[Finding]:
    """The clocks of the servers.

    Args:
        ahead_seconds: Name of a server to how far its clock is ahead of this machine's.
    """
    for server, seconds in ahead_seconds.items():
        check = f"clock of {server}"
        if abs(seconds) <= _CLOCK_SECONDS:
            yield Finding(check, "ok", "agrees with this machine")
            continue
        message = f"{abs(seconds):,.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
        level: Level = "problem" if abs(seconds) > _CLOCK_WRONG_SECONDS else "warning"
        yield Finding(check, level, message, "let both machines keep time with NTP")


def _redis_version(version: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not numbers:
        advice = "make sure that it is 6.2 or newer"
        return Finding("redis version", "warning", "the server does not tell it", advice)
    if numbers < OLDEST_REDIS:
        advice = "upgrade it: 6.2 is the oldest that has XAUTOCLAIM"
        return Finding("redis version", "problem", f"{version} is too old", advice)
    return Finding("redis version", "ok", version)


def _eviction(server: ServerInfo) -> Finding:
    advice = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    policy = server.eviction_policy
    if policy is None:
        return Finding("eviction", "warning", "the server does not tell its maxmemory-policy", advice)
    if server.may_evict_stream:
        message = f"maxmemory-policy {policy} may delete the whole stream; the worker refuses it"
        return Finding("eviction", "problem", message, advice)
    return Finding("eviction", "ok", f"maxmemory-policy {policy}")


def _persistence(server: ServerInfo) -> Finding:
    advice = "CONFIG SET appendonly yes, and the same in redis.conf"
    if server.saving_fails:
        message = "the server fails to write to its disk and may refuse writes"
        return Finding("persistence", "problem", message, "look at its log and at the space on its disk")
    if server.append_only:
        return Finding("persistence", "ok", "append-only file")
    if server.append_only is None and server.snapshots is None:
        return Finding("persistence", "warning", "the server does not tell", "make sure that it is durable")
    if server.snapshots:
        message = "snapshots only: what came after the last one is lost when Redis stops"
        return Finding("persistence", "warning", message, advice)
    return Finding("persistence", "warning", "none: what is on the stream is lost when Redis stops", advice)


def _memory(server: ServerInfo) -> Finding:
    used, limit = server.used_memory_bytes, server.max_memory_bytes or server.system_memory_bytes
    if not used or not limit:
        advice = "watch the memory of the server by other means"
        return Finding("redis memory", "warning", "the server does not tell", advice)
    of = "maxmemory" if server.max_memory_bytes else "the machine's memory; maxmemory is not set"
    message = f"{_mib(used)} of {_mib(limit)} used ({of})"
    advice = "give Redis more memory, or lower stream_max_entries or stream_retention_seconds"
    share = used / limit
    if share >= _FULL:
        return Finding("redis memory", "problem", message, advice)
    return (
        Finding("redis memory", "warning", message, advice)
        if share >= _NEARLY_FULL
        else Finding("redis memory", "ok", message)
    )


def _length(status: StreamStatus, most: int) -> Finding:
    message = f"{status.length:,} entries of the {most:,} that stream_max_entries allows"
    if status.length >= most:
        advice = "applications drop events now; start workers, see: otel-analytics worker"
        return Finding("stream", "problem", message, advice)
    if status.length >= _NEARLY_FULL * most:
        return Finding("stream", "warning", message, "start more workers, see: otel-analytics worker")
    return Finding("stream", "ok", message if status.length else "empty")


def _lag(status: StreamStatus, worker_interval_seconds: float) -> Finding:
    waiting = status.pending + status.undelivered
    if not waiting:
        return Finding("worker", "ok", "everything on the stream is stored")
    age = status.oldest_unprocessed_seconds
    message = f"{waiting:,} entries wait to be stored, the oldest for {age:,.0f} s"
    if age > max(_LATE_SECONDS, 2 * worker_interval_seconds):
        return Finding("worker", "warning", message, "is a worker running? see: otel-analytics worker")
    return Finding("worker", "ok", message)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
