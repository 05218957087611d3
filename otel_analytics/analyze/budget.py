"""The best set under a budget of memory: of each pattern one way to cache it, or none.

A multiple-choice knapsack. First a price of memory is searched at which the ways that are worth most after
paying it just fit (Lagrange relaxation). They are a set to beat, and the price gives a bound that no set
can exceed; what cannot beat the one within the other is out of the question. The rest is searched pattern by
pattern, with dynamic programming over the sums that no other sum beats in both memory and time. That is
exact, unless more than `MOST_SUMS` sums remain: then the most promising are kept, and it is known how much
better the best set can be at most.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from otel_analytics.request_columns import Bools, Int64s

MOST_SUMS: Final = 20_000
_HALVINGS: Final = 100
_FILLINGS: Final = 200
_ROUNDING_US: Final = 1.0
"""Bounds are in floating point; by so much they are widened, so that no rounding excludes anything."""
_NEVER: Final = -1
"""Saved by what does not fit and by what is not there: less than by leaving a pattern out."""

Floats = npt.NDArray[np.float64]


class Way(NamedTuple):
    """What a way to cache a pattern takes and gives; whole numbers, so that sums are exact."""

    memory_bytes: int
    saved_us: int


class Chosen(NamedTuple):
    """A set that fits the memory.

    Attributes:
        ways: For each pattern the index of the way; None where it is left out.
        missed_us: By so much at most a better set may save more; 0 where this one is known to be the best.
    """

    ways: list[int | None]
    missed_us: int


class _Ways(NamedTuple):
    """A row for each pattern, a column for each way; the first one is to leave the pattern out."""

    memory: Int64s
    saved: Int64s

    def at(self, columns: Int64s) -> tuple[int, int]:
        """Memory and savings of one way of each pattern."""
        rows = np.arange(len(columns))
        return int(self.memory[rows, columns].sum()), int(self.saved[rows, columns].sum())


def choose(patterns: Sequence[Sequence[Way]], memory_bytes: int) -> Chosen:
    """Choose the ways that save most together.

    Args:
        patterns: The ways of each; there may be none.
        memory_bytes: What all of them together may take at most.
    """
    ways = _table(patterns, memory_bytes)
    price = _price(ways, memory_bytes)
    first = _filled(ways, _worth_most(ways, price), memory_bytes)
    columns, missed_us = _search(ways, first, price, memory_bytes)
    return Chosen([None if column == 0 else column - 1 for column in columns.tolist()], missed_us)


def _table(patterns: Sequence[Sequence[Way]], memory_bytes: int) -> _Ways:
    width = 1 + max(map(len, patterns), default=0)
    memory = np.zeros((len(patterns), width), np.int64)
    saved = np.full((len(patterns), width), _NEVER, np.int64)
    saved[:, 0] = 0
    for row, ways in enumerate(patterns):
        for column, way in enumerate(ways, start=1):
            if way.memory_bytes <= memory_bytes:
                memory[row, column], saved[row, column] = way
    return _Ways(memory, saved)


def _worth(ways: _Ways, price: float) -> Floats:
    """What each way saves beyond the price of its memory."""
    worth: Floats = ways.saved - price * ways.memory
    return worth


def _worth_most(ways: _Ways, price: float) -> Int64s:
    """The way of each pattern that is worth most; of equals one that takes least."""
    worth = _worth(ways, price)
    most = worth.max(axis=1, keepdims=True)
    columns: Int64s = np.where(worth == most, ways.memory, np.iinfo(np.int64).max).argmin(axis=1)
    return columns


def _price(ways: _Ways, memory_bytes: int) -> float:
    """The lowest price of a byte, as near as floating point gets, at which what is worth most fits."""
    if ways.at(_worth_most(ways, 0.0))[0] <= memory_bytes:
        return 0.0
    too_low, enough = 0.0, float(ways.saved.max() + 1)
    for _ in range(_HALVINGS):
        middle = (too_low + enough) / 2
        if ways.at(_worth_most(ways, middle))[0] <= memory_bytes:
            enough = middle
        else:
            too_low = middle
    return enough


def _filled(ways: _Ways, columns: Int64s, memory_bytes: int) -> Int64s:
    """The set, with what else fits added to it: in turn what saves most for the memory that it adds."""
    filled = columns.copy()
    rows = np.arange(len(filled))[:, None]
    free = memory_bytes - ways.at(filled)[0]
    for _ in range(_FILLINGS):
        more_memory = ways.memory - ways.memory[rows, filled[:, None]]
        more_saved = ways.saved - ways.saved[rows, filled[:, None]]
        fits = (more_saved > 0) & (more_memory <= free)
        if not fits.any():
            break
        ratio = np.where(fits, more_saved / np.maximum(more_memory, 1), _NEVER)
        row, column = divmod(int(ratio.argmax()), ratio.shape[1])
        free -= int(more_memory[row, column])
        filled[row] = column
    return filled


def _search(ways: _Ways, first: Int64s, price: float, memory_bytes: int) -> tuple[Int64s, int]:
    """The best set, and by how much at most it may be beaten.

    Args:
        ways: To choose from.
        first: A set that fits, to be beaten.
        price: Of a byte.
        memory_bytes: The budget.
    """
    to_beat = ways.at(first)[1]
    worth = _worth(ways, price)
    most = worth.max(axis=1)
    bound = float(most.sum()) + price * memory_bytes
    # What a set loses against the bound is the sum of what its ways lose, so that no way may lose more.
    open_ways: Bools = worth >= (most - (bound - to_beat) - _ROUNDING_US)[:, None]
    open_ways &= ways.saved != _NEVER
    memory, saved = np.zeros(1, np.int64), np.zeros(1, np.int64)
    steps: list[tuple[Int64s, Int64s]] = []
    beyond = 0.0
    for row, open_here in enumerate(open_ways):
        columns = np.flatnonzero(open_here)
        bound -= float(most[row])
        memory = (memory[:, None] + ways.memory[row, columns]).ravel()
        saved = (saved[:, None] + ways.saved[row, columns]).ravel()
        # `bound` now holds the price of all the memory, and what the rows to come are worth at most.
        reach = saved - price * memory + bound
        kept = _unbeaten(memory, saved, (memory <= memory_bytes) & (reach >= to_beat - _ROUNDING_US))
        if len(kept) > MOST_SUMS:
            order = np.argsort(-reach[kept], kind="stable")
            beyond = max(beyond, float(reach[kept[order[MOST_SUMS]]]))
            kept = np.sort(kept[order[:MOST_SUMS]])
        steps.append((kept // len(columns), columns[kept % len(columns)]))
        memory, saved = memory[kept], saved[kept]
    found = int(saved.max(initial=_NEVER))
    if found < to_beat:  # only where sums were given up
        return first, max(0, int(beyond) - to_beat)
    return _followed(steps, int(saved.argmax())), max(0, int(beyond) - found)


def _unbeaten(memory: Int64s, saved: Int64s, possible: Bools) -> Int64s:
    """The possible sums that save more than every other one that takes no more."""
    places = np.flatnonzero(possible)
    places = places[np.lexsort((-saved[places], memory[places]))]
    highest = np.maximum.accumulate(saved[places])
    is_higher = np.ones(len(places), np.bool_)
    is_higher[1:] = highest[1:] > highest[:-1]
    return places[is_higher]


def _followed(steps: list[tuple[Int64s, Int64s]], end: int) -> Int64s:
    """The way of each pattern that led to a sum."""
    columns = np.zeros(len(steps), np.int64)
    for row in reversed(range(len(steps))):
        before, way = steps[row]
        columns[row], end = way[end], before[end]
    return columns
