"""The axes of graphs and heat maps: where values and times lie, the grid, what is written at it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from deploy.grafana.preview import theme, ticks
from deploy.grafana.preview.drawing import Box, line, width_of, words
from deploy.grafana.preview.fields import Field
from deploy.grafana.preview.ticks import Tick
from otel_analytics.present.report.markup import Html, join

SIZE: Final = 11
TIMES_HEIGHT: Final = 22
_PIXELS_PER_TICK: Final = 42
_HEADROOM: Final = 0.06
_FROM_ZERO: Final = 0.6
_LOG: Final = "log"


@dataclass(frozen=True)
class Scale:
    """Values from low to high.

    Attributes:
        low: At the bottom.
        high: At the top.
        unit: The values are written in.
        decimals: As the field says.
        base: Of the logarithm; 0 for none.
    """

    low: float
    high: float
    unit: str
    decimals: int | None = None
    base: float = 0

    def y(self, value: float, box: Box) -> float:
        """Where a value lies."""
        low, high, at = self.low, self.high, value
        if self.base:
            low, high, at = math.log(low), math.log(high), math.log(max(value, self.low))
        return box.bottom - (at - low) / ((high - low) or 1) * box.height

    def ticks(self, box: Box) -> list[Tick]:
        """What is written at it."""
        if self.base:
            return ticks.of_logarithm(self.low, self.high, self.base, self.unit)
        count = max(int(box.height // _PIXELS_PER_TICK), 2)
        return ticks.of_values(self.low, self.high, count, self.unit, self.decimals)


def scale_for(fields: Sequence[Field], values: Iterable[float]) -> Scale:
    """A scale that holds the values.

    Args:
        fields: Whose first one says unit, limits and kind.
        values: Those drawn, stacked ones added up.
    """
    field, known = fields[0], list(values)
    spread = field.custom.get("scaleDistribution") or {}
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    decimals = field.config.get("decimals")
    if spread.get("type") == _LOG:
        base = float(spread.get("log") or 2)
        positive = [value for value in known if value > 0] or [1.0]
        low = base ** math.floor(math.log(min(positive), base))
        high = base ** math.ceil(math.log(max(positive), base))
        return Scale(low, max(high, low * base), field.unit, decimals, base)
    limits = [field.config.get(name) for name in ("min", "max")]
    soft_low, soft_high = (field.custom.get(name) for name in ("axisSoftMin", "axisSoftMax"))
    low = min(low, soft_low) if soft_low is not None else low
    high = max(high, soft_high) if soft_high is not None else high
    if low >= 0 and low < high * _FROM_ZERO:
        low = 0.0
    room = (high - low or abs(high) or 1) * _HEADROOM
    low = low if low == 0 else low - room
    least = float(limits[0]) if limits[0] is not None else low
    most = float(limits[1]) if limits[1] is not None else high + room
    return Scale(least, most if most > least else least + 1, field.unit, decimals)


def values_grid(scale: Scale, box: Box, *, is_right: bool = False, has_lines: bool = True) -> Html:
    """Lines across the box at round values, which are written beside it."""
    parts = []
    for tick in scale.ticks(box):
        y = scale.y(tick.value, box)
        if has_lines:
            parts.append(line(box.x, y, box.right, y, theme.GRID))
        x = box.right + 8 if is_right else box.x - 8
        anchor = "start" if is_right else "end"
        parts.append(words(tick.text, x, y + 4, size=SIZE, fill=theme.QUIET, anchor=anchor))
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
