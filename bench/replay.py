"""How fast the replay is, and the memory it takes. Run it with `make bench-replay`.

Arguments: millions of requests, 1 and 10 where none are given.
"""

import datetime as dt
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from figures import Figure, compared

from otel_analytics.analyze.replay import BoundedReplay, CacheModel, Replay
from otel_analytics.embedded import postgres_server
from otel_analytics.request_columns import KEYED, SAFE, STORABLE, RequestColumns, columns
from otel_analytics.settings import Settings
from otel_analytics.simulation import simulate
from otel_analytics.store import partitions
from otel_analytics.store.connection import connect
from otel_analytics.store.migrations import migrate
from otel_analytics.store.replay import CHUNK

MILLION: Final = 1_000_000
KEYS: Final = 50_000
GROUPS: Final = 200
A_DAY_US: Final = 86_400_000_000
BOUNDED: Final = 200_000
ROUNDS: Final = 3
TTL_SECONDS: Final = 60.0
AGREEMENT: Final = 0.001
"""Share of the requests: the loop forgets who is second to ask for what is still being made."""
NOW: Final = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
SEED: Final = """
    INSERT INTO route_analytics (
        "timestamp", event_id, route, route_full, method, status_code, duration_ms, user_id, query_params,
        query_params_normalized, response_size_bytes, db_query_count, response_hash)
    SELECT
        %(first)s::timestamptz + n * interval '7 days' / %(count)s, md5(n::text)::uuid, '/items/{id}',
        '/items/' || floor(exp(random() * ln(50000))) || '?lang=en&page=' || n %% 2, 'GET', 200,
        50 + n %% 100, 'user' || n %% 5000,
        jsonb_build_object('lang', 'en', 'page', (n %% 2)::text), '{"lang": "en"}', 2000, 3, 1
    FROM generate_series(1, %(count)s) AS n
"""


def chunks(count: int) -> Iterator[RequestColumns]:
    """A week of requests for keys as popular as Zipf has it, made as they are needed."""
    chance = np.random.default_rng(1)
    popularity = 1 / np.arange(1, KEYS + 1)
    popularity /= popularity.sum()
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        start = (first + np.arange(size)) * (7 * A_DAY_US // count) + 20_000 * A_DAY_US
        key = chance.choice(KEYS, size, p=popularity)
        yield columns(
            start,
            chance.lognormal(11, 0.5, size),
            key * np.int64(-7046029254386353131),
            chance.integers(1, 5_000, size),
            key + start // (600 * MILLION) + 1,
            np.full(size, 2_000),
            np.full(size, 3),
            key % GROUPS,
            np.full(size, SAFE | KEYED | STORABLE),
        )


def measure(name: str, model: CacheModel, count: int) -> None:
    """Print the speed of one replay, without the making of its requests."""
    replay, seconds = Replay(model), 0.0
    for chunk in chunks(count):
        begin = time.perf_counter()
        replay.feed(chunk)
        seconds += time.perf_counter() - begin
    begin = time.perf_counter()
    found = replay.result()
    seconds += time.perf_counter() - begin
    hits = sum(each.outcomes[-1].hits for each in found)
    show(name, count, seconds, f"hit ratio at the longest {hits / count:.0%}")


def show(name: str, count: int, seconds: float, remark: str) -> None:
    """Print a line."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    speed = count / seconds / MILLION
    print(f"{name:<34} {count:>12,} {seconds:>8.2f} s {speed:>7.2f} M/s {memory:>6} MB so far  {remark}")


def from_postgres(count: int) -> None:
    """Print the speed of `otel-analytics simulate` without the start of the program."""
    with (
        tempfile.TemporaryDirectory(prefix="otel-analytics-") as folder,
        postgres_server(Path(folder), durable=False) as dsn,
    ):
        migrate(dsn)
        first = NOW - dt.timedelta(days=7)
        with connect(dsn) as connection:
            partitions.ensure(connection, partitions.days_from(first.date(), NOW.date()))
            connection.execute(SEED, {"first": first, "count": count})
            connection.execute("ANALYZE")
            begin = time.perf_counter()
            found = simulate(connection, Settings(), CacheModel(), now=NOW + dt.timedelta(seconds=1))
            seconds = time.perf_counter() - begin
    show("from PostgreSQL, ten at once", count, seconds, f"{found.history.requests:,} read")


def run() -> Iterator[Figure]:
    """The replay against a plain loop over a dict, on the same requests in turn."""
    made = list(chunks(MILLION))
    plain, one, ten = [], [], []
    for _ in range(ROUNDS):
        plain.append(timed(lambda: by_plain_loop(made)))
        one.append(timed(lambda: by_replay(made, CacheModel(ttls=(TTL_SECONDS,)))))
        ten.append(timed(lambda: by_replay(made, CacheModel())))
    hits = by_plain_loop(made)
    replayed = by_replay(made, CacheModel(ttls=(TTL_SECONDS,)))
    if abs(hits - replayed) > MILLION * AGREEMENT:
        raise AssertionError(f"the loop finds {hits:,} hits, the replay {replayed:,}")
    floor = "plain Python loop over a dict, one time to live"
    for what, values in (("replay of 1M, one time to live", one), ("replay of 1M, ten times to live", ten)):
        speeds = [MILLION / value / MILLION for value in values]
        floors = [MILLION / value / MILLION for value in plain]
        yield compared("P9", what, speeds, "M/s", against=floor, floor=floors, aim=">= 1M/s")
    yield Figure("P9", "memory of the replays so far", memory_mb(), "MB", aim="flat")


def timed(work: Callable[[], object]) -> float:
    """Seconds it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def by_replay(made: list[RequestColumns], model: CacheModel) -> int:
    """Hits at the first time to live."""
    replay = Replay(model)
    for chunk in made:
        replay.feed(chunk)
    return sum(each.outcomes[0].hits for each in replay.result())


def by_plain_loop(made: list[RequestColumns]) -> int:
    """Hits of a cache with one time to live, as anybody would write it first."""
    stored: dict[tuple[int, int], int] = {}
    hits, ttl = 0, int(TTL_SECONDS * MILLION)
    for chunk in made:
        columns_of = (chunk.group, chunk.key, chunk.start_us, chunk.duration_us)
        for group, key, start, duration in zip(*(each.tolist() for each in columns_of), strict=True):
            ready = stored.get((group, key), -ttl)
            if ready <= start < ready + ttl:
                hits += 1
            elif ready <= start:
                stored[group, key] = start + duration
    return hits


def memory_mb() -> float:
    """What this process took at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print all of it."""
    counts = [float(argument) for argument in sys.argv[1:]] or [1.0, 10.0]
    for millions in counts:
        count = int(millions * MILLION)
        measure("one time to live, 60 s", CacheModel(ttls=(60.0,)), count)
        measure("ten times to live at once", CacheModel(), count)
        measure("ten at once, single flight", CacheModel(single_flight=True), count)
    for policy in ("lru", "gdsf"):
        replay = BoundedReplay(CacheModel(), ttl=60.0, memory_bytes=MILLION, policy=policy)
        made = list(chunks(BOUNDED))
        begin = time.perf_counter()
        for chunk in made:
            replay.feed(chunk)
        show(f"1 MB, {policy}, 60 s", BOUNDED, time.perf_counter() - begin, "")
    from_postgres(int(counts[0] * MILLION))


if __name__ == "__main__":
    main()
