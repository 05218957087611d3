"""SQL targets: the statement run in a transaction that can only read, and its answer as frames."""

import bisect
import datetime as dt
import decimal
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg

from deploy.grafana.preview import intervals
from deploy.grafana.preview.context import Context
from deploy.grafana.preview.errors import QueryError
from deploy.grafana.preview.frames import Column, Frame, Kind
from deploy.grafana.preview.macros import LEAST_SECONDS, Fill, expanded


def run(target: Mapping[str, Any], panel: Mapping[str, Any], points: int, context: Context) -> list[Frame]:
    """The answer to a target: one frame, or none where no row came.

    Args:
        target: Of the panel.
        panel: It belongs to.
        points: As many as it has room for.
        context: To ask with.

    Raises:
        QueryError: The statement fails, or the answer is no series where one is wanted.
    """
    of_panel = panel.get("interval")
    interval = intervals.between_points(
        context.seconds, points, at_least=intervals.parsed(of_panel) if of_panel else LEAST_SECONDS
    )
    query = expanded(target["rawSql"], context, interval_seconds=interval)
    columns = _columns(query.statement, context)
    if not columns or not columns[0].values:
        return []
    ref_id = str(target.get("refId", "A"))
    match target.get("format", "table"):
        case "table" | 1:
            return [Frame(ref_id, columns)]
        case "time_series" | 0:
            return [Frame(ref_id, as_series(columns, query.fill, context))]
    raise QueryError(f"the format {target['format']!r} is not known")


def variable(query: str, context: Context) -> list[str]:
    """The values that a variable's statement gives, each once."""
    columns = _columns(expanded(query, context).statement, context)
    named = [each for each in columns if each.name == "__value"]
    rows = zip(*(each.values for each in named or columns), strict=True)
    return list(dict.fromkeys(_as_text(value) for row in rows for value in row if value is not None))


def _columns(statement: str, context: Context) -> list[Column]:
    try:
        with psycopg.connect(context.postgres_dsn) as connection:
            connection.read_only = True
            connection.execute("SET TIME ZONE 'UTC'")
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall()
            names = [each.name for each in cursor.description or ()]
    except psycopg.Error as error:
        raise QueryError(f"{str(error).strip()}: {statement}") from error
    return [_column(name, [row[place] for row in rows]) for place, name in enumerate(names)]


def _column(name: str, values: list[Any]) -> Column:
    """A column by what stands in it; one named `time` holds times, also where they are seconds since 1970."""
    kind: Kind = next((_kind(value) for value in values if value is not None), "number")
    if name == "time" and kind == "number":
        kind = "time"
    convert = _CONVERTERS[kind]
    return Column(name, kind, {}, [None if value is None else convert(value) for value in values])


def _kind(value: Any) -> Kind:
    if isinstance(value, bool):
        return "text"
    if isinstance(value, int | float | decimal.Decimal):
        return "number"
    return "time" if isinstance(value, dt.date) else "text"


def _as_time(value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC)
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time(), dt.UTC)
    return dt.datetime.fromtimestamp(float(value), dt.UTC)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else _written(value)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


_CONVERTERS: Final[dict[Kind, Callable[[Any], Any]]] = {"time": _as_time, "number": float, "text": _as_text}


def as_series(columns: list[Column], fill: Fill | None, context: Context) -> list[Column]:
    """Times in one column and a column for each series: texts tell the series apart.

    Args:
        columns: Of the answer; one is named `time`.
        fill: For times and series without a row.
        context: Has the range that is filled.

    Raises:
        QueryError: There is no time, or the rows are not in its order.
    """
    time = next((each for each in columns if each.name == "time"), None)
    if time is None or time.kind != "time":
        raise QueryError("a series needs a column named time")
    if None in time.values or time.values != sorted(time.values):
        raise QueryError("the rows of a series have to be ordered by time")
    texts = [each for each in columns if each.kind == "text"]
    numbers = [each for each in columns if each.kind == "number"]
    moments = _moments(time.values, fill, context)
    place_of = {moment: place for place, moment in enumerate(moments)}
    found: dict[tuple[str, tuple[str, ...]], list[float | None]] = {}
    rows_at: dict[tuple[str, tuple[str, ...]], set[int]] = {}
    for row, moment in enumerate(time.values):
        told_by = tuple(each.values[row] or "" for each in texts)
        for each in numbers:
            key = (each.name, told_by)
            found.setdefault(key, [None] * len(moments))[place_of[moment]] = each.values[row]
            rows_at.setdefault(key, set()).add(place_of[moment])
    if fill is not None:
        for key, values in found.items():
            _fill_gaps(values, rows_at[key], fill.value)
    return [
        Column("Time", "time", {}, moments),
        *(
            _named(name, dict(zip((each.name for each in texts), told_by, strict=True)), len(numbers), values)
            for (name, told_by), values in found.items()
        ),
    ]


def _named(name: str, labels: dict[str, str], numbers: int, values: list[float | None]) -> Column:
    """The name with what tells the series apart; that alone where it is one text named `metric`."""
    if numbers == 1 and list(labels) == ["metric"]:
        return Column(labels["metric"], "number", {}, values)
    told_by = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    if len(labels) == 1:
        (told_by,) = labels.values()
    elif labels:
        told_by = f"{{{told_by}}}"
    return Column(f"{name} {told_by}".strip(), "number", labels, values)


def _moments(times: list[dt.datetime], fill: Fill | None, context: Context) -> list[dt.datetime]:
    present = sorted(set(times))
    if fill is None:
        return present
    first = int(context.since.timestamp() // fill.seconds) * fill.seconds
    count = int((context.until.timestamp() - first) // fill.seconds)
    regular = [_as_time(first + number * fill.seconds) for number in range(count + 1)]
    for moment in present:
        place = bisect.bisect_left(regular, moment)
        if place == len(regular) or regular[place] != moment:
            regular.insert(place, moment)
    return regular


def _fill_gaps(values: list[float | None], known: set[int], filler: float | str | None) -> None:
    for place in range(len(values)):
        if place not in known:
            values[place] = values[place - 1] if filler == "previous" and place else _constant(filler)


def _constant(filler: float | str | None) -> float | None:
    return filler if isinstance(filler, float) else None
