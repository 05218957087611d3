"""The axes of graphs and heat maps: where values and times lie, the grid, what is written at it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from deploy.grafana.preview import theme, ticks
from deploy.grafana.preview.drawing import Box, line, width_of, words
from deploy.grafana.preview.errors import PanelError
from deploy.grafana.preview.fields import Field
from deploy.grafana.preview.ticks import Tick
from otel_analytics.present.report.markup import Html, join

SIZE: Final = 11
TIMES_HEIGHT: Final = 22
_PIXELS_PER_TICK: Final = 32
_HEADROOM: Final = 0.06
_FROM_ZERO: Final = 0.6


@dataclass(frozen=True)
class Scale:
    """Values from low to high.

    Attributes:
        low: At the bottom.
        high: At the top.
        unit: The values are written in.
        decimals: As the field says.
    """

    low: float
    high: float
    unit: str
    decimals: int | None = None

    def y(self, value: float, box: Box) -> float:
        """Where a value lies."""
        return box.bottom - (value - self.low) / (self.high - self.low) * box.height

    def ticks(self, box: Box) -> list[Tick]:
        """What is written at it."""
        count = max(int(box.height // _PIXELS_PER_TICK), 2)
        return ticks.of_values(self.low, self.high, count, self.unit, self.decimals)


def scale_for(field: Field, values: Iterable[float]) -> Scale:
    """A scale that holds the values.

    Args:
        field: Says unit and limits.
        values: Those drawn, stacked ones added up.

    Raises:
        PanelError: The field asks for another kind of axis.
    """
    known = list(values)
    if field.custom.get("axisPlacement") == "right" or field.custom.get("scaleDistribution"):
        raise PanelError("a graph has one linear axis, on the left")
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if low >= 0 and low < high * _FROM_ZERO:
        low = 0.0
    if low == high == 0:
        high = 1.0
    room = (high - low or abs(high)) * _HEADROOM
    low = low if low == 0 else low - room
    least, most = field.config.get("min"), field.config.get("max")
    least = low if least is None else float(least)
    most = high + room if most is None else float(most)
    return Scale(least, most if most > least else least + 1, field.unit, field.config.get("decimals"))


def values_grid(scale: Scale, box: Box) -> Html:
    """Lines across the box at round values, which are written to its left."""
    parts = []
    for tick in scale.ticks(box):
        y = scale.y(tick.value, box)
        parts.append(line(box.x, y, box.right, y, theme.GRID))
        parts.append(words(tick.text, box.x - 8, y + 4, size=SIZE, fill=theme.QUIET, anchor="end"))
    return join(*parts)


def values_width(scale: Scale, box: Box) -> float:
    """How much room the values beside the box take."""
    return max((width_of(tick.text, SIZE) for tick in scale.ticks(box)), default=0) + 12


def times_grid(since: float, until: float, box: Box, *, has_lines: bool = True) -> Html:
    """Lines down the box at round times, which are written below it."""
    wide = width_of("00/00 00:00", SIZE) + 24
    parts = []
    for tick in ticks.of_times(since, until, int(box.width // wide)):
        x = time_x(tick.value, since, until, box)
        if has_lines:
            parts.append(line(x, box.y, x, box.bottom, theme.GRID))
        half = width_of(tick.text, SIZE) / 2
        middle = min(max(x, box.x - 20 + half), box.right + 8 - half)
        parts.append(words(tick.text, middle, box.bottom + 16, size=SIZE, fill=theme.QUIET, anchor="middle"))
    return join(*parts)


def time_x(moment: float, since: float, until: float, box: Box) -> float:
    """Where a time lies."""
    return box.x + (moment - since) / ((until - since) or 1) * box.width
