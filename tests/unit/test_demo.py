"""The demo's model of the past is worth being ranked."""

import contextlib
import datetime as dt
import json
import os
import random
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from waiting import until

from otel_analytics.demo.customers import Customers, Popularity
from otel_analytics.demo.past import CHARACTERS, past_events
from otel_analytics.demo.processes import start
from otel_analytics.errors import OtelAnalyticsError
from otel_analytics.record import decode_events, encode_events, parse_event

NOW = dt.datetime(2026, 11, 24, 12, 30, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def events():
    return list(past_events(now=NOW, days=2, requests_a_day=6_000, chance=random.Random(1)))


def test_every_event_can_be_stored_and_is_in_order(events):
    assert [parse_event(item) for item in decode_events(encode_events(events))] == events
    assert [event.timestamp_us for event in events] == sorted(event.timestamp_us for event in events)
    assert len({event.event_id for event in events}) == len(events)


def test_it_covers_the_days_asked_for_and_no_future(events):
    first = dt.datetime.fromtimestamp(events[0].timestamp_us / 1e6, dt.UTC)
    last = dt.datetime.fromtimestamp(events[-1].timestamp_us / 1e6, dt.UTC)
    assert NOW - dt.timedelta(days=2) <= first < NOW - dt.timedelta(days=2) + dt.timedelta(hours=1)
    assert NOW - dt.timedelta(hours=1) < last < NOW
    assert 9_000 < len(events) < 15_000


def test_the_same_chance_gives_the_same_past():
    def once():
        past = past_events(now=NOW, days=1, requests_a_day=500, chance=random.Random(7))
        return [event._replace(event_id="") for event in past]

    assert once() == once()


def test_routes_have_their_characters(events):
    requests = Counter(event.route for event in events)
    assert requests.keys() == CHARACTERS.keys()
    assert requests.most_common(1)[0][0] == "/api/v1/products/{product_id}"
    statuses = {(event.route, event.status_code) for event in events}
    assert {("/api/v1/orders/{order_id}", 404), ("/api/v1/shipping/quote", 503)} <= statuses
    personal = {event.response_hash for event in events if event.route == "/api/v1/me/recommendations"}
    shared = {event.response_hash for event in events if event.route == "/api/v1/categories"}
    assert len(personal) > 100
    assert len(shared) <= 7  # three a day
    assert {event.cache_status for event in events if "{product_id}" in event.route} == {"hit", "miss"}
    patterns = {
        json.dumps(event.query_params_normalized) for event in events if event.route.endswith("search")
    }
    assert len(patterns) > 20
    assert all("page" not in pattern for pattern in patterns)


def test_only_those_who_are_signed_in_get_personal_pages():
    customers = Customers(random.Random(3))
    asked = [customers.ask() for _ in range(3_000)]
    assert all(ask.user for ask in asked if "/me/" in ask.path or "/orders" in ask.path)
    assert any(ask.user is None for ask in asked)


def test_popularity_falls_with_the_rank():
    chance, popularity = random.Random(5), Popularity(100, 1.0)
    drawn = Counter(popularity.draw(chance) for _ in range(20_000))
    assert drawn[0] > 1.6 * drawn[1] > 2 * drawn[5] > 0
    assert max(drawn) <= 99


class SomebodyElse(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_process_whose_port_somebody_else_took_is_found_out(tmp_path):
    command = [sys.executable, "-c", "print('the port is taken')"]
    with HTTPServer(("127.0.0.1", 0), SomebodyElse) as server, contextlib.ExitStack() as stack:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        address = f"http://127.0.0.1:{server.server_port}"
        ensure_running = start(stack, command, dict(os.environ), log=tmp_path / "log", address=address)

        def has_ended():
            with contextlib.suppress(OtelAnalyticsError):
                ensure_running()
                return False
            return True

        until(has_ended)
        with pytest.raises(OtelAnalyticsError, match="has ended: the port is taken"):
            ensure_running()
