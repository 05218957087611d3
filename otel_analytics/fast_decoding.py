"""The events of an entry in one go, where all of them are right.

That takes a fraction of the time of `record.decode_events` and `record.parse_event`. It can only say yes:
what is wrong with which event is for these two to say.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Annotated, Any, Final, TypeAlias, cast

from msgspec import DecodeError, Meta, ValidationError
from msgspec.json import Decoder

from otel_analytics import record
from otel_analytics.record import Event

_HEX: Final = "0123456789abcdef"
_NUL: Final = b"\\u0000"
"""The one way in which JSON can hold what is text and what PostgreSQL cannot store."""
_ids_of: Final = itemgetter(*map(Event._fields.index, ("event_id", "trace_id", "span_id")))
_BYTES_OF_A_CHARACTER: Final = 4
"""At most, in UTF-8."""


def decode_right_events(payload: bytes) -> Sequence[Event] | None:
    """The events, where `record.parse_event` would accept each of them.

    None is no verdict: among them may be what is right but rare, such as many parameters of which one has
    several values.

    Args:
        payload: One JSON array of arrays.
    """
    if _NUL in payload:
        return None
    events = _decode(payload)
    return events if events and _have_right_ids(events) else None


def _decode(payload: bytes) -> Sequence[Event] | None:
    try:
        return _with_plain_params.decode(payload)
    except ValidationError:
        pass
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    try:
        return _with_few_params.decode(payload)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _have_right_ids(events: Iterable[Event]) -> bool:
    """Whether there are no digits but hexadecimal ones; they are as many as there should be."""
    event_ids, trace_ids, span_ids = zip(*map(_ids_of, events), strict=True)
    digits = "".join((*event_ids, *filter(None, trace_ids), *filter(None, span_ids)))
    return not digits.strip(_HEX)


def _whole(smallest: int, largest: int) -> Any:
    return Annotated[int, Meta(ge=smallest, le=largest)]


def _text(longest: int) -> Any:
    return Annotated[str, Meta(max_length=longest)]


def _characters(count: int) -> Any:
    return Annotated[str, Meta(min_length=count, max_length=count)]


def _decoder(params: Any) -> Decoder[Sequence[Event]]:
    text, duration = _text(record.MAX_TEXT_LENGTH), Annotated[float, Meta(ge=0, le=record.MAX_DURATION_MS)]
    size = _whole(0, record.MAX_INT64)
    types = {
        "event_id": _characters(32),
        "timestamp_us": _whole(record.YEAR_2000_US, record.YEAR_2100_US),
        "route": _text(record.MAX_ROUTE_BYTES // _BYTES_OF_A_CHARACTER),
        "route_full": _text(record.MAX_ROUTE_FULL_LENGTH),
        "method": text,
        "status_code": _whole(record.FIRST_HTTP_STATUS, record.LAST_HTTP_STATUS),
        "duration_ms": duration,
        "ttfb_ms": duration | None,
        "user_id": text | None,
        "error_type": text | None,
        "query_params": params,
        "query_params_normalized": params,
        "request_size_bytes": size | None,
        "response_size_bytes": size | None,
        "db_query_count": _whole(0, record.MAX_INT32) | None,
        "cache_status": text | None,
        "response_hash": _whole(-record.MAX_INT64 - 1, record.MAX_INT64) | None,
        "trace_id": _characters(32) | None,
        "span_id": _characters(16) | None,
        "client_address": text | None,
        "user_agent": text | None,
        "referrer": text | None,
        "session_id": text | None,
    }
    # On the wire no field may be left out, whatever has a default in here.
    right = type("RightEvent", (Event,), {"__slots__": (), "__annotations__": types, "_field_defaults": {}})
    return cast("Decoder[Sequence[Event]]", Decoder(list[right]))  # type: ignore[valid-type]


_Kept: TypeAlias = Annotated[str, Meta(max_length=record.MAX_PARAM_LENGTH)]
_MANY_PARAMS: Final = record.MAX_PARAMS_LENGTH // (2 * record.MAX_PARAM_LENGTH)
_FEW_PARAMS: Final = 10
_FEW_VALUES: Final = 5
"""Few enough that neither their number nor their length can be too much."""
assert _MANY_PARAMS <= record.MAX_PARAMS
assert _FEW_PARAMS * _FEW_VALUES <= record.MAX_PARAMS
assert _FEW_PARAMS * (1 + _FEW_VALUES) * record.MAX_PARAM_LENGTH <= record.MAX_PARAMS_LENGTH

_with_plain_params: Final = _decoder(Annotated[dict[_Kept, _Kept], Meta(max_length=_MANY_PARAMS)])
_with_few_params: Final = _decoder(
    Annotated[
        dict[_Kept, _Kept | Annotated[list[_Kept], Meta(max_length=_FEW_VALUES)]],
        Meta(max_length=_FEW_PARAMS),
    ]
)
