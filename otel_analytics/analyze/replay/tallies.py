"""Sums over the requests of each group, added up chunk by chunk.

All of them are whole numbers, so that the order of adding does not matter. A group is a number from 0 on;
there is room for each from the moment it is first added to.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from otel_analytics.request_columns import Bools, Bytes, Int32s, Int64s

HOUR_US: Final = 3_600_000_000


class Sums:
    """Named sums of each group."""

    def __init__(self, names: Iterable[str]) -> None:
        """All are 0.

        Args:
            names: Of the sums.
        """
        self._sums = {name: np.zeros(0, np.int64) for name in names}

    def add(self, group: Int32s, values: Mapping[str, npt.NDArray[Any] | None]) -> None:
        """Add to the sums of the groups.

        Args:
            group: Of each request.
            values: Name of a sum to what each request adds to it: truth values, whole numbers from 0 on, or
                None for 1 each.
        """
        groups = int(group.max(initial=-1)) + 1
        for name, value in values.items():
            self._sums[name] = grown(self._sums[name], groups)
            self._sums[name][:groups] += _sum(group, value, groups)

    def totals(self, groups: Int64s) -> dict[str, list[int]]:
        """All sums of each of some groups."""
        return {name: of(groups, sums).tolist() for name, sums in self._sums.items()}


class Truths:
    """Of how many requests of each group something is true, for several things at once.

    What is true of a request is a number, in which each thing has a bit.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """No request yet.

        Args:
            names: Of the things, lowest bit first; 8 at most.
        """
        self._names = names
        self._counts = np.zeros((2 ** len(names), 0), np.int64)

    def add(self, group: Int32s, truths: Bytes) -> None:
        """Add requests."""
        groups, kinds = int(group.max(initial=-1)) + 1, len(self._counts)
        found = np.bincount(group * np.int64(kinds) + truths, minlength=groups * kinds)
        self._counts = grown(self._counts, groups)
        self._counts[:, :groups] += found.reshape(groups, kinds).T

    def totals(self, groups: Int64s) -> dict[str, list[int]]:
        """For each thing, of how many requests of each of some groups it is true; `all` counts all."""
        counts = of(groups, self._counts)
        kinds = np.arange(len(counts))
        found = {name: counts[kinds >> bit & 1 == 1].sum(axis=0) for bit, name in enumerate(self._names)}
        return {"all": counts.sum(axis=0).tolist(), **{name: each.tolist() for name, each in found.items()}}


class BusiestHour:
    """The hour (UTC) of each group with the most requests, and the hits in it at each time to live.

    Requests come in the order of time, so only one hour is open.
    """

    def __init__(self, ttls: int) -> None:
        """No hour yet.

        Args:
            ttls: Number of times to live.
        """
        self._hour = -1
        # A row for the requests, then one for the hits at each time to live.
        self._open = np.zeros((1 + ttls, 0), np.int64)
        self._best = np.zeros((1 + ttls, 0), np.int64)

    def add(self, start_us: Int64s, group: Int32s, hits: Bools) -> None:
        """Add requests.

        Args:
            start_us: Of each, ascending.
            group: Of each.
            hits: A row for each time to live: which of them were hits.
        """
        groups = int(group.max(initial=-1)) + 1
        self._open, self._best = grown(self._open, groups), grown(self._best, groups)
        hours = start_us // HOUR_US
        bounds = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), len(hours)]
        for first, end in pairwise(bounds):
            if hours[first] != self._hour:
                self._close()
                self._hour = int(hours[first])
            part = group[first:end]
            for row, values in enumerate([None, *hits[:, first:end]]):
                self._open[row, :groups] += _sum(part, values, groups)

    def totals(self, groups: Int64s) -> list[list[int]]:
        """Of some groups: requests in the busiest hour, then hits in it at each time to live.

        Of equally busy hours the first counts.
        """
        self._close()
        found: list[list[int]] = of(groups, self._best).tolist()
        return found

    def _close(self) -> None:
        better = self._open[0] > self._best[0]
        self._best[:, better] = self._open[:, better]
        self._open[:] = 0


class FirstAndLast:
    """When each group was first and last seen; moments are above 0."""

    def __init__(self) -> None:
        """No group yet."""
        self._first_us = np.zeros(0, np.int64)
        self._last_us = np.zeros(0, np.int64)

    def add(self, start_us: Int64s, group: Int32s) -> None:
        """Add requests; ascending."""
        groups = int(group.max(initial=-1)) + 1
        self._first_us, self._last_us = grown(self._first_us, groups), grown(self._last_us, groups)
        # Of several values for one place the last one stays.
        first = np.zeros_like(self._first_us)
        first[group[::-1]] = start_us[::-1]
        self._first_us = np.where(self._last_us == 0, first, self._first_us)
        self._last_us[group] = start_us

    def totals(self, groups: Int64s) -> list[tuple[int, int]]:
        """Both moments of each of some groups."""
        first_us, last_us = of(groups, self._first_us), of(groups, self._last_us)
        return list(zip(first_us.tolist(), last_us.tolist(), strict=True))

    def groups(self) -> Int64s:
        """All that were seen."""
        return np.flatnonzero(self._last_us)


def grown(sums: Int64s, groups: int) -> Int64s:
    """The array with zeros added at the end of its last axis, up to so many groups."""
    missing = groups - sums.shape[-1]
    if missing <= 0:
        return sums
    return np.concatenate([sums, np.zeros((*sums.shape[:-1], missing), np.int64)], axis=-1)


def of(groups: Int64s, sums: Int64s) -> Int64s:
    """The part of the last axis that belongs to some groups; 0 where nothing was added yet."""
    return grown(sums, int(groups.max(initial=-1)) + 1)[..., groups]


def _sum(group: Int32s, values: npt.NDArray[Any] | None, groups: int) -> Int64s:
    if values is None:
        return np.bincount(group, minlength=groups)
    if values.dtype == np.bool_:
        return np.bincount(group[values], minlength=groups)
    # In floating point, which is exact as long as no sum of a chunk comes near 2^53.
    return np.bincount(group, weights=values, minlength=groups).astype(np.int64)
