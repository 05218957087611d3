"""Intervals as Grafana writes, reads and rounds them."""

import re
from typing import Final

from deploy.grafana.preview.errors import QueryError

_UNITS: Final = {
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "M": 2_592_000,
    "y": 31_536_000,
}
_WRITTEN: Final = re.compile(r">?\s*(\d+)(ms|[smhdwMy])")
# Seconds below which an interval is rounded to the second number.
_STEPS: Final = (
    (0.015, 0.01),
    (0.035, 0.02),
    (0.075, 0.05),
    (0.15, 0.1),
    (0.35, 0.2),
    (0.75, 0.5),
    (1.5, 1),
    (3.5, 2),
    (7.5, 5),
    (12.5, 10),
    (17.5, 15),
    (25, 20),
    (45, 30),
    (90, 60),
    (210, 120),
    (450, 300),
    (750, 600),
    (1_050, 900),
    (1_500, 1_200),
    (2_700, 1_800),
    (5_400, 3_600),
    (9_000, 7_200),
    (16_200, 10_800),
    (32_400, 21_600),
    (86_400, 43_200),
    (604_800, 86_400),
    (1_814_400, 604_800),
    (3_628_800, 2_592_000),
)


def parsed(text: str) -> float:
    """Seconds of `15s`, `5m`, `1h` and the like.

    Raises:
        QueryError: It is no interval.
    """
    match = _WRITTEN.fullmatch(text.strip())
    if not match:
        raise QueryError(f"{text!r} is no interval")
    return int(match[1]) * _UNITS[match[2]]


def rounded(seconds: float) -> float:
    """The interval that Grafana takes where points would lie so many seconds apart."""
    return next((to for below, to in _STEPS if seconds < below), _UNITS["y"])


def written(seconds: float) -> str:
    """The whole number of the largest unit that fits: `1m` for 60."""
    for unit in ("y", "d", "h", "m", "s"):
        if seconds >= _UNITS[unit]:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    return f"{int(seconds * 1_000) or 1}ms"


def between_points(range_seconds: float, points: int, *, at_least: float) -> float:
    """Seconds between two points of a panel.

    Args:
        range_seconds: That the panel shows.
        points: As many as it has room for.
        at_least: Seconds.
    """
    return max(rounded(range_seconds / points), at_least)
