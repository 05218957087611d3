"""Series over time: lines, areas and bars, beside or on top of each other, with thresholds and a legend."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from deploy.grafana.preview import theme
from deploy.grafana.preview.drawing import Box, fading, line, number, rectangle
from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.fields import Field
from deploy.grafana.preview.panels.axes import (
    TIMES_HEIGHT,
    Scale,
    scale_for,
    time_x,
    times_grid,
    values_grid,
    values_width,
)
from deploy.grafana.preview.panels.legend import Entry, with_legend
from deploy.grafana.preview.panels.sheet import Sheet, nothing
from otel_analytics.present.report.markup import Html, element, join

_BAR_SHARE: Final = 0.6
_WIDEST_BAR: Final = 60.0
_STYLES: Final = ("line", "bars")

Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Drawn:
    """A series as it lies in the graph.

    Attributes:
        field: It shows.
        color: Of line or bars.
        moments: Seconds since 1970.
        tops: Its values, on top of those below it where it is stacked.
        floors: What it stands on.
    """

    field: Field
    color: str
    moments: Sequence[float]
    tops: Numbers
    floors: Sequence[float]


def draw(sheet: Sheet) -> Html:
    """The whole panel.

    Raises:
        PanelError: It asks for what the preview cannot draw.
    """
    drawn = _stacked([(moments, field) for moments, field in sheet.series()])
    if not drawn:
        return nothing(sheet)
    legend, box = with_legend(
        sheet.options.get("legend") or {}, [Entry(each.field, each.color) for each in drawn], sheet.box
    )
    scale = _scale(drawn)
    room = box.inner(0, 8, 12, TIMES_HEIGHT)
    plot = room.inner(values_width(scale, room), 0, 0, 0)
    parts = [times_grid(sheet.since, sheet.until, plot), values_grid(scale, plot)]
    parts += [_series(each, scale, plot, sheet) for each in drawn]
    parts.append(_thresholds(drawn[0].field, scale, plot))
    return join(*parts, legend)


def _stacked(series: Sequence[tuple[list[float], Field]]) -> list[Drawn]:
    """Each series on top of the one before it in its stack."""
    heights: dict[tuple[str, float], float] = {}
    drawn = []
    for moments, field in series:
        stacking = field.custom.get("stacking") or {}
        mode = stacking.get("mode", "none")
        if mode not in ("none", "normal"):
            raise PanelError(f"stacking {mode!r} is not supported")
        floors, tops = [0.0] * len(moments), list(field.numbers)
        if mode == "normal":
            for place, (moment, value) in enumerate(zip(moments, field.numbers, strict=True)):
                key = (str(stacking.get("group")), moment)
                floors[place] = heights.get(key, 0.0)
                if value is not None:
                    tops[place] = heights[key] = floors[place] + value
        drawn.append(Drawn(field, field.series_color, moments, tops, floors))
    return drawn


def _scale(drawn: Sequence[Drawn]) -> Scale:
    if len({each.field.unit for each in drawn}) > 1:
        raise PanelError("a graph has one unit")
    values = [value for each in drawn for value in each.tops if value is not None]
    if any(_style(each.field) == "bars" for each in drawn):
        values.append(0.0)
    return scale_for(drawn[0].field, values)


def _style(field: Field) -> str:
    style = str(field.custom.get("drawStyle") or "line")
    shape = field.custom.get("lineInterpolation", "linear")
    if style not in _STYLES or shape != "linear":
        raise PanelError(f"the style {style!r}, {shape!r} is not supported")
    return style


def _series(drawn: Drawn, scale: Scale, plot: Box, sheet: Sheet) -> Html:
    points = [
        (time_x(moment, sheet.since, sheet.until, plot), top, floor)
        for moment, top, floor in zip(drawn.moments, drawn.tops, drawn.floors, strict=True)
        if sheet.since <= moment <= sheet.until
    ]
    if _style(drawn.field) == "bars":
        return _bars(drawn, points, scale, plot)
    if drawn.field.custom.get("spanNulls"):
        points = [point for point in points if point[1] is not None]
    runs = _runs(points, scale, plot)
    parts = [_area(drawn, run, plot) for run in runs if len(run) > 1]
    parts += [_line(drawn, run) for run in runs if len(run) > 1]
    # A point alone would have no line to be seen by.
    has_points = drawn.field.custom.get("showPoints") == "always"
    alone = [point for run in runs if has_points or len(run) == 1 for point in run]
    parts += [_dot(x, y, drawn) for x, y, _ in alone]
    return join(*parts)


def _runs(
    points: Sequence[tuple[float, float | None, float]], scale: Scale, plot: Box
) -> list[list[tuple[float, float, float]]]:
    """Points without a gap between them: x, y, and where the area below ends."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for x, top, floor in points:
        if top is None:
            runs.append([])
        else:
            bottom = scale.y(max(floor, scale.low), plot)
            runs[-1].append((x, max(scale.y(top, plot), plot.y - 2), bottom))
    return [run for run in runs if run]


def _line(drawn: Drawn, run: Sequence[tuple[float, float, float]]) -> Html:
    width = float(drawn.field.custom.get("lineWidth", 1))
    return element(
        "path",
        d=f"M{_coordinates([(x, y) for x, y, _ in run])}",
        fill="none",
        stroke=drawn.color,
        stroke_width=number(width),
        stroke_linejoin="round",
    )


def _area(drawn: Drawn, run: Sequence[tuple[float, float, float]], plot: Box) -> Html | None:
    opacity = float(drawn.field.custom.get("fillOpacity", 0)) / 100
    if not opacity:
        return None
    below = [(x, bottom) for x, _, bottom in reversed(run)]
    path = f"M{_coordinates([(x, y) for x, y, _ in run])}L{_coordinates(below)}z"
    is_fading = drawn.field.custom.get("gradientMode", "none") != "none"
    fill = fading(drawn.color, plot.y, plot.bottom) if is_fading else drawn.color
    return element("path", d=path, fill=fill, fill_opacity=_share_text(opacity))


def _share_text(share: float) -> str:
    """A share with two decimals."""
    return f"{share:.2f}"


def _coordinates(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{number(x)} {number(y)}" for x, y in points)


def _dot(x: float, y: float, drawn: Drawn) -> Html:
    radius = float(drawn.field.custom.get("pointSize", 5)) / 2
    return element("circle", cx=number(x), cy=number(y), r=number(radius), fill=drawn.color)


def _bars(drawn: Drawn, points: Sequence[tuple[float, float | None, float]], scale: Scale, plot: Box) -> Html:
    distances = [after[0] - before[0] for before, after in itertools.pairwise(points)]
    width = min(min(distances, default=_WIDEST_BAR) * _BAR_SHARE, _WIDEST_BAR)
    opacity = float(drawn.field.custom.get("fillOpacity", 0)) / 100
    bars = []
    for x, top, floor in points:
        if top is None or top == floor:
            continue
        upper, lower = scale.y(top, plot), scale.y(floor, plot)
        left, right = max(x - width / 2, plot.x), min(x + width / 2, plot.right)
        bars.append(rectangle(Box(left, upper, right - left, lower - upper), drawn.color))
    return element("g", *bars, fill_opacity=_share_text(opacity))


def _thresholds(field: Field, scale: Scale, plot: Box) -> Html:
    mode = str((field.custom.get("thresholdsStyle") or {}).get("mode") or "off")
    if mode == "off":
        return Html()
    if mode not in ("line", "dashed"):
        raise PanelError(f"thresholds as {mode!r} are not supported")
    parts = []
    for step in (field.config.get("thresholds") or {}).get("steps") or ():
        value = step.get("value")
        if value is not None and scale.low < value <= scale.high:
            y = scale.y(value, plot)
            dash = {"stroke_dasharray": "10 10"} if mode == "dashed" else {}
            color = theme.color(step["color"])
            parts.append(line(plot.x, y, plot.right, y, color, stroke_width=2, stroke_opacity=0.7, **dash))
    return join(*parts)
