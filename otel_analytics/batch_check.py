"""Whether many decoded items are events for certain, looked at column by column.

That takes a third of the time of `record.parse_event` for each. It can only say yes: what is wrong with which
item is for `parse_event` to say.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

from otel_analytics import record
from otel_analytics.record import Event, is_storable

_Column = Sequence[Any]
_Check = Callable[[_Column], bool]

_NONE: Final = type(None)
_HEX: Final = "0123456789abcdef"


def are_events(items: Sequence[Any]) -> bool:
    """Whether `parse_event` would accept each of the items.

    False is no verdict: among them may be what is right but rare, such as a parameter with several values.
    """
    if not items or set(map(type, items)) != {list} or set(map(len, items)) != {len(Event._fields)}:
        return False
    columns = zip(Event._fields, zip(*items, strict=True), strict=True)
    return all(_CHECKS[name](column) for name, column in columns)


def _optional(check: _Check) -> _Check:
    def check_given(column: _Column) -> bool:
        given = [value for value in column if value is not None] if None in column else column
        return not given or check(given)

    return check_given


def _whole(smallest: int, largest: int) -> _Check:
    def check(column: _Column) -> bool:
        return set(map(type, column)) == {int} and smallest <= min(column) and max(column) <= largest

    return check


def _durations(column: _Column) -> bool:
    if not {int, float}.issuperset(map(type, column)):
        return False
    # A NaN hides from min and max, but not from a sum.
    return min(column) >= 0 and max(column) <= record.MAX_DURATION_MS and not math.isnan(sum(column))


def _texts(longest: int) -> _Check:
    def check(column: _Column) -> bool:
        try:
            distinct = set(column)
            joined = "".join(distinct)  # of nothing but texts, and none of them equals anything else
        except TypeError:
            return False
        return max(map(len, distinct)) <= longest and is_storable(joined)

    return check


def _routes(column: _Column) -> bool:
    # The limit is one of bytes.
    return _texts(record.MAX_ROUTE_BYTES)(column) and "".join(set(column)).isascii()


def _hexadecimal(digits: int) -> _Check:
    def check(column: _Column) -> bool:
        try:
            joined = "".join(column)
        except TypeError:
            return False
        return set(map(len, column)) == {digits} and not joined.strip(_HEX)

    return check


def _params(column: _Column) -> bool:
    if set(map(type, column)) != {dict}:
        return False
    given = [params for params in column if params]
    if not given:
        return True
    values = set(chain.from_iterable(given))
    for params in given:
        texts = params.values()
        if set(map(type, texts)) != {str}:
            return False
        values.update(texts)
    most = max(map(len, given))
    longest = max(map(len, values))
    return (
        most <= record.MAX_PARAMS
        and 2 * most * longest <= record.MAX_PARAMS_LENGTH
        and is_storable("".join(values))
    )


_text: Final = _texts(record.MAX_TEXT_LENGTH)
_size: Final = _optional(_whole(0, record.MAX_INT64))

_CHECKS: Final[dict[str, _Check]] = {
    "event_id": _hexadecimal(32),
    "timestamp_us": _whole(record.YEAR_2000_US, record.YEAR_2100_US),
    "route": _routes,
    "route_full": _texts(record.MAX_ROUTE_FULL_LENGTH),
    "method": _text,
    "status_code": _whole(record.FIRST_HTTP_STATUS, record.LAST_HTTP_STATUS),
    "duration_ms": _durations,
    "ttfb_ms": _optional(_durations),
    "user_id": _optional(_text),
    "error_type": _optional(_text),
    "query_params": _params,
    "query_params_normalized": _params,
    "request_size_bytes": _size,
    "response_size_bytes": _size,
    "db_query_count": _optional(_whole(0, record.MAX_INT32)),
    "cache_status": _optional(_text),
    "response_hash": _optional(_whole(-record.MAX_INT64 - 1, record.MAX_INT64)),
    "trace_id": _optional(_hexadecimal(32)),
    "span_id": _optional(_hexadecimal(16)),
    "client_address": _optional(_text),
    "user_agent": _optional(_text),
    "referrer": _optional(_text),
    "session_id": _optional(_text),
}
