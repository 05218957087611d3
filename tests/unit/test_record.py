import contextlib
import json
import math

import pytest
from backend import make_event
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics import record
from otel_analytics.errors import InvalidEvent
from otel_analytics.record import Event, clean_text, decode_events, encode_events, is_storable, parse_event

SECRET = "hunter2"


def text(longest):
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=longest)


def hexadecimal(digits):
    return st.text("0123456789abcdef", min_size=digits, max_size=digits)


short = text(40)
params = st.dictionaries(short, short | st.lists(short, max_size=4), max_size=5)
duration = st.floats(0, record.MAX_DURATION_MS) | st.integers(0, 7 * 24 * 3_600_000)
size = st.none() | st.integers(0, 2**63 - 1)
name = st.none() | text(record.MAX_TEXT_LENGTH)
events = st.builds(
    Event,
    event_id=hexadecimal(32),
    timestamp_us=st.integers(record.YEAR_2000_US, record.YEAR_2100_US),
    route=text(record.MAX_ROUTE_BYTES // 4),
    route_full=text(record.MAX_ROUTE_FULL_LENGTH),
    method=short,
    status_code=st.integers(100, 599),
    duration_ms=duration,
    ttfb_ms=st.none() | duration,
    user_id=name,
    error_type=name,
    query_params=params,
    query_params_normalized=params,
    request_size_bytes=size,
    response_size_bytes=size,
    db_query_count=st.none() | st.integers(0, 2**31 - 1),
    cache_status=name,
    response_hash=st.none() | st.integers(-(2**63), 2**63 - 1),
    trace_id=st.none() | hexadecimal(32),
    span_id=st.none() | hexadecimal(16),
    client_address=name,
    user_agent=name,
    referrer=name,
    session_id=name,
)


@given(st.lists(events, max_size=3))
def test_what_is_encoded_comes_back(batch):
    payload = encode_events(batch)
    assert payload.isascii()
    for form in (payload, payload.encode()):
        assert [parse_event(item) for item in decode_events(form)] == batch


REFUSED = {
    "event_id": ["", "a" * 31, "A" * 32, "g" * 32, "a" * 33, None, 7],
    "trace_id": ["", "a" * 16, 7],
    "span_id": ["", "a" * 32, 7],
    "timestamp_us": [
        -1,
        0,
        record.YEAR_2000_US - 1,
        record.YEAR_2100_US + 1,
        2**63,
        1.5e15,
        True,
        None,
        "1",
    ],
    "status_code": [0, 99, 600, 200.0, "200", True, None, 2**63],
    "duration_ms": [
        -1,
        -0.001,
        math.nan,
        math.inf,
        -math.inf,
        604_800_000.1,
        2**63,
        10**400,
        "1",
        True,
        None,
    ],
    "ttfb_ms": [-1, math.nan, math.inf, 10**400, "1", False],
    "route": ["x" * 1_001, "é" * 501, "a\0", "\ud800", None, 1, ["/"]],
    "route_full": ["x" * 2_049, "a\0", "\udfff", None],
    "method": ["x" * 513, "a\0", "\ud800", None],
    "query_params": [
        None,
        [],
        "a=1",
        {"a": 1},
        {"a": None},
        {"a": {"b": "c"}},
        {"a": ["b", 1]},
        {"a": [["b"]]},
    ],
    "query_params_normalized": [
        None,
        {"a": "\0"},
        {"\0": "a"},
        {"a": ["\ud800"]},
        {"a": "x" * 16_384},
        {"a": [""] * 51},
    ],
    "request_size_bytes": [-1, 2**63, 1.0, "1", True],
    "response_size_bytes": [-1, 2**63, 1.0, "1", True],
    "db_query_count": [-1, 2**31, 1.0, "1", True],
    "response_hash": [2**63, -(2**63) - 1, 1.0, "1", True],
    **{name: ["x" * 513, "a\0", "\ud800", 1, ["x"], True] for name in record._OPTIONAL_TEXTS},
}


@pytest.mark.parametrize("field", Event._fields)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(field):
    for value in REFUSED[field]:
        (item,) = decode_events(json.dumps([make_event(**{field: value})]))
        with pytest.raises(InvalidEvent, match=f"^{field} "):
            parse_event(item)


@pytest.mark.parametrize("field", Event._fields)
def test_no_value_is_repeated(field):
    for value in (SECRET * 1_000, [SECRET], {SECRET: {SECRET: 1}}, {"x": SECRET + "\0"}):
        with pytest.raises(InvalidEvent) as error:
            parse_event(list(make_event(**{field: value})))
        assert SECRET not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "item",
    [None, 1, "x", {}, [], list(make_event())[:-1], [*make_event(), None], dict(make_event()._asdict())],
)
def test_an_item_of_another_shape_is_refused(item):
    with pytest.raises(InvalidEvent, match="not an array of 23 fields"):
        parse_event(item)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"\xff\xfe", b"[" * 200_000, '{"a":' * 200_000, "[1" + "0" * 5_000 + "]"],
    ids=["nothing", "brace", "bytes", "arrays", "objects", "digits"],
)
def test_what_is_not_json_is_refused(payload):
    with pytest.raises(InvalidEvent, match=r"^not JSON: [A-Za-z]+$"):
        decode_events(payload)


@pytest.mark.parametrize("payload", ["{}", "1", "null", '"[]"'])
def test_json_that_is_no_array_is_refused(payload):
    with pytest.raises(InvalidEvent, match="not an array of events"):
        decode_events(payload)


def test_deep_nesting_that_can_be_read_is_refused_in_every_place():
    deep = json.loads("[" * 500 + "]" * 500)
    for field in Event._fields:
        for value in (deep, {"a": deep}):
            with pytest.raises(InvalidEvent):
                parse_event(list(make_event(**{field: value})))


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = scalar | st.lists(scalar, max_size=2) | st.dictionaries(st.text(), scalar, max_size=2)


@given(st.sampled_from(range(len(Event._fields))), anything)
def test_any_value_in_any_place_is_accepted_as_it_is_or_refused(place, value):
    item = list(make_event())
    item[place] = value
    with contextlib.suppress(InvalidEvent):
        assert parse_event(item) == tuple(item)


@given(st.text(st.characters() | st.sampled_from("\0\ud800\udfff")), st.integers(0, 30))
def test_cleaned_text_can_be_stored_and_keeps_the_rest(original, longest):
    cleaned = clean_text(original, longest)
    assert is_storable(cleaned)
    assert len(cleaned) == min(len(original), longest)
    assert all(ours in (theirs, "\ufffd") for ours, theirs in zip(cleaned, original, strict=False))
    if is_storable(original):
        assert cleaned == original[:longest]
