"""How much of what a cache can save each ranking finds. Run it with `make bench-advice`.

Four synthetic traces, always the same. For the top 5, 10 and 20 of each ranking: the seconds that caching
these patterns saves, as a share of what the best 5, 10 and 20 save. The best are found by an oracle that
tries every pattern, time to live and key, request by request, with a loop of its own: it shares nothing with
the replay that the ranking by savings uses. Its rule is the same: 1 % of the hits may be stale, as many of
those of a user on the copy of another, and no time to live is longer than the hours looked at.

- same hours: ranked and judged by the whole day. The ranking by savings is judged by the time to live and key
  that it proposes.
- later hours: ranked by the first half of the day, judged by the second, which no ranking has seen. `savings`
  is its order alone; `proposed` is the same with the time to live and key that it proposes, where what turns
  out to be too stale counts nothing; `stale` is the share of all hits of these proposals that were stale.

Rankings that name no time to live and no key are given the best of the hours they are judged by, which
flatters them. Methods that are not safe are left out of all of them, as `plan` does. ICC is the score that
its authors published.
"""

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from otel_analytics.analyze import absolute, relative, savings
from otel_analytics.analyze.replay import LADDER, CacheModel, History, Replay
from otel_analytics.analyze.savings import Terms
from otel_analytics.figures import PatternFigures
from otel_analytics.request_columns import KEYED, SAFE, STORABLE, GroupName, RequestColumns, columns
from otel_analytics.settings import Settings

HOUR_US: Final = 3_600_000_000
HOURS: Final = 24
BEGIN_US: Final = 500_000 * HOUR_US
REQUESTS: Final = 400_000
USERS: Final = 400
TOPS: Final = (5, 10, 20)
LATENCY_US: Final = 1_000
PERSONAL: Final = 0.6
WRITING: Final = 0.33
"""Shares of the patterns of a trace."""
SETTINGS: Final = Settings()

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Option = tuple[bool, float]
"""Whether there is a copy for each user, and the time to live in seconds."""


class Kind(NamedTuple):
    """How the requests of one pattern come, and what is answered.

    Attributes:
        weight: Of its share of the requests.
        keys: Different paths and parameters; how often each is asked for follows Zipf.
        milliseconds: The median duration.
        changes_seconds: How long a body stays the same.
        personal: Whether every user gets another body.
        safe: Whether it is GET.
        noise: Share of the requests with a parameter that only makes the key unique.
        bursts: How many bursts the requests come in; 0 where they come evenly.
        bytes: Of a body.
    """

    weight: float
    keys: int
    milliseconds: float
    changes_seconds: float
    personal: bool = False
    safe: bool = True
    noise: float = 0.0
    bursts: int = 0
    bytes: int = 2_000


class Trace(NamedTuple):
    """Requests of several patterns."""

    requests: RequestColumns
    patterns: int


class Saved(NamedTuple):
    """What one way to cache a pattern does, as the oracle sees it."""

    seconds: float
    hits: int
    stale: int
    admissible: bool


def zipf_catalogue(chance: np.random.Generator) -> list[Kind]:
    """A catalogue: few things are asked for often, most seldom; bodies change now and then."""
    return [
        Kind(
            weight=1 / place,
            keys=int(chance.integers(1, 3_000)),
            milliseconds=float(chance.lognormal(4, 1)),
            changes_seconds=float(10 ** chance.uniform(2, 6)),
        )
        for place in range(1, 41)
    ]


def personalised(chance: np.random.Generator) -> list[Kind]:
    """Most busy and slow pages are another one for every user."""
    return [
        Kind(
            weight=1 / place**0.7,
            keys=int(chance.integers(1, 30)),
            milliseconds=float(chance.lognormal(4.5, 0.8)),
            changes_seconds=float(10 ** chance.uniform(2, 6)),
            personal=bool(chance.random() < PERSONAL),
        )
        for place in range(1, 41)
    ]


def write_heavy(chance: np.random.Generator) -> list[Kind]:
    """A third of the requests write, and what is read changes within seconds or minutes."""
    return [
        Kind(
            weight=1 / place**0.8,
            keys=int(chance.integers(1, 200)),
            milliseconds=float(chance.lognormal(4.5, 0.8)),
            changes_seconds=float(10 ** chance.uniform(0.5, 4.5)),
            safe=bool(chance.random() > WRITING),
        )
        for place in range(1, 41)
    ]


def bursty(chance: np.random.Generator) -> list[Kind]:
    """Requests come in bursts, and half of the patterns have parameters that only make keys unique."""
    return [
        Kind(
            weight=1 / place**0.6,
            keys=int(chance.integers(1, 100)),
            milliseconds=float(chance.lognormal(4.5, 0.8)),
            changes_seconds=float(10 ** chance.uniform(2, 6)),
            noise=float(chance.choice([0.0, 0.5, 0.95])),
            bursts=int(chance.choice([0, 10, 60])),
        )
        for place in range(1, 41)
    ]


TRACES: Final[dict[str, Callable[[np.random.Generator], list[Kind]]]] = {
    "Zipf catalogue": zipf_catalogue,
    "personalised": personalised,
    "write-heavy": write_heavy,
    "bursty, with noise": bursty,
}


def make(kinds: Sequence[Kind], chance: np.random.Generator) -> Trace:
    """The requests of all kinds over the two days, in the order of time."""
    weights = np.array([kind.weight for kind in kinds])
    counts = chance.multinomial(REQUESTS, weights / weights.sum())
    parts = [_requests(number, kind, int(counts[number]), chance) for number, kind in enumerate(kinds)]
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    return Trace(columns(*(each[order] for each in joined)), len(kinds))


def _requests(number: int, kind: Kind, count: int, chance: np.random.Generator) -> list[Int64s]:
    span_us = HOURS * HOUR_US
    if kind.bursts:
        begins = chance.uniform(0, 0.99, kind.bursts)
        moments = chance.choice(begins, count) + chance.exponential(0.002, count)
        start = (np.minimum(moments, 0.9999) * span_us).astype(np.int64)
    else:
        # Twice as many by day as by night.
        even = chance.uniform(0, HOURS, count)
        start = ((even - np.sin(even * math.tau / 24) / 3 * 24 / math.tau) * HOUR_US).astype(np.int64)
        start = np.clip(start, 0, span_us - 1)
    start += BEGIN_US
    popularity = 1 / np.arange(1, kind.keys + 1)
    thing = chance.choice(kind.keys, count, p=popularity / popularity.sum()).astype(np.int64)
    user = chance.integers(1, USERS, count)
    noise = np.where(chance.random(count) < kind.noise, chance.integers(1, 2**40, count), 0)
    epoch = (start + thing * 7_919_000_000) // int(kind.changes_seconds * 1e6)
    whose = user if kind.personal else np.zeros(count, np.int64)
    flags = (SAFE if kind.safe else 0) | KEYED | STORABLE
    return [
        start,
        chance.lognormal(math.log(kind.milliseconds), 0.4, count).astype(np.int64) * 1_000 + 1,
        _mixed(number, thing, noise),
        _mixed(user),
        _mixed(number, thing, epoch, whose),
        np.full(count, kind.bytes),
        np.full(count, 2),
        np.full(count, number),
        np.full(count, flags),
    ]


def _mixed(*parts: int | Int64s) -> Int64s:
    """A hash of 64 bits, never 0."""
    mixed = np.ones(1, np.uint64)  # an array, as scalars warn of what overflows
    for part in parts:
        mixed = (mixed ^ np.asarray(part).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return (mixed | np.uint64(1)).astype(np.int64)


def exhaustive(trace: Trace) -> list[dict[Option, Saved]]:
    """The oracle: what every way to cache each pattern does, by a loop over the requests."""
    found: list[dict[Option, Saved]] = [{} for _ in range(trace.patterns)]
    has = trace.requests
    safe = has.has(SAFE)
    seconds = _seconds(trace)
    rows = list(
        zip(
            has.start_us[safe].tolist(),
            (has.start_us + has.duration_us)[safe].tolist(),
            has.key[safe].tolist(),
            has.user[safe].tolist(),
            has.body[safe].tolist(),
            has.group[safe].tolist(),
            strict=True,
        )
    )
    for per_user in (False, True):
        for ttl in LADDER:
            sums = _replay(rows, round(ttl * 1e6), trace.patterns, per_user=per_user)
            for pattern, (hits, saved_us, stale, foreign, foreign_stale) in enumerate(sums):
                admissible = (
                    hits > 0
                    and ttl <= seconds
                    and stale <= SETTINGS.staleness_limit * hits
                    and foreign_stale <= SETTINGS.staleness_limit * foreign
                )
                found[pattern][per_user, ttl] = Saved(saved_us / 1e6, hits, stale, admissible)
    return found


def _replay(
    rows: list[tuple[int, int, int, int, int, int]], ttl_us: int, patterns: int, *, per_user: bool
) -> list[list[int]]:
    """Hits, microseconds saved, stale hits, hits on another user's copy, stale ones of these; by pattern."""
    sums = [[0] * 5 for _ in range(patterns)]
    copies: dict[int | tuple[int, int], tuple[int, int, int]] = {}
    for start, end, path, user, body, pattern in rows:
        key = (path, user) if per_user else path
        copy = copies.get(key)
        if copy is None or start >= copy[0] + ttl_us:
            copies[key] = (end, body, user)
        elif start < copy[0]:  # still being computed; the first to be ready is kept
            if end < copy[0]:
                copies[key] = (end, body, user)
        else:
            _, copied, maker = copy
            of_pattern = sums[pattern]
            of_pattern[0] += 1
            of_pattern[1] += max(0, end - start - LATENCY_US)
            of_pattern[2] += body != copied
            if user != maker:
                of_pattern[3] += 1
                of_pattern[4] += body != copied
    return sums


def best(ways: dict[Option, Saved]) -> float:
    """The seconds that the best admissible way saves."""
    return max((each.seconds for each in ways.values() if each.admissible), default=0.0)


def figures(trace: Trace) -> list[PatternFigures]:
    """What the hourly table would hold of the safe patterns, taken together."""
    found = []
    has = trace.requests
    for pattern in range(trace.patterns):
        chosen = has.take(has.group == pattern)
        if not len(chosen) or not chosen.has(SAFE).all():
            continue
        hour = chosen.start_us // HOUR_US
        hours = np.unique(hour)
        parts = [chosen.take(hour == each) for each in hours]
        found.append(
            PatternFigures(
                route=f"/{pattern}",
                method="GET",
                pattern="{}",
                active_hours=len(hours),
                total_requests=len(chosen),
                successful_requests=len(chosen),
                failed_requests=0,
                avg_hourly_requests=len(chosen) / len(hours),
                avg_unique_users=float(np.mean([len(np.unique(part.user)) for part in parts])),
                avg_p95_ms=float(np.mean([np.percentile(part.duration_us, 95) / 1e3 for part in parts])),
                avg_p99_ms=float(np.mean([np.percentile(part.duration_us, 99) / 1e3 for part in parts])),
            )
        )
    return found


def number(route: str) -> int:
    """The number of a pattern, from the route that stands for it."""
    return int(route.removeprefix("/"))


def icc(trace: Trace) -> list[int]:
    """The patterns by ICC's published score, highest first."""
    scores = {}
    has = trace.requests
    for pattern in range(trace.patterns):
        chosen = has.take(has.group == pattern)
        if len(chosen) < 2 or not chosen.has(SAFE).all():  # noqa: PLR2004 - one interval needs two
            continue
        bodies = len(np.unique(chosen.body))
        interval_ms = max(float(np.diff(chosen.start_us).mean()) / 1e3, 1e-9)
        frequency, stability = min(1_000 / interval_ms, 1.0), 1 / bodies
        weight = min(0.5 + 0.25 * (1 - min(bodies / len(chosen), 1)), 0.75)
        scores[pattern] = 0.6 * (weight * frequency + (1 - weight) * stability) + 0.2
    return sorted(scores, key=lambda pattern: (-scores[pattern], pattern))


def by_savings(trace: Trace) -> list[tuple[int, Option]]:
    """The patterns as `rank --by savings` has them, each with the way that it proposes."""
    shared, per_user = Replay(CacheModel()), Replay(CacheModel(per_user=True))
    shared.feed(trace.requests)
    per_user.feed(trace.requests)
    patterns = [
        savings.pattern(GroupName(f"/{one.group}", "GET", "{}"), one, own)
        for one, own in zip(shared.result(), per_user.result(), strict=True)
    ]
    seconds = _seconds(trace)
    history = History(asked_seconds=seconds, seconds=seconds, requests=len(trace.requests), coverage=1.0)
    terms = Terms(SETTINGS.staleness_limit, SETTINGS.min_evidence_requests, history)
    return [
        (number(each.pattern.name.route), (each.option.per_user, each.option.outcome.ttl_seconds))
        for each in savings.rank(patterns, terms)
    ]


def shares(ranked_by: Trace, judged_by: Trace) -> list[list[float]]:
    """For each of `TOPS`, six shares.

    What is kept by the absolute ranking, the relative, ICC, and that by savings, by its order alone and then
    as it proposes; and the share of stale hits of its proposals.
    """
    oracle = exhaustive(judged_by)
    bests = [best(ways) for ways in oracle]
    seen = figures(ranked_by)
    in_absolute = absolute.rank(
        seen,
        min_requests=SETTINGS.min_requests,
        min_latency=SETTINGS.min_latency,
        cache_score_threshold=SETTINGS.cache_score_threshold,
    )
    proposals = by_savings(ranked_by)
    rankings = [
        [number(each.figures.route) for each in in_absolute],
        [number(each.figures.route) for each in relative.rank(seen)],
        icc(ranked_by),
        [pattern for pattern, _ in proposals],
    ]
    proposed = [oracle[pattern][option] for pattern, option in proposals]
    found = []
    for top in TOPS:
        most = sum(sorted(bests, reverse=True)[:top])
        kept = [sum(bests[pattern] for pattern in ranking[:top]) for ranking in rankings]
        kept.append(sum(each.seconds for each in proposed[:top] if each.admissible))
        hits, stale = (
            sum(each) for each in zip(*((way.hits, way.stale) for way in proposed[:top]), strict=True)
        )
        found.append([*(each / most for each in kept), stale / hits])
    return found


def _seconds(trace: Trace) -> float:
    """From the first request to the last."""
    return (int(trace.requests.start_us[-1]) - int(trace.requests.start_us[0])) / 1e6


def half(trace: Trace, *, second: bool) -> Trace:
    """The requests of one of the two days."""
    is_second = trace.requests.start_us >= BEGIN_US + HOURS // 2 * HOUR_US
    return Trace(trace.requests.take(is_second if second else ~is_second), trace.patterns)


def main() -> None:
    """Print the table."""
    begin = time.perf_counter()
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(f"{REQUESTS:,} requests a trace in {HOURS} hours; {machine}, Python {platform.python_version()}\n")
    print(f"{'':<22}{'same hours':^36} |{'later hours':^52}")
    names = [f"{name:>9}" for name in ("absolute", "relative", "ICC", "savings", "proposed", "stale")]
    print(f"{'trace':<19}{'top':>3}{''.join(names[:4])} |{''.join(names)}")
    for seed, (name, kinds) in enumerate(TRACES.items(), start=1):
        chance = np.random.default_rng(seed)
        trace = make(kinds(chance), chance)
        same = shares(trace, trace)
        later = shares(half(trace, second=False), half(trace, second=True))
        for top, one, other in zip(TOPS, same, later, strict=True):
            # In the same hours, savings is judged by what it proposes.
            left = "".join(f"{share:>8.1%} " for share in (*one[:3], one[4]))
            right = "".join(f"{share:>8.1%} " for share in other)
            print(f"{name:<19}{top:>3}{left} |{right}")
    print(f"\n{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
