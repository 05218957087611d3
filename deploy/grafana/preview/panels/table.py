"""Rows and columns: plain cells, coloured ones, and cells with a bar."""

from collections.abc import Sequence
from typing import Any, Final

from deploy.grafana.preview import theme
from deploy.grafana.preview.drawing import Box, graded, line, rectangle, width_of, words
from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.fields import Field
from deploy.grafana.preview.panels.sheet import Sheet, nothing
from otel_analytics.present.report.markup import Html, join

_HEIGHTS: Final = {"sm": 36.0, "md": 42.0, "lg": 48.0}
_HEAD_HEIGHT: Final = 36.0
_MORE_HEIGHT: Final = 6.0
_PADDING: Final = 8.0
_SIZE: Final = 13.0
_LEAST_WIDTH: Final = 150.0
_CAPTION_SHARE: Final = 0.5
_FALLING, _RISING = "\N{DOWNWARDS ARROW}", "\N{UPWARDS ARROW}"


def draw(sheet: Sheet) -> Html:
    """The whole panel; rows for which there is no room are counted.

    Raises:
        PanelError: It asks for what the preview cannot draw.
    """
    filled = [fields for fields in sheet.frames if fields and fields[0].column.values]
    if not filled:
        return nothing(sheet)
    if len(filled) > 1:
        raise PanelError("a table of several frames is not supported")
    fields = filled[0]
    rows = _sorted(fields, sheet.options.get("sortBy") or ())
    box = sheet.box
    widths = _widths(fields, box.width)
    height = _HEIGHTS[sheet.options.get("cellHeight") or "sm"]
    parts, top = [], box.y
    if sheet.options.get("showHeader", True):
        parts.append(_head(fields, widths, sheet))
        top += _HEAD_HEIGHT
    room = int((box.bottom - top) // height)
    if len(rows) > room:
        room = int((box.bottom - top - _MORE_HEIGHT) // height)
    for place, row in enumerate(rows[:room]):
        parts.append(_row(fields, row, widths, Box(box.x, top + place * height, box.width, height)))
    if len(rows) > room:
        text = f"{len(rows) - room} more rows below"
        parts.append(
            words(text, box.right - _PADDING, box.bottom + 3, size=11, fill=theme.FAINT, anchor="end")
        )
    return join(*parts)


def _sorted(fields: Sequence[Field], orders: Sequence[dict[str, Any]]) -> list[int]:
    rows = list(range(len(fields[0].column.values)))
    for order in reversed(orders):
        values = next((each.column.values for each in fields if each.name == order["displayName"]), None)
        if values is None:
            raise PanelError(f"sorted by {order['displayName']!r}, which is no column")
        known = [row for row in rows if values[row] is not None]
        known.sort(key=values.__getitem__, reverse=bool(order.get("desc")))
        rows = known + [row for row in rows if values[row] is None]
    return rows


def _widths(fields: Sequence[Field], width: float) -> list[float]:
    """As configured, the rest in equal parts; squeezed where it is too much."""
    wanted = [float(each.custom.get("width") or 0) for each in fields]
    free = [place for place, each in enumerate(wanted) if not each]
    if free:
        least = min(float(fields[place].custom.get("minWidth") or _LEAST_WIDTH) for place in free)
        share = max((width - sum(wanted)) / len(free), least)
        wanted = [each or share for each in wanted]
    too_much = max(sum(wanted) / width, 1)
    return [each / too_much for each in wanted]


def _lefts(widths: Sequence[float], x: float) -> list[float]:
    return [x + sum(widths[:place]) for place in range(len(widths))]


def _align(field: Field) -> str:
    align = str(field.custom.get("align") or "auto")
    return ("right" if field.column.kind == "number" else "left") if align == "auto" else align


def _placed(text: str, box: Box, align: str, **more: Any) -> Html:
    anchor = {"left": "start", "center": "middle", "right": "end"}[align]
    x = {"left": box.x + _PADDING, "center": box.x + box.width / 2, "right": box.right - _PADDING}[align]
    middle = box.y + box.height / 2 + 4.5
    return words(text, x, middle, size=_SIZE, anchor=anchor, within=box.width - _PADDING, **more)


def _head(fields: Sequence[Field], widths: Sequence[float], sheet: Sheet) -> Html:
    box = sheet.box
    orders = {each["displayName"]: each.get("desc") for each in sheet.options.get("sortBy") or ()}
    parts = []
    for field, left, width in zip(fields, _lefts(widths, box.x), widths, strict=True):
        mark = f" {_FALLING if orders[field.name] else _RISING}" if field.name in orders else ""
        place = Box(left, box.y, width, _HEAD_HEIGHT)
        parts.append(_placed(field.name + mark, place, _align(field), fill=theme.LINK, bold=True))
    y = box.y + _HEAD_HEIGHT
    return join(*parts, line(box.x, y, box.right, y, theme.BORDER))


def _row(fields: Sequence[Field], row: int, widths: Sequence[float], box: Box) -> Html:
    cells = [
        _cell(field, row, Box(left, box.y, width, box.height))
        for field, left, width in zip(fields, _lefts(widths, box.x), widths, strict=True)
    ]
    return join(*cells, line(box.x, box.bottom, box.right, box.bottom, theme.BORDER))


def _cell(field: Field, row: int, box: Box) -> Html:
    value = field.column.values[row]
    text, align = field.text(value), _align(field)
    cell = field.custom.get("cellOptions") or {}
    match cell.get("type") or "auto":
        case "auto":
            return _placed(text, box, align, fill=theme.LINK if field.config.get("links") else theme.TEXT)
        case "color-text":
            return _placed(text, box, align, fill=theme.TEXT if value is None else field.color(value))
        case "color-background":
            if value is None:
                return _placed(text, box, align, fill=theme.QUIET)
            color = field.color(value)
            return join(
                rectangle(box.inner(0.5, 0.5, 0.5, 0.5), color),
                _placed(text, box, align, fill=theme.on(color)),
            )
        case "gauge":
            return _gauge(field, value, text, box)
    raise PanelError(f"cells of the type {cell['type']!r} are not supported")


def _gauge(field: Field, value: float | None, text: str, box: Box) -> Html:
    """A bar, and its figure to the right of the longest one."""
    cell = field.custom["cellOptions"]
    has_text = cell.get("valueDisplayMode") != "hidden"
    caption = max(width_of(field.text(each), _SIZE) for each in field.column.values) + _PADDING
    caption = min(caption, box.width * _CAPTION_SHARE) if has_text else 0.0
    place = box.inner(_PADDING, 7, _PADDING + caption, 7)
    color = theme.TEXT if value is None else field.color(value)
    share = 0.0 if value is None else field.share(value)
    fill = graded(field.color(field.low), color) if cell.get("mode", "gradient") == "gradient" else color
    text_color = theme.TEXT if cell.get("valueDisplayMode") == "text" else color
    return join(
        rectangle(place, theme.SECONDARY, radius=2),
        rectangle(Box(place.x, place.y, place.width * share, place.height), fill, radius=2),
        _placed(text, box, "right", fill=text_color) if has_text else None,
    )
