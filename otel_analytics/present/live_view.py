"""The last minutes on one screen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.text import Text

from otel_analytics.analyze.recent import Frame
from otel_analytics.present.pictures import condensed, sparkline
from otel_analytics.present.question_rows import LiveRow
from otel_analytics.present.question_tables import live_columns
from otel_analytics.present.tables import percent, table_of
from otel_analytics.present.text import compact

_SLOWEST: Final = 5
_OTHER_LINES: Final = 12
"""Lines of a screen that are not rows: the summary, headings, blanks, the lag (up to two) and the hint."""
_LEAST_ROWS: Final = 3
_ERRORS_TOO_MANY: Final = 0.05
_LAG_TOO_LONG_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Pipeline:
    """How far the worker is behind.

    Attributes:
        waiting_entries: On the stream and not stored yet.
        oldest_seconds: Age of the oldest of them; 0 where there is none.
        dead_letters: Entries that could not be stored.
        has_worker: Whether a worker has ever been there.
    """

    waiting_entries: int
    oldest_seconds: float
    dead_letters: int
    has_worker: bool


@dataclass(frozen=True)
class Screen:
    """All that is shown.

    Attributes:
        frame: The requests of the window.
        rows: The same by route, most requests first.
        seconds: Length of the window.
        moment: The time on the Redis server, as text.
        pipeline: None where it could not be asked.
        behind_seconds: By how much the view itself lags while it catches up; 0 where it is up to date.
        unreadable: Events since the start that could not be read.
        problem: Why what is shown may be old; empty where it is not.
        hint: How to leave; empty where nobody can.
    """

    frame: Frame
    rows: Sequence[LiveRow]
    seconds: float
    moment: str
    pipeline: Pipeline | None
    behind_seconds: float
    unreadable: int
    problem: str
    hint: str


def screen(shown: Screen, console: Console, *, height: int | None) -> RenderableType:
    """What fits the console.

    Args:
        shown: All there is to show.
        console: Whose width counts, where it is a terminal.
        height: Lines; None for as many as it takes.
    """
    available = console.width if console.is_terminal else None
    slowest = sorted(shown.rows, key=lambda row: (-(row.p95_latency_ms or 0), row.route, row.method))
    slowest = slowest[:_SLOWEST]
    rows = list(shown.rows)
    if height is not None:
        rows = rows[: max(_LEAST_ROWS, height - _OTHER_LINES - len(slowest))]
    parts: list[RenderableType] = [
        Text(f"Last {_minutes(shown.seconds)}, at {shown.moment} UTC", style="bold"),
        *_summary(shown, console),
        Text(),
    ]
    if rows:
        hidden = len(shown.rows) - len(rows)
        heading = f"Busiest ({len(rows)} of {len(shown.rows)} routes)" if hidden else "Busiest"
        parts += [Text(heading, style="bold cyan"), table_of(live_columns(rows), available), Text()]
        parts += [
            Text("Slowest by p95", style="bold cyan"),
            table_of(live_columns(slowest), available),
            Text(),
        ]
    else:
        parts += [Text("No requests in this time."), Text()]
    parts += [_pipeline(shown)]
    if shown.hint:
        parts.append(Text(shown.hint, style="dim"))
    return Group(*parts)


def _summary(shown: Screen, console: Console) -> list[Text]:
    total = shown.frame.total
    errors = total.server_errors / total.requests if total.requests else 0.0
    line = Text(f"{total.requests / shown.seconds:,.1f} requests/s   ")
    line.append(f"{percent(errors)} % 5xx", style="bold red" if errors >= _ERRORS_TOO_MANY else "")
    line.append(f"   p50 {_ms(total.p50_ms)}   p95 {_ms(total.p95_ms)}")
    cells = max(10, min(len(shown.frame.course), (console.width if console.is_terminal else 80) - 12))
    course = sparkline(condensed(shown.frame.course, cells), ascii_only=console.options.ascii_only)
    return [line, Text(f"requests  {course}", style="green")]


def _pipeline(shown: Screen) -> Text:
    parts = []
    pipeline = shown.pipeline
    style = "dim"
    if pipeline is not None:
        waiting = (
            f"{pipeline.waiting_entries:,} entries wait, the oldest for {_seconds(pipeline.oldest_seconds)}"
            if pipeline.waiting_entries
            else "nothing waits"
        )
        parts.append(f"Worker: {waiting}" if pipeline.has_worker else f"No worker has run yet: {waiting}")
        parts.append(f"{pipeline.dead_letters:,} dead letters")
        if pipeline.oldest_seconds >= _LAG_TOO_LONG_SECONDS or pipeline.dead_letters:
            style = "bold yellow"
    if shown.behind_seconds:
        parts.append(f"this view catches up, {_seconds(shown.behind_seconds)} to go")
    if shown.frame.outside:
        parts.append(f"{shown.frame.outside:,} events of other times left out")
    if shown.unreadable:
        parts.append(f"{shown.unreadable:,} events unreadable")
    if shown.problem:
        parts.append(shown.problem)
        style = "bold red"
    return Text("; ".join(parts), style=style)


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes > 1 else "minute"


def _seconds(seconds: float) -> str:
    return f"{math.ceil(seconds):,} s"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{compact(value)} ms"
