"""PromQL targets: the expression as Grafana sends it, and its answer as frames."""

import datetime as dt
import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from deploy.grafana.preview import intervals
from deploy.grafana.preview.context import Context
from deploy.grafana.preview.errors import QueryError
from deploy.grafana.preview.frames import Column, Frame
from deploy.grafana.preview.variables import ensure_nothing_left, for_prometheus, interpolated

_MOST_POINTS: Final = 11_000
_TIMEOUT_SECONDS: Final = 30
_LABEL_VALUES: Final = re.compile(r"label_values\((?:(.+),)?\s*([a-zA-Z_]\w*)\s*\)\s*", re.DOTALL)
_LEGEND_PART: Final = re.compile(r"\{\{\s*(.+?)\s*\}\}")


class Expanded(NamedTuple):
    """A target ready to be sent.

    Attributes:
        expression: Without variables.
        step: Seconds between two points.
    """

    expression: str
    step: float


class Series(NamedTuple):
    """Labels and points, as the server gives them."""

    labels: dict[str, str]
    points: list[tuple[float, float | None]]


def expanded(target: Mapping[str, Any], panel: Mapping[str, Any], points: int, context: Context) -> Expanded:
    """The target with its variables replaced.

    Args:
        target: Has the expression, and may have a least step.
        panel: May have a least interval.
        points: As many as the panel has room for.
        context: Has range and variables.

    Raises:
        QueryError: A variable is not known.
    """
    scrape = context.scrape_seconds
    of_panel = panel.get("interval")
    asked = intervals.between_points(
        context.seconds, points, at_least=intervals.parsed(of_panel) if of_panel else scrape
    )
    least = target.get("interval") or ""
    least_seconds = intervals.parsed(least) if least and "$" not in least else None
    step = max(
        intervals.between_points(context.seconds, points, at_least=least_seconds or asked),
        intervals.rounded(context.seconds / _MOST_POINTS),
    )
    if "__rate_interval" in least:
        rate = max(step + scrape, 4 * scrape)
        step = rate
    else:
        between = least_seconds or (step if "__interval" in least else scrape)
        rate = max(asked + between, 4 * between)
        step *= target.get("intervalFactor") or 1
    whole = round(context.seconds)
    expression = interpolated(
        target["expr"],
        context,
        for_prometheus,
        plain={
            "__interval": intervals.written(step),
            "__interval_ms": str(round(step * 1_000)),
            "__rate_interval": f"{round(rate * 1_000)}ms" if rate % 1 else f"{round(rate)}s",
            "__rate_interval_ms": str(round(rate * 1_000)),
            "__range": f"{whole}s",
            "__range_s": str(whole),
            "__range_ms": str(round(context.seconds * 1_000)),
        },
    )
    ensure_nothing_left(expression)
    return Expanded(expression, step)


def run(target: Mapping[str, Any], panel: Mapping[str, Any], points: int, context: Context) -> list[Frame]:
    """The answers to a target: of its range query, of its instant query, or of both.

    Args:
        target: Of the panel.
        panel: It belongs to.
        points: As many as it has room for.
        context: To ask with.

    Raises:
        QueryError: The server refuses it, or warns.
    """
    query = expanded(target, panel, points, context)
    frames: list[Frame] = []
    is_alone = sum(each.get("format") == "table" for each in panel["targets"]) == 1
    instant, range_ = bool(target.get("instant")), bool(target.get("range"))
    if range_ or not instant:
        frames += _frames(target, query, _range(query, context), query.step, is_alone=is_alone)
    if instant:
        frames += _frames(target, query, _instant(query, context), None, is_alone=is_alone)
    return frames


def variable(query: str, context: Context) -> list[str]:
    """The values that a variable's query gives: `label_values(label)` or `label_values(metric, label)`.

    Raises:
        QueryError: It is another query.
    """
    text = interpolated(query, context, for_prometheus, plain={})
    ensure_nothing_left(text)
    match = _LABEL_VALUES.fullmatch(text.strip())
    if not match:
        raise QueryError(f"not supported as a variable's query: {text}")
    parameters: dict[str, Any] = {"start": context.since.timestamp(), "end": context.until.timestamp()}
    if match[1]:
        parameters["match[]"] = match[1].strip()
    return list(map(str, _get(context, f"label/{match[2]}/values", parameters)))


def _range(query: Expanded, context: Context) -> list[Series]:
    start, end = (
        math.floor(moment.timestamp() / query.step) * query.step for moment in (context.since, context.until)
    )
    parameters = {"query": query.expression, "start": start, "end": end, "step": query.step}
    return _series(_get(context, "query_range", parameters))


def _instant(query: Expanded, context: Context) -> list[Series]:
    parameters = {"query": query.expression, "time": context.until.timestamp()}
    return _series(_get(context, "query", parameters))


def _get(context: Context, path: str, parameters: Mapping[str, Any]) -> Any:
    url = f"{context.prometheus_url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the caller's
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise QueryError(f"{parameters}: {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise QueryError(f"Prometheus does not answer: {error}") from error
    if answer["status"] != "success" or answer.get("warnings"):
        raise QueryError(f"{parameters}: {answer}")
    return answer["data"]


def _series(data: Mapping[str, Any]) -> list[Series]:
    match data["resultType"]:
        case "matrix":
            return [Series(each["metric"], list(map(_point, each["values"]))) for each in data["result"]]
        case "vector":
            return [Series(each["metric"], [_point(each["value"])]) for each in data["result"]]
        case "scalar":
            return [Series({}, [_point(data["result"])])]
    raise QueryError(f"an answer of the type {data['resultType']} is not supported")


def _point(pair: Sequence[Any]) -> tuple[float, float | None]:
    value = float(pair[1])
    return float(pair[0]), None if math.isnan(value) else value


def _frames(
    target: Mapping[str, Any], query: Expanded, series: list[Series], step: float | None, *, is_alone: bool
) -> list[Frame]:
    ref_id = str(target.get("refId", "A"))
    match target.get("format", "time_series"):
        case "table":
            return [_table(ref_id, series, is_alone=is_alone)] if series else []
        case "heatmap":
            return [_heatmap(ref_id, series, step)] if series else []
        case "time_series":
            names = _names(target, query, series)
            return [
                Frame(ref_id, [times, Column(name, "number", each.labels, values)])
                for name, each in zip(names, series, strict=True)
                for times, values in [_gaps_filled(each.points, step)]
            ]
    raise QueryError(f"the format {target['format']!r} is not known")


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _gaps_filled(
    points: list[tuple[float, float | None]], step: float | None
) -> tuple[Column, list[float | None]]:
    """The points, and nothing where one is missing, so that no line is drawn over a gap."""
    known = dict(points)
    moments = list(known)
    if step is not None:
        count = round((moments[-1] - moments[0]) / step)
        first = moments[0]
        moments = [round(first + number * step, 3) for number in range(count + 1)]
    return Column("Time", "time", {}, list(map(_time, moments))), [known.get(each) for each in moments]


def _table(ref_id: str, series: list[Series], *, is_alone: bool) -> Frame:
    """One row a point, labels as columns; where a panel has several tables, the value says of which it is."""
    labels = sorted({name for each in series for name in each.labels})
    rows = [(each.labels, moment, value) for each in series for moment, value in each.points]
    return Frame(
        ref_id,
        [
            Column("Time", "time", {}, [_time(moment) for _, moment, _ in rows]),
            *(Column(name, "text", {}, [row.get(name, "") for row, _, _ in rows]) for name in labels),
            Column(
                "Value" if is_alone else f"Value #{ref_id}", "number", {}, [value for _, _, value in rows]
            ),
        ],
    )


def _heatmap(ref_id: str, series: list[Series], step: float | None) -> Frame:
    """Buckets of a histogram, each without what the smaller ones hold, as columns."""
    if any("le" not in each.labels for each in series):
        raise QueryError(f"{ref_id}: a heatmap needs the label le")
    buckets = sorted(series, key=lambda each: float(each.labels["le"]))
    moments = sorted({moment for each in buckets for moment, _ in each.points})
    grid, _ = _gaps_filled([(moment, None) for moment in moments], step)
    below: dict[float, float] = {}
    columns = []
    for each in buckets:
        known = {moment: value for moment, value in each.points if value is not None}
        values = [
            max(known[moment] - below.get(moment, 0.0), 0.0) if moment in known else None
            for moment in (value.timestamp() for value in grid.values)
        ]
        columns.append(Column(each.labels["le"], "number", each.labels, values))
        below = below | known
    return Frame(ref_id, [grid, *columns])


def _names(target: Mapping[str, Any], query: Expanded, series: list[Series]) -> list[str]:
    """As the target's legend says; without one, by what tells the series apart."""
    legend = target.get("legendFormat") or ""
    if legend and legend != "__auto":
        return [
            _LEGEND_PART.sub(lambda part, labels=each.labels: labels.get(part[1], ""), legend)
            for each in series
        ]
    if legend == "__auto" and len(series) == 1 and not series[0].labels:
        return [query.expression]
    keys = {name for each in series for name in each.labels if name != "__name__"}
    if legend == "__auto" and len(keys) == 1:
        (key,) = keys
        return [each.labels.get(key, "") for each in series]
    return [_described(each.labels) or query.expression for each in series]


def _described(labels: Mapping[str, str]) -> str:
    inner = ", ".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    return labels.get("__name__", "") + (f"{{{inner}}}" if inner else "")
