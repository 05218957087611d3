"""The requests of a chunk, and the copies from earlier chunks, sorted by key and time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from otel_analytics.analyze.replay.windows import MOST_PLACES, Fills
from otel_analytics.request_columns import Bools, Int64s, RequestColumns, join, no_requests

_BITS: Final = np.uint32


class Copies(NamedTuple):
    """Copies that may still be alive, or in the making, after a chunk.

    A copy stands for the computations of its key that overlapped: it starts with the first of them, ends when
    the first was ready, and is otherwise like that one. That is all that later requests depend on.

    Attributes:
        requests: One row a copy, sorted by key and start.
        alive_at: Bit i is set where it is the last copy of its key at the time to live number i.
    """

    requests: RequestColumns
    alive_at: npt.NDArray[np.uint32]

    @classmethod
    def none(cls) -> "Copies":
        """Of an empty cache."""
        return cls(no_requests(), np.zeros(0, _BITS))

    def at(self, ttl_number: int) -> Bools:
        """Which of them count at one time to live."""
        alive: Bools = (self.alive_at & _BITS(1 << ttl_number)) != 0
        return alive

    def ready_us(self) -> Int64s:
        """When each is there."""
        return self.requests.start_us + self.requests.duration_us


@dataclass(frozen=True, slots=True)
class Rows:
    """Copies and new requests that may be answered by the cache, sorted by key, then by start.

    Attributes:
        requests: Of each row.
        storable: Whether its answer may be stored.
        chunk_row: Its place in the chunk; -1 for a copy.
        is_new: Whether it is a request of the chunk.
        alive_at: Of a copy, as in `Copies`; else 0.
        rank: Of its key, from 0.
        first_us: What times are counted from.
        span: More than any time.
        place: Of the start; see `windows`.
        end: When the answer is complete.
    """

    requests: RequestColumns
    storable: Bools
    chunk_row: Int64s
    is_new: Bools
    alive_at: npt.NDArray[np.uint32]
    rank: Int64s
    first_us: int
    span: int
    place: Int64s
    end: Int64s

    @classmethod
    def sorted(
        cls, copies: Copies, chunk: RequestColumns, key: Int64s, cacheable: Bools, storable: Bools
    ) -> "Rows":
        """Bring copies and requests together.

        Args:
            copies: From before.
            chunk: In the order of time.
            key: Of each request of the chunk.
            cacheable: Which of them may be answered by the cache; the others are left out.
            storable: Of which of these the answer may be stored.

        Raises:
            OverflowError: There are too many keys over too long a time; a smaller chunk may do.
        """
        chosen = np.flatnonzero(cacheable)
        old = len(copies.requests)
        together = join([copies.requests, replace(chunk.take(chosen), key=key[chosen])])
        order = np.argsort(together.key, kind="stable")
        requests = together.take(order)
        rank = np.cumsum(requests.key[1:] != requests.key[:-1], dtype=np.int64)
        rank = np.concatenate([np.zeros(min(1, len(order)), np.int64), rank])
        first_us = int(requests.start_us.min(initial=chunk.start_us[0]))
        start = requests.start_us - first_us
        end = start + requests.duration_us
        span = int(end.max(initial=0)) + 2
        if (int(rank[-1]) + 2 if len(rank) else 0) * span > MOST_PLACES:
            raise OverflowError("too many keys in one chunk")
        return cls(
            requests=requests,
            storable=np.concatenate([np.ones(old, np.bool_), storable[chosen]])[order],
            chunk_row=np.concatenate([np.full(old, -1), chosen])[order],
            is_new=order >= old,
            alive_at=np.concatenate([copies.alive_at, np.zeros(len(chosen), _BITS)])[order],
            rank=rank,
            first_us=first_us,
            span=span,
            place=rank * span + start,
            end=end,
        )

    def first_new(self, found: Fills) -> Int64s:
        """The first new storable row of each key that has one, as an index into `found`."""
        is_new = self.is_new[found.at]
        begins = np.ones(len(is_new), np.bool_)
        begins[1:] = (found.key_end[1:] != found.key_end[:-1]) | ~is_new[:-1]
        return np.flatnonzero(begins & is_new)

    def certain(self, found: Fills, first_new: Int64s, ttl_number: int) -> Bools:
        """Which storable rows surely compute a copy at a time to live.

        A copy does where it is the last of its key at that time to live; where the key has no such copy, its
        first new request does. Copies of other times to live do nothing.
        """
        if self.is_new.all():
            only_new = np.zeros(len(found.at), np.bool_)
            only_new[first_new] = True
            return only_new
        rank = self.rank[found.at]
        certain: Bools = (self.alive_at[found.at] & _BITS(1 << ttl_number)) != 0
        has_copy = np.zeros(int(rank[-1]) + 1 if len(rank) else 0, np.bool_)
        has_copy[rank[certain]] = True
        certain[first_new] = ~has_copy[rank[first_new]]
        return certain

    def copies(self, found: Fills, alive: Sequence[Int64s]) -> Copies:
        """What later chunks need to know.

        Args:
            found: The storable rows.
            alive: For each time to live, the first fills whose copies are the last of their keys and alive.
        """
        bits = np.zeros(len(found.at), _BITS)
        for number, firsts in enumerate(alive):
            bits[firsts] |= _BITS(1 << number)
        firsts = np.flatnonzero(bits)
        source = found.at[found.source[firsts]]
        start_us = self.requests.start_us[found.at[firsts]]
        ready_us = self.end[source] + self.first_us
        made = replace(self.requests.take(source), start_us=start_us, duration_us=ready_us - start_us)
        return Copies(made, bits[firsts])
