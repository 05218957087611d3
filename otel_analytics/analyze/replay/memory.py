"""How much memory the live entries of each group take, at most."""

from dataclasses import dataclass

import numpy as np

from otel_analytics.analyze.replay.tallies import grown, of
from otel_analytics.request_columns import Bools, Int32s, Int64s


@dataclass(frozen=True, slots=True)
class Entries:
    """Answers that may become entries, sorted by group and by the moment in which they are ready.

    Attributes:
        order: Sorts the answers as they were given.
        group: Of each, sorted.
        place: Sorted: the group times a span longer than any moment, plus the moment from 1 on.
        base: The place at which the group begins.
        size_bytes: What an entry takes.
    """

    order: Int64s
    group: Int32s
    place: Int64s
    base: Int64s
    size_bytes: Int64s

    @classmethod
    def of(cls, group: Int32s, ready: Int64s, size_bytes: Int64s, overhead_bytes: int) -> "Entries":
        """Sort answers.

        Args:
            group: Of each.
            ready: Microseconds, from any moment on.
            size_bytes: Of the body; below 0 where unknown.
            overhead_bytes: What an entry takes beside.
        """
        first = int(ready.min(initial=0))
        span = int(ready.max(initial=0)) - first + 2
        base = group * np.int64(span)
        place = base + (ready - first + 1)
        order = np.argsort(place, kind="stable")
        sizes = np.maximum(size_bytes, 0) + overhead_bytes
        return cls(order, group[order], place[order], base[order], sizes[order])


class PeakMemory:
    """The largest sum of the sizes of live entries of each group, at one time to live."""

    def __init__(self, ttl_us: int) -> None:
        """Nothing stored yet.

        Args:
            ttl_us: Time to live, microseconds.
        """
        self._ttl_us = ttl_us
        self._peak = np.zeros(0, np.int64)

    def add(self, entries: Entries, stored: Bools) -> None:
        """Look at the memory right after each of some answers was stored, which is when it is largest.

        Args:
            entries: Sorted.
            stored: Which of the answers, in the order in which they were given, are entries. Those stored by
                an earlier call and alive at the end of it must be among them.
        """
        chosen = np.flatnonzero(stored[entries.order])
        if not len(chosen):
            return
        group, place = entries.group[chosen], entries.place[chosen]
        total = np.concatenate([[0], np.cumsum(entries.size_bytes[chosen])])
        # All that was stored so far, less what has expired by then.
        expired = np.searchsorted(place, np.maximum(place - self._ttl_us, entries.base[chosen]), side="right")
        held = total[1:] - total[expired]
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        named = group[begins]
        self._peak = grown(self._peak, int(named[-1]) + 1)
        self._peak[named] = np.maximum(self._peak[named], np.maximum.reduceat(held, begins))

    def totals(self, groups: Int64s) -> list[int]:
        """Bytes of each of some groups."""
        found: list[int] = of(groups, self._peak).tolist()
        return found
