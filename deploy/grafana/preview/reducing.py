"""One number of many, as legends and stats show it. Pure."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from deploy.grafana.preview.errors import PanelError

Numbers = Sequence[float]


class Reducer(NamedTuple):
    """A way to make one number of many.

    Attributes:
        name: In a legend.
        of: What it makes of at least one number.
    """

    name: str
    of: Callable[[Numbers], float]


_REDUCERS: Final = {
    "lastNotNull": Reducer("Last *", lambda numbers: numbers[-1]),
    "mean": Reducer("Mean", fmean),
    "max": Reducer("Max", max),
    "min": Reducer("Min", min),
    "sum": Reducer("Total", sum),
}


def reduced(calculation: str, values: Sequence[float | None]) -> float | None:
    """The number; None where there are none.

    Raises:
        PanelError: The calculation is not known.
    """
    numbers = [value for value in values if value is not None]
    reducer = _reducer(calculation)
    return reducer.of(numbers) if numbers else None


def name_of(calculation: str) -> str:
    """What a legend writes above it."""
    return _reducer(calculation).name


def _reducer(calculation: str) -> Reducer:
    if calculation not in _REDUCERS:
        raise PanelError(f"the calculation {calculation!r} is not supported")
    return _REDUCERS[calculation]
