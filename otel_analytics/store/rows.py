"""Events as the rows of a binary COPY.

It goes column by column, so that a value that repeats, as most do, is encoded once in a batch.
"""

import json
import struct
from collections.abc import Callable, Hashable, Sequence
from itertools import chain, repeat
from typing import Any, Final

from otel_analytics.errors import RejectedRows
from otel_analytics.record import Event, QueryParams

_Encode = Callable[[Any], bytes]

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = struct.pack(">h", -1)
_NULL: Final = struct.pack(">i", -1)
_YEAR_2000_US: Final = 946_684_800_000_000
"""Where the timestamps of PostgreSQL begin, microseconds since 1970."""
_JSONB_VERSION: Final = b"\1"
_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def binary_rows(events: Sequence[Event]) -> bytes:
    """One or more events as COPY wants them, with the fields of `Event` for columns.

    Raises:
        RejectedRows: A value is none that its column can hold.
    """
    columns = dict(zip(Event._fields, zip(*events, strict=True), strict=True))
    try:
        fields = [_column(columns[name], encode) for name, encode in _ENCODERS.items()]
        fields += _params(columns["query_params"], columns["query_params_normalized"])
    except (struct.error, ValueError, TypeError) as error:
        # The cause quotes values, so it is not repeated.
        raise RejectedRows("refused: a value that its column cannot hold") from error
    count = struct.pack(">h", len(fields))
    return b"".join((_HEADER, *chain.from_iterable(zip(repeat(count), *fields, strict=False)), _END))


def _column(values: Sequence[Hashable], encode: _Encode) -> list[bytes]:
    encoded = {value: _NULL if value is None else encode(value) for value in set(values)}
    return [encoded[value] for value in values]


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
    return _sized(_JSONB_VERSION + _json(params).encode())


def _sized(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def _fixed(kind: str) -> _Encode:
    form = struct.Struct(f">i{kind}")
    size = form.size - 4
    return lambda value: form.pack(size, value)


def _text(value: str) -> bytes:
    return _sized(value.encode())


def _uuid(value: str) -> bytes:
    return _sized(bytes.fromhex(value))


_integer: Final = _fixed("i")
_bigint: Final = _fixed("q")
_double: Final = _fixed("d")


def _timestamp(microseconds: int) -> bytes:
    return _bigint(microseconds - _YEAR_2000_US)


_ENCODERS: Final[dict[str, _Encode]] = {
    "timestamp_us": _timestamp,
    "event_id": _uuid,
    "route": _text,
    "route_full": _text,
    "method": _text,
    "status_code": _fixed("h"),
    "duration_ms": _double,
    "ttfb_ms": _double,
    "user_id": _text,
    "error_type": _text,
    "request_size_bytes": _bigint,
    "response_size_bytes": _bigint,
    "db_query_count": _integer,
    "cache_status": _text,
    "response_hash": _bigint,
    "trace_id": _text,
    "span_id": _text,
    "client_address": _text,
    "user_agent": _text,
    "referrer": _text,
    "session_id": _text,
}
"""In the order of the columns in the statements that receive the rows; the parameters come behind them."""
