import random

import pytest
from backend import make_event

from otel_analytics.analyze.recent import MAX_ROUTES, OTHER_ROUTES, SLOTS, Window

NOW = 1_800_000_000.0
SECONDS = 300.0


def event(age, **fields):
    return make_event(timestamp_us=int((NOW - age) * 1e6), **fields)


def test_the_figures_are_those_of_the_events_in_the_window():
    chance = random.Random(1)
    events = [
        event(
            400 * chance.random(),
            route=chance.choice(["/a", "/b"]),
            duration_ms=chance.lognormvariate(3, 1),
            status_code=chance.choice([200, 404, 500, 503]),
        )
        for _ in range(5_000)
    ]
    window = Window(SECONDS)
    # As they come: in parts, in no order.
    for first in range(0, 5_000, 700):
        window.add(events[first : first + 700], NOW)
    frame = window.frame(NOW)
    # The oldest slot of 5 s may be cut.
    inside = [each for each in events if each.timestamp_us > (NOW - SECONDS + 5) * 1e6]
    assert len(inside) <= frame.total.requests <= len(inside) + 100
    assert frame.outside == 0
    assert sum(frame.course) == frame.total.requests == sum(each.requests for each in frame.routes.values())
    assert len(frame.course) == SLOTS
    for (route, _), figures in frame.routes.items():
        own = sorted(each.duration_ms for each in inside if each.route == route)
        assert figures.p50_ms == pytest.approx(own[len(own) // 2], rel=0.08)
        assert figures.p95_ms == pytest.approx(own[int(0.95 * len(own))], rel=0.08)
        errors = sum(each.status_code >= 500 for each in inside if each.route == route)
        assert figures.server_errors == pytest.approx(errors, abs=40)


def test_what_is_old_leaves_by_itself():
    window = Window(SECONDS)
    window.add([event(0, duration_ms=0.0), event(294), event(301), event(601), event(-3), event(-60)], NOW)
    frame = window.frame(NOW)
    # Three seconds ahead is a clock that differs, a minute is no time at all.
    assert (frame.total.requests, frame.outside) == (3, 2)
    assert (frame.course[0], frame.course[-1]) == (1, 2)
    assert window.frame(NOW + 20).total.requests == 2
    assert window.frame(NOW + 20).course[-5] == 2
    empty = window.frame(NOW + SECONDS + 1)
    assert (empty.total.requests, empty.total.p95_ms, empty.routes) == (0, None, {})


def test_routes_beyond_a_number_share_a_row():
    window = Window(SECONDS)
    window.add([event(1, route=f"/{n}") for n in range(MAX_ROUTES + 50)], NOW)
    routes = window.frame(NOW).routes
    assert len(routes) == MAX_ROUTES + 1
    assert routes[OTHER_ROUTES].requests == 50
