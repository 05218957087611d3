"""The replay of real raw rows, from what the application sent to what is said about it."""

import datetime as dt
from itertools import pairwise

import pytest
from backend import HOUR, NOW, make_event, make_settings, random_events, store_connection

from otel_analytics import simulation
from otel_analytics.analyze.replay import CacheModel
from otel_analytics.params import ParamRules
from otel_analytics.record import Event
from otel_analytics.simulation import simulate
from otel_analytics.store import ledger, replay
from otel_analytics.store.events import insert_events

RULES = ParamRules()


@pytest.fixture
def connection(migrated_dsn):
    with store_connection(migrated_dsn) as connection:
        yield connection


def sent(target: str, seconds: float = 0.0, **fields) -> Event:
    """The event of a request for a path and query, as capture makes it."""
    path, _, query = target.partition("?")
    params, pattern = RULES.read(query)
    defaults = {"route": "/search", "duration_ms": 100.0}
    return make_event(
        NOW - HOUR + dt.timedelta(seconds=seconds),
        route_full=RULES.redact(path, query),
        query_params=params,
        query_params_normalized=pattern,
        **{**defaults, **fields},
    )


def replayed(connection, *events, ttl=60.0, days=1, **model):
    if events:
        insert_events(connection, events)
    settings = make_settings(days=days, min_evidence_requests=1)
    return simulate(connection, settings, CacheModel(ttls=(ttl,), **model), now=NOW)


def hits(connection, *targets):
    """Of requests for these, a second apart."""
    events = [sent(target, place) for place, target in enumerate(targets)]
    return sum(each.outcomes[0].hits for each in replayed(connection, *events).patterns)


def test_the_order_of_parameters_is_of_no_account(connection):
    assert hits(connection, "/search?q=a&page=2", "/search?page=2&q=a") == 1


@pytest.mark.parametrize(
    "other",
    [
        "/search?q=b&page=2",
        "/search?q=a&page=3",
        "/search?q=a",
        "/search/?q=a&page=2",
        "/search?q=a&page=2&q=a",
    ],
)
def test_what_differs_in_path_or_parameters_has_another_key(connection, other):
    assert hits(connection, "/search?q=a&page=2", other) == 0


@pytest.mark.parametrize(
    ("target", "is_keyed"),
    [
        ("/search?q=a", True),
        ("/" + "x" * 2_046, True),
        ("/" + "x" * 2_047, False),
        ("/search?api_key=1", False),  # whoever it was, all look the same
        ("/search?q=" + "x" * 255, True),
        ("/search?q=" + "x" * 256, False),
        ("/search?q=" + "%C3%A9" * 255, True),
        ("/search?" + "x" * 300, False),
        ("/search?" + "&".join(f"p{n}=1" for n in range(50)), True),
        ("/search?" + "&".join(f"p{n}=1" for n in range(51)), False),
        ("/search?" + "&" * 60 + "a=1", False),
    ],
)
def test_a_key_is_not_made_of_what_was_cut_or_hidden(connection, target, is_keyed):
    assert hits(connection, target, target) == is_keyed
    (found,) = replayed(connection).patterns
    assert found.evidence.unkeyed == (0 if is_keyed else 2)


def test_head_and_get_are_different_and_post_is_never_cached(connection):
    methods = [
        sent("/search", place, method=method) for place, method in enumerate(["GET", "HEAD", "POST", "POST"])
    ]
    found = replayed(connection, *methods).patterns
    assert [each.outcomes[0].hits for each in found] == [0, 0, 0]
    assert [each.evidence.unsafe for each in sorted(found, key=lambda each: each.name.method)] == [0, 0, 2]


def test_numbers_reach_the_replay_as_they_were_stored(connection):
    first = sent("/a", 0.25, route="/a", duration_ms=1_500.5, user_id="u", response_hash=-(2**63))
    hit = sent(
        "/a", 3, route="/a", duration_ms=250.0, user_id="v", response_hash=5, response_size_bytes=2**40,
        db_query_count=7, cache_status="hit", status_code=404,
    )  # fmt: skip
    other_day = sent("/a", -86_000, route="/a", status_code=206)
    (found,) = replayed(connection, first, hit, other_day, days=2).patterns
    assert found.name == ("/a", "GET", "{}")
    seen, outcome = found.evidence, found.outcomes[0]
    assert (seen.requests, seen.storable, seen.errors, seen.from_cache, seen.known_users) == (3, 1, 1, 1, 2)
    assert seen.seconds == pytest.approx(1.5005 + 0.25 + 0.1)
    assert [moment / 1e6 for moment in seen.span_us] == [
        other_day.timestamp_us / 1e6, hit.timestamp_us / 1e6,
    ]  # fmt: skip
    assert (outcome.hits, outcome.saved_queries, outcome.saved_bytes, outcome.masked_errors) == (
        1,
        7,
        2**40,
        1,
    )
    assert outcome.saved_seconds == pytest.approx(0.249)
    assert (outcome.compared, outcome.stale, outcome.foreign, outcome.foreign_stale) == (1, 1, 1, 1)


def test_only_the_days_asked_for_and_what_a_route_matched(connection):
    events = [sent("/a", 0), sent("/a", -90_000), sent("/x", 1, route="(unmatched)"), sent("/a", 3_600)]
    found = replayed(connection, *events)
    assert found.history.requests == 1
    assert found.history.seconds == 3_600
    assert found.history.asked_seconds == 86_400


def test_chunks_of_any_size_and_one_route_alone_give_the_same(connection, monkeypatch):
    # Routes with paths of their own, as they are in applications.
    events = [each._replace(route_full=each.route) for each in random_events(3_000, seed=3)]
    insert_events(connection, events)
    model = CacheModel(ttls=(1.0, 60.0, 3_600.0))
    settings = make_settings(days=1)
    whole = simulate(connection, settings, model, now=NOW)
    for size in (1, 7, 1_000, 3_000):
        monkeypatch.setattr(replay, "CHUNK", size)
        assert simulate(connection, settings, model, now=NOW) == whole
    assert sum(each.evidence.requests for each in whole.patterns) == whole.history.requests
    alone = simulate(connection, settings, model, now=NOW, route="/b/{id}")
    of_route = [each for each in whole.patterns if each.name.route == "/b/{id}"]
    assert sorted(alone.patterns) == sorted(of_route)
    assert alone.patterns


def test_a_flood_of_patterns_shares_one_group(connection, monkeypatch):
    monkeypatch.setattr(replay, "MAX_GROUPS", 5)
    events = [sent(f"/search?q={n}", n * 10 + again) for n in range(9) for again in (0, 1)]
    found = replayed(connection, *events)
    assert [each.outcomes[0].hits for each in found.patterns] == [1] * 5
    assert found.folded_requests == 8


def test_a_shared_cache_of_limited_memory(connection):
    events = [sent(f"/a/{n % 3}", n, route="/a/{id}", response_size_bytes=1_000) for n in range(30)]
    insert_events(connection, events)
    model = CacheModel(ttls=(60.0,), entry_overhead_bytes=0)
    for memory, expected in ((3_000, 27), (2_000, 0)):
        (found,) = simulate(
            connection, make_settings(days=1), model, now=NOW, route="/a/{id}", memory_bytes=memory
        ).patterns
        assert {each.policy: each.hits for each in found.bounded}["lru"] == expected


def test_rows_say_what_they_rest_on(connection):
    events = [
        *(sent("/fresh", second, route="/fresh", response_hash=1) for second in range(0, 3_600, 20)),
        *(sent("/news", second, route="/news", response_hash=second // 100) for second in range(0, 3_600, 5)),
        *(sent("/unknown", second, route="/unknown", duration_ms=900.0) for second in range(0, 3_600, 60)),
    ]
    insert_events(connection, events)
    ledger.open_epoch(connection, "e")
    settings = make_settings(days=1, min_evidence_requests=100)
    found = simulate(connection, settings, CacheModel(ttls=(10.0, 60.0, 3_600.0)), now=NOW)
    rows = simulation.best_rows(found, settings)
    assert [(row.route, row.ttl_seconds, row.hits) for row in rows] == [("/fresh", 3_600.0, 179)]
    assert rows[0].staleness == 0
    assert rows[0].caveats == ["short history", "long ttl"]
    by_route = {ladder[0].route: ladder for ladder in simulation.ladders(found, settings)}
    assert by_route["/unknown"][2].caveats == ["few requests", "short history", "long ttl", "unknown bodies"]
    assert all(a.hits <= b.hits for ladder in by_route.values() for a, b in pairwise(ladder))
    assert by_route["/news"][1].staleness > 0.3
