"""Raw requests for the replay: streamed in the order of time, as numbers."""

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from otel_analytics.record import (
    MAX_PARAM_LENGTH,
    MAX_PARAMS,
    MAX_ROUTE_FULL_LENGTH,
    REDACTED,
    UNMATCHED_ROUTE,
)
from otel_analytics.request_columns import GroupName, Int32s, Int64s, RequestColumns
from otel_analytics.store.connection import Connection, translated
from otel_analytics.store.queries import load

CHUNK: Final = 131_072
"""Requests handed over at once. More would be slower: they outgrow the cache of the processor."""
MAX_GROUPS: Final = 20_000
"""Groups kept apart. Those that come up later, in a flood of invented parameters, share the next number."""

_QUERIES: Final = load("replay")
_EPOCH_2000_US: Final = 946_684_800_000_000
"""What PostgreSQL counts its timestamps from, in microseconds since 1970."""
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
"""Before the first row: no flags, and no extension."""
_END: Final = b"\xff\xff"
_CHARACTER: Final = r'([^"\\]|\\.)'
# A name or a value that may have been cut, in the text of a JSON object. No count may be above 255.
_LONG_PARAM: Final = f'"{_CHARACTER}{{{MAX_PARAM_LENGTH - 1}}}{_CHARACTER}'
_FIELDS: Final = (
    ("start", ">i8"), ("duration_ms", ">f8"), ("key", ">i8"), ("user", ">i8"), ("body", ">i8"),
    ("size", ">i8"), ("group", ">i8"), ("queries", ">i4"), ("flags", ">i2"),
)  # fmt: skip
# Before the fields of a row stands their number, before each field its length.
_ROW: Final = np.dtype(
    [("fields", ">i2")]
    + [part for name, kind in _FIELDS for part in ((f"{name}_length", ">i4"), (name, kind))]
)


class RequestStream:
    """The requests of a span that a route matched. To be used inside `connection.snapshot`."""

    def __init__(
        self, connection: Connection, since: dt.datetime, until: dt.datetime, *, route: str | None = None
    ) -> None:
        """Nothing is read yet.

        Args:
            connection: Where the tables are.
            since: The first moment.
            until: The end, itself not included.
            route: Only this one; None for all.
        """
        self._connection = connection
        self._span = {"since": since, "until": until, "route": route}
        self._groups = _Groups()

    def chunks(self) -> Iterator[RequestColumns]:
        """The requests in the order of time, `CHUNK` at a time.

        Raises:
            NotMigrated: The tables are missing.
            StoreUnavailable: The server does not answer.
        """
        parameters = {
            **self._span,
            "longest": MAX_ROUTE_FULL_LENGTH,
            "hidden": f"={REDACTED}",
            "most_params": MAX_PARAMS,
            "longest_param": MAX_PARAM_LENGTH,
            "long_param": _LONG_PARAM,
            "unmatched": UNMATCHED_ROUTE,
        }
        with translated(), self._connection.cursor() as cursor:
            cursor.execute(_QUERIES["make_quick"])
            with cursor.copy(_QUERIES["stream"], parameters) as copy:
                for block in _blocks(copy):
                    yield self._columns(np.frombuffer(block, _ROW))

    def names(self) -> list[GroupName]:
        """What the numbers of the groups that came up stand for, in their order; the shared one has no name.

        Raises:
            StoreUnavailable: The server does not answer.
        """
        moments = [_moment(start_us) for start_us in self._groups.first_us]
        with translated():
            found = self._connection.execute(_QUERIES["names"], {"moments": moments}).fetchall()
        names = {group: GroupName(*name) for group, *name in found}
        return [names[group] for group in self._groups.numbers]

    def _columns(self, rows: npt.NDArray[np.void]) -> RequestColumns:
        start_us = rows["start"].astype(np.int64) + _EPOCH_2000_US
        return RequestColumns(
            start_us=start_us,
            duration_us=np.rint(rows["duration_ms"] * 1_000).astype(np.int64),
            key=rows["key"].astype(np.int64),
            user=rows["user"].astype(np.int64),
            body=rows["body"].astype(np.int64),
            size_bytes=rows["size"].astype(np.int64),
            queries=rows["queries"].astype(np.int32),
            group=self._groups.number(rows["group"].astype(np.int64), start_us),
            flags=rows["flags"].astype(np.uint8),
        )


class _Groups:
    """Numbers for the hashes of groups, as they come up.

    Attributes:
        numbers: Hash to number.
        first_us: For each number, when its group was first seen.
    """

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.first_us: list[int] = []

    def number(self, hashes: Int64s, start_us: Int64s) -> Int32s:
        """The number of each."""
        found, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        # As they came up, not by hash, so that the cut is by time.
        for each in np.argsort(first).tolist():
            group = int(found[each])
            if group not in self.numbers and len(self.numbers) < MAX_GROUPS:
                self.numbers[group] = len(self.numbers)
                self.first_us.append(int(start_us[first[each]]))
        numbers = [self.numbers.get(group, MAX_GROUPS) for group in found.tolist()]
        return np.array(numbers, np.int32)[inverse]


def _blocks(copy: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """The rows, so many at a time, without what stands before the first and after the last."""
    parts, length, skipped = [], 0, len(_SIGNATURE)
    whole = CHUNK * _ROW.itemsize
    for part in copy:
        parts.append(bytes(part))
        length += len(part)
        if length - skipped > whole:  # not at: what is left holds at least the end
            text = b"".join(parts)[skipped:]
            yield text[:whole]
            parts, skipped = [text[whole:]], 0
            length = len(parts[0])
    text = b"".join(parts)[skipped:].removesuffix(_END)
    if text:
        yield text


def _moment(start_us: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=start_us)
