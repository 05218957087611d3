"""The replay as others read it: rows for programs, tables and remarks for people."""

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TextIO

from rich.text import Text

from otel_analytics.analyze.replay import (
    MEANINGS,
    BoundedOutcome,
    Caveat,
    Evidence,
    History,
    Outcome,
    Policy,
)
from otel_analytics.present.rows import params_of
from otel_analytics.present.tables import Column, console_for, name_columns, percent, print_columns
from otel_analytics.present.text import compact, harmless, params_text
from otel_analytics.request_columns import GroupName

_MARKS: Final[dict[Caveat, str]] = {
    "few requests": "n", "short history": "h", "long ttl": "t", "coverage": "c", "unknown bodies": "b",
}  # fmt: skip
_BEST: Final = "*"
_NONE: Final = "-"
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))
_BYTE_UNITS: Final = ("kB", "MB", "GB", "TB")
_THOUSAND: Final = 1_000
_ONE_DECIMAL_BELOW: Final = 99.95


class SimulationRow(NamedTuple):
    """What a cache with one time to live would have done for one route, method and pattern.

    Names, order and precision are a promise: seconds and figures have three decimals, shares of 1 four.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        query_params_normalized: The parameters that make the pattern.
        ttl_seconds: The time to live.
        requests: All of the pattern, cacheable or not.
        hits: Answered by the cache.
        hit_ratio: Hits of all requests.
        saved_seconds: Time of the application's that the hits would not have taken.
        saved_share_of_seconds: Of the time that all requests of the pattern took.
        saved_queries: Database queries that the hits would not have run, as far as they were counted.
        saved_bytes: Body bytes that the application would not have sent, as far as they were counted.
        staleness: Share of the compared hits whose real body differed from the copy; null where none could be
            compared.
        compared_hits: Hits whose body and that of the copy are both known.
        stale_hits: Of these, those that differ.
        other_user_hits: Compared hits of a known user who got the copy of another known user.
        other_user_stale_hits: Of these, those that differ: what the user would not have been shown.
        masked_error_hits: Hits where the application had answered 4xx or 5xx.
        joined_hits: Hits that waited for a computation under way; 0 without single flight.
        stored: Answers put into the cache.
        peak_memory_bytes: Most memory that live entries took together.
        peak_relief: Share of the requests of the pattern's busiest hour that the cache takes off.
        cacheable_requests: Requests that the cache may answer at all.
        unsafe_requests: Left out, because the method is not GET or HEAD.
        unkeyed_requests: Left out, because path or parameters were cut or hidden.
        without_user_requests: Left out, because the key needs a user and there is none.
        lru_hit_ratio: The same in the shared cache of limited memory that evicts what was used longest ago;
            null without a limit.
        lru_hits: See `lru_hit_ratio`, like those that follow.
        lru_saved_seconds: As `saved_seconds`.
        lru_saved_queries: As `saved_queries`.
        lru_staleness: As `staleness`.
        lru_peak_memory_bytes: As `peak_memory_bytes`.
        gdsf_hit_ratio: The same where it evicts what saves least for the memory it takes.
        gdsf_hits: See `gdsf_hit_ratio`, like those that follow.
        gdsf_saved_seconds: As `saved_seconds`.
        gdsf_saved_queries: As `saved_queries`.
        gdsf_staleness: As `staleness`.
        gdsf_peak_memory_bytes: As `peak_memory_bytes`.
        caveats: What to bear in mind, from: `few requests`, `short history`, `long ttl`, `coverage`, `unknown
            bodies`.
    """

    route: str
    method: str
    query_params_normalized: dict[str, Any]
    ttl_seconds: float
    requests: int
    hits: int
    hit_ratio: float
    saved_seconds: float
    saved_share_of_seconds: float
    saved_queries: int
    saved_bytes: int
    staleness: float | None
    compared_hits: int
    stale_hits: int
    other_user_hits: int
    other_user_stale_hits: int
    masked_error_hits: int
    joined_hits: int
    stored: int
    peak_memory_bytes: int
    peak_relief: float
    cacheable_requests: int
    unsafe_requests: int
    unkeyed_requests: int
    without_user_requests: int
    lru_hit_ratio: float | None
    lru_hits: int | None
    lru_saved_seconds: float | None
    lru_saved_queries: int | None
    lru_staleness: float | None
    lru_peak_memory_bytes: int | None
    gdsf_hit_ratio: float | None
    gdsf_hits: int | None
    gdsf_saved_seconds: float | None
    gdsf_saved_queries: int | None
    gdsf_staleness: float | None
    gdsf_peak_memory_bytes: int | None
    caveats: list[str]


def simulation_row(
    name: GroupName,
    evidence: Evidence,
    outcome: Outcome,
    bounded: Sequence[BoundedOutcome],
    found: Sequence[Caveat],
) -> SimulationRow:
    """An outcome as it is shown.

    Args:
        name: Of the pattern.
        evidence: Of the pattern.
        outcome: At one time to live.
        bounded: Of the pattern, at any time to live.
        found: The caveats of the outcome.
    """
    limited = {each.policy: each for each in bounded if each.ttl_seconds == outcome.ttl_seconds}
    return SimulationRow(
        route=name.route,
        method=name.method,
        query_params_normalized=params_of(name.pattern),
        ttl_seconds=outcome.ttl_seconds,
        requests=outcome.requests,
        hits=outcome.hits,
        hit_ratio=round(outcome.hit_ratio, 4),
        saved_seconds=round(outcome.saved_seconds, 3),
        saved_share_of_seconds=round(outcome.saved_seconds / evidence.seconds, 4)
        if evidence.seconds
        else 0.0,
        saved_queries=outcome.saved_queries,
        saved_bytes=outcome.saved_bytes,
        staleness=None if outcome.staleness is None else round(outcome.staleness, 4),
        compared_hits=outcome.compared,
        stale_hits=outcome.stale,
        other_user_hits=outcome.foreign,
        other_user_stale_hits=outcome.foreign_stale,
        masked_error_hits=outcome.masked_errors,
        joined_hits=outcome.joined,
        stored=outcome.stored,
        peak_memory_bytes=outcome.peak_bytes,
        peak_relief=round(outcome.peak_relief, 4),
        cacheable_requests=evidence.cacheable,
        unsafe_requests=evidence.unsafe,
        unkeyed_requests=evidence.unkeyed,
        without_user_requests=evidence.without_user,
        **_of_policy("lru", limited.get("lru"), outcome),
        **_of_policy("gdsf", limited.get("gdsf"), outcome),
        caveats=list(found),
    )


def print_simulation(rows: Sequence[SimulationRow], file: TextIO) -> None:
    """Patterns, each at one time to live."""
    columns = [
        *name_columns(rows),
        Column("ttl", [ttl_text(row.ttl_seconds) for row in rows]),
        Column("req", [_count(row.requests) for row in rows]),
        Column("hit\n%", [percent(row.hit_ratio) for row in rows]),
        *_limited(rows),
        Column("saved\ns", [compact(row.saved_seconds) for row in rows]),
        Column("stale\n%", [_stale(row) for row in rows]),
        Column("memory", [bytes_text(row.peak_memory_bytes) for row in rows]),
        *_notes(rows),
    ]
    print_columns(columns, file)
    _print_legend(rows, file)


def print_ladders(ladders: Sequence[Sequence[SimulationRow]], staleness_limit: float, file: TextIO) -> None:
    """Patterns, each at every time to live; the one that saves most with little staleness is marked.

    Args:
        ladders: A pattern each, shortest time to live first.
        staleness_limit: Share of the compared hits.
        file: A terminal or not.
    """
    for ladder in ladders:
        _print_ladder(ladder, _best(ladder, staleness_limit), file)
        console_for(file).print()
    limit = f"{staleness_limit * 100:g} %"
    legend = f"{_BEST} saves most with {limit} of stale hits at most (setting staleness_limit)"
    console_for(file).print(Text(legend), soft_wrap=True)
    _print_legend([row for ladder in ladders for row in ladder], file)


def _print_ladder(rows: Sequence[SimulationRow], best: SimulationRow | None, file: TextIO) -> None:
    first = rows[0]
    name = f"{harmless(first.method)} {harmless(first.route)}  {params_text(first.query_params_normalized)}"
    title = f"{name}  ({_counted(first)})"
    console_for(file).print(Text(title, style="bold"), soft_wrap=True)
    columns = [
        Column("ttl", [f"{ttl_text(row.ttl_seconds)}{_BEST if row is best else ' '}" for row in rows]),
        Column("hits", [_count(row.hits) for row in rows]),
        Column("hit %", [percent(row.hit_ratio) for row in rows]),
        *_limited(rows),
        Column("saved s", [compact(row.saved_seconds) for row in rows]),
        Column("of all %", [percent(row.saved_share_of_seconds) for row in rows]),
        Column("queries", [_count(row.saved_queries) for row in rows]),
        Column("bytes", [bytes_text(row.saved_bytes) for row in rows]),
        Column("stale %", [_stale(row) for row in rows]),
        Column("memory", [bytes_text(row.peak_memory_bytes) for row in rows]),
        Column("peak %", [percent(row.peak_relief) for row in rows]),
        *_notes(rows),
    ]
    print_columns(columns, file)


def _best(rows: Sequence[SimulationRow], staleness_limit: float) -> SimulationRow | None:
    admissible = [
        row for row in rows if row.compared_hits and row.stale_hits <= staleness_limit * row.compared_hits
    ]
    return max(admissible, key=lambda row: row.saved_seconds, default=None)


def _counted(row: SimulationRow) -> str:
    """How many requests, and why the cache may not answer some of them."""
    reasons = (
        (row.unsafe_requests, "not GET or HEAD"),
        (row.unkeyed_requests, "with parameters cut or hidden"),
        (row.without_user_requests, "without a user"),
    )
    left_out = [f"{requests:,} {why}" for requests, why in reasons if requests]
    return f"{row.requests:,} requests{', never cached: ' + ', '.join(left_out) if left_out else ''}"


def basis_line(history: History, until: dt.datetime, *, per_user: bool, latency_ms: float) -> str:
    """What a replay rests on, and the key it assumes.

    Args:
        history: How much was replayed.
        until: The end of it.
        per_user: As in `CacheModel`.
        latency_ms: As in `CacheModel`.
    """
    begin = until - dt.timedelta(seconds=history.seconds)
    coverage = (
        "coverage unknown, the ledger is empty"
        if history.coverage is None
        else f"coverage {math.floor(history.coverage * 10_000) / 100:g} %"
    )
    return (
        f"Replayed {history.requests:,} requests, {begin:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC;"
        f" key: path and all parameters, {'one copy for each user' if per_user else 'shared by all users'};"
        f" a hit takes {latency_ms:g} ms; {coverage}."
    )


def nothing_replayed(days: int, route: str | None) -> str:
    """There was no request to replay."""
    last_days = f"the last {days} days" if days > 1 else "the last day"
    return f"No raw requests{f' of {harmless(route)}' if route else ''} in {last_days}."


def nothing_saved(patterns: int, staleness_limit: float) -> str:
    """There were requests, but nothing to show for them."""
    return (
        f"Nothing to save: none of {patterns:,} patterns has a time to live with hits that are known to be"
        f" stale in {staleness_limit * 100:g} % of the cases at most (setting staleness_limit)."
    )


def ttl_text(seconds: float) -> str:
    """A time to live, such as `30s`, `5m` or `24h`."""
    for unit, letter in _UNITS:
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g}{letter}"
    return f"{seconds:g}s"


def bytes_text(number: int) -> str:
    """Bytes in six characters at most, in powers of a thousand."""
    if number < _THOUSAND:
        return f"{number}B"
    scaled = float(number)
    for unit in _BYTE_UNITS:
        scaled /= _THOUSAND
        if scaled < _THOUSAND - 0.5:
            return f"{scaled:.1f}{unit}" if scaled < _ONE_DECIMAL_BELOW else f"{scaled:.0f}{unit}"
    return f"{scaled:.0e}"


def _of_policy(policy: Policy, bounded: BoundedOutcome | None, outcome: Outcome) -> dict[str, Any]:
    """The fields of a policy; all null where no memory was given."""
    values: dict[str, Any] = dict.fromkeys(
        ("hit_ratio", "hits", "saved_seconds", "saved_queries", "staleness", "peak_memory_bytes")
    )
    if bounded is not None:
        values = {
            "hit_ratio": round(bounded.hits / outcome.requests, 4),
            "hits": bounded.hits,
            "saved_seconds": round(bounded.saved_seconds, 3),
            "saved_queries": bounded.saved_queries,
            "staleness": None if bounded.staleness is None else round(bounded.staleness, 4),
            "peak_memory_bytes": bounded.peak_bytes,
        }
    return {f"{policy}_{name}": value for name, value in values.items()}


def _limited(rows: Sequence[SimulationRow]) -> list[Column]:
    if rows[0].lru_hit_ratio is None:
        return []
    return [
        Column("lru\n%", [_share(row.lru_hit_ratio) for row in rows]),
        Column("gdsf\n%", [_share(row.gdsf_hit_ratio) for row in rows]),
    ]


def _notes(rows: Sequence[SimulationRow]) -> list[Column]:
    notes = ["".join(mark for caveat, mark in _MARKS.items() if caveat in row.caveats) for row in rows]
    return [Column("note", notes, justify="left")] if any(notes) else []


def _print_legend(rows: Sequence[SimulationRow], file: TextIO) -> None:
    console = console_for(file)
    used = [caveat for caveat in _MARKS if any(caveat in row.caveats for row in rows)]
    for place, caveat in enumerate(used):
        if not place:
            console.print()
        console.print(Text(f"{_MARKS[caveat]} {MEANINGS[caveat]}"), soft_wrap=True)


def _stale(row: SimulationRow) -> str:
    # Rounded up, so that 0 is said only of none.
    return (
        _NONE if row.compared_hits == 0 else f"{math.ceil(row.stale_hits / row.compared_hits * 1000) / 10:g}"
    )


def _share(share: float | None) -> str:
    return _NONE if share is None else percent(share)


def _count(number: int) -> str:
    return str(number) if number < _THOUSAND else compact(number)
