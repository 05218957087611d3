"""The replay against traces small enough to check by hand, and against a cache in a plain loop."""

import random

import cachetools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_traces import BAD, GOOD, SECOND, Request, naive, trace

from otel_analytics.analyze.replay import (
    BoundedReplay,
    CacheModel,
    Evidence,
    History,
    Outcome,
    Replay,
    best,
    caveats,
)
from otel_analytics.request_columns import KEYED, SAFE, STORABLE

FIGURES = (
    "requests", "hits", "joined", "stored", "saved_queries", "saved_bytes", "compared", "stale", "foreign",
    "foreign_stale", "masked_errors", "peak_bytes",
)  # fmt: skip


def replayed(trace_of, model, sizes=()):
    """By group. Replayed in chunks of these sizes, the rest at once."""
    replay, begin, every = Replay(model), 0, trace(trace_of)
    for size in (*sizes, len(trace_of)):
        replay.feed(every.take(slice(begin, begin + size)))
        begin += size
    return {each.group: each for each in replay.result()}


def outcome(*trace_of, ttl=10.0, **model):
    return replayed(list(trace_of), CacheModel(ttls=(ttl,), latency_ms=0.0, **model))[0].outcomes[0]


def test_a_copy_is_there_when_its_answer_is_complete_and_expires_at_exactly_the_ttl():
    # Complete at 2, so fresh from 2 to just before 12.
    assert outcome(Request(0, 2), Request(1.999, 1)).hits == 0
    assert outcome(Request(0, 2), Request(2, 1)).hits == 1
    assert outcome(Request(0, 2), Request(11.999, 1)).hits == 1
    assert outcome(Request(0, 2), Request(12, 1)).hits == 0


def test_a_copy_is_not_renewed_by_hits_but_by_the_next_miss():
    found = outcome(*(Request(start) for start in (0, 9, 10, 19, 20)))
    assert (found.hits, found.stored) == (2, 3)


def test_the_same_key_computed_twice_at_once_is_two_misses_and_the_first_answer_ready_is_the_copy():
    slow, quick = Request(0, 5, body=1), Request(1, 1, body=2)
    found = outcome(slow, quick, Request(3, 1, body=2), Request(6, 1, body=1))
    assert (found.hits, found.stored, found.compared, found.stale) == (2, 1, 2, 1)
    # It was ready at 2; the slow one, ready at 5, did not renew it.
    assert outcome(slow, quick, Request(12, 1)).hits == 0


def test_with_single_flight_a_request_waits_for_the_computation_and_saves_the_rest():
    found = outcome(Request(0, 5), Request(1, 6, queries=3), Request(4.5, 0.2), single_flight=True)
    # 6 s less the 4 s it waits; the third would have been done sooner without the wait, and saves nothing.
    assert (found.hits, found.joined, found.saved_seconds, found.saved_queries) == (2, 2, 2.0, 3)


def test_only_safe_methods_whose_key_is_known_are_cached():
    assert outcome(Request(0), Request(1)).hits == 1
    for flags in (GOOD & ~SAFE, GOOD & ~KEYED):
        assert outcome(Request(0, flags=flags), Request(1, flags=flags)).hits == 0
        assert outcome(Request(0), Request(1, flags=flags)).hits == 0


def test_errors_are_not_stored_and_are_covered_by_a_fresh_copy():
    found = outcome(Request(0, flags=BAD), Request(1), Request(2, flags=BAD), Request(3))
    assert (found.hits, found.stored, found.masked_errors) == (2, 1, 1)
    # Nobody waits for an answer that cannot be kept.
    assert outcome(Request(0, 5, flags=BAD), Request(1, 1), single_flight=True).hits == 0


def test_a_hit_saves_duration_queries_and_bytes_less_what_the_cache_takes():
    model = CacheModel(ttls=(10.0,), latency_ms=500.0)
    hits = [Request(1, 2, size=10, queries=3), Request(4, 0.2, size=-1, queries=-1)]
    (found,) = replayed([Request(0, 1), *hits], model)[0].outcomes
    assert (found.saved_seconds, found.saved_queries, found.saved_bytes) == (1.5, 3, 10)


def test_staleness_is_of_the_hits_whose_bodies_are_known():
    known = [Request(0, body=1), Request(1, body=1), Request(2, body=2), Request(3)]
    unknown = [Request(4, key=2), Request(5, key=2, body=1)]
    found = outcome(*known, *unknown)
    assert (found.hits, found.compared, found.stale, found.staleness) == (4, 2, 1, 0.5)
    assert outcome(Request(0)).staleness is None


def test_what_one_user_would_have_got_of_another_is_counted_apart():
    mine, yours = Request(0, user=1, body=1), Request(1, user=2, body=2)
    found = outcome(mine, yours, Request(2, user=1, body=2), Request(3, body=2))
    assert (found.hits, found.stale, found.foreign, found.foreign_stale) == (3, 3, 1, 1)


def test_a_copy_for_each_user():
    per_user = {"per_user": True}
    assert outcome(Request(0, user=1), Request(1, user=2), **per_user).hits == 0
    assert outcome(Request(0, user=1), Request(1, user=2), Request(2, user=1), **per_user).hits == 1
    assert outcome(Request(0), Request(1), **per_user).hits == 0  # nobody's copy is kept for nobody


def test_peak_memory_is_that_of_the_live_entries():
    sizes = [Request(0, key=1, size=100), Request(5, key=2, size=50), Request(10, key=3, size=120)]
    # The first expires as the third is stored.
    assert outcome(*sizes, entry_overhead_bytes=1).peak_bytes == 172
    assert outcome(*sizes[:2], entry_overhead_bytes=1).peak_bytes == 152
    assert outcome(*sizes, ttl=10.001, entry_overhead_bytes=1).peak_bytes == 273
    assert outcome(Request(0, size=-1), entry_overhead_bytes=7).peak_bytes == 7


def test_peak_relief_is_of_the_hour_with_most_requests():
    quiet = [Request(second) for second in (0, 1)]
    busy = [Request(3_600 + second) for second in (0, 1, 2, 20)]
    found = outcome(*quiet, *busy)
    assert (found.busiest_requests, found.busiest_hits, found.peak_relief) == (4, 2, 0.5)


def test_evidence():
    requests = [
        Request(1, 2, user=1, body=1, size=1, queries=0),
        Request(2, flags=GOOD | 16),
        Request(3, flags=BAD),
        Request(4, flags=KEYED | STORABLE),
        Request(5, flags=SAFE | STORABLE),
    ]
    found = replayed(requests, CacheModel(per_user=True))[0].evidence
    assert found == Evidence(
        requests=5, cacheable=1, unsafe=1, unkeyed=1, without_user=2, storable=1, errors=1, from_cache=1,
        seconds=2.0, known_bodies=1, known_sizes=1, known_queries=1, known_users=1,
        span_us=(3_601 * SECOND, 3_605 * SECOND),
    )  # fmt: skip


def test_groups_with_few_requests_may_go_without_outcomes():
    rare, often = [Request(0, key=2)], [Request(second, group=3, size=second) for second in (1, 2, 3)]
    every = trace([*rare, *often, *(Request(second, key=3, group=4) for second in (4, 5))])
    replays = [Replay(CacheModel()), Replay(CacheModel())]
    for replay in replays:
        replay.feed(every)
    whole, spared = replays[0].result(), replays[1].result(min_requests=2)
    assert [(each.group, each.evidence.requests) for each in whole] == [(0, 1), (3, 3), (4, 2)]
    assert whole[0].outcomes
    assert spared == [whole[0]._replace(outcomes=()), *whole[1:]]


def test_requests_out_of_order_are_refused():
    replay = Replay(CacheModel())
    with pytest.raises(ValueError, match="order"):
        replay.feed(trace([Request(1), Request(0)]))
    replay.feed(trace([Request(1)]))
    with pytest.raises(ValueError, match="order"):
        replay.feed(trace([Request(0)]))


requests = st.builds(
    Request,
    start=st.integers(0, 80).map(lambda n: n / 2),
    duration=st.sampled_from([0.0, 0.5, 1.0, 1.5, 4.0, 15.0]),
    key=st.integers(1, 4),
    user=st.integers(0, 2),
    body=st.integers(0, 2),
    size=st.integers(-1, 3),
    queries=st.integers(-1, 2),
    group=st.integers(0, 1),
    flags=st.sampled_from([GOOD, GOOD, GOOD, BAD, KEYED | STORABLE, SAFE | STORABLE, SAFE | KEYED]),
)
traces = st.lists(requests, min_size=1, max_size=40).map(lambda each: sorted(each, key=lambda r: r.start_us))
models = st.builds(
    CacheModel,
    ttls=st.just((0.5, 1.0, 2.5, 7.0, 100.0)),
    per_user=st.booleans(),
    single_flight=st.booleans(),
    latency_ms=st.sampled_from([0.0, 600.0]),
    entry_overhead_bytes=st.sampled_from([0, 1]),
)


def assert_same(found, trace_of, model):
    for number, ttl in enumerate(model.ttls):
        expected = naive(trace_of, ttl, model)
        assert found.keys() == expected.keys()
        for group, figures in expected.items():
            each = found[group].outcomes[number]
            assert each.ttl_seconds == ttl
            assert {name: getattr(each, name) for name in FIGURES} == {
                name: figures.get(name, 0) for name in FIGURES
            }
            assert each.saved_seconds == figures.get("saved_us", 0) / SECOND
            assert [each.busiest_requests, each.busiest_hits] == figures["busiest"]


@given(traces, models, st.lists(st.integers(1, 10), max_size=10))
def test_it_does_what_a_plain_loop_does_whatever_the_chunks(trace_of, model, sizes):
    assert_same(replayed(trace_of, model, sizes), trace_of, model)


@pytest.mark.parametrize("single_flight", [False, True])
def test_long_chains_of_busy_keys_too(single_flight):
    """Keys that expire thousands of times in one chunk, so that chains are followed in another way."""
    chance, start = random.Random(7), 0.0
    trace_of = []
    for _ in range(6_000):
        start += chance.expovariate(2.0)
        key = chance.choice([1, 1, 1, 2, 3])
        trace_of.append(
            Request(round(start, 3), round(chance.random(), 3), key=key, body=chance.randrange(1, 4))
        )
    model = CacheModel(ttls=(1.0, 3.0, 60.0), single_flight=single_flight)
    assert_same(replayed(trace_of, model, [2_500]), trace_of, model)


@pytest.mark.parametrize("seed", range(12))
def test_copies_outlive_chunks_and_computations_outlive_copies(seed):
    chance = random.Random(seed)
    trace_of = [
        Request(
            start / 10, round(chance.expovariate(0.1), 3), key=chance.randrange(10), body=chance.randrange(4)
        )
        for start in sorted(chance.randrange(5_000) for _ in range(400))
    ]
    model = CacheModel(ttls=(0.3, 2.0, 11.0, 64.0, 700.0), single_flight=seed % 3 == 0)
    assert_same(replayed(trace_of, model, [1 + seed] * 100), trace_of, model)


def test_it_never_overflows(monkeypatch):
    """Where keys and time are too many for one number, the chunk is halved, and nothing changes."""
    chance = random.Random(3)
    trace_of = [Request(start, 1, key=chance.randrange(50), body=start % 3) for start in range(400)]
    model = CacheModel(ttls=(5.0, 100.0))
    monkeypatch.setattr("otel_analytics.analyze.replay.rows.MOST_PLACES", 10**10)
    assert_same(replayed(trace_of, model), trace_of, model)


def catalogue(requests_count, *, keys, seconds, seed):
    """Popular and rare keys, durations of 5 to 300 ms."""
    chance = random.Random(seed)
    weights = [1 / rank for rank in range(1, keys + 1)]
    starts = sorted(chance.uniform(0, seconds) for _ in range(requests_count))
    return [
        Request(start, chance.uniform(0.005, 0.3), key=key, size=chance.randrange(100, 5_000))
        for start, key in zip(
            starts, chance.choices(range(1, keys + 1), weights, k=requests_count), strict=True
        )
    ]


def simulated(trace_of, ttl, memory):
    """Hit ratio of an independent cache that is driven with a clock of ours and knows no durations."""
    clock = [0.0]
    cache = cachetools.TTLCache(memory, ttl, timer=lambda: clock[0], getsizeof=lambda size: size)
    hits = 0
    for each in trace_of:
        clock[0] = each.start_us / SECOND
        if each.key in cache:
            hits += 1
            cache[each.key]  # touches it; `in` does not
        elif each.size <= memory:
            cache[each.key] = each.size
    return hits / len(trace_of)


def test_hit_ratios_agree_with_an_independent_cache():
    trace_of = catalogue(20_000, keys=2_000, seconds=86_400, seed=5)
    model = CacheModel(ttls=(1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0))
    found = replayed(trace_of, model)[0].outcomes
    for each in found:
        expected = simulated(trace_of, each.ttl_seconds, float("inf"))
        assert each.hit_ratio == pytest.approx(expected, abs=0.005)
    assert found[0].hit_ratio < 0.05
    assert found[-1].hit_ratio > 0.8


@pytest.mark.parametrize("ttl", [60.0, 3_600.0])
def test_lru_agrees_with_an_independent_cache(ttl):
    trace_of = catalogue(10_000, keys=2_000, seconds=20_000, seed=6)
    ratios = []
    for memory in (20_000, 1_000_000):
        replay = BoundedReplay(CacheModel(entry_overhead_bytes=0), ttl=ttl, memory_bytes=memory, policy="lru")
        replay.feed(trace(trace_of))
        ratios.append(replay.of(0).hits / len(trace_of))
        assert ratios[-1] == pytest.approx(simulated(trace_of, ttl, memory), abs=0.005)
    assert ratios[0] < ratios[1]


@given(traces, models, st.sampled_from(["lru", "gdsf"]))
def test_with_memory_enough_a_limited_cache_is_an_unlimited_one(trace_of, model, policy):
    for number, ttl in enumerate(model.ttls):
        replay = BoundedReplay(model, ttl=ttl, memory_bytes=10_000, policy=policy)
        replay.feed(trace(trace_of[:7]))
        replay.feed(trace(trace_of[7:]))
        for group, found in replayed(trace_of, model).items():
            limited, unlimited = replay.of(group), found.outcomes[number]
            for name in ("hits", "saved_seconds", "saved_queries", "compared", "stale", "peak_bytes"):
                assert getattr(limited, name) == getattr(unlimited, name), name
            assert limited.evicted == 0


def bounded(trace_of, policy, memory):
    replay = BoundedReplay(
        CacheModel(latency_ms=0.0, entry_overhead_bytes=0), ttl=1_000.0, memory_bytes=memory, policy=policy
    )
    replay.feed(trace(trace_of))
    return replay.of(0)


def test_lru_evicts_what_was_used_longest_ago_and_gdsf_what_saves_least_for_its_size():
    slow = Request(0, 9, key=1, size=10)
    quick = Request(10, 1, key=2, size=10)
    third = Request(20, 1, key=3, size=10)
    again = [Request(30, 9, key=1, size=10), Request(40, 1, key=2, size=10)]
    assert bounded([slow, quick, third, *again], "gdsf", 20).saved_seconds == 9.0
    assert bounded([slow, quick, third, *again[1:]], "lru", 20).saved_seconds == 1.0
    assert bounded([slow, quick, third, *again[:1]], "lru", 20).hits == 0
    # Larger than all the memory: not stored, and nothing is evicted for it.
    assert bounded([quick, Request(12, key=4, size=21), Request(13, 1, key=2, size=10)], "lru", 20).hits == 1


def test_gdsf_saves_more_time_than_lru_where_durations_and_sizes_differ():
    chance = random.Random(8)
    kinds = {key: (chance.choice([0.005, 0.5]), chance.choice([500, 50_000])) for key in range(1, 501)}
    trace_of = []
    for second in range(20_000):
        key = min(500, int(chance.paretovariate(0.6)))
        duration, size = kinds[key]
        trace_of.append(Request(second, duration, key=key, size=size))
    lru, gdsf = (bounded(trace_of, policy, 300_000) for policy in ("lru", "gdsf"))
    assert gdsf.saved_seconds > 1.05 * lru.saved_seconds


NOTHING = Outcome(60.0, 200, 0, 0, 0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
SEEN = Evidence(200, 200, 0, 0, 0, 200, 0, 0, 1.0, 200, 200, 200, 200, (0, 0))
WEEK = History(asked_seconds=604_800, seconds=604_000, requests=200, coverage=1.0)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ()),
        ({"evidence": SEEN._replace(requests=99)}, ("few requests",)),
        ({"history": WEEK._replace(seconds=540_000)}, ("short history",)),
        ({"outcome": NOTHING._replace(ttl_seconds=60_401)}, ("long ttl",)),
        ({"history": WEEK._replace(coverage=0.9999)}, ("coverage",)),
        ({"history": WEEK._replace(coverage=None)}, ()),
        ({"outcome": NOTHING._replace(hits=100, compared=90)}, ()),
        ({"outcome": NOTHING._replace(hits=100, compared=89)}, ("unknown bodies",)),
    ],
)
def test_caveats(changed, expected):
    given_ = {"outcome": NOTHING, "evidence": SEEN, "history": WEEK, **changed}
    assert caveats(**given_, min_evidence_requests=100) == expected


def test_the_best_time_to_live_is_an_admissible_one():
    def at(ttl, saved, compared, stale):
        return NOTHING._replace(ttl_seconds=ttl, saved_seconds=saved, compared=compared, stale=stale)

    ladder = (at(1, 1.0, 10, 0), at(2, 5.0, 100, 1), at(3, 5.0, 100, 1), at(4, 9.0, 100, 2), at(5, 9.0, 0, 0))
    assert best(ladder, staleness_limit=0.01) == ladder[1]
    assert best(ladder[3:], staleness_limit=0.01) is None
