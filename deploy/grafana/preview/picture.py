"""A dashboard as one SVG: its grid, and each panel drawn from its JSON and its answers. Pure."""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deploy.grafana.preview import theme
from deploy.grafana.preview.context import AllValue, Context
from deploy.grafana.preview.drawing import Box, fitting, line, number, rectangle, width_of, words
from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.fields import fields_of
from deploy.grafana.preview.frames import Frame
from deploy.grafana.preview.panels import heatmap, stat, table, timeseries
from deploy.grafana.preview.panels.sheet import Sheet
from deploy.grafana.preview.queries import COLUMNS, WIDTH
from deploy.grafana.preview.transformations import transformed
from deploy.grafana.preview.variables import shown
from otel_analytics.present.report.markup import Html, element, join

NOTE: Final = "Preview drawn from the dashboard's JSON and its own queries, not a Grafana screenshot"
_EDGE: Final = 16
_CELL, _GAP = 30, 8
_HEAD: Final = 96
_FOOT: Final = 30
_TITLE_HEIGHT: Final = 32
_TITLE_SIZE: Final = 14.0
_PADDING: Final = 8
_FADE: Final = re.compile(r"#fade-([0-9a-f]{6})-(\d+)-(\d+)\)")
_BAR: Final = re.compile(r"#bar-([0-9a-f]{6})-([0-9a-f]{6})\)")
_DRAWERS: Final[Mapping[str, Callable[[Sheet], Html]]] = {
    "timeseries": timeseries.draw,
    "stat": stat.draw,
    "table": table.draw,
    "heatmap": heatmap.draw,
}


@dataclass(frozen=True)
class Answered:
    """A panel, what its queries gave, and what they were asked with.

    Attributes:
        panel: From the dashboard's JSON.
        frames: The answers.
        context: Has the range that the panel shows.
        remark: About a range of its own, as Grafana writes it beside the title.
    """

    panel: Mapping[str, Any]
    frames: list[Frame]
    context: Context
    remark: str = ""


def picture(dashboard: Mapping[str, Any], panels: Sequence[Answered], context: Context) -> str:
    """The SVG.

    Args:
        dashboard: Its JSON.
        panels: All of them, rows too.
        context: What the dashboard as a whole shows.

    Raises:
        PanelError: A panel asks for what cannot be drawn.
    """
    drawn = [_panel(each) for each in panels]
    lowest = max(_box(each.panel).bottom for each in panels)
    height = lowest + _FOOT
    body = join(
        rectangle(Box(0, 0, WIDTH, height), theme.CANVAS),
        _head(dashboard, context),
        *drawn,
        words(NOTE, WIDTH - _EDGE, height - 10, size=11, fill=theme.FAINT, anchor="end"),
    )
    return (
        element(
            "svg",
            element("title", f"{dashboard['title']}: {NOTE[0].lower()}{NOTE[1:]}"),
            _gradients(body),
            body,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {WIDTH} {number(height)}",
            width=WIDTH,
            height=number(height),
            font_family=theme.FONTS,
        )
        + "\n"
    )


def _box(panel: Mapping[str, Any]) -> Box:
    """Where a panel stands in the picture."""
    place = panel["gridPos"]
    column = (WIDTH - 2 * _EDGE + _GAP) / COLUMNS
    return Box(
        _EDGE + place["x"] * column,
        _HEAD + place["y"] * (_CELL + _GAP),
        place["w"] * column - _GAP,
        place["h"] * (_CELL + _GAP) - _GAP,
    )


def _panel(answered: Answered) -> Html:
    panel, box = answered.panel, _box(answered.panel)
    title = shown(panel.get("title") or "", answered.context)
    if panel["type"] == "row":
        return _row(title, box)
    if panel["type"] not in _DRAWERS:
        raise PanelError(f"panel {title!r}: the type {panel['type']!r} is not supported")
    inside = Box(0, 0, box.width, box.height)
    since, until = (each.timestamp() for each in (answered.context.since, answered.context.until))
    frames = fields_of(panel, transformed(answered.frames, panel), until)
    sheet = Sheet(panel, frames, inside.inner(_PADDING, _TITLE_HEIGHT, _PADDING, _PADDING), since, until)
    try:
        drawn = _DRAWERS[panel["type"]](sheet)
    except PanelError as error:
        raise PanelError(f"panel {title!r}: {error}") from error
    return element(
        "svg",
        rectangle(inside.inner(0.5, 0.5, 0.5, 0.5), theme.PANEL, radius=2, stroke=theme.BORDER),
        _title(title, answered, inside),
        drawn,
        x=number(box.x),
        y=number(box.y),
        width=number(box.width),
        height=number(box.height),
        class_=f"panel {panel['type']}",
    )


def _title(title: str, answered: Answered, box: Box) -> Html:
    room = box.width - 2 * _PADDING - 24 - (width_of(answered.remark, 12) + _GAP if answered.remark else 0)
    text = fitting(title, _TITLE_SIZE, room, bold=True)
    parts = [words(text, _PADDING, 21, size=_TITLE_SIZE, bold=True)]
    end = _PADDING + width_of(text, _TITLE_SIZE, bold=True)
    if answered.panel.get("description"):
        parts.append(_info(end + 14, 16))
        end += 24
    if answered.remark:
        parts.append(words(answered.remark, end + _GAP, 21, size=12, fill=theme.LINK))
    return join(*parts)


def _info(x: float, y: float) -> Html:
    """The small sign that a panel has a description."""
    return join(
        element("circle", cx=number(x), cy=number(y), r=6, fill="none", stroke=theme.QUIET),
        line(x, y - 1, x, y + 3.2, theme.QUIET, stroke_width="1.4"),
        line(x, y - 3.4, x, y - 2.2, theme.QUIET, stroke_width="1.4"),
    )


def _row(title: str, box: Box) -> Html:
    middle = box.y + box.height / 2
    return join(
        element(
            "path",
            d=f"M{number(box.x + 4)} {number(middle - 3)}l5 5 5-5",
            fill="none",
            stroke=theme.TEXT,
            stroke_width="1.6",
        ),
        words(title, box.x + 22, middle + 5, size=15, bold=True, within=box.width - 30),
    )


def _head(dashboard: Mapping[str, Any], context: Context) -> Html:
    """The name, the range, and the variables as chosen."""
    span = f"{_moment(context.since)} to {_moment(context.until)} UTC"
    width = width_of(span, 13) + 24
    box = Box(WIDTH - _EDGE - width, 12, width, 30)
    return join(
        words(dashboard["title"], _EDGE, 34, size=20, bold=True),
        rectangle(box.inner(0.5, 0.5, 0.5, 0.5), theme.SECONDARY, radius=2, stroke=theme.BORDER),
        words(span, box.x + box.width / 2, box.y + 20, size=13, anchor="middle"),
        _variables(dashboard, context),
    )


def _variables(dashboard: Mapping[str, Any], context: Context) -> Html:
    parts, x = [], float(_EDGE)
    for variable in dashboard.get("templating", {}).get("list", ()):
        if variable.get("hide"):
            continue
        label = str(variable.get("label") or variable["name"])
        text = fitting(_choice(variable, context), 12, 360)
        label_width, width = width_of(label, 12, bold=True) + 18, width_of(text, 12) + 30
        box = Box(x, 54, label_width + width, 28)
        parts += [
            rectangle(box.inner(0.5, 0.5, 0.5, 0.5), theme.CANVAS, radius=2, stroke=theme.BORDER),
            rectangle(Box(x + 0.5, box.y + 0.5, label_width, 27), theme.SECONDARY, radius=2),
            words(label, x + 9, box.y + 18, size=12, bold=True),
            words(text, x + label_width + 9, box.y + 18, size=12),
            element(
                "path",
                d=f"M{number(box.right - 14)} {number(box.y + 12)}l4 4 4-4",
                fill="none",
                stroke=theme.QUIET,
                stroke_width="1.4",
            ),
        ]
        x = box.right + _GAP
    return join(*parts)


def _choice(variable: Mapping[str, Any], context: Context) -> str:
    """What is chosen, as the reader sees it."""
    current = variable.get("current") or {}
    value = context.variables[variable["name"]]
    if variable["type"] == "datasource" or isinstance(value, AllValue):
        texts = current.get("text", "All")
        return ", ".join(texts) if isinstance(texts, list) else str(texts)
    if current.get("value") in ("$__all", ["$__all"]):
        return "All"
    return value if isinstance(value, str) else " + ".join(value)


def _moment(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M")


def _gradients(body: str) -> Html:
    """Definitions of the fills that the body uses, made from their names."""
    fades = [
        element(
            "linearGradient",
            element("stop", offset=0, stop_color=f"#{color}"),
            element("stop", offset=1, stop_color=f"#{color}", stop_opacity=0),
            id=f"fade-{color}-{top}-{bottom}",
            gradientUnits="userSpaceOnUse",
            x1=0,
            y1=top,
            x2=0,
            y2=bottom,
        )
        for color, top, bottom in sorted(set(_FADE.findall(body)))
    ]
    bars = [
        element(
            "linearGradient",
            element("stop", offset=0, stop_color=f"#{left}"),
            element("stop", offset=1, stop_color=f"#{right}"),
            id=f"bar-{left}-{right}",
        )
        for left, right in sorted(set(_BAR.findall(body)))
    ]
    return element("defs", *fades, *bars)
