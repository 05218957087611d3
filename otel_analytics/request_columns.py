"""Many requests as numbers, column by column: what the store streams and the replay works on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

SAFE: Final = 1
"""Flag: the method is safe, GET or HEAD."""
KEYED: Final = 2
"""Flag: path and parameters are known in full, so that the key is what a cache would have used."""
STORABLE: Final = 4
"""Flag: answered 2xx, 206 excepted."""
ERROR: Final = 8
"""Flag: answered 4xx or 5xx."""
FROM_CACHE: Final = 16
"""Flag: a cache of the application's own had answered (`cache_status` is `hit`)."""

UNKNOWN: Final = -1
"""In `size_bytes` and `queries`; in `user` and `body` it is 0."""


class GroupName(NamedTuple):
    """What the number of a group stands for.

    Attributes:
        route: The template.
        method: A known HTTP method or `_OTHER`.
        pattern: The normalised parameters, as the JSON text that PostgreSQL makes of them.
    """

    route: str
    method: str
    pattern: str


@dataclass(frozen=True, slots=True)
class RequestColumns:
    """Requests in the order in which they started; all columns have the same length.

    Attributes:
        start_us: Microseconds since 1970-01-01 UTC.
        duration_us: To the last byte of the body.
        key: Hash of method, path and all parameters, without the user.
        user: Hash of the user; 0 where unknown.
        body: Hash of the body; 0 where unknown.
        size_bytes: Of the body; `UNKNOWN` where it is.
        queries: Database queries; `UNKNOWN` where not counted.
        group: Which route, method and pattern, numbered from 0 as they first came up.
        flags: The flags of this module, added up.
    """

    start_us: Int64s
    duration_us: Int64s
    key: Int64s
    user: Int64s
    body: Int64s
    size_bytes: Int64s
    queries: Int32s
    group: Int32s
    flags: Bytes

    def __len__(self) -> int:
        """How many requests."""
        return len(self.start_us)

    def take(self, places: "slice | Int64s | Bools") -> "RequestColumns":
        """Some of the requests, in the order given."""
        return RequestColumns(*(getattr(self, each.name)[places] for each in fields(self)))

    def has(self, flag: int) -> Bools:
        """Which requests have a flag."""
        having: Bools = (self.flags & flag) != 0
        return having


_DTYPES: Final = (np.int64,) * 6 + (np.int32, np.int32, np.uint8)


def columns(*values: Sequence[Any] | npt.NDArray[Any]) -> RequestColumns:
    """Columns from sequences of any kind, in the order of the fields of `RequestColumns`."""
    return RequestColumns(*(np.asarray(each, dtype) for each, dtype in zip(values, _DTYPES, strict=True)))


def no_requests() -> RequestColumns:
    """Columns without a row."""
    return columns(*((),) * len(_DTYPES))


def join(parts: Sequence[RequestColumns]) -> RequestColumns:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    names = [each.name for each in fields(RequestColumns)]
    return RequestColumns(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
