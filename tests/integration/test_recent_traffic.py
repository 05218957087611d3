"""The last minutes, from a real stream."""

import datetime as dt
import time

import pytest
from backend import PREFIX, make_event, produce, raw_redis

from otel_analytics import recent_traffic
from otel_analytics.errors import StreamUnavailable
from otel_analytics.recent_traffic import RecentTraffic
from otel_analytics.stream import Inspector


@pytest.fixture
def stream(redis_url):
    inspector = Inspector(redis_url, key_prefix=PREFIX)
    yield inspector
    inspector.close()


def events(count, route="/a", age=1.0, **fields):
    when = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    return [make_event(when, route=route, **fields) for _ in range(count)]


def rows(traffic):
    return {(row.route, row.method): row.requests for row in traffic.rows(traffic.frame())}


def test_each_entry_is_read_once(redis_url, stream):
    traffic = RecentTraffic(stream, seconds=60.0)
    traffic.read()
    assert rows(traffic) == {}
    produce(redis_url, events(3), events(2, "/b", method="POST"))
    for _ in range(2):
        traffic.read()
        assert rows(traffic) == {("/a", "GET"): 3, ("/b", "POST"): 2}
    produce(redis_url, *([event] for event in events(120)))  # more than a page
    traffic.read()
    assert rows(traffic) == {("/a", "GET"): 123, ("/b", "POST"): 2}
    assert traffic.behind_seconds == 0
    # Another one begins with what is on the stream already, though it was added before.
    late = RecentTraffic(stream, seconds=60.0)
    late.read()
    assert rows(late) == rows(traffic)


def test_the_past_and_the_unreadable_are_told_apart(redis_url, stream):
    produce(redis_url, events(5, age=86_400.0), events(1))
    with raw_redis(redis_url) as client:
        client.xadd(f"{PREFIX}:stream", {"v": "1", "n": "1", "events": "[[1, 2]]"})
        client.xadd(f"{PREFIX}:stream", {"v": "1", "n": "1", "events": "not json"})
        client.xadd(f"{PREFIX}:stream", {"other": "x"})
    traffic = RecentTraffic(stream, seconds=60.0)
    traffic.read()
    assert rows(traffic) == {("/a", "GET"): 1}
    assert traffic.frame().outside == 5
    assert traffic.unreadable == 3


def test_a_read_ends_in_time_and_the_next_goes_on_where_it_ended(redis_url, stream):
    produce(redis_url, *([event] for event in events(200)))
    ticks = iter(range(10_000))
    # A clock by which every look takes a hundredth of what a read may take.
    traffic = RecentTraffic(
        stream, seconds=60.0, clock=lambda: next(ticks) * recent_traffic.READ_SECONDS / 100
    )
    seen = []
    while not seen or traffic.behind_seconds:
        traffic.read()
        seen.append(traffic.frame().total.requests)
    assert seen == [99, 198, 200]


def test_what_was_read_stays_when_redis_is_gone(redis_url):
    produce(redis_url, events(3))
    inspector = Inspector(redis_url, key_prefix=PREFIX)
    traffic = RecentTraffic(inspector, seconds=60.0)
    traffic.read()
    with raw_redis(redis_url) as client:
        client.execute_command("CLIENT", "PAUSE", 2_500, "ALL")
    began = time.monotonic()
    with pytest.raises(StreamUnavailable):
        traffic.read()
    assert time.monotonic() - began < 3
    assert rows(traffic) == {("/a", "GET"): 3}
    inspector.close()
