import itertools
import random

import pytest
from backend import NOW, make_event

from otel_analytics.batch_check import are_events
from otel_analytics.demo.past import past_events
from otel_analytics.errors import InvalidEvent
from otel_analytics.record import Event, decode_events, encode_events, parse_event

ODD = (
    None, True, 0, 1, -1, 99, 600, 1.5, float("nan"), float("inf"),
    2**31, 2**63, -(2**63), -(2**63) - 1, 10**400,
    "", "x" * 513, "é" * 600, "x" * 1_001, "x" * 2_049, "\x00", "\ud800", "é",
    "0" * 32, "A" * 32, "g" * 16, "f" * 16,
    [], ["x"], {}, {"a": "b"}, {"a": ["b", "c"]}, {"a": 1}, {"a": None}, {"\x00": "b"}, {"a": "\ud800"},
    {"a": "x" * 20_000}, {str(n): "x" * 400 for n in range(45)}, {str(n): "" for n in range(51)},
)  # fmt: skip


def items(events):
    return decode_events(encode_events(events))


def is_event(item):
    try:
        parse_event(item)
    except InvalidEvent:
        return False
    return True


def test_what_applications_send_is_known_at_a_glance():
    past = list(
        itertools.islice(past_events(now=NOW, days=1, requests_a_day=2_000, chance=random.Random(1)), 500)
    )
    assert are_events(items(past))
    assert are_events(items([make_event(user_id="é", trace_id="a" * 32, span_id="b" * 16)]))


@pytest.mark.parametrize("field", Event._fields)
def test_never_yes_to_what_is_refused(field):
    place = Event._fields.index(field)
    for odd in ODD:
        batch = items([make_event() for _ in range(3)])
        assert are_events(batch)
        for item in (batch[0], batch[2]):
            before, item[place] = item[place], odd
            if are_events(batch):
                assert is_event(item), odd
            item[place] = before


@pytest.mark.parametrize(
    "batch", [[], [None], [[]], [[1] * 22], [{}], [list(make_event()), list(make_event())[:-1]]]
)
def test_never_yes_to_what_is_no_event_at_all(batch):
    assert not are_events(batch)
