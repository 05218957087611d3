"""One number of many, as legends and stats show it. Pure."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Final, NamedTuple

from deploy.grafana.preview.fields import PanelError

Numbers = Sequence[float]


class Reducer(NamedTuple):
    """A way to make one number of many.

    Attributes:
        name: In a legend.
        of: What it makes of at least one number.
    """

    name: str
    of: Callable[[Numbers], float]


def _increase(numbers: Numbers) -> float:
    """What was added over time; where the count fell it began anew."""
    return sum(later - earlier if later >= earlier else later for earlier, later in pairwise(numbers))


REDUCERS: Final = {
    "lastNotNull": Reducer("Last *", lambda numbers: numbers[-1]),
    "firstNotNull": Reducer("First *", lambda numbers: numbers[0]),
    "mean": Reducer("Mean", fmean),
    "median": Reducer("Median", median),
    "max": Reducer("Max", max),
    "min": Reducer("Min", min),
    "sum": Reducer("Total", sum),
    "count": Reducer("Count", lambda numbers: float(len(numbers))),
    "range": Reducer("Range", lambda numbers: max(numbers) - min(numbers)),
    "delta": Reducer("Delta", _increase),
    "diff": Reducer("Difference", lambda numbers: numbers[-1] - numbers[0]),
}


def reduced(calculation: str, values: Sequence[float | None]) -> float | None:
    """The number; None where there are none.

    Raises:
        PanelError: The calculation is not known.
    """
    if calculation in ("last", "first"):
        return (values[-1] if calculation == "last" else values[0]) if values else None
    numbers = [value for value in values if value is not None]
    reducer = _reducer(calculation)
    return reducer.of(numbers) if numbers else None


def name_of(calculation: str) -> str:
    """What a legend writes above it."""
    return calculation.capitalize() if calculation in ("last", "first") else _reducer(calculation).name


def _reducer(calculation: str) -> Reducer:
    if calculation not in REDUCERS:
        raise PanelError(f"the calculation {calculation!r} is not supported")
    return REDUCERS[calculation]
