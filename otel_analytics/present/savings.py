"""The ranking by savings as others read it: rows for programs, a table and remarks for people."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TextIO

from rich.text import Text

from otel_analytics.analyze.basis import Basis
from otel_analytics.analyze.replay import MEANINGS, Caveat, caveats
from otel_analytics.analyze.savings import OBSTACLES, Obstacle, Saving, Terms
from otel_analytics.present import remarks
from otel_analytics.present.rows import SavingsRow, params_of
from otel_analytics.present.simulation import bytes_text, ttl_text
from otel_analytics.present.tables import Column, console_for, name_columns, percent, print_columns
from otel_analytics.present.text import compact

_MARKS: Final[dict[Caveat, str]] = {"short history": "h", "long ttl": "t", "coverage": "c"}
_MICROSECONDS: Final = 1_000_000
_TWO_DECIMALS_BELOW: Final = 9.995


class SetFigures(NamedTuple):
    """A set chosen under a budget.

    Attributes:
        budget_bytes: What it may take.
        patterns: How many it holds.
        without_budget: How many there would be without the budget.
        memory_bytes: What it takes: the peaks of all patterns, as if they came at once.
        saved_us: What it saves in the whole history.
        missed_us: By so much at most a better set may save more; 0 where it is known to be the best.
    """

    budget_bytes: int
    patterns: int
    without_budget: int
    memory_bytes: int
    saved_us: int
    missed_us: int


def savings_row(saving: Saving, terms: Terms) -> SavingsRow:
    """A pattern with the way to cache it, as it is shown; `terms` hold what the replay rests on."""
    name, evidence = saving.pattern.name, saving.pattern.evidence
    outcome = saving.option.outcome
    noted = caveats(outcome, evidence, terms.history, min_evidence_requests=terms.min_evidence_requests)
    return SavingsRow(
        route=name.route,
        method=name.method,
        query_params_normalized=params_of(name.pattern),
        saved_seconds_per_hour=round(outcome.saved_seconds / terms.hours, 3),
        ttl_seconds=outcome.ttl_seconds,
        cache_key="per user" if saving.option.per_user else "shared",
        hit_ratio=round(outcome.hit_ratio, 4),
        saved_queries_per_hour=round(outcome.saved_queries / terms.hours, 3),
        peak_memory_bytes=outcome.peak_bytes,
        staleness=round(outcome.stale / outcome.compared, 4),
        total_requests=outcome.requests,
        hits=outcome.hits,
        saved_seconds=round(outcome.saved_seconds, 3),
        saved_share_of_seconds=round(outcome.saved_seconds / evidence.seconds, 4),
        compared_hits=outcome.compared,
        stale_hits=outcome.stale,
        other_user_hits=outcome.foreign,
        other_user_stale_hits=outcome.foreign_stale,
        peak_relief=round(outcome.peak_relief, 4),
        caveats=list(noted),
    )


def print_savings(rows: Sequence[SavingsRow], file: TextIO) -> None:
    """The ranking, and what its marks mean."""
    columns = [
        *name_columns(rows),
        Column("saved\ns/h", [_seconds(row.saved_seconds_per_hour) for row in rows]),
        Column("ttl", [ttl_text(row.ttl_seconds) for row in rows]),
        Column("key", ["user" if row.cache_key == "per user" else "all" for row in rows], justify="left"),
        Column("hit\n%", [percent(row.hit_ratio) for row in rows]),
        Column("stale\n%", [f"{row.staleness * 100:.1f}" for row in rows]),
        Column("saved\nsql/h", [compact(row.saved_queries_per_hour) for row in rows]),
        Column("memory", [bytes_text(row.peak_memory_bytes) for row in rows]),
    ]
    notes = ["".join(mark for caveat, mark in _MARKS.items() if caveat in row.caveats) for row in rows]
    if any(notes):
        columns.append(Column("note", notes, justify="left"))
    print_columns(columns, file)
    used = [caveat for caveat, mark in _MARKS.items() if any(mark in note for note in notes)]
    if used:
        legend = "; ".join(f"{_MARKS[caveat]} {MEANINGS[caveat]}" for caveat in used)
        console_for(file).print(Text(f"\n{legend}"), soft_wrap=not console_for(file).is_terminal)


def remark(
    basis: Basis, refused: Mapping[Obstacle, int], terms: Terms, chosen: SetFigures | None, *, shown: int
) -> str:
    """What the ranking rests on, or why it is empty; one line.

    Args:
        basis: What was replayed.
        refused: How many patterns are not ranked, and why.
        terms: What is admissible.
        chosen: With a budget, the set.
        shown: Rows that are shown.
    """
    if not basis.requests:
        return f"No raw requests in {remarks.last_days(basis)}."
    parts = ", ".join(f"{count:,} {OBSTACLES[reason]}" for reason, count in refused.items())
    left_out = f" Not ranked: {_patterns(sum(refused.values()))} ({parts})." if refused else ""
    based = remarks.basis_line(basis)
    if not shown:
        within = f" fits {bytes_text(chosen.budget_bytes)} (--budget) and" if chosen else ""
        limit = f"{terms.staleness_limit * 100:g} % of stale hits at most (setting staleness_limit)"
        return f"Nothing{within} saves time with {limit}.{left_out} {based}"
    return f"{_set(chosen, terms, shown) if chosen else ''}{based}{left_out}"


def _set(chosen: SetFigures, terms: Terms, shown: int) -> str:
    saved = _seconds(chosen.saved_us / _MICROSECONDS / terms.hours)
    some = f", of which {shown:,} are shown" if shown < chosen.patterns else ""
    better = (
        f", {chosen.missed_us / chosen.saved_us:.2%} short of the best set at most"
        if chosen.missed_us
        else ", and no other set saves more"
    )
    return (
        f"The set has {chosen.patterns:,} of {_patterns(chosen.without_budget)}{some}: it takes"
        f" {bytes_text(chosen.memory_bytes)} of {bytes_text(chosen.budget_bytes)}, saves {saved} s an"
        f" hour{better}. "
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < _TWO_DECIMALS_BELOW else compact(seconds)


def _patterns(count: int) -> str:
    return f"{count:,} pattern{'' if count == 1 else 's'}"
