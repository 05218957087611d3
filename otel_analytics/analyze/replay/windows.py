"""Which requests compute the copies, which get them: what depends on the order in time.

All of it works on requests sorted by key, then by start. A *place* is the rank of the key times a span longer
than any time that occurs, plus the time: places are sorted, and a place and a time to live added give a place
again. Nothing here loops over requests.
"""

from typing import Final, NamedTuple

import numpy as np

from otel_analytics.request_columns import Bools, Int64s

MOST_PLACES: Final = 2**62
"""Where places would overflow, there are too many requests at once."""
_STEPS: Final = 16
"""Jumps that are made one after the other before longer chains are followed in another way."""


class Fills(NamedTuple):
    """What each storable request would lead to, were it the first to compute a copy; the same for every TTL.

    Attributes:
        at: Row of the request among all the rows.
        place: Where it starts.
        key_end: Place at which the next key begins.
        ready: Place at which the copy is there.
        source: Index, among the storable requests, of the one whose answer is the copy.
    """

    at: Int64s
    place: Int64s
    key_end: Int64s
    ready: Int64s
    source: Int64s


def fills(
    rank: Int64s, place: Int64s, end: Int64s, storable: Bools, *, span: int, single_flight: bool
) -> Fills:
    """Prepare rows for all times to live.

    Args:
        rank: Of the key of each row, from 0, ascending.
        place: Of its start, ascending.
        end: When its answer is complete, below `span`.
        storable: Whether that can be stored.
        span: As in the places.
        single_flight: Whether requests wait for a computation under way.
    """
    at = np.flatnonzero(storable)
    base = rank[at] * span
    ends = base + end[at]
    if single_flight:
        ready, source = ends, np.arange(len(at))
    else:
        # Of those that compute at the same time the first to be ready counts: the least end from here on. No
        # later key has one as small, and those that start after it cannot end before it.
        backwards = ends[::-1]
        least = np.minimum.accumulate(backwards)
        newest = np.where(backwards == least, np.arange(len(at)), 0)
        ready = least[::-1]
        source = len(at) - 1 - np.maximum.accumulate(newest)[::-1]
    return Fills(at, place[at], base + span, ready, source)


def first_fills(found: Fills, ttl: int, certain: Bools, possible: Bools) -> Int64s:
    """The storable requests that find no copy and no computation under way, as indexes into `found`.

    From one of them to the next leads a jump: the first storable request at or after the expiry.

    Args:
        found: The storable requests.
        ttl: Time to live.
        certain: Those known to be such, in each key the first.
        possible: Those that may be.
    """
    expiry = np.minimum(found.ready + ttl, found.key_end)
    # What begins when everything before it has expired is one for sure, and chains break there.
    latest = np.maximum.accumulate(expiry)
    is_first = certain.copy()
    is_first[1:] |= possible[1:] & (latest[:-1] <= found.place[1:])
    # One more, to jump to where a key ends.
    is_first = np.append(is_first, np.True_)
    origins = np.flatnonzero(is_first[:-1] & ~is_first[1:])
    for _ in range(_STEPS):
        if not len(origins):
            break
        landed = _jumps(found, expiry, origins)
        origins = landed[~is_first[landed]]
        is_first[origins] = True
    else:
        _follow(found, expiry, origins, is_first)
    return np.flatnonzero(is_first[:-1])


def _follow(found: Fills, expiry: Int64s, origins: Int64s, is_first: Bools) -> None:
    """Mark all that long chains lead to; in so many rounds as the logarithm of the longest has."""
    in_chain = np.isin(found.key_end, found.key_end[origins])
    open_ones = np.flatnonzero(in_chain & ~is_first[:-1])
    nowhere = len(open_ones)
    number = np.full(len(is_first), nowhere)
    number[open_ones] = np.arange(nowhere)
    reached = np.zeros(nowhere + 1, np.bool_)
    reached[number[_jumps(found, expiry, origins)]] = True
    jump = np.append(number[_jumps(found, expiry, open_ones)], nowhere)
    # After n rounds, a jump goes over 2^n of the first, and everything within as many is reached.
    while jump.min() < nowhere:
        reached[jump[np.flatnonzero(reached)]] = True
        jump = jump[jump]
    reached[jump[np.flatnonzero(reached)]] = True
    is_first[open_ones[reached[:-1]]] = True


def _jumps(found: Fills, expiry: Int64s, origins: Int64s) -> Int64s:
    """For each of some storable requests the next at or after its expiry; their number where none is."""
    target = np.searchsorted(found.place, expiry[origins], side="left")
    key_ends = np.append(found.key_end, -1)
    return np.where(key_ends[target] == found.key_end[origins], target, len(found.at))
