"""What the doctor thinks of facts."""

import datetime as dt

import pytest

from otel_analytics import findings
from otel_analytics.settings import Settings
from otel_analytics.stream import ServerInfo, StreamLedger, StreamStatus

SETTINGS = Settings(stream_max_entries=100, partitions_ahead_days=2, raw_retention_days=30)
NOW = dt.datetime(2026, 11, 24, 12, 30, tzinfo=dt.UTC)
MIB = 2**20


def redis(**facts):
    sound = {
        "version": "7.2.4",
        "eviction_policy": "noeviction",
        "max_memory_bytes": 100 * MIB,
        "used_memory_bytes": 10 * MIB,
        "system_memory_bytes": 1_000 * MIB,
        "append_only": True,
        "snapshots": "",
        "saving_fails": False,
        "is_replica": False,
    }
    return findings.judge_redis(ServerInfo(**{**sound, **facts}))


def stream(**facts):
    sound = {
        "length": 10,
        "pending": 0,
        "undelivered": 0,
        "oldest_unprocessed_seconds": 0.0,
        "dead_letters": 0,
        "ledger": StreamLedger("e", 1, 0, 0),
        "has_group": True,
        "clock_seconds": 0.0,
    }
    return findings.judge_stream(StreamStatus(**{**sound, **facts}), SETTINGS)


def not_ok(found):
    """What is wrong, and a check that each such finding says what to do."""
    wrong = [finding for finding in found if finding.level != "ok"]
    assert all(finding.advice for finding in wrong)
    assert all("\n" not in finding.message + finding.advice for finding in wrong)
    return [(finding.check, finding.level) for finding in wrong]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        ({"version": "6.2.14"}, []),
        ({"version": "10.0.0"}, []),
        ({"version": "6.0.16"}, [("redis version", "problem")]),
        ({"version": "unknown"}, [("redis version", "warning")]),
        ({"is_replica": True}, [("redis role", "problem")]),
        ({"eviction_policy": "volatile-lru"}, []),
        ({"eviction_policy": "allkeys-lru"}, [("eviction", "problem")]),
        ({"eviction_policy": None}, [("eviction", "warning")]),
        ({"append_only": False, "snapshots": "3600 1"}, [("persistence", "warning")]),
        ({"append_only": False, "snapshots": ""}, [("persistence", "warning")]),
        ({"append_only": None, "snapshots": None}, [("persistence", "warning")]),
        ({"saving_fails": True}, [("persistence", "problem")]),
        ({"used_memory_bytes": 79 * MIB}, []),
        ({"used_memory_bytes": 80 * MIB}, [("redis memory", "warning")]),
        ({"used_memory_bytes": 95 * MIB}, [("redis memory", "problem")]),
        ({"used_memory_bytes": 95 * MIB, "max_memory_bytes": 0}, []),
        ({"used_memory_bytes": 950 * MIB, "max_memory_bytes": 0}, [("redis memory", "problem")]),
        ({"used_memory_bytes": None}, [("redis memory", "warning")]),
    ],
)
def test_redis(facts, expected):
    assert not_ok(redis(**facts)) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        ({"length": 0, "has_group": False}, []),
        ({"length": 10, "has_group": False}, [("worker", "warning")]),
        ({"length": 80}, [("stream", "warning")]),
        ({"length": 100}, [("stream", "problem")]),
        ({"undelivered": 5, "oldest_unprocessed_seconds": 600.0}, []),
        ({"pending": 5, "oldest_unprocessed_seconds": 901.0}, [("worker", "warning")]),
        ({"dead_letters": 1}, [("dead letters", "warning")]),
    ],
)
def test_the_stream(facts, expected):
    assert not_ok(stream(**facts)) == expected


def test_a_worker_that_runs_seldom_is_not_late():
    status = {"undelivered": 5, "oldest_unprocessed_seconds": 3_000.0}
    assert not_ok(stream(**status)) == [("worker", "warning")]
    hourly = Settings(worker_interval_seconds=3_600)
    sound = StreamStatus(10, 0, 5, 3_000.0, 0, StreamLedger("e", 1, 0, 0), has_group=True, clock_seconds=0.0)
    assert not_ok(findings.judge_stream(sound, hourly)) == []


@pytest.mark.parametrize(("version", "level"), [(12, "problem"), (13, "ok"), (18, "ok"), (19, "warning")])
def test_versions_of_postgresql(version, level):
    (finding,) = findings.judge_postgres_version(version)
    assert finding.level == level


def test_partitions():
    today = NOW.date()
    days = {today + dt.timedelta(days=offset) for offset in range(-30, 3)}
    judge = findings.judge_partitions
    assert not_ok(judge(days, today, SETTINGS)) == []
    assert not_ok(judge(days - {today}, today, SETTINGS)) == [("partitions", "warning")]
    assert not_ok(judge(days | {today - dt.timedelta(days=31)}, today, SETTINGS)) == [
        ("partitions", "warning")
    ]
    assert not_ok(judge(set(), today, SETTINGS)) == [("partitions", "warning")]


def test_the_rollup_is_late_after_two_hours():
    judge = findings.judge_rollup
    hour = dt.timedelta(hours=1)
    this_hour = NOW.replace(minute=0)
    assert not_ok(judge([], NOW)) == []
    assert not_ok(judge([this_hour], NOW)) == []
    assert not_ok(judge([this_hour - 2 * hour, this_hour], NOW)) == []
    assert not_ok(judge([this_hour - 3 * hour], NOW)) == [("rollup", "warning")]


def test_clocks():
    found = list(findings.judge_clocks({"A": 1.9, "B": -2.1, "C": 4_000.0}))
    assert [finding.level for finding in found] == ["ok", "warning", "problem"]
    assert found[1].message == "2.1 s behind this machine's"
    assert found[2].message == "4,000.0 s ahead of this machine's"
