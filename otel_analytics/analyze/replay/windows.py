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
    count = len(found.at)
    expiry = np.minimum(found.ready + ttl, found.key_end)
    # What begins when everything before it has expired is one for sure, and chains break there.
    latest = np.maximum.accumulate(expiry)
    is_first = certain.copy()
    is_first[1:] |= possible[1:] & (latest[:-1] <= found.place[1:])
    open_ones = np.flatnonzero(possible & ~is_first)
    if not len(open_ones):
        return np.flatnonzero(is_first)
    # Chains go through those that are left, until they meet one that is known, or the end of the key.
    number = np.full(count + 1, len(open_ones))
    number[open_ones] = np.arange(len(open_ones))
    known = np.flatnonzero(is_first)
    entered = number[_jumps(found, expiry, known)]
    jump = np.append(number[_jumps(found, expiry, open_ones)], len(open_ones))
    reached = np.zeros(len(open_ones) + 1, dtype=np.bool_)
    reached[entered] = True
    reached[-1] = False
    # After n rounds, everything within 2^n jumps of the entries is reached.
    frontier = np.flatnonzero(reached)
    while len(frontier):
        landed = jump[frontier]
        reached[landed] = True
        reached[-1] = False
        jump = jump[jump]
        frontier = np.flatnonzero(reached) if jump.min() < len(open_ones) else frontier[:0]
    is_first[open_ones] = reached[:-1]
    return np.flatnonzero(is_first)


def _jumps(found: Fills, expiry: Int64s, origins: Int64s) -> Int64s:
    """For each of some storable requests the next at or after its expiry; their number where none is."""
    wanted = expiry[origins]
    target = np.searchsorted(found.place, wanted, side="left")
    return np.where(wanted >= found.key_end[origins], len(found.at), target)
