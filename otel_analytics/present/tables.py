"""Tables for people: made to fit a terminal of 80 columns, and in full where the output is no terminal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_analytics.present.rows import AbsoluteRow, CacheKey, PlanRow, RelativeRow
from otel_analytics.present.text import compact, harmless, params_text, shorten_end, shorten_middle

KINDS: Final = "kinds of 5xx"
"""Header of a column that gives way like that of the parameters."""
_WIDE: Final = 100
"""Columns from which on there is room for two spaces between the columns of the table."""
_MOST_GAP: Final = 2
_GIVE_WAY: Final = ("params", KINDS)
_LEAST_ROUTE: Final = 12
_LEAST_PARAMS: Final = 8
_MOST_ROUTE: Final = 200
_MOST_PARAMS: Final = 120
"""Columns of a terminal, where there is none."""
_UNKNOWN: Final = "?"
_ALL: Final = "all"
_FIRST: Final = "first"
_KEYS: Final[dict[CacheKey | None, str]] = {"shared": _ALL, "per user": "user", None: _UNKNOWN}


@dataclass
class Column:
    """A column as it will be printed; `_shrink` knows those of routes and parameters by their headers."""

    header: str
    cells: list[str]
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        """Cells of a terminal that it takes."""
        return max(cell_len(line) for line in (*self.header.split("\n"), *self.cells))


_NONE: Final = Column("", [])


def print_ranking(rows: Sequence[AbsoluteRow | RelativeRow], file: TextIO) -> None:
    """A ranking. A score above the threshold is green; percentiles are rounded down to whole numbers."""
    against_others = [row for row in rows if isinstance(row, RelativeRow)]
    columns = [
        *name_columns(rows),
        Column("req/h", [compact(row.avg_hourly_requests) for row in rows]),
        Column("p95\nms" if against_others else "p95 ms", [compact(row.avg_p95_latency_ms) for row in rows]),
        Column("users", [compact(row.avg_unique_users) for row in rows]),
        Column("score", [f"{_score(row):,.1f}" for row in rows]),
        Column("ok\n%" if against_others else "ok %", [percent(row.success_rate) for row in rows]),
    ]
    if against_others:
        columns += [
            Column("req\npct", [str(math.floor(row.popularity_percentile)) for row in against_others]),
            Column("p95\npct", [str(math.floor(row.latency_percentile)) for row in against_others]),
            Column("usr\npct", [str(math.floor(row.user_percentile)) for row in against_others]),
        ]
    print_columns(columns, file, marked=[isinstance(row, AbsoluteRow) and row.should_cache for row in rows])


def print_plan(rows: Sequence[PlanRow], file: TextIO) -> None:
    """What to cache, for whom, and which requests for it."""
    columns = [
        *name_columns(rows),
        Column("score", [f"{row.cache_priority_score:,.1f}" for row in rows]),
        Column("key", [_KEYS[row.cache_key] for row in rows], justify="left"),
        Column("pages to cache", [shorten_end(_pages(row), 30) for row in rows], justify="left"),
    ]
    print_columns(columns, file)


def print_line(line: str, file: TextIO) -> None:
    """A remark under a table: broken between words where a terminal is too narrow for it."""
    console = console_for(file)
    console.print()
    console.print(Text(line), soft_wrap=not console.is_terminal)


class _Named(Protocol):
    @property
    def route(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def query_params_normalized(self) -> dict[str, Any]: ...


def name_columns(rows: Sequence[_Named]) -> list[Column]:
    """The place of each pattern, and what it is called."""
    return [
        Column("#", [str(place) for place, _ in enumerate(rows, start=1)]),
        Column("method", [harmless(row.method) for row in rows], justify="left"),
        Column("route", [harmless(row.route) for row in rows], justify="left"),
        Column("params", [params_text(row.query_params_normalized) for row in rows], justify="left"),
    ]


def _score(row: AbsoluteRow | RelativeRow) -> float:
    return row.cache_priority_score if isinstance(row, AbsoluteRow) else row.priority_score


def percent(share: float) -> str:
    """A share of 1, rounded down so that 100 is said only of all."""
    return "100" if share == 1 else f"{math.floor(share * 1000) / 10:.1f}"


def _pages(row: PlanRow) -> str:
    """The parameters to add to the pattern, for each request to cache."""
    if row.pages_to_cache is None:
        return _UNKNOWN
    if row.pages_to_cache == [{"params": {}, "share": 1.0}]:
        return _ALL
    return ", ".join(f"{_page(page['params'])} ({page['share']:.0%})" for page in row.pages_to_cache)


def _page(params: dict[str, Any]) -> str:
    return params_text(params) if params else _FIRST


def print_columns(columns: Sequence[Column], file: TextIO, *, marked: Sequence[bool] = ()) -> None:
    """A table that fits the terminal.

    Args:
        columns: With as many cells each.
        file: A terminal or not.
        marked: The rows whose score is green.
    """
    console = console_for(file)
    table = table_of(columns, console.width if console.is_terminal else None, marked=marked)
    console.width = max(console.width, sum(column.width + _MOST_GAP for column in columns))
    console.print(table)


def table_of(columns: Sequence[Column], available: int | None, *, marked: Sequence[bool] = ()) -> Table:
    """A table for so many columns of a terminal; None where it need not fit any.

    Args:
        columns: With as many cells each; shortened in place.
        available: Columns of the terminal.
        marked: The rows whose score is green.
    """
    gap = _MOST_GAP if available is None or available >= _WIDE else 1
    _shrink(columns, available, gap)
    lines = max(column.header.count("\n") for column in columns)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for column in columns:
        header = "\n" * (lines - column.header.count("\n")) + column.header
        table.add_column(Text(header), justify=column.justify, width=column.width, no_wrap=True)
    for row, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        texts = [Text(cell) for cell in cells]
        if marked and marked[row]:
            scores = next(
                text for text, column in zip(texts, columns, strict=True) if column.header == "score"
            )
            scores.stylize("bold green")
        table.add_row(*texts)
    return table


def _shrink(columns: Sequence[Column], available: int | None, gap: int) -> None:
    """Make the table fit: the parameters, or what else may, give way first, then the route."""
    route = next((column for column in columns if column.header == "route"), _NONE)
    params = next((column for column in columns if column.header in _GIVE_WAY), _NONE)
    if available is None:
        route_cells, params_cells = _MOST_ROUTE, _MOST_PARAMS
    else:
        others = sum(column.width for column in columns if column is not route and column is not params)
        room = available - others - gap * (len(columns) - 1)
        least_params = max(_LEAST_PARAMS, cell_len(params.header))
        params_cells = min(params.width, max(least_params, room // 3, room - route.width))
        route_cells = max(_LEAST_ROUTE, room - params_cells)
    route.cells = [shorten_middle(cell, route_cells) for cell in route.cells]
    params.cells = [shorten_end(cell, params_cells) for cell in params.cells]


def console_for(file: TextIO) -> Console:
    """Prints what it is given, without markup of any kind."""
    return Console(file=file, highlight=False, markup=False, emoji=False)
