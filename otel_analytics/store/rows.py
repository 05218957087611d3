"""Events as the rows of a binary COPY.

It goes column by column: a value that repeats, as most do, is encoded once in a batch, and what stands in
every row and differs is packed by one call.
"""

import struct
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any, Final

from msgspec.json import Encoder

from otel_analytics.errors import RejectedRows
from otel_analytics.record import Event, QueryParams

_Encode = Callable[[Any], bytes]

_BEFORE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_BEHIND: Final = struct.pack(">h", -1)
_NULL: Final = struct.pack(">i", -1)
_YEAR_2000_US: Final = 946_684_800_000_000
"""Where the timestamps of PostgreSQL begin, microseconds since 1970."""
_UUID_BYTES: Final = 16
_JSONB_VERSION: Final = b"\1"
_json: Final = Encoder().encode

_pack_head: Final = struct.Struct(f">hiqi{_UUID_BYTES}sihid").pack
"""How many fields the row has, then the size and the value of each of `_HEAD`."""
_HEAD: Final = ("timestamp_us", "event_id", "status_code", "duration_ms")


def binary_rows(events: Sequence[Event]) -> bytes:
    """One or more events as COPY wants them, with the fields of `Event` for columns.

    Raises:
        RejectedRows: A value is none that its column can hold.
    """
    columns = dict(zip(Event._fields, zip(*events, strict=True), strict=True))
    try:
        fields = [
            _column(columns[name], encode, repeats=name not in _DIFFERING)
            for name, encode in _ENCODERS.items()
        ]
        fields += _params(columns["query_params"], columns["query_params_normalized"])
        head = _heads(*(columns[name] for name in _HEAD), fields=len(_HEAD) + len(fields))
        return b"".join((_BEFORE, *chain.from_iterable(zip(head, *fields, strict=True)), _BEHIND))
    except (struct.error, ValueError, TypeError) as error:
        # The cause quotes values, so it is not repeated.
        raise RejectedRows("refused: a value that its column cannot hold") from error


def _heads(
    times: Sequence[int],
    ids: Sequence[str],
    statuses: Sequence[int],
    durations: Sequence[float],
    *,
    fields: int,
) -> Iterable[bytes]:
    uuids = bytes.fromhex("".join(ids))
    if len(uuids) != _UUID_BYTES * len(ids):
        raise ValueError("not an id")
    return map(
        _pack_head,
        repeat(fields, len(ids)),
        repeat(8),
        [each - _YEAR_2000_US for each in times],
        repeat(_UUID_BYTES),
        [uuids[start : start + _UUID_BYTES] for start in range(0, len(uuids), _UUID_BYTES)],
        repeat(2),
        statuses,
        repeat(8),
        durations,
    )


def _column(values: Sequence[Hashable], encode: _Encode, *, repeats: bool) -> Iterable[bytes]:
    if not repeats:
        return [_NULL if value is None else encode(value) for value in values]
    encoded = {value: _NULL if value is None else encode(value) for value in set(values)}
    return map(encoded.__getitem__, values)


def _params(params: Sequence[QueryParams], patterns: Sequence[QueryParams]) -> list[list[bytes]]:
    """Both columns of parameters; most patterns are all the parameters, and many of those none."""
    empty = _jsonb({})
    encoded = [_jsonb(each) if each else empty for each in params]
    return [
        encoded,
        [
            same if pattern == each else _jsonb(pattern)
            for pattern, each, same in zip(patterns, params, encoded, strict=True)
        ],
    ]


def _jsonb(params: QueryParams) -> bytes:
    return _sized(_JSONB_VERSION + _json(params))


def _sized(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def _fixed(kind: str) -> _Encode:
    form = struct.Struct(f">i{kind}")
    pack, size = form.pack, form.size - 4
    return lambda value: pack(size, value)


def _digits(count: int) -> _Encode:
    pack = struct.Struct(f">i{count}s").pack
    return lambda value: pack(count, value.encode())


def _text(value: str) -> bytes:
    return _sized(value.encode())


_integer: Final = _fixed("i")
_bigint: Final = _fixed("q")
_double: Final = _fixed("d")

_ENCODERS: Final[dict[str, _Encode]] = {
    "route": _text,
    "route_full": _text,
    "method": _text,
    "ttfb_ms": _double,
    "user_id": _text,
    "error_type": _text,
    "request_size_bytes": _bigint,
    "response_size_bytes": _bigint,
    "db_query_count": _integer,
    "cache_status": _text,
    "response_hash": _bigint,
    "trace_id": _digits(32),
    "span_id": _digits(16),
    "client_address": _text,
    "user_agent": _text,
    "referrer": _text,
    "session_id": _text,
}
"""In the order of the columns in the statements that receive the rows: `_HEAD` comes before them, the
parameters come behind them."""
_DIFFERING: Final = frozenset({"ttfb_ms", "trace_id", "span_id"})
"""Columns in which looking for repetitions takes longer than encoding."""
