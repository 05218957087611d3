"""The rankings of a week as whole processes, against the statement alone in a process. Part of `make bench`.

Argument: hours with figures, a week where none is given; there are 5,000 patterns in each.
"""

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from figures import Figure, compared
from seeding import PATTERNS, fill_hourly, fill_raw, migrated

HOURS: Final = 168
RAW: Final = 100_000
"""Events of the last day, for the ranking by savings: it replays them."""
ROUNDS: Final = 5
HOUR: Final = dt.timedelta(hours=1)
NOW: Final = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
PROGRAM: Final = (sys.executable, "-m", "otel_analytics.cli")
RANKINGS: Final = {
    "rank": ("rank",),
    "rank --relative": ("rank", "--relative"),
    "rank --by savings": ("rank", "--by", "savings"),
}
STATEMENT: Final = """
    SELECT
        route, method, query_params_normalized::text, count(*), sum(total_requests), avg(total_requests),
        avg(unique_users), avg(p95_duration_ms)
    FROM route_analytics_hourly
    WHERE "timestamp" >= now() - interval '7 days' AND total_requests > 0
    GROUP BY route, method, query_params_normalized
"""
BARE: Final = (
    sys.executable,
    "-c",
    f"import sys, psycopg; print(len(psycopg.connect(sys.argv[1]).execute({STATEMENT!r}).fetchall()))",
)


def took(command: Sequence[str], dsn: str) -> float:
    """Seconds from the start of a program to its end."""
    environ = os.environ | {"OTEL_ANALYTICS_POSTGRES_DSN": dsn}
    began = time.perf_counter()
    done = subprocess.run(command, env=environ, check=True, capture_output=True)  # noqa: S603
    seconds = time.perf_counter() - began
    assert done.stdout, done.stderr
    return seconds


def run(hours: int = HOURS) -> Iterator[Figure]:
    """Measure P7."""
    with migrated() as dsn:
        fill_hourly(dsn, NOW - (hours - 1) * HOUR, NOW)
        fill_raw(dsn, NOW - 24 * HOUR, 24 * HOUR, RAW)
        bare: list[float] = []
        found: dict[str, list[float]] = {name: [] for name in (*RANKINGS, "--help")}
        for _ in range(ROUNDS):
            bare.append(took((*BARE, dsn), dsn))
            for name, arguments in RANKINGS.items():
                found[name].append(took((*PROGRAM, *arguments, "--format", "json"), dsn))
            found["--help"].append(took((*PROGRAM, "--help"), dsn))
    rows = f"of {hours * PATTERNS:,} hourly rows"
    floor = "the statement alone in a process"
    for name in RANKINGS:
        yield compared("P7", f"{name}, {rows}", found[name], "s", against=floor, floor=bare, aim="<= 1 s")
    yield compared("P7", "--help", found["--help"], "s", against=floor, floor=bare, aim="<= 0.35 s")


if __name__ == "__main__":
    for figure in run(*map(int, sys.argv[1:])):
        print(figure)
