"""Each rule on traffic that must trigger it and on traffic that must not, stored in a real PostgreSQL."""

import datetime as dt
import itertools

import pytest
from backend import DAY, HOUR, NOW, make_settings, raw_postgres, store_connection
from traffic import Traffic

from otel_analytics import advice, ranking
from otel_analytics.errors import SettingsError, UsageError
from otel_analytics.replaying import replay_both_keys
from otel_analytics.rollup import rollup_touched
from otel_analytics.savings import rank_savings
from otel_analytics.store import advice as store
from otel_analytics.store import partitions
from otel_analytics.store.connection import snapshot
from otel_analytics.store.events import insert_events

# What is tested is what the rules see, not how large each of many routes is among the others.
LOW = {
    "cache-candidate": {"min_saved_share": 0.0001},
    "unsafe-method": {"min_share_of_seconds": 0.0001},
    "cold-data": {"min_share_of_seconds": 0.00001},
    "cache-regression": {"min_lost_share": 0.00001},
}


@pytest.fixture
def connection(migrated_dsn):
    days = partitions.days_from((NOW - 8 * DAY).date(), NOW.date())
    with store_connection(migrated_dsn, *days) as connection:
        yield connection


def advised(connection, traffic, *, rules=(), route=None, tables=None, **overrides):
    insert_events(connection, traffic.events)
    settings = make_settings(days=7, rules=LOW if tables is None else tables, **overrides)
    rollup_touched(connection, settings, now=NOW)
    return advice.advise(connection, settings, now=NOW, rules=rules, route=route)


def found(advised):
    """Route to the ids of the rules that speak about it."""
    by_route = {}
    for row in advised.rows:
        by_route.setdefault(row.route, set()).add(row.rule)
    return by_route


def hot(chance):
    """Within an hour, so that few requests are enough for a cache."""
    return NOW - HOUR + chance.random() * HOUR


def own_cache(hit_ratio, *, hit_ms=2.0, miss_ms=100.0):
    def fields(ask):
        hit = ask.chance.random() < hit_ratio
        return {"cache_status": "hit" if hit else "miss", "duration_ms": hit_ms if hit else miss_ms}

    return fields


def listing(ask):
    size = ask.chance.randrange(1, 40)
    return {"db_query_count": 1 + size, "response_size_bytes": 200 * size + ask.chance.randrange(50)}


def tail(share, factor):
    return lambda ask: {"duration_ms": 100.0 * (factor if ask.chance.random() < share else 1)}


def at_hours(*hours, share=0.8, days=6):
    """Most requests at some hours of the day, on so many days."""

    def moment(chance):
        day = NOW.replace(hour=0, minute=0) - (1 + chance.randrange(days)) * DAY
        hour = chance.choice(hours) if chance.random() < share else chance.randrange(24)
        return day + (hour + chance.random()) * HOUR

    return moment


SAFE_TO_SHARE = {"never-share"}
EXPECTED = {
    # what to cache
    "/popular": {"cache-candidate", *SAFE_TO_SHARE},
    "/changes-each-time": set(),
    "/hardly-twice": set(),
    "/nobody-named": {"cache-candidate"},
    "/no-body-known": set(),
    # what never to share
    "/one-user": {"cache-candidate"},
    "/personal": {"cache-candidate", "never-share"},
    "/changes-with-time": {"cache-candidate", *SAFE_TO_SHARE},
    # what stands in the way
    "/write": {"unsafe-method"},
    "/stream": {"streaming", *SAFE_TO_SHARE},
    "/fails": {"error-prone", *SAFE_TO_SHARE},
    "/fails-seldom": {"cache-candidate", *SAFE_TO_SHARE},
    "/not-there": {"error-prone", *SAFE_TO_SHARE},
    "/few": {"cold-data"},
    # a cache of its own
    "/cached-well": {"already-cached", *SAFE_TO_SHARE},
    "/cached-badly": {"cache-regression", *SAFE_TO_SHARE},
    "/cached-for-nothing": {"already-cached", *SAFE_TO_SHARE},
    # what is slow or heavy
    "/lists": {"n-plus-one"},
    "/many-queries": {"n-plus-one"},
    "/queries-at-random": set(),
    "/three-queries": set(),
    "/tail": {"slow-tail"},
    "/no-tail": set(),
    "/quick-tail": set(),
    "/large": {"oversized-response"},
    "/mornings": {"traffic-spike"},
    "/one-busy-day": set(),
    "/evenly": set(),
}


def each_time(_, number=itertools.count()):  # noqa: B008 - one count for all
    return next(number)


def characters():
    once = {"body": each_time, "moment": hot}
    return (
        Traffic()
        .route("/popular", moment=hot)
        .route("/changes-each-time", **once)
        .route("/hardly-twice", body=lambda ask: ask.params["page"], moment=hot, params=lambda chance: {
            "page": str(chance.randrange(10**6))})
        .route("/nobody-named", users=0, moment=hot)
        .route("/no-body-known", moment=hot, response_hash=None)
        .route("/one-user", users=1, moment=hot)
        .route("/personal", users=8, body=lambda ask: ask.user, moment=hot)
        .route("/changes-with-time", body=lambda ask: ask.version(900), requests=3_000, moment=hot)
        .route("/write", method="POST")
        .route("/stream", duration_ms=5_000.0, ttfb_ms=3.0, moment=hot)
        .route("/fails", moment=hot, fields=failing(0.1, 503))
        .route("/fails-seldom", moment=hot, fields=failing(0.005, 503))
        .route("/not-there", moment=hot, fields=failing(0.5, 404))
        .route("/few", requests=50)
        .route("/cached-well", moment=hot, fields=own_cache(0.95))
        .route("/cached-badly", moment=hot, fields=own_cache(0.05))
        .route("/cached-for-nothing", moment=hot, fields=own_cache(0.95, hit_ms=90.0))
        .route("/lists", fields=listing, **once)
        .route("/many-queries", db_query_count=25, **once)
        .route("/queries-at-random", fields=lambda ask: {"db_query_count": ask.chance.randrange(30)}, **once)
        .route("/three-queries", db_query_count=3, **once)
        .route("/tail", requests=1_500, fields=tail(0.03, 40), **once)
        .route("/no-tail", requests=1_500, fields=tail(0.03, 5), **once)
        .route("/quick-tail", requests=1_500, fields=lambda ask: {
            "duration_ms": 300.0 if ask.chance.random() < 0.03 else 2.0}, **once)
        .route("/large", response_size_bytes=3_000_000, **once)
        .route("/mornings", requests=1_200, body=each_time, moment=at_hours(7))
        .route("/one-busy-day", requests=1_200, body=each_time, moment=one_busy_day)
        .route("/evenly", requests=2_000, body=each_time, moment=at_hours(7, share=0.0))
    )  # fmt: skip


def failing(share, status):
    return lambda ask: {"status_code": status} if ask.chance.random() < share else {}


def one_busy_day(chance):
    if chance.random() < 0.7:
        return NOW.replace(hour=7, minute=0) - 3 * DAY + chance.random() * HOUR
    return at_hours(7, share=0.0)(chance)


def test_each_rule_speaks_where_it_must_and_nowhere_else(connection, subtests):
    seen = advised(connection, characters())
    spoken = found(seen)
    for route, expected in EXPECTED.items():
        with subtests.test(route):
            assert spoken.get(route, set()) == expected
    assert spoken.keys() <= EXPECTED.keys()

    rows = {(row.route, row.rule): row for row in seen.rows}
    with subtests.test("whose copy it is"):
        keys = {
            route: row.evidence["key"] for (route, rule), row in rows.items() if rule == "cache-candidate"
        }
        assert keys == {
            "/popular": "shared",
            "/changes-with-time": "shared",
            "/fails-seldom": "shared",
            "/nobody-named": "shared, unproven",
            "/one-user": "per user",
            "/personal": "per user",
        }

    with subtests.test("how sure it is"):
        assert rows["/popular", "never-share"].severity == "info"
        assert rows["/popular", "never-share"].evidence["users_with_the_same_answer"] == 40
        assert rows["/personal", "never-share"].severity in ("high", "medium")
        assert rows["/cached-well", "already-cached"].severity == "info"
        assert rows["/cached-for-nothing", "already-cached"].severity == "low"

    with subtests.test("content that changes is kept for as long as it may be stale"):
        candidate = rows["/changes-with-time", "cache-candidate"].evidence
        assert 5 <= candidate["ttl_seconds"] <= 30
        assert candidate["staleness"] <= 0.01

    with subtests.test("spikes are named by their hours"):
        assert rows["/mornings", "traffic-spike"].evidence["hours_utc"] == ["07:00"]


def test_the_statements_run_as_they_are_printed_and_show_the_figures(connection, migrated_dsn):
    odd = "/it's \\ 100 %s {id}"
    traffic = Traffic().route(odd, moment=hot, params=campaign).route("/write", method="POST")
    rows = advised(connection, traffic).rows
    assert {row.rule for row in rows} == {
        "cache-candidate", "never-share", "irrelevant-parameter", "unsafe-method",
    }  # fmt: skip
    with raw_postgres(migrated_dsn) as plain:
        for row in rows:
            cursor = plain.execute(row.sql.encode())
            shown = dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))
            match row.rule:
                case "irrelevant-parameter":
                    assert shown["equal"] == row.evidence["equal"] > 100
                case "never-share":
                    assert shown["equal_senders"] == row.evidence["users_with_the_same_answer"] == 40
                case "unsafe-method":
                    assert shown["requests"] == row.evidence["requests"] == 600


def campaign(chance):
    return {"utm_source": chance.choice("abc")} if chance.random() < 0.5 else {}


# Pages that are personal, each in its own way; whatever else is said, none may be shared.
PERSONAL = {
    "/each-their-own": {"users": 12, "body": lambda ask: ask.user},
    "/and-changing": {"users": 12, "body": lambda ask: (ask.user, ask.version(300))},
    "/mostly-empty-carts": {"users": 60, "body": lambda ask: ask.user if ask.user in {"u1", "u2"} else 0},
    "/one-in-three-hundred": {"users": 300, "requests": 3_000, "body": lambda ask: ask.user == "u7"},
    "/one-in-a-hundred": {"users": 100, "requests": 3_000, "body": lambda ask: ask.user == "u7"},
    "/known-or-not": {"users": 30, "anonymous": 0.9, "body": lambda ask: ask.user is None},
    "/name-in-the-corner": {"users": 30, "anonymous": 0.97, "body": lambda ask: ask.user},
    "/one-user-asks-most": {
        "users": 300,
        "body": lambda ask: ask.user,
        "fields": lambda ask: {"user_id": "u0", "response_hash": 7} if ask.chance.random() < 0.99 else {},
    },
    "/each-comes-once": {"users": 100_000, "body": lambda ask: ask.user},
    "/cookie-nobody-named": {"users": 0, "body": lambda ask: ask.chance.randrange(5)},
    "/by-parameter-too": {
        "users": 10,
        "body": lambda ask: (ask.user, ask.params["tab"]),
        "params": lambda chance: {"tab": chance.choice("ab")},
    },
}  # fmt: skip


def test_one_replay_serves_the_rules_and_the_ranking(connection):
    traffic = Traffic()
    for route, character in PERSONAL.items():
        traffic.route(route, moment=hot, **character)
    traffic.route("/same-for-all", moment=hot, users=60)
    expected = advised(connection, traffic)
    settings = make_settings(days=7, rules=LOW)
    with snapshot(connection):
        replayed = replay_both_keys(connection, settings, now=NOW)
    assert expected.rows
    assert advice.advise(connection, settings, now=NOW, replayed=replayed) == expected
    ranked = rank_savings(connection, settings, now=NOW, replayed=replayed)
    assert ranked.rows
    assert ranked == rank_savings(connection, settings, now=NOW)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_personal_page_is_recommended_for_sharing(connection, seed, subtests):
    """By any of those that recommend; what is the same for all, is."""
    traffic = Traffic(seed=seed)
    for route, character in PERSONAL.items():
        traffic.route(route, moment=hot, **character)
    traffic.route("/same-for-all", moment=hot, users=60)
    rows = advised(connection, traffic).rows
    settings = make_settings(top_n_routes=100, min_requests=0.0, min_latency=0.0, cache_score_threshold=0.0)
    saving = rank_savings(connection, settings, now=NOW).rows
    planned = ranking.plan(connection, settings, now=NOW).rows
    assert {row.route for row in planned} == {*PERSONAL, "/same-for-all"}
    for name, recommended in (("savings", saving), ("plan", planned)):
        with subtests.test("what is the same for all is shared", by=name):
            assert {row.route for row in recommended if row.cache_key == "shared"} == {"/same-for-all"}
    shared = {
        row.route for row in rows if row.rule == "cache-candidate" and row.evidence["key"] != "per user"
    }
    assert shared == {"/same-for-all"}
    same = {row.route for row in rows if row.rule == "never-share" and row.severity == "info"}
    assert same == {"/same-for-all"}
    for route in ("/each-their-own", "/and-changing", "/by-parameter-too"):
        with subtests.test("told to be private", route=route):
            assert "never-share" in {row.rule for row in rows if row.route == route}
    with subtests.test("parameters of a personal page matter"):
        assert "irrelevant-parameter" not in {row.rule for row in rows}


def params(**others):
    """A search for one of few words, and others: a name to a function of chance, or None to leave it out."""

    def choose(chance):
        chosen = {"q": chance.choice("abc")}
        for name, choice in others.items():
            value = choice(chance)
            if value is not None:
                chosen[name] = value
        return chosen

    return choose


RARE = {"debug": lambda chance: "1" if chance.random() < 0.01 else None}
IRRELEVANT = {
    "/tracking": ("utm", params(utm=lambda chance: chance.choice("xyz")), lambda ask: ask.params["q"]),
    "/sometimes": (
        "ref",
        params(ref=lambda chance: chance.choice([None, "mail"])),
        lambda ask: ask.params["q"],
    ),
    "/cache-buster": (
        "_",
        params(_=lambda chance: str(chance.randrange(10**9))),
        lambda ask: (ask.params["q"], ask.version(900)),
    ),
    "/on-a-personal-page": (
        "utm",
        params(utm=lambda chance: chance.choice("xyz")),
        lambda ask: (ask.user, ask.params["q"]),
    ),
}
RELEVANT = {
    "/matters": (params(sort=lambda chance: chance.choice("ab")), lambda ask: tuple(ask.params.values())),
    "/for-one-value": (
        params(sort=lambda chance: chance.choice("abcdefgh")),
        lambda ask: (ask.params["q"], ask.params["sort"] == "h"),
    ),
    "/for-one-value-of-one-word": (
        params(sort=lambda chance: chance.choice("abcdefgh")),
        lambda ask: (ask.params["q"], ask.params["q"] == "a" and ask.params["sort"] == "h"),
    ),
    "/for-a-rare-value": (params(**RARE), lambda ask: (ask.params["q"], "debug" in ask.params)),
    "/changing-too": (
        params(sort=lambda chance: chance.choice("ab")),
        lambda ask: (*ask.params.values(), ask.version(120)),
    ),
    "/in-turns": (
        lambda _: {},
        lambda ask: ask.version(600),
    ),
}


def test_parameters_that_never_matter_are_found_and_no_other(connection, subtests):
    traffic = Traffic()
    for route, (_, choose, body) in IRRELEVANT.items():
        traffic.route(route, requests=2_500, users=6, moment=hot, params=choose, body=body)
    for route, (choose, body) in RELEVANT.items():
        traffic.route(route, requests=2_500, moment=hot, params=choose, body=body)
    rows = advised(connection, traffic, rules=["irrelevant-parameter"]).rows
    assert {(row.route, row.evidence["parameter"]) for row in rows} == {
        (route, name) for route, (name, *_) in IRRELEVANT.items()
    }
    for row in rows:
        with subtests.test("the gain", route=row.route):
            assert row.evidence["hit_ratio_without_it"] > row.evidence["hit_ratio"] + 0.01


def test_rules_are_switched_and_tuned_and_named(connection):
    traffic = Traffic().route("/tail", requests=1_500, fields=tail(0.03, 40), body=each_time)
    settings = {"slow-tail": {"min_ratio": 10}}
    assert found(advised(connection, traffic, tables=settings)) == {"/tail": {"slow-tail"}}
    empty = Traffic()
    assert found(advised(connection, empty, tables={"slow-tail": {"min_ratio": 50}})) == {}
    assert found(advised(connection, empty, tables={"slow-tail": {"enabled": False}})) == {}
    off = {"slow-tail": {"enabled": False}}
    assert found(advised(connection, empty, tables=off, rules=["slow-tail"])) == {"/tail": {"slow-tail"}}
    assert found(advised(connection, empty, tables={"classic-score": {"enabled": True}})) == {
        "/tail": {"slow-tail", "classic-score"}
    }
    with pytest.raises(UsageError, match="unknown rule slow-tale; did you mean slow-tail"):
        advised(connection, empty, rules=["slow-tale"])
    with pytest.raises(SettingsError, match=r"rules.slow-tail: unknown threshold min_ration; did you mean"):
        advised(connection, empty, tables={"slow-tail": {"min_ration": 1}})


def test_one_route_alone_is_told_the_same(connection):
    traffic = characters()
    whole = advised(connection, traffic)
    alone = advised(connection, Traffic(), route="/popular")
    # The sums of a route are the same, whatever else was replayed.
    assert alone.rows == [row for row in whole.rows if row.route == "/popular"]
    assert advised(connection, Traffic(), route="/none").rows == []


def test_the_sample_bounds_what_is_looked_at(connection, monkeypatch):
    monkeypatch.setattr(advice, "SAMPLE", 200)
    traffic = Traffic().route("/popular", requests=800, moment=hot)
    rows = {row.rule: row for row in advised(connection, traffic).rows}
    assert rows["never-share"].evidence["sampled_requests"] == 200
    assert rows["cache-candidate"].evidence["requests"] == 800
    # A method that is rare on a busy route does not lead through all of the route.
    span = store.Span(NOW - DAY, NOW, 20)
    rare = Traffic().route("/popular", requests=5, method="HEAD", moment=lambda _: NOW - 2 * HOUR)
    insert_events(connection, rare.events)
    assert store.sample(connection, span, "/popular", "HEAD").requests == 0
    assert store.sample(connection, span._replace(sample=81), "/popular", "HEAD").requests == 5


def test_an_empty_table_is_no_failure(connection):
    answer = advised(connection, Traffic())
    assert answer.rows == []
    assert answer.history.requests == 0
    assert answer.since == NOW - dt.timedelta(days=7)


def naive_dependence(events, sender_of, key_of):
    """The definitions of `Dependence`, one request after the other."""
    counts = dict.fromkeys(("compared", "equal", "returns", "kept", "contradicted", "own_returns"), 0)
    of_sender = {}
    by_key = {}
    for event in sorted(events, key=lambda each: (each.timestamp_us, each.event_id)):
        by_key.setdefault(key_of(event), []).append(event)
    for requests in by_key.values():
        for place, event in enumerate(requests):
            sender, own = sender_of(event), of_sender.setdefault(sender_of(event), [0, 0, 0])
            own[0] += 1
            before = requests[:place]
            if not before or end_us(before[-1]) > event.timestamp_us:
                continue
            last = before[-1]
            if None not in (sender, sender_of(last)) and sender != sender_of(last):
                counts["compared"] += 1
                own[1] += 1
                counts["equal"] += last.response_hash == event.response_hash
                own[2] += last.response_hash == event.response_hash
            same = [n for n, each in enumerate(before) if each.response_hash == event.response_hash]
            if same and same[-1] < place - 1:
                counts["returns"] += end_us(before[same[-1]]) <= before[same[-1] + 1].timestamp_us
            mine = [n for n, each in enumerate(before) if sender_of(each) == sender]
            if sender is not None and mine and mine[-1] < place - 1:
                kept = before[mine[-1]].response_hash == event.response_hash
                counts["kept"] += kept
                counts["contradicted"] += kept and last.response_hash != event.response_hash
            if len(mine) > 1 and before[mine[-1]].response_hash != event.response_hash:
                counts["own_returns"] += before[mine[-2]].response_hash == event.response_hash
    known = {sender: own for sender, own in of_sender.items() if sender is not None}
    return counts | {
        "requests": len(events),
        "senders": len(known),
        "equal_senders": sum(equal > 0 for _, _, equal in of_sender.values()),
        "lone": sum(requests == 1 for requests, _, _ in known.values()),
        "unproven": sum(
            not equal and (requests >= 5 or (requests > 1 and compared > 0))
            for requests, compared, equal in known.values()
        ),
    }


def end_us(event):
    return event.timestamp_us + round(event.duration_ms * 1_000)


@pytest.mark.parametrize("seed", range(4))
def test_dependence_is_what_its_definitions_say(connection, seed):
    traffic = Traffic(seed=seed).route(
        "/any",
        requests=400,
        users=12,
        anonymous=0.2,
        params=params(sort=lambda chance: chance.choice(["x", "y", None])),
        moment=hot,
        body=lambda ask: ask.chance.randrange(3),
        fields=lambda ask: {"duration_ms": ask.chance.choice([1.0, 60_000.0])},
    )
    insert_events(connection, traffic.events)
    span = store.Span(NOW - DAY, NOW, 1_000)
    by_user = store.dependence(connection, span, "/any", "GET")
    assert by_user._asdict() == naive_dependence(
        traffic.events, lambda each: each.user_id, lambda each: tuple(each.query_params.items())
    )
    by_sort = store.dependence(connection, span, "/any", "GET", param="sort", per_user=True)
    assert by_sort._asdict() == naive_dependence(
        traffic.events,
        lambda each: each.query_params.get("sort", "absent"),
        lambda each: (each.query_params["q"], each.user_id),
    )
