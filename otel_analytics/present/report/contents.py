"""What a report is made of."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from otel_analytics.present.advice import AdviceRow
from otel_analytics.present.question_rows import ErrorRow, SlowRow, WeekRow
from otel_analytics.present.rows import AbsoluteRow, RelativeRow, SavingsRow
from otel_analytics.present.simulation import SimulationRow

Row = TypeVar("Row")


class Part(NamedTuple, Generic[Row]):
    """The answer to one question.

    Attributes:
        rows: Those to show; may be none.
        remark: What they rest on, or why there are none.
    """

    rows: Sequence[Row]
    remark: str


class Advised(NamedTuple):
    """A pattern that a cache would have saved time with.

    Attributes:
        per_user: Whether each user has a copy of their own.
        best: At the time to live that saves most of those that are admissible.
        ladder: At every time to live, with the same key; shortest first.
    """

    per_user: bool
    best: SimulationRow
    ladder: Sequence[SimulationRow]


class Unpromising(NamedTuple):
    """What the ranking by traffic recommends, and a cache would do little or nothing for.

    Attributes:
        row: Its place there.
        why: What the replay found; sentences.
    """

    row: AbsoluteRow
    why: str


class Rules(NamedTuple):
    """The settings that the figures depend on; they bear the same names there."""

    min_requests: float
    min_latency: float
    cache_score_threshold: float
    staleness_limit: float
    cache_latency_ms: float


@dataclass(frozen=True)
class Contents:
    """All that the page shows.

    Attributes:
        made_at: When.
        version: Of this program.
        days: How far back was looked.
        rules: The settings in use.
        requests: In the span, by the hourly figures.
        coverage: Share of the events that were accepted; None where the ledger knows of none.
        absolute: The ranking by traffic and latency.
        relative: The ranking against all others.
        savings: The ranking by what a cache would have saved.
        advised: The first of them at every time to live.
        unpromising: What the absolute ranking recommends, and the replay does not.
        replay_basis: What the replay rests on; one line.
        findings: Of the rules, what matters most first.
        replayed_seconds: Time that all replayed requests took.
        saved_seconds: What would have been saved of it with every pattern cached in its best way.
        week: The hours of the week.
        slow: The slowest routes.
        courses: For each of them its mean duration over time.
        errors: The routes that fail.
    """

    made_at: dt.datetime
    version: str
    days: int
    rules: Rules
    requests: int
    coverage: float | None
    absolute: Part[AbsoluteRow]
    relative: Part[RelativeRow]
    savings: Part[SavingsRow]
    advised: Sequence[Advised]
    unpromising: Sequence[Unpromising]
    replay_basis: str
    findings: Part[AdviceRow]
    replayed_seconds: float
    saved_seconds: float
    week: Part[WeekRow]
    slow: Part[SlowRow]
    courses: Sequence[Sequence[float | None]]
    errors: Part[ErrorRow]
