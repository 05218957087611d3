"""Charts as SVG. Lines differ in dash and marker, not in colour alone; the page's style gives the colours."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from otel_analytics.present.report.markup import Html, element, join

_WIDTH, _HEIGHT = 380, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 370, 18, 186
_GRID: Final = (0, 25, 50, 75, 100)
_MARKER: Final = 3.2
_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_EDGE = 96, 22, 2.5

Share = float | None
"""From 0 to 1; None where it is not known."""


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        kind: What the style knows it by: `saved` or `stale`.
        shares: A point each, for each place on the x axis.
    """

    kind: str
    shares: Sequence[Share]


def curves(
    places: Sequence[str], lines: Sequence[Line], *, marked: int | None, label_id: str, description: str
) -> Html:
    """Shares over places that stand at equal distances.

    Args:
        places: What is written under the x axis.
        lines: Drawn in this order.
        marked: The place that a vertical line points out; None for none.
        label_id: Of the element that names the chart.
        description: The chart in words.
    """
    step = (_RIGHT - _LEFT - 20) / max(1, len(places) - 1)
    xs = [_LEFT + 10 + step * place for place in range(len(places))]
    return element(
        "svg",
        element("desc", description, id=f"{label_id}-desc"),
        *(_grid_line(share) for share in _GRID),
        *(
            element("text", place, x=_number(x), y=_BOTTOM + 16, text_anchor="middle")
            for x, place in zip(xs, places, strict=True)
        ),
        element("text", "share", x=_LEFT - 6, y=10, text_anchor="end", class_="axis"),
        element(
            "text",
            "time to live",
            x=_number((_LEFT + _RIGHT) / 2),
            y=_HEIGHT - 2,
            text_anchor="middle",
            class_="axis",
        ),
        None if marked is None else _mark(xs[marked], places[marked]),
        *(_line(line, xs) for line in lines),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_labelledby=label_id,
        aria_describedby=f"{label_id}-desc",
        class_="curves",
    )


def legend_sample(kind: str) -> Html:
    """A short piece of a line, as a legend shows it."""
    return element(
        "svg",
        element("line", x1=1, y1=8, x2=33, y2=8, class_=f"line {kind}"),
        _MARKERS[kind](17, 8),
        viewBox="0 0 34 16",
        width=34,
        height=16,
        aria_hidden="true",
        class_="sample",
    )


def sparkline(values: Sequence[float | None], description: str) -> Html:
    """A small course from 0 to its largest figure; it has gaps where figures are missing.

    Args:
        values: From 0 on.
        description: The course in words.
    """
    largest = max((value for value in values if value is not None), default=0) or 1
    step = (_SPARK_WIDTH - 2 * _SPARK_EDGE) / max(1, len(values) - 1)
    points = [
        None
        if value is None
        else (
            _SPARK_EDGE + step * place,
            _SPARK_HEIGHT - _SPARK_EDGE - value / largest * (_SPARK_HEIGHT - 2 * _SPARK_EDGE),
        )
        for place, value in enumerate(values)
    ]
    return element(
        "svg",
        element("path", d=_path(points), class_="course"),
        viewBox=f"0 0 {_SPARK_WIDTH} {_SPARK_HEIGHT}",
        width=_SPARK_WIDTH,
        height=_SPARK_HEIGHT,
        role="img",
        aria_label=description,
    )


def _grid_line(percent: int) -> Html:
    y = _number(_y(percent / 100))
    return join(
        element("line", x1=_LEFT, y1=y, x2=_RIGHT, y2=y, class_="grid"),
        element("text", f"{percent} %", x=_LEFT - 6, y=_number(_y(percent / 100) + 4), text_anchor="end"),
    )


def _mark(x: float, place: str) -> Html:
    at_end = x > (_LEFT + _RIGHT) / 2
    return join(
        element("line", x1=_number(x), y1=_TOP - 6, x2=_number(x), y2=_BOTTOM, class_="mark"),
        element(
            "text",
            f"best: {place}",
            x=_number(x - 5 if at_end else x + 5),
            y=_TOP - 8,
            text_anchor="end" if at_end else "start",
            class_="best",
        ),
    )


def _line(line: Line, xs: Sequence[float]) -> Html:
    points = [None if share is None else (x, _y(share)) for x, share in zip(xs, line.shares, strict=True)]
    return join(
        element("path", d=_path(points), class_=f"line {line.kind}"),
        *(_MARKERS[line.kind](*point) for point in points if point is not None),
    )


def _circle(x: float, y: float) -> Html:
    return element("circle", cx=_number(x), cy=_number(y), r=_MARKER, class_="marker saved")


def _square(x: float, y: float) -> Html:
    side = 2 * _MARKER
    return element(
        "rect",
        x=_number(x - _MARKER),
        y=_number(y - _MARKER),
        width=side,
        height=side,
        class_="marker stale",
    )


_MARKERS: Final[dict[str, Callable[[float, float], Html]]] = {"saved": _circle, "stale": _square}


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Straight from point to point, broken where there is none; a point alone is a dot."""
    parts: list[str] = []
    for place, point in enumerate(points):
        if point is None:
            continue
        alone_before = place == 0 or points[place - 1] is None
        x, y = (_number(each) for each in point)
        parts.append(f"M{x} {y}h0" if alone_before else f"L{x} {y}")
    return "".join(parts)


def _y(share: float) -> float:
    return _BOTTOM - share * (_BOTTOM - _TOP)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
