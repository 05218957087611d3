"""The macros of Grafana's PostgreSQL data source. Pure."""

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from deploy.grafana.preview import intervals
from deploy.grafana.preview.context import Context
from deploy.grafana.preview.errors import QueryError
from deploy.grafana.preview.variables import ensure_nothing_left, for_postgres, interpolated

LEAST_SECONDS: Final = 60.0
"""Of the interval between two points, where the data source names no other."""
# An argument ends at the first closing bracket, so it can hold no call: a limit of Grafana's, kept here.
_MACRO: Final = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")


class Fill(NamedTuple):
    """How missing points of a series are filled.

    Attributes:
        seconds: Between two points.
        value: `previous`, None for nothing, or a number.
    """

    seconds: float
    value: float | str | None


class Expanded(NamedTuple):
    """A statement ready to be run, and how its gaps are filled."""

    statement: str
    fill: Fill | None


def expanded(raw_sql: str, context: Context, *, interval_seconds: float = LEAST_SECONDS) -> Expanded:
    """The statement with variables and macros replaced.

    Args:
        raw_sql: Of the target.
        context: Has range and variables.
        interval_seconds: Between two points of the panel.

    Raises:
        QueryError: A macro or variable is not known, or a macro lacks arguments.
    """
    sql = interpolated(
        raw_sql,
        context,
        for_postgres,
        plain={
            "__interval": intervals.written(interval_seconds),
            "__interval_ms": str(round(interval_seconds * 1_000)),
        },
    )
    fill: Fill | None = None

    def value_of(match: re.Match[str]) -> str:
        nonlocal fill
        name = match[1]
        arguments = [each.strip(" ") for each in match[2].split(",")]
        # Before Grafana 5.3 the macro named its column itself, and a comma right after it still says so.
        if name == "__timeGroup" and sql.startswith(",", match.end()):
            name = "__timeGroupAlias"
        if name.startswith(("__timeGroup", "__unixEpochGroup")) and len(arguments) == 3:  # noqa: PLR2004
            fill = Fill(intervals.parsed(arguments[1].strip("'")), _filler(arguments[2]))
        return _macro(name, arguments, context)

    statement = _MACRO.sub(value_of, sql)
    ensure_nothing_left(statement)
    return Expanded(statement, fill)


def _macro(name: str, arguments: Sequence[str], context: Context) -> str:
    if name in _MOMENTS:
        return _MOMENTS[name](context)
    if name not in _MACROS:
        raise QueryError(f"the macro ${name} is not known")
    if not arguments[0]:
        raise QueryError(f"${name} needs a column")
    return _MACROS[name](arguments, context)


def _grouped(expression: str, arguments: Sequence[str]) -> str:
    if len(arguments) < 2:  # noqa: PLR2004
        raise QueryError("grouping by time needs a column and an interval")
    seconds = intervals.parsed(arguments[1].strip("'"))
    return f"floor({expression}/{seconds:g})*{seconds:g}"


def _filler(argument: str) -> float | str | None:
    match argument.strip("'"):
        case "NULL":
            return None
        case "previous":
            return "previous"
    try:
        return float(argument)
    except ValueError as error:
        raise QueryError(f"nothing to fill with: {argument}") from error


def _rfc3339(moment: dt.datetime) -> str:
    """In UTC, with as much of a second as there is."""
    text = moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


def _since(context: Context) -> str:
    return f"'{_rfc3339(context.since)}'"


def _until(context: Context) -> str:
    return f"'{_rfc3339(context.until)}'"


def _seconds(moment: dt.datetime) -> str:
    return str(int(moment.timestamp()))


def _epoch(column: str) -> str:
    return f"extract(epoch from {column})"


def _by_time(arguments: Sequence[str]) -> str:
    return _grouped(_epoch(arguments[0]), arguments)


def _by_number(arguments: Sequence[str]) -> str:
    return _grouped(f"({arguments[0]})", arguments)


_MACROS: Final[dict[str, Callable[[Sequence[str], Context], str]]] = {
    "__time": lambda arguments, _: f'{arguments[0]} AS "time"',
    "__timeEpoch": lambda arguments, _: f'{_epoch(arguments[0])} as "time"',
    "__timeFilter": lambda arguments, context: (
        f"{arguments[0]} BETWEEN {_since(context)} AND {_until(context)}"
    ),
    "__timeGroup": lambda arguments, _: _by_time(arguments),
    "__timeGroupAlias": lambda arguments, _: f'{_by_time(arguments)} AS "time"',
    "__unixEpochFilter": lambda arguments, context: (
        f"{arguments[0]} >= {_seconds(context.since)} AND {arguments[0]} <= {_seconds(context.until)}"
    ),
    "__unixEpochGroup": lambda arguments, _: _by_number(arguments),
    "__unixEpochGroupAlias": lambda arguments, _: f'{_by_number(arguments)} AS "time"',
}
_MOMENTS: Final[dict[str, Callable[[Context], str]]] = {
    "__timeFrom": _since,
    "__timeTo": _until,
    "__unixEpochFrom": lambda context: _seconds(context.since),
    "__unixEpochTo": lambda context: _seconds(context.until),
}
