"""Where the lines of a grid stand and what is written at them. Pure."""

import datetime as dt
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from deploy.grafana.preview import units

_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_POWERS: Final = tuple(2.0**power for power in range(11))
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_TIMES: Final = (
    *(1, 5, 10, 15, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY, 30 * _DAY),
)
_MOST_DECIMALS: Final = 4


class Tick(NamedTuple):
    """A value of an axis and what is written at it."""

    value: float
    text: str


def of_values(low: float, high: float, count: int, unit: str, decimals: int | None = None) -> list[Tick]:
    """Round values from low to high.

    Args:
        low: The least that is shown.
        high: The most.
        count: How many there is room for.
        unit: What they are written in.
        decimals: As the field says; None for as many as tell them apart.
    """
    step = step_for(high - low, max(count, 1), unit, max(abs(low), abs(high)))
    first = math.ceil(round(low / step, 6))
    values = [number * step for number in range(first, math.floor(round(high / step, 6)) + 1)]
    return [Tick(value, text) for value, text in zip(values, _texts(values, unit, decimals), strict=True)]


def of_times(since: float, until: float, count: int) -> list[Tick]:
    """Round points in time, seconds since 1970, as many as there is room for."""
    span = until - since
    step = next((each for each in _TIMES if span / each <= max(count, 1)), _TIMES[-1])
    first = math.ceil(since / step)
    values = [number * step for number in range(first, math.floor(until / step) + 1)]
    form = _time_form(step, span)
    return [Tick(value, dt.datetime.fromtimestamp(value, dt.UTC).strftime(form)) for value in values]


def step_for(span: float, count: int, unit: str, largest: float) -> float:
    """A round step that gives no more ticks than there is room for."""
    divisor = units.divisor(unit, largest)
    least = (span or 1) / divisor / count
    if unit == "bytes":
        return divisor * next((each for each in _POWERS if each >= least), _POWERS[-1])
    power = 10.0 ** math.floor(math.log10(least))
    return divisor * power * next(each for each in _ROUND if each * power >= least * 0.999)


def _texts(values: Sequence[float], unit: str, decimals: int | None) -> list[str]:
    """With as few decimals as say those of the same size of the unit truly."""
    if decimals is not None:
        return [units.formatted(value, unit, decimals) for value in values]
    needed: dict[float, int] = {}
    for value in values:
        divisor = units.divisor(unit, value)
        needed[divisor] = max(needed.get(divisor, 0), _decimals(value / divisor))
    return [units.formatted(value, unit, needed[units.divisor(unit, value)]) for value in values]


def _decimals(value: float) -> int:
    return next(
        (each for each in range(_MOST_DECIMALS) if math.isclose(round(value, each), value, abs_tol=1e-9)),
        _MOST_DECIMALS,
    )


def _time_form(step: int, span: float) -> str:
    if step < _MINUTE:
        return "%H:%M:%S"
    if step >= _DAY:
        return "%m/%d"
    return "%H:%M" if span <= _DAY else "%m/%d %H:%M"
