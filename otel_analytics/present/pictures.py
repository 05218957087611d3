"""Small pictures made of characters, for terminals with and without colour, and for those without Unicode."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from rich.console import Console
from rich.text import Text

_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = "._-~=+*#"
_SHADES: Final = "░▒▓█"
_ASCII_SHADES: Final = ".-+#"
_COLOURS: Final = ("blue", "cyan", "yellow", "red")
_ZERO: Final = "·"
_ASCII_ZERO: Final = "'"
_MISSING: Final = " "
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOURS: Final = range(24)
_CELL: Final = 3
"""Columns of a terminal for an hour: 24 of them and the name of the day fit into 80."""

Week = Mapping[tuple[int, int], float]
"""Weekday (1 is Monday) and hour to a figure from 0 on; hours without figures are left out."""


def sparkline(values: Sequence[float | None], *, ascii_only: bool = False) -> str:
    """One character a figure, from 0 to the largest; a blank where there is none.

    Args:
        values: From 0 on.
        ascii_only: Whether the terminal knows nothing else.
    """
    bars = _ASCII_BARS if ascii_only else _BARS
    largest = max((value for value in values if value is not None), default=0) or 1
    return "".join(
        _MISSING if value is None else bars[min(len(bars) - 1, int(value / largest * len(bars)))]
        for value in values
    )


def condensed(values: Sequence[float | None], cells: int) -> list[float | None]:
    """So many figures at most, each the mean of those next to each other."""
    if len(values) <= cells:
        return list(values)
    edges = [round(place * len(values) / cells) for place in range(cells + 1)]
    means = []
    for first, end in pairwise(edges):
        found = [value for value in values[first:end] if value is not None]
        means.append(sum(found) / len(found) if found else None)
    return means


def print_heat_map(week: Week, console: Console) -> None:
    """The hours of a week, darker where there is more; what the shades mean stands below.

    Args:
        week: One or more figures.
        console: Where it appears.
    """
    ascii_only = console.options.ascii_only
    shades = _ASCII_SHADES if ascii_only else _SHADES
    zero = _ASCII_ZERO if ascii_only else _ZERO
    largest = max(week.values())
    header = "".join(f"{hour:<{_CELL * 3}}" for hour in _HOURS[::3])
    console.print(Text(f"     {header}".rstrip(), style="bold"), soft_wrap=True)
    for weekday, name in enumerate(_WEEKDAYS, start=1):
        line = Text(f"{name}  ")
        for hour in _HOURS:
            value = week.get((weekday, hour))
            if value is None:
                line.append(_MISSING * _CELL)
            elif not value:
                line.append(zero.ljust(_CELL), style="dim")
            else:
                level = _level(value, largest)
                line.append(shades[level] * _CELL, style=_COLOURS[level])
        line.rstrip()
        console.print(line, soft_wrap=True)
    legend = Text("\nrequests an hour (UTC):  ")
    legend.append(zero, style="dim")
    legend.append(" none  ")
    for level, shade in enumerate(shades):
        legend.append(shade, style=_COLOURS[level])
        legend.append(f" to {largest * (level + 1) / len(shades):,.0f}  ")
    legend.rstrip()
    console.print(legend, soft_wrap=True)


def _level(value: float, largest: float) -> int:
    return min(len(_SHADES) - 1, int(value / largest * len(_SHADES)))
