"""Figures with their units, written as Grafana writes them."""

import datetime as dt
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from deploy.grafana.preview.errors import PanelError

Decimals = int | None


class Scale(NamedTuple):
    """One size of a unit: from how much on, divided by what, and what stands behind."""

    least: float
    divisor: float
    suffix: str


_MINUTE, _HOUR, _DAY, _WEEK, _YEAR = 60.0, 3_600.0, 86_400.0, 604_800.0, 31_536_000.0
_AGO: Final = (
    (45, 1.0, "a few seconds ago", ""),
    (45 * _MINUTE, _MINUTE, "a minute ago", "minutes"),
    (22 * _HOUR, _HOUR, "an hour ago", "hours"),
    (26 * _DAY, _DAY, "a day ago", "days"),
    (320 * _DAY, 30 * _DAY, "a month ago", "months"),
    (548 * _DAY, _YEAR, "a year ago", ""),
)
"""Seconds below which a unit holds, its seconds, and its words."""
_SECONDS: Final = (
    Scale(0, 1e-9, " ns"),
    Scale(1e-6, 1e-6, " µs"),
    Scale(1e-3, 1e-3, " ms"),
    Scale(1, 1, " s"),
    Scale(_MINUTE, _MINUTE, " min"),
    Scale(_HOUR, _HOUR, " hour"),
    Scale(_DAY, _DAY, " day"),
    Scale(_WEEK, _WEEK, " week"),
    Scale(_YEAR, _YEAR, " year"),
)
_MILLISECONDS: Final = (
    Scale(0, 1, " ms"),
    *(
        Scale(each.least * 1e3, each.divisor * 1e3, each.suffix)
        for each in _SECONDS[3:]
        if "week" not in each.suffix
    ),
)
_WITH_PLURAL: Final = frozenset({" min", " hour", " day", " week", " year"})
_SHORT: Final = ("", " K", " Mil", " Bil", " Tri")
_COUNT: Final = ("", "K", "M", "B", "T")
_IEC: Final = (" B", " KiB", " MiB", " GiB", " TiB")
_PER_SECOND: Final = {"reqps": "req/s", "cps": "c/s", "eps": "evt/s"}


def formatted(value: float | None, unit: str = "", decimals: Decimals = None, *, now: float = 0) -> str:
    """The figure as text.

    Args:
        value: None gives a dash.
        unit: As a field's configuration names it.
        decimals: None for as many as three digits need.
        now: Seconds since 1970, for units that say how long ago something was.

    Raises:
        PanelError: The unit is not known.
    """
    if value is None:
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "dateTimeFromNow":
        return ago(now - value / 1_000)
    text = _FORMATS[unit](value, decimals) if unit in _FORMATS else _unit_of_its_own(value, unit, decimals)
    return text.rstrip()


def divisor(unit: str, value: float) -> float:
    """By what the figure is divided before it is written, so that ticks can be chosen round."""
    if unit in _SCALES:
        return _scale(_SCALES[unit], value).divisor
    return 0.01 if unit == "percentunit" else 1.0


def fixed(value: float, decimals: Decimals) -> str:
    """The number alone."""
    if decimals is None:
        decimals = _decimals(value)
    text = f"{value:.{max(decimals, 0)}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _decimals(value: float) -> int:
    if value % 1 == 0:
        return 0
    digits = 1 - math.floor(math.log10(abs(value)))
    return max(0, digits + 1 if abs(value) * 10**digits > 2.25 else digits)  # noqa: PLR2004 - Grafana's number


def _scaled(divisor: float, suffixes: Sequence[str]) -> tuple[Scale, ...]:
    return tuple(
        Scale(divisor**power if power else 0, divisor**power, suffix) for power, suffix in enumerate(suffixes)
    )


_SCALES: Final = {
    "s": _SECONDS,
    "ms": _MILLISECONDS,
    "short": _scaled(1_000, _SHORT),
    "bytes": _scaled(1_024, _IEC),
    **{unit: _scaled(1_000, [f"{prefix} {name}" for prefix in _COUNT]) for unit, name in _PER_SECOND.items()},
}


def _scale(scales: Sequence[Scale], value: float) -> Scale:
    return next((each for each in reversed(scales) if abs(value) >= each.least), scales[0])


def _by_scales(scales: Sequence[Scale]) -> Callable[[float, Decimals], str]:
    def write(value: float, decimals: Decimals) -> str:
        # Nothing is nothing of the unit itself.
        scale = _scale(scales, value) if value else next(each for each in scales if each.divisor == 1)
        number = value / scale.divisor
        is_plural = scale.suffix in _WITH_PLURAL and abs(number) > 1
        return fixed(number, decimals) + scale.suffix + ("s" if is_plural else "")

    return write


def _unit_of_its_own(value: float, unit: str, decimals: Decimals) -> str:
    kind, colon, rest = unit.partition(":")
    if kind == "suffix" and colon:
        return f"{fixed(value, decimals)} {rest}"
    raise PanelError(f"the unit {unit!r} is not supported")


def moment(seconds: float) -> str:
    """A point in time, UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float) -> str:
    """How long ago something was, in words."""
    for below, per, one, many in _AGO:
        if seconds < below:
            count = max(round(seconds / per), 1)
            return one if count == 1 or not many else f"{count} {many} ago"
    return f"{round(seconds / _YEAR)} years ago"


_FORMATS: Final[dict[str, Callable[[float, Decimals], str]]] = {
    "": fixed,
    "none": fixed,
    "locale": lambda value, decimals: f"{value:,.{decimals or 0}f}",
    "percent": lambda value, decimals: fixed(value, decimals) + "%",
    "percentunit": lambda value, decimals: fixed(value * 100, decimals) + "%",
    "dateTimeAsIso": lambda value, _: moment(value / 1_000),
    **{unit: _by_scales(scales) for unit, scales in _SCALES.items()},
}
