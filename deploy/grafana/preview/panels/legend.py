"""The legend of a graph: a list of names or a table with what is calculated of each series."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from deploy.grafana.preview import theme
from deploy.grafana.preview.drawing import Box, rectangle, width_of, words
from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.fields import Field
from deploy.grafana.preview.reducing import name_of, reduced
from otel_analytics.present.report.markup import Html, join

_SIZE: Final = 12
_ROW: Final = 21
_MARK_WIDTH, _MARK_HEIGHT, _GAP = 14, 4, 8
_NAME_GAP: Final = 22
_CALC_GAP: Final = 14
_LARGEST_SHARE: Final = 0.42


class Entry(NamedTuple):
    """A series in the legend.

    Attributes:
        field: The series.
        color: As it is drawn.
    """

    field: Field
    color: str


def with_legend(options: Mapping[str, Any], entries: Sequence[Entry], box: Box) -> tuple[Html, Box]:
    """The legend drawn below what it belongs to, and the box that is left for that.

    Args:
        options: The panel's for the legend.
        entries: The series in their order.
        box: For both.

    Raises:
        PanelError: It is to stand elsewhere.
    """
    if not options.get("showLegend", True) or options.get("displayMode") == "hidden" or not entries:
        return Html(), box
    calcs = list(options.get("calcs") or ())
    shown = _sorted(list(entries), calcs, options)
    if options.get("placement", "bottom") != "bottom":
        raise PanelError("a legend stands at the bottom")
    if options.get("displayMode") == "table":
        wanted = _ROW * (len(shown) + (1 if calcs else 0)) + 4
        height = min(wanted, max(box.height * _LARGEST_SHARE // _ROW, 2) * _ROW + 4)
        place = Box(box.x, box.bottom - height, box.width, height)
        return _table(shown, calcs, place), box.inner(0, 0, 0, height)
    return _list(shown, calcs, box)


def _sorted(entries: list[Entry], calcs: Sequence[str], options: Mapping[str, Any]) -> list[Entry]:
    by = next((each for each in calcs if name_of(each) == options.get("sortBy")), None)
    if by is None:
        return entries
    values = [(reduced(by, entry.field.numbers), entry) for entry in entries]
    known = [(value, entry) for value, entry in values if value is not None]
    known.sort(key=lambda pair: pair[0], reverse=bool(options.get("sortDesc")))
    return [entry for _, entry in known] + [entry for value, entry in values if value is None]


def _texts(entry: Entry, calcs: Sequence[str]) -> list[str]:
    return [entry.field.text(reduced(each, entry.field.numbers)) for each in calcs]


def _widths(entries: Sequence[Entry], calcs: Sequence[str]) -> list[float]:
    columns = zip(*(_texts(each, calcs) for each in entries), strict=True)
    return [
        max(width_of(text, _SIZE) for text in (name_of(calc), *texts)) + _CALC_GAP
        for calc, texts in zip(calcs, columns, strict=True)
    ]


def _table(entries: Sequence[Entry], calcs: Sequence[str], box: Box) -> Html:
    widths = _widths(entries, calcs)
    ends = [box.right - sum(widths[place + 1 :]) - 2 for place in range(len(widths))]
    name_width = box.width - sum(widths) - _NAME_GAP - _GAP
    heads = [
        words(name_of(calc), end, box.y + 15, size=_SIZE, fill=theme.LINK, anchor="end")
        for calc, end in zip(calcs, ends, strict=True)
    ]
    top = box.y + (_ROW if calcs else 0)
    room = int((box.bottom - top) // _ROW)
    shown = entries if len(entries) <= room else entries[: room - 1]
    parts = [*heads, words("Name", box.x + 2, box.y + 15, size=_SIZE, fill=theme.LINK) if calcs else Html()]
    for row, entry in enumerate(shown):
        y = top + row * _ROW + 15
        parts.append(_name(entry, box.x + 2, y, name_width))
        parts += [
            words(text, end, y, size=_SIZE, anchor="end")
            for text, end in zip(_texts(entry, calcs), ends, strict=True)
        ]
    if len(shown) < len(entries):
        y = top + len(shown) * _ROW + 15
        parts.append(_more(len(entries) - len(shown), box.x + _NAME_GAP, y))
    return join(*parts)


def _list(entries: Sequence[Entry], calcs: Sequence[str], box: Box) -> tuple[Html, Box]:
    """Names one after the other, in as many lines as they take, up to a share of the box."""
    most = max(int(box.height * _LARGEST_SHARE // _ROW), 1)
    lines: list[list[tuple[float, Entry, str]]] = [[]]
    x = box.x
    for entry in entries:
        values = [f"{name_of(calc)}: {text}" for calc, text in zip(calcs, _texts(entry, calcs), strict=True)]
        text = "  ".join([entry.field.name, *values])
        width = _NAME_GAP + width_of(text, _SIZE) + 14
        if lines[-1] and x + width > box.right:
            lines.append([])
            x = box.x
        lines[-1].append((x, entry, text))
        x += width
    left_out = sum(map(len, lines[most:]))
    lines = lines[:most]
    top = box.bottom - len(lines) * _ROW
    parts = [
        _name(entry, x, top + row * _ROW + 16, box.right - x - _NAME_GAP, text)
        for row, line in enumerate(lines)
        for x, entry, text in line
    ]
    if left_out:
        parts.append(
            words(f"{left_out} more", box.right, box.bottom - 5, size=_SIZE, fill=theme.FAINT, anchor="end")
        )
    return join(*parts), box.inner(0, 0, 0, len(lines) * _ROW + 2)


def _name(entry: Entry, x: float, y: float, width: float, text: str | None = None) -> Html:
    mark = Box(x, y - 4 - _MARK_HEIGHT / 2, _MARK_WIDTH, _MARK_HEIGHT)
    return join(
        rectangle(mark, entry.color, radius=2),
        words(text or entry.field.name, x + _NAME_GAP, y, size=_SIZE, within=width),
    )


def _more(count: int, x: float, y: float) -> Html:
    return words(f"{count} more", x, y, size=_SIZE, fill=theme.FAINT)
