"""Tables that can be listened to: with a caption, headers and their scope, and a cell that names the row."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from otel_analytics.present.question_rows import WeekRow
from otel_analytics.present.report.markup import Child, Html, element, join
from otel_analytics.present.text import compact

LEVELS: Final = 6
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HOURS: Final = range(24)
_THOUSAND: Final = 1_000
_LABELLED_HOURS: Final = 6
"""Where there is no room for the number of each hour, one in so many is left."""


class Column(NamedTuple):
    """A column.

    Attributes:
        header: What stands above it.
        cells: One a row.
        kind: `number` is aligned to the right; `name` names the row.
    """

    header: str
    cells: Sequence[Child]
    kind: str = "number"


def table(identity: str, caption: str, columns: Sequence[Column]) -> Html:
    """A table, in a frame that scrolls by itself where the screen is narrow.

    Args:
        identity: For the id of its caption.
        caption: What it shows.
        columns: With as many cells each.
    """
    header = (element("th", each.header, scope="col", class_=each.kind) for each in columns)
    rows = zip(*(each.cells for each in columns), strict=True)
    body = (
        element("tr", *(_cell(column, cell) for column, cell in zip(columns, row, strict=True)))
        for row in rows
    )
    return _framed(
        identity,
        element(
            "table",
            element("caption", caption, id=f"{identity}-caption"),
            element("thead", element("tr", *header)),
            element("tbody", *body),
        ),
    )


def heat_map(identity: str, rows: Sequence[WeekRow]) -> Html:
    """The hours of a week as a table: darker where there is more, and every cell says how much.

    Args:
        identity: For the id of its caption.
        rows: One or more.
    """
    figures = {(row.weekday, row.hour_of_day): row.avg_hourly_requests for row in rows}
    largest = max(figures.values()) or 1
    header = (
        element(
            "th",
            element("span", f"{hour:02}"),
            scope="col",
            class_=None if hour % _LABELLED_HOURS == 0 else "spare",
        )
        for hour in _HOURS
    )
    body = (
        element(
            "tr",
            element("th", element("span", day[:3], aria_hidden="true"), hidden(day), scope="row"),
            *(_heat(figures.get((weekday, hour)), largest) for hour in _HOURS),
        )
        for weekday, day in enumerate(_WEEKDAYS, start=1)
    )
    return join(
        element(
            "table",
            element(
                "caption", "Requests an hour, by weekday and hour of the day (UTC)", id=f"{identity}-caption"
            ),
            element("thead", element("tr", element("th", hidden("Day"), scope="col"), *header)),
            element("tbody", *body),
            class_="heat",
        ),
        _scale(largest),
    )


def hidden(words: str) -> Html:
    """Words for those who listen."""
    return element("span", words, class_="hidden")


def _framed(identity: str, inner: Html) -> Html:
    # It can be focused, so that it can be scrolled without a mouse.
    return element(
        "div", inner, class_="frame", role="region", aria_labelledby=f"{identity}-caption", tabindex=0
    )


def _cell(column: Column, cell: Child) -> Html:
    if column.kind == "name":
        return element("th", cell, scope="row", class_="name")
    return element("td", cell, class_=column.kind)


def _heat(value: float | None, largest: float) -> Html:
    if value is None:
        return element("td", element("span", "\N{EN DASH}"), class_="none")
    level = min(LEVELS - 1, int(value / largest * LEVELS))
    return element("td", element("span", _short(value)), class_=f"level{level}")


def _scale(largest: float) -> Html:
    steps = (
        element(
            "li",
            element("span", class_=f"swatch level{level}", aria_hidden="true"),
            f"to {_short(largest * (level + 1) / LEVELS)}",
        )
        for level in range(LEVELS)
    )
    return element("ul", *steps, class_="scale", aria_label="What the shades mean, requests an hour")


def _short(value: float) -> str:
    """A figure in four characters."""
    if value < _THOUSAND - 0.5:
        return f"{value:.0f}"
    return f"{value / _THOUSAND:.1f}k" if value < 9_950 else compact(value).replace(".0k", "k")  # noqa: PLR2004
