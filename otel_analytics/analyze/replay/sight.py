"""What a cache may do with each request of a chunk, as far as the request itself tells."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from otel_analytics.request_columns import (
    ERROR,
    FROM_CACHE,
    KEYED,
    SAFE,
    STORABLE,
    UNKNOWN,
    Bools,
    Int64s,
    RequestColumns,
)

_ODD: Final = np.int64(-7046029254386353131)
"""2^64 divided by the golden ratio, as a signed number; spreads users over the keys."""
COUNTED: Final = (
    "requests", "cacheable", "unsafe", "unkeyed", "without_user", "storable", "errors", "from_cache",
    "duration_us", "known_bodies", "known_sizes", "known_queries", "known_users",
)  # fmt: skip


class Sight(NamedTuple):
    """A chunk, looked at request by request.

    Attributes:
        key: With the user in it where the cache is a user's own.
        cacheable: Which requests may be answered by the cache.
        storable: Of which of these the answer may be stored.
        counts: What each adds to the sums named in `COUNTED`.
    """

    key: Int64s
    cacheable: Bools
    storable: Bools
    counts: Mapping[str, npt.NDArray[Any] | None]


def look(chunk: RequestColumns, *, per_user: bool) -> Sight:
    """Look at each request.

    Args:
        chunk: The requests.
        per_user: Whether the user is a part of the key.
    """
    safe, keyed, known_user = chunk.has(SAFE), chunk.has(KEYED), chunk.user != 0
    cacheable = safe & keyed
    without_user = np.zeros(len(chunk), np.bool_)
    key = chunk.key
    if per_user:
        without_user = cacheable & ~known_user
        cacheable &= known_user
        key = key ^ (chunk.user * _ODD)
    storable = cacheable & chunk.has(STORABLE)
    counts = {
        "requests": None,
        "cacheable": cacheable,
        "unsafe": ~safe,
        "unkeyed": safe & ~keyed,
        "without_user": without_user,
        "storable": storable,
        "errors": chunk.has(ERROR),
        "from_cache": chunk.has(FROM_CACHE),
        "duration_us": chunk.duration_us,
        "known_bodies": storable & (chunk.body != 0),
        "known_sizes": storable & (chunk.size_bytes != UNKNOWN),
        "known_queries": cacheable & (chunk.queries != UNKNOWN),
        "known_users": cacheable & known_user,
    }
    return Sight(key, cacheable, storable, counts)
