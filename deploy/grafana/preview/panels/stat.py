"""Single figures, large, over a sparkline where there is a course to show."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from deploy.grafana.preview.drawing import Box, fading, number, width_of, words
from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.fields import Field
from deploy.grafana.preview.panels.sheet import Sheet, nothing
from deploy.grafana.preview.reducing import reduced
from otel_analytics.present.report.markup import Html, element, join

_LARGEST: Final = 58.0
_NAME_SIZE: Final = 14.0
_SPARK_SHARE: Final = 0.38
_TEXT_SHARE: Final = 0.86
_GAP: Final = 8.0


class Figure(NamedTuple):
    """What one stat shows.

    Attributes:
        field: Where it comes from.
        value: The figure.
        moments: Of the field's values, seconds since 1970; none where it is no series.
    """

    field: Field
    value: float | None
    moments: Sequence[float]


def draw(sheet: Sheet) -> Html:
    """The whole panel.

    Raises:
        PanelError: It asks for what the preview cannot draw.
    """
    figures = _figures(sheet)
    if not figures:
        return nothing(sheet)
    width = (sheet.box.width - _GAP * (len(figures) - 1)) / len(figures)
    return join(
        *(
            _drawn(
                each,
                Box(sheet.box.x + place * (width + _GAP), sheet.box.y, width, sheet.box.height),
                sheet,
                has_name=len(figures) > 1,
            )
            for place, each in enumerate(figures)
        )
    )


def _figures(sheet: Sheet) -> list[Figure]:
    options = sheet.options.get("reduceOptions") or {}
    if options.get("values") or options.get("fields"):
        raise PanelError("a stat of rows or of chosen fields is not supported")
    calculation = (options.get("calcs") or ["lastNotNull"])[0]
    figures = []
    for fields in sheet.frames:
        times = next((each.column.values for each in fields if each.column.kind == "time"), [])
        for field in fields:
            if field.column.kind == "number":
                value = reduced(calculation, field.numbers)
                figures.append(Figure(field, value, [each.timestamp() for each in times]))
    return figures


def _drawn(figure: Figure, box: Box, sheet: Sheet, *, has_name: bool) -> Html:
    if sheet.options.get("colorMode", "value") != "value":
        raise PanelError("only the value of a stat is coloured")
    color = figure.field.color(figure.value)
    spark = Html()
    if sheet.options.get("graphMode", "area") == "area" and len(figure.moments) > 1:
        spark = _sparkline(figure, box, sheet, color)
    return join(spark, _text(figure, box, color, has_spark=bool(spark), has_name=has_name))


def _text(figure: Figure, box: Box, fill: str, *, has_spark: bool, has_name: bool) -> Html:
    text = figure.field.text(figure.value)
    height = box.height * (1 - _SPARK_SHARE / 2 if has_spark else 1)
    size = min(_LARGEST, height * 0.6, box.width * _TEXT_SHARE / width_of(text, 1))
    middle = box.x + box.width / 2
    base = box.y + height / 2 + size * 0.36
    if not has_name:
        return words(text, middle, base, size=size, fill=fill, anchor="middle", bold=True)
    return join(
        words(figure.field.name, middle, box.y + 18, size=_NAME_SIZE, anchor="middle", within=box.width),
        words(text, middle, base + 8, size=min(size, height * 0.45), fill=fill, anchor="middle", bold=True),
    )


def _sparkline(figure: Figure, box: Box, sheet: Sheet, color: str) -> Html:
    known = [value for value in figure.field.numbers if value is not None]
    low = min(*known, figure.field.low) if known else 0.0
    high = max(known, default=1.0)
    place = Box(box.x, box.bottom - box.height * _SPARK_SHARE, box.width, box.height * _SPARK_SHARE)
    points = [
        (
            place.x + (moment - sheet.since) / (sheet.until - sheet.since) * place.width,
            place.bottom - (value - low) / ((high - low) or 1) * (place.height - 4),
        )
        for moment, value in zip(figure.moments, figure.field.numbers, strict=True)
        if value is not None and sheet.since <= moment <= sheet.until
    ]
    if len(points) < 2:  # noqa: PLR2004 - a line needs two
        return Html()
    path = " ".join(f"{number(x)} {number(y)}" for x, y in points)
    first, last, bottom = number(points[0][0]), number(points[-1][0]), number(place.bottom)
    return join(
        element(
            "path",
            d=f"M{path}L{last} {bottom} {first} {bottom}z",
            fill=fading(color, place.y, place.bottom),
            fill_opacity=0.5,
        ),
        element("path", d=f"M{path}", fill="none", stroke=color, stroke_width="1.5", stroke_opacity=0.7),
    )
