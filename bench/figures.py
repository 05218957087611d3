"""What the benchmarks have in common: a figure is a ratio against a peer or floor of the same run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        number: Of the measurement, such as `P1`.
        what: What was measured.
        value: Median, in `unit`.
        unit: Of `value`.
        against: The peer or floor; empty where there is none.
        ratio: Median of the ratios within a round to it; None where there is none.
        low: The smallest of these ratios.
        high: The largest.
        aim: What it is to be, in words; empty for no aim.
    """

    number: str
    what: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    aim: str = ""


def compared(
    number: str,
    what: str,
    values: Sequence[float],
    unit: str,
    *,
    against: str,
    floor: Sequence[float],
    aim: str = "",
) -> Figure:
    """A figure against another, both measured in the same rounds.

    Args:
        number: Of the measurement.
        what: What was measured.
        values: One a round.
        unit: Of the values.
        against: The peer or floor.
        floor: Its values, one a round.
        aim: What it is to be.
    """
    ratios = [value / other for value, other in zip(values, floor, strict=True)]
    return Figure(
        number,
        what,
        statistics.median(values),
        unit,
        against,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        aim,
    )
