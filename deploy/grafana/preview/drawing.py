"""Boxes and text of a picture, with widths estimated as no font is at hand."""

from typing import Final, NamedTuple

from deploy.grafana.preview import theme
from otel_analytics.present.report.markup import Html, element

# Thousandths of the size that characters are wide in Helvetica and in what stands in for it.
_WIDTHS: Final = {
    222: "ijl'",
    260: "|",
    278: " !,./:;I[]ft\\",
    334: '()-r`{}*"',
    500: "Jckxyzsv",
    584: "+<=>~",
    611: "FTZ",
    667: "ABEKPSVXY&",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    944: "W%",
    1015: "@…",
}
_WIDTH_OF: Final = {each: width / 1_000 for width, characters in _WIDTHS.items() for each in characters}
_OTHER_WIDTH: Final = 0.557
_BOLD: Final = 1.06
_ELLIPSIS: Final = "…"


class Box(NamedTuple):
    """A rectangle, pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + self.height

    def inner(self, left: float, top: float, right: float, bottom: float) -> "Box":
        """What is left of it without so much on each side."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide a text is."""
    return sum(_WIDTH_OF.get(each, _OTHER_WIDTH) for each in text) * size * (_BOLD if bold else 1)


def fitting(text: str, size: float, width: float, *, bold: bool = False) -> str:
    """The text, or its beginning and an ellipsis where it is wider than that."""
    if width_of(text, size, bold=bold) <= width:
        return text
    while text and width_of(text + _ELLIPSIS, size, bold=bold) > width:
        text = text[:-1]
    return text.rstrip() + _ELLIPSIS if text else ""


def words(
    text: str,
    x: float,
    y: float,
    *,
    size: float = 12,
    fill: str = theme.TEXT,
    anchor: str = "start",
    bold: bool = False,
    within: float | None = None,
) -> Html:
    """A line of text.

    Args:
        text: What it says.
        x: Where it starts, ends or has its middle, by the anchor.
        y: Its base line.
        size: Of the font.
        fill: Its colour.
        anchor: `start`, `middle` or `end`.
        bold: Whether it is.
        within: How wide it may be; more is cut off.
    """
    shown = text if within is None else fitting(text, size, within, bold=bold)
    return element(
        "text",
        shown,
        x=number(x),
        y=number(y),
        font_size=number(size),
        fill=fill,
        text_anchor=None if anchor == "start" else anchor,
        font_weight=500 if bold else None,
    )


def rectangle(box: Box, fill: str, *, radius: float = 0, stroke: str | None = None) -> Html:
    """A filled rectangle."""
    return element(
        "rect",
        x=number(box.x),
        y=number(box.y),
        width=number(max(box.width, 0)),
        height=number(max(box.height, 0)),
        fill=fill,
        rx=number(radius) if radius else None,
        stroke=stroke,
    )


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, **more: str | float) -> Html:
    """A straight line."""
    return element("line", x1=number(x1), y1=number(y1), x2=number(x2), y2=number(y2), stroke=stroke, **more)


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def fading(color: str, top: float, bottom: float) -> str:
    """A fill that fades from top to bottom; the picture defines it once for each name."""
    return f"url(#fade-{color[1:]}-{round(top)}-{round(bottom)})"


def graded(left: str, right: str) -> str:
    """A fill that goes from one colour to another; the picture defines it once for each name."""
    return f"url(#bar-{left[1:]}-{right[1:]})"
