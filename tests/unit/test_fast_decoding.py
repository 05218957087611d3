import itertools
import json
import random

import pytest
from backend import NOW, make_event
from hypothesis import given
from hypothesis import strategies as st

from otel_analytics.demo.past import past_events
from otel_analytics.errors import InvalidEvent
from otel_analytics.fast_decoding import decode_right_events
from otel_analytics.record import Event, decode_events, encode_events, parse_event

ODD = (
    None, True, 0, 1, -1, 99, 404, 600, 1.5, 200.0, 1_700_000_000_000_000, float("nan"), float("inf"),
    2**31, 2**63, -(2**63), -(2**63) - 1, 10**400,
    "", "x" * 513, "é" * 240, "é" * 600, "x" * 1_001, "x" * 2_049,
    "\x00", "\x01", "\ud800", "\udc00\ud800", "é", "😀",
    "0" * 32, "A" * 32, "g" * 16, "f" * 16, "0" * 31 + "g", " " + "0" * 31, "0" * 15 + "é",
    [], ["x"], {}, {"a": "b"}, {"a": ["b", "c"]}, {"a": 1}, {"a": None}, {"\x00": "b"}, {"a": "\ud800"},
    {"a": ["b", None]}, {"a": [["b"]]}, {"a": {}}, {"a": "x" * 257}, {"a": ["x" * 257]},
    {"a": "x" * 20_000}, {str(n): "x" * 400 for n in range(45)}, {str(n): "" for n in range(51)},
    {"a": ["x"] * 51}, {str(n): ["x"] * 6 for n in range(9)}, {str(n): "x" * 256 for n in range(33)},
    {str(n): ["x" * 256] * 5 for n in range(10)}, {"x" * 256 + str(n): "x" * 256 for n in range(32)},
)  # fmt: skip


def encoded(items):
    return json.dumps(items, separators=(",", ":")).encode()


def one_by_one(payload):
    """What the slow way makes of it; None where anything is wrong with it."""
    try:
        return [parse_event(item) for item in decode_events(payload)]
    except InvalidEvent:
        return None


def never_more_than_the_slow_way(payload):
    events = decode_right_events(payload)
    if events is not None:
        assert events == one_by_one(payload)
        assert all(isinstance(event, Event) for event in events)
    return events


def test_what_applications_send_is_decoded_at_once():
    past = list(
        itertools.islice(past_events(now=NOW, days=1, requests_a_day=2_000, chance=random.Random(1)), 500)
    )
    assert decode_right_events(encode_events(past).encode()) == past


@pytest.mark.parametrize(
    "event",
    [
        make_event(),
        make_event(user_id="é😀", trace_id="a" * 32, span_id="b" * 16),
        make_event(query_params={str(n): "x" for n in range(30)}),
        make_event(query_params={"a": ["b", "c"], "d": "e"}, query_params_normalized={"a": ["b", "c"]}),
        make_event(duration_ms=5, ttfb_ms=0, response_hash=-(2**63), response_size_bytes=2**63 - 1),
    ],
)
def test_so_is_what_is_less_usual(event):
    assert decode_right_events(encode_events([event]).encode()) == [event]


@pytest.mark.parametrize("field", Event._fields)
def test_never_yes_to_what_is_refused(field):
    place = Event._fields.index(field)
    accepted = 0
    for odd in ODD:
        for where in (0, 2):
            batch = [list(make_event()) for _ in range(3)]
            batch[where][place] = odd
            accepted += never_more_than_the_slow_way(encoded(batch)) is not None
    assert accepted  # something of it is right for every field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
TEXTS = st.text(st.characters(codec=None), max_size=300)
PARAMS = st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=7), max_size=12)


@given(st.data())
def test_whatever_stands_in_a_field(data):
    item = list(make_event())
    for place in data.draw(st.lists(st.integers(0, len(item) - 1), max_size=3)):
        item[place] = data.draw(JSON | TEXTS | PARAMS | st.sampled_from(ODD))
    never_more_than_the_slow_way(encoded([item]))


@given(st.data())
def test_whatever_becomes_of_the_bytes(data):
    payload = bytearray(encode_events([make_event(user_id="é😀", query_params={"a": "b"})]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(payload) - 1))
        inserted = data.draw(
            st.binary(max_size=2)
            | st.sampled_from([b'"', b"\\", b"\\ud800", b"\\u0000", b",", b"]", b" ", b"\n"])
        )
        payload[place : place + data.draw(st.integers(0, 2))] = inserted
    never_more_than_the_slow_way(bytes(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"{}", b"null", b"[null]", b"[[]]", b"[{}]", b"[[1]]", b"[" * 100_000,
        encoded([list(make_event()), list(make_event())[:-1]]),
        encoded([list(make_event())[:7]]),  # what is left out has a default, but not on the wire
        encoded([[*make_event(), None]]),
        encoded([make_event()._asdict()]),
        encode_events([make_event()]).encode() + b" x",
        b"\xef\xbb\xbf" + encode_events([make_event()]).encode(),
        encode_events([make_event(user_id="x")]).encode().replace(b'"x"', b'"\xff"'),
        encode_events([make_event(user_id="x")]).encode().replace(b'"x"', b'"\xed\xa0\x80"'),
        encode_events([make_event(user_id="x")]).encode().replace(b'"x"', b'"\n"'),
    ],
    ids=map(str, itertools.count()),  # ids of events are new in each process
)  # fmt: skip
def test_never_yes_to_what_is_no_event_at_all(payload):
    assert decode_right_events(payload) is None


def test_a_key_twice_is_what_it_is_for_json():
    payload = (
        encode_events([make_event(query_params={"a": "b"})])
        .encode()
        .replace(b'{"a":"b"}', b'{"a":"b","a":"c"}')
    )
    assert never_more_than_the_slow_way(payload)[0].query_params == {"a": "c"}
