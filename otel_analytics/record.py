"""The event: one HTTP request, its wire form on the stream, and the checks on the way in.

Standard library only: this module is imported by the instrumented application, the worker and every tool.
"""

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from otel_analytics.errors import InvalidEvent

WIRE_VERSION: Final = "1"
UNMATCHED_ROUTE: Final = "(unmatched)"
REDACTED: Final = "REDACTED"
OVERFLOW_PATTERN: Final = {"otel_analytics.overflow": True}
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
OTHER_METHOD: Final = "_OTHER"

MAX_ROUTE_BYTES: Final = 1_000
"""Bytes of UTF-8. A b-tree entry in PostgreSQL holds at most 2,704 bytes, and a route is part of two keys."""
MAX_ROUTE_FULL_LENGTH: Final = 2_048
MAX_TEXT_LENGTH: Final = 512
"""Characters of any other text: user id, error type, user agent, ..."""
MAX_PARAMS: Final = 50
MAX_PARAM_LENGTH: Final = 256
"""Characters of a parameter's name, and of a value."""
MAX_PARAMS_LENGTH: Final = 16_384
"""Characters of all names and values of one event together."""

MAX_INT32: Final = 2**31 - 1
MAX_INT64: Final = 2**63 - 1
MAX_DURATION_MS: Final = 7 * 24 * 3600 * 1000.0
YEAR_2000_US: Final = 946_684_800_000_000
YEAR_2100_US: Final = 4_102_444_800_000_000
FIRST_HTTP_STATUS: Final = 100
LAST_HTTP_STATUS: Final = 599
_HEX: Final = frozenset("0123456789abcdef")

QueryParams = dict[str, str | list[str]]


class Event(NamedTuple):
    """One HTTP request as it is stored. The order of the fields is the wire format of version 1.

    Attributes:
        event_id: 32 hexadecimal digits, fixed once per request.
        timestamp_us: Start of the request, microseconds since 1970-01-01 UTC.
        route: The route template with every prefix, or `UNMATCHED_ROUTE`.
        route_full: Path and query as sent, secrets redacted.
        method: A known HTTP method or `_OTHER`.
        status_code: 499 where the client left before the response was complete.
        duration_ms: Start to last body byte, milliseconds.
        ttfb_ms: Start to response start, milliseconds; None where no response was started.
        user_id: Text, or its keyed HMAC; None where unknown.
        error_type: Qualified name of the exception, or a 5xx status as text, else None.
        query_params: Parameter names to value, or to a list of values where repeated.
        query_params_normalized: The same without the parameters that vary inside one pattern; keys sorted.
        request_size_bytes: Request body bytes that passed; None where they were not observed.
        response_size_bytes: Response body bytes that passed, after compression; None where not observed.
        db_query_count: Database queries under the request; None where no instrumentation could count them.
        cache_status: `hit`, `miss`, `bypass`, `stale`, ... or None where nothing said so.
        response_hash: Signed 64-bit keyed hash of the body; None where not taken.
        trace_id: 32 hexadecimal digits or None.
        span_id: 16 hexadecimal digits or None.
        client_address: Only where its capture is switched on, like the three that follow.
        user_agent: See `client_address`.
        referrer: See `client_address`.
        session_id: See `client_address`.
    """

    event_id: str
    timestamp_us: int
    route: str
    route_full: str
    method: str
    status_code: int
    duration_ms: float
    ttfb_ms: float | None = None
    user_id: str | None = None
    error_type: str | None = None
    query_params: QueryParams = {}  # noqa: RUF012 - never mutated; a NamedTuple default
    query_params_normalized: QueryParams = {}  # noqa: RUF012
    request_size_bytes: int | None = None
    response_size_bytes: int | None = None
    db_query_count: int | None = None
    cache_status: str | None = None
    response_hash: int | None = None
    trace_id: str | None = None
    span_id: str | None = None
    client_address: str | None = None
    user_agent: str | None = None
    referrer: str | None = None
    session_id: str | None = None


_FIELD_COUNT: Final = len(Event._fields)
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


def encode_events(events: Iterable[Event]) -> str:
    """The events as one JSON array of arrays, each in the order of the fields of `Event`."""
    return _encode(list(events))


def decode_events(payload: bytes | str) -> list[Any]:
    """The undecided content of an entry: one item per event, to be judged by `parse_event`.

    Raises:
        InvalidEvent: The payload is not a JSON array, so none of its events can be read.
    """
    try:
        items = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"not JSON: {type(error).__name__}") from error
    if not isinstance(items, list):
        raise InvalidEvent("not an array of events")
    return items


def parse_event(item: Any) -> Event:
    """Check one decoded item and return it as an `Event`.

    Raises:
        InvalidEvent: A field is missing, of the wrong type, or out of the range that can be stored. The
            message names the field and never repeats a value.
    """
    if not isinstance(item, list) or len(item) != _FIELD_COUNT:
        raise InvalidEvent(f"not an array of {_FIELD_COUNT} fields")
    event = Event._make(item)
    _check_hex("event_id", event.event_id, 32)
    for name, digits in _OPTIONAL_IDS:
        value = getattr(event, name)
        if value is not None:
            _check_hex(name, value, digits)
    _check_int("timestamp_us", event.timestamp_us, YEAR_2000_US, YEAR_2100_US)
    _check_int("status_code", event.status_code, FIRST_HTTP_STATUS, LAST_HTTP_STATUS)
    _check_duration("duration_ms", event.duration_ms)
    if event.ttfb_ms is not None:
        _check_duration("ttfb_ms", event.ttfb_ms)
    _check_route(event.route)
    _check_text("route_full", event.route_full, MAX_ROUTE_FULL_LENGTH)
    _check_text("method", event.method, MAX_TEXT_LENGTH)
    for name in _OPTIONAL_TEXTS:
        value = getattr(event, name)
        if value is not None:
            _check_text(name, value, MAX_TEXT_LENGTH)
    for name, largest in _OPTIONAL_COUNTS:
        value = getattr(event, name)
        if value is not None:
            _check_int(name, value, 0, largest)
    if event.response_hash is not None:
        _check_int("response_hash", event.response_hash, -MAX_INT64 - 1, MAX_INT64)
    _check_params("query_params", event.query_params)
    _check_params("query_params_normalized", event.query_params_normalized)
    return event


_OPTIONAL_IDS: Final = (("trace_id", 32), ("span_id", 16))
_OPTIONAL_TEXTS: Final = (
    "user_id", "error_type", "cache_status", "client_address", "user_agent", "referrer", "session_id",
)  # fmt: skip
_OPTIONAL_COUNTS: Final = (
    ("request_size_bytes", MAX_INT64),
    ("response_size_bytes", MAX_INT64),
    ("db_query_count", MAX_INT32),
)


def _check_hex(name: str, value: Any, digits: int) -> None:
    if not isinstance(value, str) or len(value) != digits or not _HEX.issuperset(value):
        raise InvalidEvent(f"{name} is not {digits} hexadecimal digits")


def _check_int(name: str, value: Any, smallest: int, largest: int) -> None:
    if type(value) is not int or not smallest <= value <= largest:
        raise InvalidEvent(f"{name} is not a whole number from {smallest} to {largest}")


def _check_duration(name: str, value: Any) -> None:
    # NaN fails the comparison, too; math.isfinite would raise on an integer beyond any float.
    if type(value) not in (int, float) or not 0 <= value <= MAX_DURATION_MS:
        raise InvalidEvent(f"{name} is not a duration from 0 to {MAX_DURATION_MS:.0f} ms")


def _check_text(name: str, value: Any, longest: int) -> None:
    if not isinstance(value, str):
        raise InvalidEvent(f"{name} is not text")
    if len(value) > longest:
        raise InvalidEvent(f"{name} is longer than {longest} characters")
    if not is_storable(value):
        raise InvalidEvent(f"{name} holds a character that PostgreSQL cannot store")


def _check_route(value: Any) -> None:
    _check_text("route", value, MAX_ROUTE_BYTES)
    if len(value.encode()) > MAX_ROUTE_BYTES:
        raise InvalidEvent(f"route is longer than {MAX_ROUTE_BYTES} bytes")


def _check_params(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise InvalidEvent(f"{name} is not an object")
    length = count = 0
    for key, param in value.items():
        texts = param if isinstance(param, list) else (param,)
        # Empty ones have no length, but are stored all the same.
        count += len(texts)
        if count > MAX_PARAMS:
            raise InvalidEvent(f"{name} holds more than {MAX_PARAMS} values")
        for text in (key, *texts):
            if not isinstance(text, str):
                raise InvalidEvent(f"{name} holds a value that is neither text nor a list of texts")
            if not is_storable(text):
                raise InvalidEvent(f"{name} holds a character that PostgreSQL cannot store")
            length += len(text)
    if length > MAX_PARAMS_LENGTH:
        raise InvalidEvent(f"{name} is longer than {MAX_PARAMS_LENGTH} characters")


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold the text: no NUL and no lone surrogate."""
    if "\x00" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def clean_text(text: str, longest: int) -> str:
    """The text cut to `longest` characters, with what PostgreSQL cannot store replaced by U+FFFD."""
    text = text[:longest]
    if (text.isascii() and "\x00" not in text) or is_storable(text):  # the first, as nearly every text is
        return text
    return "".join("\ufffd" if c == "\x00" or "\ud800" <= c <= "\udfff" else c for c in text)


def clean_route(route: str) -> str:
    """The route template cut to `MAX_ROUTE_BYTES`, as `clean_text` does."""
    route = clean_text(route, MAX_ROUTE_BYTES)
    if route.isascii():
        return route
    return route.encode()[:MAX_ROUTE_BYTES].decode(errors="ignore")


def known_method(method: str) -> str:
    """The method where it is a known one, else `OTHER_METHOD`."""
    return method if method in KNOWN_METHODS else OTHER_METHOD
